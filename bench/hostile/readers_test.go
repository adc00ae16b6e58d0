//go:build linux

package hostile

import (
	"bufio"
	"context"
	"strings"
	"sync"
	"testing"
	"time"

	"parley/engine/auth"
	"parley/wire"
)

// 1,000 clients that never read: half of them are pushed 1.2 MB each, the others ask for 6 MB of
// pages. The server keeps what ARCHITECTURE.md says for each and no more; whoever asked is closed
// with SLOW, and when they come back nothing is missing.
func TestAThousandClientsThatNeverRead(t *testing.T) {
	const count, messages, bytes = 1000, 150, 8 << 10
	heavy(t, count+500)
	s := serve(t, t.TempDir())
	w := s.witness(t)
	s.user(t, "talker")
	sloth := s.user(t, "sloth")
	talker := s.live(t, "talker")
	keys := s.keys(t)
	clients := make([]*client, count)
	// 256 KiB of answers, a page, and a backlog of 64 KiB for each, and as much again for what the
	// garbage collector has not taken back: kept without a bound it would be above 3.5 GB.
	s.memory(t, 768<<20, func() {
		w.during(t, func() {
			for i := range clients {
				clients[i] = s.sloth(t, keys, sloth, wire.ID(i+1))
			}
			for i := range uint64(messages) {
				talker.say(t, wire.DirectRef(sloth), i+1, strings.Repeat("z", bytes))
			}
			ask := wire.AppendHistory(nil, &wire.History{Correlation: 2, Ref: wire.DirectRef(talker.user)})
			for range 100 {
				for _, c := range clients[count/2:] {
					c.send(ask)
				}
			}
			talker.settled(t)
			eventually(t, "those who asked are closed", func() bool { return s.metric(t, "parley_sessions") <= count/2+3 })
		})
	})
	t.Run("pushes", func(t *testing.T) { catchUp(t, clients[:count/2], talker.user, messages) })
	t.Run("pages", func(t *testing.T) {
		for i, c := range clients[count/2:] {
			c.drainSlow(t)
			c.conn.Close()
			if i%50 == 0 { // coming back is the same for all of them
				again := s.sloth(t, keys, sloth, wire.ID(i+count/2+1))
				if texts, err := again.history(wire.DirectRef(talker.user), 0); err != nil || len(texts) != messages {
					t.Fatalf("%d messages, %v", len(texts), err)
				}
			}
		}
	})
}

// sloth opens a session that is pushed to, over a socket that takes little.
func (s *server) sloth(t *testing.T, keys *auth.Keys, user, device wire.ID) *client {
	t.Helper()
	token, err := keys.SignToken(user, device, time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	dialer := receiveBuffer(4 << 10)
	conn, err := dialer.DialContext(context.Background(), "tcp", s.address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	conn.SetDeadline(time.Now().Add(patience))
	c := &client{conn: conn, in: bufio.NewReader(conn)}
	if err := c.upgrade(); err != nil {
		t.Fatal(err)
	}
	c.greet(t, &wire.Hello{Version: wire.Version, HeartbeatSeconds: wire.HeartbeatSecondsMax, Credential: []byte(token)})
	c.sync(t, nil)
	return c
}

// catchUp has clients read at last: what was pushed comes in order, and then a HEAD says how far the
// conversation reaches, from where HISTORY brings the rest.
func catchUp(t *testing.T, clients []*client, author wire.ID, messages uint64) {
	collapsed := 0
	for i, c := range clients {
		c.conn.SetDeadline(time.Now().Add(patience))
		known, head := uint64(0), uint64(0)
		for known < messages && head < messages {
			f, err := c.next()
			if err != nil {
				t.Fatalf("client %d, after %d: %v, close code %d", i, known, err, c.close)
			}
			switch f.Type {
			case wire.TypeMessage:
				m, err := wire.ParseMessage(f)
				if err != nil || m.Sequence != known+1 {
					t.Fatalf("client %d: message %d after %d, %v", i, m.Sequence, known, err)
				}
				known++
			case wire.TypeHead:
				h, err := wire.ParseHead(f)
				if err != nil {
					t.Fatal(err)
				}
				head = h.Sequence
			}
		}
		if head == messages {
			collapsed++
		}
		if i%50 != 0 {
			continue
		}
		texts, err := c.history(wire.DirectRef(author), known)
		if err != nil || uint64(len(texts)) != messages-known {
			t.Fatalf("client %d: %d messages after %d, %v", i, len(texts), known, err)
		}
	}
	if collapsed < len(clients)/2 {
		t.Errorf("only %d of %d were told by HEAD: the others cannot have been slow", collapsed, len(clients))
	}
}

// drainSlow reads what is left of a session that was closed for being slow. The close code comes
// behind all that was queued; a server does not wait for that longer than two seconds.
func (c *client) drainSlow(t *testing.T) {
	t.Helper()
	c.conn.SetDeadline(time.Now().Add(patience))
	for {
		if _, err := c.next(); err != nil {
			if !gone(err) || c.close != 0 && c.close != wire.CodeSlow.CloseCode() {
				t.Fatalf("close code %d, %v", c.close, err)
			}
			return
		}
	}
}

// One who reads in time is told SLOW by the close code.
func TestTheSlowAreToldSo(t *testing.T) {
	t.Parallel()
	s := serve(t, t.TempDir())
	w := s.witness(t)
	s.user(t, "talker")
	sloth := s.user(t, "sloth")
	talker := s.live(t, "talker")
	for i := range uint64(10) {
		talker.say(t, wire.DirectRef(sloth), i+1, strings.Repeat("z", 8<<10))
	}
	w.during(t, func() {
		c := s.sloth(t, s.keys(t), sloth, 1)
		ask := wire.AppendHistory(nil, &wire.History{Correlation: 2, Ref: wire.DirectRef(talker.user)})
		told := make(chan uint16, 1)
		var all sync.WaitGroup
		all.Go(func() {
			for range 200 {
				c.send(ask)
				time.Sleep(time.Millisecond)
			}
		})
		eventually(t, "answers were queued beyond what may wait", func() bool { return s.metric(t, "parley_sessions") == 3 })
		all.Go(func() {
			for {
				if _, err := c.next(); err != nil {
					told <- c.close
					return
				}
			}
		})
		all.Wait()
		if code := <-told; code != wire.CodeSlow.CloseCode() {
			t.Errorf("close code %d", code)
		}
	})
}
