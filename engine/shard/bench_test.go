package shard

import (
	"errors"
	"fmt"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"parley/raft"
	"parley/storage"
	"parley/wire"
)

// discard is a Sink without sessions.
type discard struct{}

func (discard) Effects(*Effects) {}

// BenchmarkApply applies sends that are in entries already, as a leader does: what a
// message costs between the log and the write buffer. Flushes are not in the figure: the
// buffer is emptied outside of the timer.
func BenchmarkApply(b *testing.B) {
	for _, size := range []int{8, 64, 512} {
		b.Run(fmt.Sprintf("sends=%d", size), func(b *testing.B) { benchmarkApply(b, size, 100, 0) })
	}
	b.Run("sends=64/pairs=20000", func(b *testing.B) { benchmarkApply(b, 64, 20_000, 0) })
	b.Run("sends=64+128cursors", func(b *testing.B) { benchmarkApply(b, 64, 100, 2) })
}

func benchmarkApply(b *testing.B, size, pairs, cursors int) {
	store, err := storage.Open(storage.Options{Path: "state", FS: vfs.NewMem(), BufferBytesMax: 4 << 30})
	if err != nil {
		b.Fatal(err)
	}
	defer store.Close()
	state, err := store.Shard(0, 0, wire.Slots-1)
	if err != nil {
		b.Fatal(err)
	}
	s, err := Open(Config{Last: wire.Slots - 1, Store: state, Nonce: 1 << 40, Now: func() wire.Time { return 5 }, Sink: discard{}})
	if err != nil {
		b.Fatal(err)
	}
	s.Lead(1)
	body := make([]byte, 64)
	counters := make([]uint64, pairs)
	index, next := uint64(0), 0
	b.ReportAllocs()
	b.ResetTimer()
	for done := 0; done < b.N; done += size {
		b.StopTimer()
		for range size {
			pair := next % pairs
			next++
			counters[pair]++
			x, y := wire.MakeID(wire.Slot(pair%wire.Slots), uint64(2*pair+1)), wire.MakeID(wire.Slot(pair%wire.Slots), uint64(2*pair+2))
			err := s.Send(&Send{Origin: Origin{Session: 1, Correlation: uint64(next)}, Conversation: wire.DirectConversation(x, y), Author: x, Device: 5,
				Epoch: 77, Counter: counters[pair], PeerKnown: true, Content: wire.Content{Bytes: body}})
			for kind := range cursors {
				err = errors.Join(err, s.Cursor(&Cursor{Conversation: wire.DirectConversation(x, y), User: y, Kind: wire.CursorKind(kind), Position: counters[pair]}))
			}
			if err != nil {
				b.Fatal(err)
			}
		}
		data, _, _ := s.Next(nil)
		index++
		entries := []raft.Entry{{Index: index, Term: 1, Data: data}}
		if index%4096 == 0 {
			if err := store.Flush(b.Context()); err != nil {
				b.Fatal(err)
			}
		}
		b.StartTimer()
		if err := s.Apply(entries); err != nil {
			b.Fatal(err)
		}
	}
	b.StopTimer()
	if refused := s.Stats().Refused; refused > 0 {
		b.Fatalf("%d sends were refused", refused)
	}
}

// BenchmarkQueue is what a send and a cursor cost between the edge and the log: queued
// one by one, packed 64 at a time.
func BenchmarkQueue(b *testing.B) {
	q := newTestQueue()
	body := wire.Content{Bytes: make([]byte, 64)}
	dst := make([]byte, 0, EntryBytesMax)
	run := func(name string, cursors int) {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for done := 0; done < b.N; done += 64 {
				for i := range wire.ID(64) {
					c := wire.DirectConversation(i+1, 1000)
					if err := q.Send(&Send{Conversation: c, Author: i + 1, Device: 1, Counter: uint64(done), Content: body}); err != nil {
						b.Fatal(err)
					}
					for kind := range cursors {
						if err := q.Cursor(&Cursor{Conversation: c, User: 1000, Kind: wire.CursorKind(kind), Position: uint64(done)}); err != nil {
							b.Fatal(err)
						}
					}
				}
				for {
					_, handle, ok := q.Next(dst)
					if !ok {
						break
					}
					q.release(q.claim(handle.(uint64)))
				}
			}
		})
	}
	run("send", 0)
	run("send+2cursors", 2)
}
