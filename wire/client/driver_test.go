package client

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"parley/wire"
)

var toBob = wire.DirectRef(bob)

func mustSend(t *testing.T, c *Client, text string) Sent {
	t.Helper()
	sent, err := c.Send(t.Context(), toBob, wire.Text(text))
	if err != nil {
		t.Fatal(err)
	}
	return sent
}

func TestAMessageIsSentPushedDeliveredAndRead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNetwork(t)
		c := n.open(n.options())
		if c.User() != alice || c.Device() != simDevice {
			t.Errorf("user %d device %d", c.User(), c.Device())
		}
		until(t, c, Live)
		if sent := mustSend(t, c, "hello"); sent.Sequence != 1 {
			t.Errorf("sent %+v", sent)
		}
		if e := next[*MessageEvent](t, c); e.Sequence != 1 || e.Author != alice || !e.Sent || string(e.Content.Bytes) != "hello" {
			t.Errorf("own message: %+v", e)
		}
		n.do(func(w *world) { w.move(w.logs[wire.DirectConversation(alice, bob)], bob, wire.Read, 1, nil) })
		if e := next[*ReceiptEvent](t, c); e.Kind != wire.Delivered || e.Position != 1 {
			t.Errorf("%+v", e)
		}
		if e := next[*ReceiptEvent](t, c); e.Kind != wire.Read || e.Position != 1 {
			t.Errorf("%+v", e)
		}
		n.do(func(w *world) { w.say(bob, alice, "hi") })
		if e := next[*MessageEvent](t, c); e.Sequence != 2 || e.Author != bob || e.Sent {
			t.Errorf("the answer: %+v", e)
		}
		synctest.Wait()
		n.wantCursors(t, 2, 0)
		if err := c.Read(toBob, 2); err != nil {
			t.Error(err)
		}
		synctest.Wait()
		n.wantCursors(t, 2, 2)
		states := c.Conversations()
		if len(states) != 1 || states[0].Head != 2 || states[0].Unread != 0 || states[0].Read != 2 || states[0].OtherRead != 1 {
			t.Errorf("list %+v", states)
		}
		if err := c.Read(toBob, 3); !errors.Is(err, ErrRequest) {
			t.Errorf("reading beyond the head: %v", err)
		}
	})
}

// wantCursors compares alice's cursors at the server.
func (n *network) wantCursors(t *testing.T, delivered, read uint64) {
	t.Helper()
	n.mutex.Lock()
	defer n.mutex.Unlock()
	if got := *n.world.logs[wire.DirectConversation(alice, bob)].cursors[alice]; got != [2]uint64{delivered, read} {
		t.Errorf("cursors at the server: %v, want %d and %d", got, delivered, read)
	}
}

// A resume is one message and one round trip: HELLO, SYNC and the outbox together.
func TestResumeSendsHelloSyncAndOutboxAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNetwork(t)
		c := n.open(n.options())
		until(t, c, Live)
		mustSend(t, c, "before")
		n.setRefuse(true)
		n.cutAll()
		until(t, c, Offline)
		var pending []*Pending
		for _, text := range texts(3, "offline ") {
			p, err := c.Queue(toBob, wire.Text(text))
			if err != nil {
				t.Fatal(err)
			}
			pending = append(pending, p)
		}
		n.setRefuse(false)
		for i, p := range pending {
			<-p.Done()
			if sent, err := p.Result(); err != nil || sent.Sequence != uint64(i+2) {
				t.Errorf("%d: %+v %v", i, sent, err)
			}
		}
		want := []string{"HELLO", "SYNC", "SEND", "SEND", "SEND"}
		if diff := cmp.Diff(want, frames(n.firsts[len(n.firsts)-1])); diff != "" {
			t.Error(diff)
		}
		f, _, _ := wire.NextFrame(n.firsts[len(n.firsts)-1])
		if h, err := wire.ParseHello(f); err != nil || h.Kind != wire.CredentialTicket {
			t.Errorf("hello %+v %v", h, err)
		}
	})
}

