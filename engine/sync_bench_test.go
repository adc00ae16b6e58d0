package engine

import (
	"context"
	"errors"
	"fmt"
	"syscall"
	"testing"
	"time"

	"parley/engine/shard"
	"parley/wire"
)

// Figures are CPU time of the whole process by getrusage, which repeats on a busy machine.
// For example
//
//	go test ./engine -run '^$' -bench Sync -benchtime 20x

// processCPU is the processor time that this process has used.
func processCPU() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		panic(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// A syncBench is a user of many conversations, whose state is on disk.
type syncBench struct {
	b     *testing.B
	node  *Node
	user  wire.ID
	peers []wire.ID
	sent  uint64 // messages in each conversation
}

func newSyncBench(b *testing.B, conversations int) *syncBench {
	s := &syncBench{b: b}
	n, err := Open(b.Context(), Config{Data: b.TempDir(), Shards: 8, DiskReserveBytes: -1, Fatal: func(err error) { b.Error(err) }})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = n.Close() })
	s.node = n
	if s.user, err = n.CreateUser(b.Context(), "ada", nil); err != nil {
		b.Fatal(err)
	}
	s.peers = make([]wire.ID, conversations)
	for i := range s.peers {
		s.peers[i] = wire.MakeID(wire.Slot(i*2654435761>>7%wire.Slots), uint64(i+1))
	}
	s.send(s.peers)
	for deadline := time.Now().Add(5 * time.Minute); ; time.Sleep(50 * time.Millisecond) {
		rows := uint64(0)
		for _, r := range n.routes {
			rows += uint64(r.local.Load().Stats().Outgoing)
		}
		if rows == 0 {
			break
		}
		if time.Now().After(deadline) {
			b.Fatal("the rows of the list do not arrive")
		}
	}
	s.flush()
	return s
}

// send sends one more message to each of some peers, and waits until all are applied.
func (s *syncBench) send(peers []wire.ID) {
	s.sent++
	before := s.messages()
	for i, peer := range peers {
		c := wire.DirectConversation(s.user, peer)
		r := s.node.routeOf(c.Slot())
		m := shard.Send{Conversation: c, Author: s.user, Device: 1, Epoch: s.sent, Counter: 1, PeerKnown: true,
			Content: wire.Text("a line of chat")}
		for {
			err := r.local.Load().Send(&m)
			if err == nil {
				break
			}
			if !errors.Is(err, shard.ErrOverloaded) {
				s.b.Fatal(err)
			}
			r.local.Load().Kick()
			time.Sleep(time.Millisecond)
		}
		if i%64 == 0 {
			r.local.Load().Kick()
		}
	}
	for s.messages() < before+uint64(len(peers)) {
		for _, r := range s.node.routes {
			r.local.Load().Kick()
		}
		time.Sleep(time.Millisecond)
	}
}

func (s *syncBench) messages() (n uint64) {
	for _, r := range s.node.routes {
		n += r.local.Load().Stats().Messages
	}
	return n
}

func (s *syncBench) flush() {
	if err := s.node.store.Flush(s.b.Context()); err != nil {
		s.b.Fatal(err)
	}
}

func (s *syncBench) page(token []byte) wire.Conversations {
	b, err := s.node.answerSync(context.Background(), caller{user: s.user}, &wire.Sync{Correlation: 1, Token: token})
	if err != nil {
		s.b.Fatal(err)
	}
	f, _, err := wire.NextFrame(b)
	if err != nil {
		s.b.Fatal(err)
	}
	c, err := wire.ParseConversations(f)
	if err != nil {
		s.b.Fatal(err)
	}
	return c
}

// all reads all pages and returns how many conversations they told, and the last token.
func (s *syncBench) all(token []byte) (items, pages int, last []byte) {
	for {
		c := s.page(token)
		items, pages = items+len(c.Items), pages+1
		if len(c.Token) > 0 {
			token = c.Token
		}
		if c.Flags&wire.SyncMore == 0 {
			return items, pages, token
		}
	}
}

// measure times a whole sync from a token, which must tell so many conversations.
func (s *syncBench) measure(b *testing.B, token []byte, want int) {
	b.ReportAllocs()
	b.ResetTimer()
	start, pages := processCPU(), 0
	for range b.N {
		items, n, _ := s.all(token)
		if items != want {
			b.Fatalf("%d conversations, want %d", items, want)
		}
		pages += n
	}
	b.ReportMetric(float64((processCPU()-start).Microseconds())/float64(pages), "cpu-us/page")
	b.ReportMetric(float64(pages)/float64(b.N), "pages")
}

// BenchmarkSync is the cost of a page of a SYNC from disk: when nothing has changed, when
// ten conversations have, and when all are new.
func BenchmarkSync(b *testing.B) {
	for _, conversations := range []int{100, 4_000, 100_000} {
		b.Run(fmt.Sprint(conversations), func(b *testing.B) {
			if testing.Short() && conversations > 4_000 {
				b.Skip("it takes a minute to fill")
			}
			s := newSyncBench(b, conversations)
			_, _, token := s.all(nil)
			b.Run("unchanged", func(b *testing.B) { s.measure(b, token, 0) })
			s.send(s.peers[:10])
			s.flush()
			b.Run("ten", func(b *testing.B) { s.measure(b, token, 10) })
			b.Run("new", func(b *testing.B) { s.measure(b, nil, conversations) })
		})
	}
}
