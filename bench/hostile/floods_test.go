//go:build linux

package hostile

import (
	"bytes"
	"fmt"
	"sync"
	"testing"
	"time"

	"parley/wire"
	"parley/wire/wiretest"
)

// A message of 128 KiB of the tiniest frames of each kind: all are answered, or the session is
// closed, in bounded memory.
func TestMessagesFullOfTinyFramesAreServedOrClosed(t *testing.T) {
	t.Parallel()
	s := serve(t, t.TempDir())
	w := s.witness(t)
	mallory := s.user(t, "mallory")
	stranger := wire.DirectRef(1)
	fill := func(frame []byte) []byte { return bytes.Repeat(frame, wire.MessageBytesMax/len(frame)) }
	tests := []struct {
		name   string
		frames []byte
	}{
		{"PING", fill(wire.AppendPing(nil))},
		{"skipped", fill([]byte{122, 0})},
		{"TYPING", fill(wire.AppendTyping(nil, &wire.Typing{Ref: stranger}))},
		{"CURSOR of nothing", fill(wire.AppendCursor(nil, &wire.Cursor{Ref: stranger, Position: 1}))},
		{"CURSOR of zero", fill(wire.AppendCursor(nil, &wire.Cursor{Ref: stranger}))},
		{"SEND to nobody", fill(wire.AppendSend(nil, &wire.Send{Correlation: 1, Ref: stranger, Counter: 1, Content: wire.Text("x")}))},
		{"SEND of nothing", fill(wire.AppendSend(nil, &wire.Send{Correlation: 1, Ref: stranger, Counter: 1}))},
		{"SEND of one counter", fill(wire.AppendSend(nil, &wire.Send{Correlation: 1, Ref: wire.DirectRef(mallory), Counter: 1, Content: wire.Text("x")}))},
		{"SYNC", fill(wire.AppendSync(nil, &wire.Sync{Correlation: 1}))},
		{"HISTORY", fill(wire.AppendHistory(nil, &wire.History{Correlation: 1, Ref: stranger}))},
		{"USERS of none", fill(wire.AppendUsers(nil, &wire.Users{Correlation: 1}))},
		{"RESOLVE of none", fill(wire.AppendResolve(nil, &wire.Resolve{Correlation: 1}))},
	}
	s.memory(t, 256<<20, func() {
		for _, test := range tests {
			t.Run(test.name, func(t *testing.T) {
				w.during(t, func() {
					for range 3 {
						c := s.hello(t, "mallory")
						c.send(test.frames)
						c.send(wire.AppendPing(nil))
						c.answeredOrSlow(t)
						c.Close()
					}
				})
			})
		}
	})
}

// answeredOrSlow reads until a PONG that follows the last answer, or a close with SLOW.
func (c *client) answeredOrSlow(t *testing.T) {
	t.Helper()
	for {
		f, err := c.Next()
		switch {
		case err != nil && (c.Code == wire.CodeSlow.CloseCode() || c.Code == 0 && gone(err)):
			return // SLOW; the close itself may be lost behind what was not read
		case err != nil:
			t.Fatalf("close code %d, %v", c.Code, err)
		case f.Type == wire.TypePong && len(c.Left) == 0:
			return
		}
	}
}

// Floods from some sessions: what is beyond a limit is refused or left out, and nobody else waits.
func TestFloodsDoNotReachOthers(t *testing.T) {
	t.Parallel()
	s := serve(t, t.TempDir())
	w := s.witness(t)
	s.user(t, "mallory")
	peer := s.user(t, "peer")
	s.live(t, "mallory").say(t, wire.DirectRef(peer), 1, "so that typing reaches the peer")
	tests := []struct {
		name   string
		frames []byte // of one WebSocket message
		raw    []byte // or instead of one
	}{
		{"PING", bytes.Repeat(wire.AppendPing(nil), 100), nil},
		{"TYPING", bytes.Repeat(wire.AppendTyping(nil, &wire.Typing{Ref: wire.DirectRef(peer)}), 100), nil},
		{"HISTORY", bytes.Repeat(wire.AppendHistory(nil, &wire.History{Correlation: 1, Ref: wire.DirectRef(peer)}), 20), nil},
		{"SYNC with previews", bytes.Repeat(wire.AppendSync(nil, &wire.Sync{Correlation: 1, Previews: 50}), 20), nil},
		{"RESOLVE", bytes.Repeat(wire.AppendResolve(nil, &wire.Resolve{Correlation: 1, Names: manyNames(100)}), 4), nil},
		{"WebSocket ping", nil, bytes.Repeat(wiretest.Message(wiretest.Ping, make([]byte, 125)), 20)},
		{"messages of nothing", nil, bytes.Repeat(wiretest.Message(wiretest.Binary, nil), 500)},
		{"fragments of nothing", nil, append(wiretest.Message(0x02, nil), bytes.Repeat(wiretest.Message(0x00, nil), 500)...)},
	}
	s.memory(t, 256<<20, func() {
		for _, test := range tests {
			t.Run(test.name, func(t *testing.T) {
				w.during(t, func() {
					var all sync.WaitGroup
					for range 4 {
						c := s.live(t, "mallory")
						data := test.raw
						if data == nil {
							data = wiretest.Message(wiretest.Binary, test.frames)
						}
						all.Go(func() {
							for range 50 {
								if _, err := c.Write(data); err != nil {
									return
								}
							}
							c.Conn.(interface{ CloseWrite() error }).CloseWrite()
						})
						all.Go(func() { c.drain(t, test.name) })
					}
					all.Wait()
				})
			})
		}
	})
}