func (n *network) setRefuse(refuse bool) {
	n.mutex.Lock()
	defer n.mutex.Unlock()
	n.refuse = refuse
}

func (n *network) cutAll() {
	n.mutex.Lock()
	defer n.mutex.Unlock()
	for _, c := range n.conns {
		c.conn.Close()
	}
}

// The first connections break after every possible number of bytes, of HTTP, WebSocket
// and frames, on their way up or down.
func TestConnectionsCutAtEveryByteLoseNothing(t *testing.T) {
	for limit := range 1600 {
		synctest.Test(t, func(t *testing.T) {
			n := newNetwork(t)
			n.limit = func(i int) int {
				if i < 2 {
					return limit
				}
				return -1
			}
			n.world.say(bob, alice, "earlier")
			o := n.options()
			o.Begin = BeginRead
			c := n.open(o)
			said := texts(4, "a")
			go func() {
				for _, text := range said {
					if _, err := c.Queue(toBob, wire.Text(text)); err != nil {
						t.Error(err)
					}
					n.do(func(w *world) { w.say(bob, alice, "b"+text) })
				}
			}()
			n.collect(t, c, 9, said)
		})
		if t.Failed() {
			t.Fatalf("cut after %d bytes", limit)
		}
	}
}

// collect takes messages until there are so many, and checks their order and that each of
// texts is there once.
func (n *network) collect(t *testing.T, c *Client, count uint64, said []string) {
	t.Helper()
	seen := map[string]int{}
	for sequence := uint64(1); sequence <= count; sequence++ {
		e := next[*MessageEvent](t, c)
		if e.Sequence != sequence {
			t.Fatalf("message %d, want %d", e.Sequence, sequence)
		}
		seen[string(e.Content.Bytes)]++
	}
	for _, text := range said {
		if seen[text] != 1 {
			t.Errorf("%q was seen %d times", text, seen[text])
		}
	}
	if err := c.Flush(t.Context()); err != nil {
		t.Error(err)
	}
}

func TestRefusedTicketFallsBackToAToken(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNetwork(t)
		tokens := 0
		o := n.options()
		o.Token = func(context.Context) (string, error) { tokens++; return n.world.token(alice, simDevice), nil }
		c := n.open(o)
		until(t, c, Live)
		n.do(func(w *world) { w.badTickets = true })
		n.cutAll()
		until(t, c, Live)
		if tokens != 2 {
			t.Errorf("%d tokens", tokens)
		}
		mustSend(t, c, "still here")
	})
}

func TestExpiredTicketIsNotTried(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNetwork(t)
		c := n.open(n.options())
		until(t, c, Live)
		n.setRefuse(true)
		n.cutAll()
		time.Sleep(2 * time.Hour) // the world's tickets are good for one
		n.setRefuse(false)
		until(t, c, Live)
		f, _, _ := wire.NextFrame(n.firsts[len(n.firsts)-1])
		if h, err := wire.ParseHello(f); err != nil || h.Kind != wire.CredentialToken {
			t.Errorf("hello %+v %v", h, err)
		}
	})
}

func TestCodesOfTheSession(t *testing.T) {
	for _, test := range []struct {
		code wire.Code
		ends bool
	}{
		{wire.CodeOverloaded, false}, {wire.CodeRateLimited, false}, {wire.CodeGoingAway, false}, {wire.CodeSlow, false},
		{wire.CodeIdleTimeout, false}, {199, false}, {299, false}, {399, false},
		{wire.CodeReplaced, true}, {wire.CodeMalformed, true}, {wire.CodeUnsupportedVersion, true}, {499, true},
	} {
		synctest.Test(t, func(t *testing.T) {
			n := newNetwork(t)
			c := n.open(n.options())
			until(t, c, Live)
			n.do(func(w *world) { w.peers[0].refuse(test.code) })
			if !test.ends {
				e := until(t, c, Offline)
				var refused *wire.Error
				if !errors.As(e.Err, &refused) || refused.Code != test.code {
					t.Errorf("%v: offline because of %v", test.code, e.Err)
				}
				until(t, c, Live)
				return
			}
			e := until(t, c, Closed)
			var refused *wire.Error
			if !errors.As(e.Err, &refused) || refused.Code != test.code || !errors.As(c.Err(), &refused) {
				t.Errorf("%v: closed because of %v, %v", test.code, e.Err, c.Err())
			}
			if _, ok := <-c.Events(); ok {
				t.Errorf("%v: events go on after the end", test.code)
			}
			if _, err := c.Queue(toBob, wire.Text("late")); !errors.Is(err, ErrClosed) || !errors.As(err, &refused) {
				t.Errorf("%v: queue after the end: %v", test.code, err)
			}
		})
	}
}

