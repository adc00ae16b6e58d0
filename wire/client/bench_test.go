package client

import (
	"math/rand/v2"
	"path/filepath"
	"testing"
	"time"

	"parley/wire"
)

// online gives a core with a synced session.
func online(b *testing.B) *core {
	b.Helper()
	now := time.Unix(1_800_000_000, 0)
	c := newCore(&Options{Name: "bench"}, defaultLimits, rand.New(rand.NewPCG(1, 1)), OutboxState{})
	c.tick(now)
	c.dialed(now, "token")
	settle(c)
	message := wire.AppendWelcome(nil, &wire.Welcome{User: alice, Device: simDevice, HeartbeatSeconds: 25, ClusterEpoch: 1})
	c.received(now, wire.AppendConversations(message, &wire.Conversations{Correlation: 1, Token: []byte("t")}))
	settle(c)
	return c
}

// settle does what the driver does: store, write, hand events over.
func settle(c *core) (written int) {
	for again := true; again; {
		again = false
		for _, a := range c.take() {
			again = true
			if a.kind == actionStore {
				c.wrote(c.now, nil)
			}
		}
		if n := len(c.output(nil)); n > 0 {
			written += n
			again = true
		}
		for c.feed.peek() != nil {
			c.handed()
			again = true
		}
	}
	return written
}

// A pushed message of 20 bytes, from frame to event and delivered cursor.
func BenchmarkPush(b *testing.B) {
	c := online(b)
	m := wire.Message{Ref: toBob, Content: wire.Text("Are you there? - Bob")}
	var frame []byte
	b.ReportAllocs()
	for b.Loop() {
		m.Sequence++
		m.Revision = m.Sequence
		frame = wire.AppendMessage(frame[:0], &m)
		c.received(c.now, frame)
		settle(c)
	}
}

// A message of 20 bytes from Queue to SENT and its own event.
func BenchmarkSend(b *testing.B) {
	c := online(b)
	content := wire.Text("Are you there? - Bob")
	sequence := uint64(0)
	b.ReportAllocs()
	for b.Loop() {
		if err := c.queue(newPending(toBob, content)); err != nil {
			b.Fatal(err)
		}
		settle(c)
		sequence++
		c.received(c.now, wire.AppendSent(nil, &wire.Sent{Correlation: c.correlation, Sequence: sequence, Time: 1}))
		settle(c)
	}
}

// A send and its removal in a file, with one fsync.
func BenchmarkFileOutbox(b *testing.B) {
	s := mustOpen(b, filepath.Join(b.TempDir(), "outbox"))
	defer s.Close()
	if err := s.Write([]OutboxChange{{Kind: OutboxRenew, Key: Key{Epoch: 1}}}); err != nil {
		b.Fatal(err)
	}
	counter := uint64(0)
	for b.Loop() {
		counter++
		key := Key{1, toBob, counter}
		add := OutboxChange{Kind: OutboxAdd, Entry: OutboxEntry{Key: key, Content: wire.Text("Are you there? - Bob")}}
		if err := s.Write([]OutboxChange{add}); err != nil {
			b.Fatal(err)
		}
		if err := s.Write([]OutboxChange{{Kind: OutboxRemove, Key: key}}); err != nil {
			b.Fatal(err)
		}
	}
}
