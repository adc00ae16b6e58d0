package client

import (
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"
	"time"

	"parley/wire"
)

// Whatever a server says, the core neither panics nor outgrows its limits, and what it
// writes can be read.
func FuzzServer(f *testing.F) {
	frames := wire.AppendWelcome(nil, &wire.Welcome{User: alice, Device: simDevice, HeartbeatSeconds: 25, ClusterEpoch: 1})
	frames = wire.AppendConversations(frames, &wire.Conversations{Correlation: 1, Token: []byte("t"),
		Items: []wire.ConversationState{{Ref: toBob, Head: 3, Revision: 3, Read: 1}}})
	f.Add(frames, uint64(1))
	frames = wire.AppendMessage(frames, &wire.Message{Ref: toBob, Sequence: 9, Revision: 9, Content: wire.Text("m")})
	frames = wire.AppendHead(frames, &wire.Head{Ref: wire.DirectRef(carol), Sequence: 1 << 50, Revision: 1 << 50})
	f.Add(wire.AppendSent(frames, &wire.Sent{Correlation: 2, Sequence: 4}), uint64(2))
	for _, code := range []wire.Code{wire.CodeOverloaded, wire.CodeOutOfOrder, wire.CodeRateLimited, wire.CodeSlow, wire.CodeReused, wire.CodeUnknownOutcome, wire.CodeUnknownUser, wire.CodeTokenExpired} {
		f.Add(wire.AppendError(frames, &wire.Error{Correlation: 3, Code: code}), uint64(code))
	}
	f.Add(wire.AppendGoAway(wire.AppendReceipt(frames, &wire.Receipt{Ref: toBob, Position: 3}), &wire.GoAway{SpreadMS: 5}), uint64(3))
	f.Fuzz(func(t *testing.T, message []byte, seed uint64) {
		random := rand.New(rand.NewPCG(seed, 1))
		now := time.Unix(1_800_000_000, 0)
		c := newCore(&Options{Name: "fuzz"}, simLimits, random, OutboxState{})
		c.tick(now)
		settle(c)
		for range 3 {
			if c.phase == phaseDialing {
				c.dialed(now, "token")
			}
			for range 3 {
				c.queue(newPending(toBob, wire.Text("x")))
			}
			settle(c)
			cut := random.IntN(len(message) + 1)
			c.received(now, message[:cut])
			settle(c)
			c.received(now, message)
			settle(c)
			now = now.Add(time.Duration(random.IntN(60)) * time.Second)
			c.tick(now)
			settle(c)
			if c.feed.messages > simLimits.events+fetchesMax || len(c.conversations) > simLimits.conversations || len(c.flying) > wire.RequestsMax {
				t.Fatalf("%d messages wait, %d conversations, %d requests", c.feed.messages, len(c.conversations), len(c.flying))
			}
		}
	})
}

// Whatever is in an outbox's file, it is read, cut or refused.
func FuzzOutboxFile(f *testing.F) {
	content := appendOutboxHeader(nil)
	f.Add(content)
	for _, changes := range writes() {
		content = appendRecord(content, int64(len(content)), changes)
		f.Add(content)
	}
	f.Fuzz(func(t *testing.T, content []byte) {
		path := filepath.Join(t.TempDir(), "outbox")
		if err := os.WriteFile(path, content, 0o600); err != nil {
			t.Fatal(err)
		}
		s, err := OpenFileOutbox(path)
		if err != nil {
			return
		}
		defer s.Close()
		if err := s.Write([]OutboxChange{{Kind: OutboxRenew, Key: Key{Epoch: 1}}}); err != nil {
			t.Fatal(err)
		}
	})
}