func TestTokensThatAreRefused(t *testing.T) {
	for _, test := range []struct {
		token string
		tries int
		code  wire.Code
	}{
		{"forged", 1, wire.CodeUnauthenticated},
		{"token 1 77 expired", tokenTries, wire.CodeTokenExpired},
	} {
		synctest.Test(t, func(t *testing.T) {
			n := newNetwork(t)
			tries := 0
			o := n.options()
			o.Token = func(context.Context) (string, error) { tries++; return test.token, nil }
			_, err := Open(t.Context(), o)
			var refused *wire.Error
			if !errors.As(err, &refused) || refused.Code != test.code || tries != test.tries {
				t.Errorf("%q: %v after %d tries", test.token, err, tries)
			}
		})
	}
}

func TestOpenEndsWithItsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNetwork(t)
		n.refuse = true
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
		defer cancel()
		_, err := Open(ctx, n.options())
		if !errors.Is(err, context.DeadlineExceeded) || !errors.Is(err, errNoNetwork) {
			t.Errorf("%v", err)
		}
		// Full jitter: at most a second, two, four, … and never more than a minute apart.
		for i := 1; i < len(n.dials); i++ {
			if gap, most := n.dials[i].Sub(n.dials[i-1]), min(reconnectMin<<(i-1), reconnectMax); gap > most {
				t.Errorf("attempt %d came after %v, at most %v", i, gap, most)
			}
		}
		if len(n.dials) < 8 {
			t.Errorf("%d attempts in five minutes", len(n.dials))
		}
	})
}

func TestHeartbeatsKeepASessionAndFindADeadOne(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNetwork(t)
		var pings []time.Time
		n.script = func(p *peer, message []byte) bool {
			if slices.Contains(frames(message), "PING") {
				pings = append(pings, time.Now())
			}
			return false
		}
		c := n.open(n.options())
		until(t, c, Live)
		begin := time.Now()
		time.Sleep(100 * time.Second)
		synctest.Wait()
		n.mutex.Lock()
		if len(pings) != 4 || pings[0].Sub(begin) != 25*time.Second {
			t.Errorf("pings after %v", pings)
		}
		n.silent = true
		n.mutex.Unlock()
		last := time.Now()
		e := until(t, c, Offline)
		if !errors.Is(e.Err, ErrUnanswered) {
			t.Error(e.Err)
		}
		if after := time.Since(last); after != 35*time.Second {
			t.Errorf("the dead link was found after %v: a silent interval and the time for PONG are 35 s", after)
		}
		n.mutex.Lock()
		n.silent = false
		n.mutex.Unlock()
		until(t, c, Live)
	})
}

func TestGoAwayIsFollowedWithinItsSpread(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNetwork(t)
		c := n.open(n.options())
		until(t, c, Live)
		time.Sleep(time.Minute)
		begin := time.Now()
		n.do(func(w *world) {
			w.peers[0].out = wire.AppendGoAway(w.peers[0].out, &wire.GoAway{Code: wire.CodeGoingAway, SpreadMS: 30_000})
		})
		mustSend(t, c, "the session stays usable")
		until(t, c, Live)
		if waited := n.dials[1].Sub(begin); waited <= 0 || waited > 30*time.Second {
			t.Errorf("reconnected after %v", waited)
		}
		mustSend(t, c, "and goes on")
	})
}

