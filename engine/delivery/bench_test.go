package delivery

import (
	"strings"
	"testing"

	"parley/engine/shard"
	"parley/wire"
)

const benchBatch = 64

// benchEffects is a batch of short messages between pairs of users, all sent from node 2.
func benchEffects() *shard.Effects {
	e := &shard.Effects{Shard: 3, Previous: 1_000_000, Index: 1_000_001}
	for i := range benchBatch {
		a, b := wire.MakeID(wire.Slot(i*7), uint64(i+1)*0x123456789), wire.MakeID(wire.Slot(i*13+1), uint64(i+1)*0x987654321)
		c := wire.DirectConversation(a, b)
		origin := shard.Origin{Session: 1<<56 | 1<<32 | uint64(i*100), Correlation: uint64(3_000_000 + i), Node: 2}
		now := wire.Time(30_000_000_000 + i/8)
		e.Sent = append(e.Sent, shard.SentEffect{Origin: origin, Sequence: uint64(5000 + i), Time: now})
		e.Messages = append(e.Messages, shard.MessageEffect{Conversation: c, Sequence: uint64(5000 + i), Revision: uint64(5000 + i), Time: now,
			Author: a, Content: wire.Text(strings.Repeat("x", 64)), From: origin.Session, FromNode: 2})
		e.Receipts = append(e.Receipts, shard.ReceiptEffect{Conversation: c, User: b, Position: uint64(4990 + i), Time: now, From: origin.Session, FromNode: 2})
	}
	return e
}

// BenchmarkEffects is what one message of 64 bytes costs on the stream of the sender's
// node, with its acknowledgement and a receipt: written, and read there.
func BenchmarkEffects(b *testing.B) {
	e := benchEffects()
	pick := all(e)
	pick.Node = 2
	frame := appendEffectsFrame(nil, 77, e, pick)
	b.Run("append", func(b *testing.B) {
		b.ReportAllocs()
		for range b.N/benchBatch + 1 {
			frame = appendEffectsFrame(frame[:0], 77, e, pick)
		}
		b.ReportMetric(float64(len(frame))/benchBatch, "wire-B/op")
	})
	b.Run("parse", func(b *testing.B) {
		b.ReportAllocs()
		for range b.N/benchBatch + 1 {
			if _, err := ParseFrame(frame); err != nil {
				b.Fatal(err)
			}
		}
	})
}

// BenchmarkOutlet is what the leader spends on one message with its acknowledgement and a
// receipt whose members are at two other nodes.
func BenchmarkOutlet(b *testing.B) {
	e := benchEffects()
	recent := NewRecent(e.Index, RecentBytesMax)
	bytes := 0
	o := NewOutlet(3, recent, func(_ uint32, frame []byte) error { bytes += len(frame); return nil })
	var sides [2][]wire.ID
	for i := range e.Messages {
		m := &e.Messages[i]
		sides[0], sides[1] = append(sides[0], m.Author), append(sides[1], m.Conversation.Peer(m.Author))
	}
	for i, users := range sides {
		o.Request(uint32(i+2), &Request{Kind: RequestOpen, Generation: 1, Fresh: true, Users: users})
	}
	b.ReportAllocs()
	bytes = 0
	for range b.N/benchBatch + 1 {
		next := *e
		next.Previous, next.Index = e.Index, e.Index+1
		e = &next
		o.Effects(e)
	}
	b.ReportMetric(float64(bytes)/float64((b.N/benchBatch+1)*benchBatch), "wire-B/op")
}

// BenchmarkForward is what one message of 64 bytes costs on its way to the leader.
func BenchmarkForward(b *testing.B) {
	e := benchEffects()
	sends := make([]shard.Send, benchBatch)
	for i := range e.Messages {
		m := &e.Messages[i]
		sends[i] = shard.Send{Origin: shard.Origin{Session: m.From, Correlation: 9}, Conversation: m.Conversation, Author: m.Author, Device: m.Author + 1,
			Epoch: 1 << 60, Counter: m.Sequence, PeerKnown: true, Content: m.Content}
	}
	inlet := NewInlet(3, 2, 1, &Groups{})
	inlet.Announced(nil, 1, 1, 0)
	request, _, _ := inlet.Forward(nil, sends, nil)
	inlet.Withdraw(len(sends))
	b.Run("append", func(b *testing.B) {
		b.ReportAllocs()
		for range b.N/benchBatch + 1 {
			var err error
			if request, _, err = inlet.Forward(request[:0], sends, nil); err != nil {
				b.Fatal(err)
			}
			inlet.Withdraw(len(sends))
		}
		b.ReportMetric(float64(len(request))/benchBatch, "wire-B/op")
	})
	b.Run("parse", func(b *testing.B) {
		b.ReportAllocs()
		var r Request
		for range b.N/benchBatch + 1 {
			if err := r.Parse(request, 2); err != nil {
				b.Fatal(err)
			}
		}
	})
}

// BenchmarkAttached is the look-up of a user among 100,000, each of them at two nodes.
func BenchmarkAttached(b *testing.B) {
	var a Attached
	for user := range wire.ID(100_000) {
		a.Attach(1, user+1)
		a.Attach(2, user+1)
	}
	var nodes []uint32
	user := wire.ID(0)
	b.ReportAllocs()
	for b.Loop() {
		user = (user*7 + 1) % 100_000
		nodes = a.Append(nodes[:0], user+1)
	}
	b.ReportMetric(float64(8*len(a.rows.places))/float64(a.Len()), "B/row")
}
