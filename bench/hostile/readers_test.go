//go:build linux

package hostile

import (
	"context"
	"strings"
	"testing"
	"time"

	"parley/engine/auth"
	"parley/wire"
	"parley/wire/wiretest"
)

// 1,000 clients that never read: half of them are pushed 2.4 MB each, the others ask for pages
// until they are closed. The server keeps what ARCHITECTURE.md says for each and no more; when those who were closed
// come back, nothing is missing.
func TestAThousandClientsThatNeverRead(t *testing.T) {
	const count, messages, bytes = 1000, 300, 8 << 10
	heavy(t, count+500)
	s := serve(t, t.TempDir())
	w := s.witness(t)
	s.user(t, "talker")
	sloth := s.user(t, "sloth")
	talker := s.live(t, "talker")
	keys := s.keys(t)
	clients := make([]*client, count)
	// 256 KiB of answers, a page, and a backlog of 64 KiB for each, and as much again for what the
	// garbage collector has not taken back. The pushes alone would be 2.4 GB, kept without a bound.
	s.memory(t, 1<<30, func() {
		w.during(t, func() {
			for i := range clients {
				clients[i] = s.sloth(t, keys, sloth, wire.ID(i+1))
			}
			for i := range uint64(messages) {
				talker.say(t, wire.DirectRef(sloth), i+1, strings.Repeat("z", bytes))
			}
			// Pages wait for a session that does not read. Refusals of what is asked beyond that do not.
			var ask []byte
			for range 500 {
				ask = wire.AppendHistory(ask, &wire.History{Correlation: 2, Ref: wire.DirectRef(talker.user)})
			}
			// Requests beyond requests_max are refused in few bytes, so it takes a while until
			// all have more waiting than a session may have.
			eventually(t, "those who asked are closed", func() bool {
				for _, c := range clients[count/2:] {
					c.send(ask)
				}
				return s.metric(t, "parley_sessions") <= count/2+3
			})
		})
	})
	t.Run("pushes", func(t *testing.T) { catchUp(t, clients[:count/2], talker.user, messages) })
	t.Run("pages", func(t *testing.T) {
		for i, c := range clients[count/2:] {
			c.drainSlow(t)
			c.Close()
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
	c := &client{Client: wiretest.New(conn)}
	if err := c.Upgrade(); err != nil {
		t.Fatal(err)
	}
	c.greet(t, &wire.Hello{Version: wire.Version, HeartbeatSeconds: wire.HeartbeatSecondsMax, Credential: []byte(token)})
	c.sync(t, nil)
	return c
}

// catchUp has clients read at last: what was pushed comes in order, and then a HEAD says how far the
// conversation reaches, from where HISTORY brings the rest.
func catchUp(t *testing.T, clients []*client, author wire.ID, messages uint64) {
	const step = 10 // one after the other, over sockets that take little, all would take long
	read, collapsed := 0, 0
	for i := 0; i < len(clients); i += step {
		c := clients[i]
		c.SetDeadline(time.Now().Add(patience))
		known, head := uint64(0), uint64(0)
		for known < messages && head < messages {
			f, err := c.Next()
			if err != nil {
				t.Fatalf("client %d, after %d: %v, close code %d", i, known, err, c.Code)
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
		read++
		texts, err := c.history(wire.DirectRef(author), known)
		if err != nil || uint64(len(texts)) != messages-known {
			t.Fatalf("client %d: %d messages after %d, %v", i, len(texts), known, err)
		}
	}
	if collapsed < read/2 {
		t.Errorf("only %d of %d were told by HEAD: the others cannot have been slow", collapsed, read)
	}
}

// drainSlow reads what is left of a session that was closed for being slow. The close code comes
// behind all that was queued; a server does not wait for that longer than two seconds.
func (c *client) drainSlow(t *testing.T) {
	t.Helper()
	c.SetDeadline(time.Now().Add(patience))
	for {
		if _, err := c.Next(); err != nil {
			if !gone(err) || c.Code != 0 && c.Code != wire.CodeSlow.CloseCode() {
				t.Fatalf("close code %d, %v", c.Code, err)
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
	keys := s.keys(t)
	// Pages wait for a session that does not read. Refusals of what is asked beyond that do not.
	var ask []byte
	for range 500 {
		ask = wire.AppendHistory(ask, &wire.History{Correlation: 2, Ref: wire.DirectRef(talker.user)})
	}
	w.during(t, func() {
		// The code comes behind all that was queued, and a server waits two seconds for it to
		// leave: a machine may be too busy for that once.
		eventually(t, "a slow session is told SLOW", func() bool {
			c := s.sloth(t, keys, sloth, 1)
			defer c.Close()
			for range 200 {
				c.send(ask)
				time.Sleep(time.Millisecond)
			}
			for {
				if _, err := c.Next(); err != nil {
					return c.Code == wire.CodeSlow.CloseCode()
				}
			}
		})
	})
}