func TestASlowConsumerGetsEverythingWithinBounds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNetwork(t)
		o := n.options()
		o.Begin = BeginRead
		c := n.open(o)
		until(t, c, Live)
		const count = 3 * EventMessagesMax
		for i := range count {
			n.do(func(w *world) { w.say([]wire.ID{bob, carol}[i%2], alice, fmt.Sprintf("m%d", i)) })
		}
		synctest.Wait()
		c.inspect(func(core *core) {
			if core.feed.messages > EventMessagesMax || core.feed.len() > EventMessagesMax+100 {
				t.Errorf("%d messages, %d events wait", core.feed.messages, core.feed.len())
			}
			if core.stashBytes > StashBytesMax {
				t.Errorf("%d bytes stashed", core.stashBytes)
			}
		})
		seen := map[wire.Ref]uint64{}
		for range count {
			e := next[*MessageEvent](t, c)
			if seen[e.Ref]++; e.Sequence != seen[e.Ref] {
				t.Fatalf("conversation %d: %d after %d", e.Ref, e.Sequence, seen[e.Ref]-1)
			}
		}
		synctest.Wait()
		n.wantCursors(t, count/2, 0)
	})
}

func TestRequestsAreAnsweredAcrossConnections(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNetwork(t)
		n.world.faults.refuseRead = 300
		for i := range 30 {
			n.world.say(bob, alice, fmt.Sprintf("m%d", i))
		}
		c := n.open(n.options())
		n.cutAll()
		page, err := c.History(t.Context(), wire.History{Ref: toBob, Mode: wire.HistoryBackward, Limit: 10})
		if err != nil || len(page.Messages) != 10 || page.Head != 30 || page.Messages[9].Sequence != 30 {
			t.Errorf("%+v %v", page, err)
		}
		users, err := c.Resolve(t.Context(), "bob", "nobody", "carol")
		if want := []wire.User{{ID: bob, Version: 1, Name: "bob"}, {ID: carol, Version: 1, Name: "carol"}}; err != nil || !slices.Equal(users, want) {
			t.Errorf("%+v %v", users, err)
		}
		ids := make([]wire.ID, 250)
		for i := range ids {
			ids[i] = wire.ID(i + 1)
		}
		if users, err = c.Users(t.Context(), ids...); err != nil || len(users) != 3 {
			t.Errorf("%+v %v", users, err)
		}
		n.setRefuse(true)
		n.cutAll()
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		if _, err := c.Users(ctx, bob); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("without a connection: %v", err)
		}
	})
}

func TestMoreRequestsThanTheServerTakesWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNetwork(t)
		c := n.open(n.options())
		done := make(chan error)
		for range 3 * RequestsMax {
			go func() {
				_, err := c.Users(t.Context(), bob)
				done <- err
			}()
		}
		for range 3 * RequestsMax {
			if err := <-done; err != nil {
				t.Error(err)
			}
		}
	})
}

func TestTypingIsToldSeldom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNetwork(t)
		n.world.say(bob, alice, "hi")
		told := 0
		n.script = func(p *peer, message []byte) bool {
			for _, name := range frames(message) {
				if name == "TYPING" {
					told++
				}
			}
			return false
		}
		c := n.open(n.options())
		until(t, c, Live)
		for range 70 {
			if err := c.Typing(toBob); err != nil {
				t.Error(err)
			}
			time.Sleep(100 * time.Millisecond)
		}
		synctest.Wait()
		if told != 3 { // at 0, 3 and 6 seconds
			t.Errorf("told %d times in 7 s", told)
		}
		n.do(func(w *world) {
			w.each(alice, func(p *peer) { p.out = wire.AppendTyping(p.out, &wire.Typing{Ref: toBob}) })
		})
		if e := next[*TypingEvent](t, c); e.Author != bob || e.Ref != toBob {
			t.Errorf("%+v", e)
		}
	})
}