// drain reads until the server closes.
func (c *client) drain(t *testing.T, name string) {
	for {
		_, err := c.Next()
		if err == nil {
			continue
		}
		// The fragments' next message begins within the last one: a broken rule.
		if !gone(err) || c.Code != 0 && c.Code != wire.CodeSlow.CloseCode() && c.Code != 1002 {
			t.Errorf("%s: close code %d, %v", name, c.Code, err)
		}
		return
	}
}

func manyNames(n int) (names []string) {
	for i := range n {
		names = append(names, fmt.Sprintf("name%d", i))
	}
	return names
}

// Requests beyond requests_max are OVERLOADED; each gets exactly one answer, and the session goes on.
func TestRequestsBeyondTheLimitAreOverloaded(t *testing.T) {
	t.Parallel()
	s := serve(t, t.TempDir())
	w := s.witness(t)
	s.user(t, "mallory")
	c := s.live(t, "mallory")
	const count = 500
	w.during(t, func() {
		var frames []byte
		for i := range uint64(count) {
			frames = wire.AppendHistory(frames, &wire.History{Correlation: i + 1, Ref: wire.DirectRef(9)})
		}
		c.send(frames)
		answers, overloaded := map[uint64]int{}, 0
		for range count {
			f, err := c.Next()
			if err != nil {
				t.Fatal(err)
			}
			switch f.Type {
			case wire.TypePage:
				p, err := wire.ParsePage(f)
				if err != nil {
					t.Fatal(err)
				}
				answers[p.Correlation]++
			case wire.TypeError:
				e, err := wire.ParseError(f)
				if err != nil || e.Code != wire.CodeOverloaded || e.RetryAfterMS == 0 {
					t.Fatalf("%v, %v", e, err)
				}
				answers[e.Correlation]++
				overloaded++
			}
		}
		if len(answers) != count || overloaded == 0 || overloaded > count-wire.RequestsMax {
			t.Errorf("%d of %d answered, %d overloaded", len(answers), count, overloaded)
		}
		c.settled(t)
	})
}

// TYPING is passed on at most once a second, however many come.
func TestAFloodOfTypingIsThinned(t *testing.T) {
	t.Parallel()
	s := serve(t, t.TempDir())
	w := s.witness(t)
	mallory, peer := s.user(t, "mallory"), s.user(t, "peer")
	c, p := s.live(t, "mallory"), s.live(t, "peer")
	c.say(t, wire.DirectRef(peer), 1, "hello")
	const messages, each = 20, 1000
	w.during(t, func() {
		began := time.Now().Unix()
		for range messages {
			c.send(bytes.Repeat(wire.AppendTyping(nil, &wire.Typing{Ref: wire.DirectRef(peer)}), each))
		}
		c.settled(t)
		seconds := time.Now().Unix() - began + 2
		c.say(t, wire.DirectRef(peer), 2, "done")
		heard := 0
		for done := false; !done; {
			f, err := p.Next()
			if err != nil {
				t.Fatal(err)
			}
			switch f.Type {
			case wire.TypeTyping:
				if typing, err := wire.ParseTyping(f); err != nil || typing.Ref != wire.DirectRef(mallory) {
					t.Fatalf("%+v, %v", typing, err)
				}
				heard++
			case wire.TypeMessage:
				m, err := wire.ParseMessage(f)
				done = err != nil || m.Sequence == 2
			}
		}
		if int64(heard) > seconds {
			t.Errorf("%d TYPINGs of %d were passed on in %d seconds", heard, messages*each, seconds)
		}
	})
}
