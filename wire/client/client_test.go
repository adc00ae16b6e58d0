package client

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"parley/wire"
)

func TestOptionsThatMeanNothingAreRefused(t *testing.T) {
	good := Options{Address: "ws://server.test", Token: func(context.Context) (string, error) { return "", nil }}
	for name, change := range map[string]func(*Options){
		"no address":       func(o *Options) { o.Address = "" },
		"no token":         func(o *Options) { o.Token = nil },
		"a long name":      func(o *Options) { o.Name = strings.Repeat("n", wire.ClientBytesMax+1) },
		"unknown begin":    func(o *Options) { o.Begin = 9 },
		"negative preview": func(o *Options) { o.Previews = -1 },
		"many previews":    func(o *Options) { o.Previews = wire.PreviewsMax + 1 },
		"long heartbeat":   func(o *Options) { o.HeartbeatSeconds = wire.HeartbeatSecondsMax + 1 },
		"known nobody":     func(o *Options) { o.Known = map[wire.Ref]uint64{0: 1} },
	} {
		o := good
		change(&o)
		if _, err := Open(t.Context(), o); !errors.Is(err, ErrOptions) && !errors.Is(err, ErrAddress) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestCallsThatMeanNothingAreRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNetwork(t)
		c := n.open(n.options())
		queue := func(ref wire.Ref, content wire.Content) error { _, err := c.Queue(ref, content); return err }
		block := wire.AppendExtension(nil, wire.TagServerMin, []byte{1})
		calls := map[string]error{
			"send to nobody":       queue(0, wire.Text("x")),
			"send nothing":         queue(toBob, wire.Text("")),
			"send too much":        queue(toBob, wire.Text(strings.Repeat("x", wire.ContentBytesMax+1))),
			"send a broken block":  queue(toBob, wire.Content{Extended: true, Bytes: []byte{9}}),
			"send a server's tag":  queue(toBob, wire.Content{Extended: true, Bytes: wire.AppendContent(nil, block, []byte("x"))}),
			"read nobody's":        c.Read(0, 1),
			"deliver beyond 2^51":  c.Delivered(toBob, 1<<52),
			"type to nobody":       c.Typing(0),
			"history of nobody":    second(c.History(t.Context(), wire.History{})),
			"history of no kind":   second(c.History(t.Context(), wire.History{Ref: toBob, Mode: 9})),
			"a page too long":      second(c.History(t.Context(), wire.History{Ref: toBob, Limit: wire.HistoryMessagesMax + 1})),
			"users: no identifier": second(c.Users(t.Context(), 0)),
			"resolve nothing":      second(c.Resolve(t.Context(), "")),
			"resolve too much":     second(c.Resolve(t.Context(), strings.Repeat("n", wire.NameBytesMax+1))),
		}
		for name, err := range calls {
			if !errors.Is(err, ErrRequest) {
				t.Errorf("%s: %v", name, err)
			}
		}
		if sent := mustSend(t, c, strings.Repeat("x", wire.ContentBytesMax)); sent.Sequence != 1 {
			t.Errorf("the longest: %+v", sent)
		}
	})
}

func second[T any](_ T, err error) error { return err }

func TestARefusedMessageSaysWhyAndOthersGoOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNetwork(t)
		c := n.open(n.options())
		var pending []*Pending
		for _, text := range texts(5, "x") {
			p, err := c.Queue(wire.DirectRef(stranger), wire.Text(text))
			if err != nil {
				t.Fatal(err)
			}
			pending = append(pending, p)
		}
		for _, p := range pending {
			<-p.Done()
			_, err := p.Result()
			var refused *wire.Error
			if !errors.As(err, &refused) || refused.Code != wire.CodeUnknownUser || refused.Correlation != 0 {
				t.Errorf("%q: %v", p.Content().Bytes, err)
			}
		}
		mustSend(t, c, "to somebody")
		n.do(func(w *world) { w.users[stranger] = "stranger" })
		sent, err := c.Send(t.Context(), wire.DirectRef(stranger), wire.Text("now you are here"))
		if err != nil || sent.Sequence != 1 {
			t.Errorf("%+v %v", sent, err)
		}
		if len(n.firsts) != 1 {
			t.Errorf("%d sessions: the refused counters were used again within the first", len(n.firsts))
		}
	})
}

func TestAFullOutboxRefusesMore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNetwork(t)
		c := n.open(n.options())
		until(t, c, Live)
		n.setRefuse(true)
		n.cutAll()
		until(t, c, Offline)
		for i := range OutboxMessagesMax {
			if _, err := c.Queue(toBob, wire.Text(fmt.Sprint(i))); err != nil {
				t.Fatal(i, err)
			}
		}
		if _, err := c.Queue(toBob, wire.Text("one more")); !errors.Is(err, ErrOutboxFull) {
			t.Error(err)
		}
		n.setRefuse(false)
		if err := c.Flush(t.Context()); err != nil {
			t.Error(err)
		}
		n.mutex.Lock()
		defer n.mutex.Unlock()
		for i, m := range n.world.logs[wire.DirectConversation(alice, bob)].messages {
			if string(m.Content.Bytes) != fmt.Sprint(i) {
				t.Fatalf("message %d is %q", i+1, m.Content.Bytes)
			}
		}
	})
}

func TestASendWhoseContextEndsIsStillSent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNetwork(t)
		c := n.open(n.options())
		until(t, c, Live)
		n.setRefuse(true)
		n.cutAll()
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		_, err := c.Send(ctx, toBob, wire.Text("late"))
		if !errors.Is(err, ErrUnfinished) || !errors.Is(err, context.DeadlineExceeded) {
			t.Error(err)
		}
		if err := c.Flush(ctx); !errors.Is(err, ErrUnfinished) {
			t.Error(err)
		}
		n.setRefuse(false)
		if err := c.Flush(t.Context()); err != nil {
			t.Error(err)
		}
		if sent := mustSend(t, c, "next"); sent.Sequence != 2 {
			t.Errorf("%+v: the first one was not sent", sent)
		}
	})
}

func TestCloseEndsEverything(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNetwork(t)
		c := n.open(n.options())
		until(t, c, Live)
		n.setRefuse(true)
		n.cutAll()
		until(t, c, Offline)
		p, err := c.Queue(toBob, wire.Text("never"))
		if err != nil {
			t.Fatal(err)
		}
		asked := make(chan error)
		go func() { _, err := c.Users(t.Context(), bob); asked <- err }()
		synctest.Wait()
		if _, err := p.Result(); !errors.Is(err, ErrUnfinished) {
			t.Error(err)
		}
		for range 2 {
			if err := c.Close(); err != nil {
				t.Error(err)
			}
		}
		<-p.Done()
		if _, err := p.Result(); !errors.Is(err, ErrClosed) {
			t.Error(err)
		}
		if err := <-asked; !errors.Is(err, ErrClosed) {
			t.Error(err)
		}
		for range c.Events() { // what is left, and then the end
		}
		for name, err := range map[string]error{"queue": second(c.Queue(toBob, wire.Text("x"))), "flush": c.Flush(t.Context()),
			"read": c.Read(toBob, 1), "typing": c.Typing(toBob), "users": second(c.Users(t.Context(), bob))} {
			if !errors.Is(err, ErrClosed) {
				t.Errorf("%s after Close: %v", name, err)
			}
		}
		if c.Err() != nil || len(c.Conversations()) != 0 || len(c.Restored()) != 0 {
			t.Error("the closed client says something else than nothing")
		}
	})
}

func TestAnOutboxInAFileOutlivesItsProcess(t *testing.T) {
	path := filepath.Join(t.TempDir(), "outbox")
	synctest.Test(t, func(t *testing.T) {
		n := newNetwork(t)
		o := n.options()
		o.Outbox = mustOpen(t, path)
		c := n.open(o)
		until(t, c, Live)
		mustSend(t, c, "acknowledged")
		n.setRefuse(true)
		n.cutAll()
		until(t, c, Offline)
		for _, text := range texts(3, "kept ") {
			if _, err := c.Queue(toBob, wire.Text(text)); err != nil {
				t.Fatal(err)
			}
		}
		c.Close()
		n.setRefuse(false)
		for life := range 3 {
			o.Outbox = mustOpen(t, path)
			c = n.open(o)
			restored := c.Restored()
			if want := []int{3, 0, 0}[life]; len(restored) != want {
				t.Fatalf("life %d: %d sends restored, want %d", life, len(restored), want)
			}
			for i, p := range restored {
				<-p.Done()
				if sent, err := p.Result(); err != nil || sent.Sequence != uint64(i+2) || string(p.Content().Bytes) != fmt.Sprintf("kept %d", i+1) {
					t.Errorf("%q: %+v %v", p.Content().Bytes, sent, err)
				}
			}
			if sent := mustSend(t, c, "new"); sent.Sequence != uint64(5+life) {
				t.Errorf("life %d: %+v", life, sent)
			}
			c.Close()
		}
	})
}

func TestAnOutboxIsNotSentInAnothersName(t *testing.T) {
	path := filepath.Join(t.TempDir(), "outbox")
	synctest.Test(t, func(t *testing.T) {
		n := newNetwork(t)
		o := n.options()
		o.Outbox = mustOpen(t, path)
		c := n.open(o)
		until(t, c, Live)
		n.setRefuse(true)
		n.cutAll()
		until(t, c, Offline)
		if _, err := c.Queue(toBob, wire.Text("from alice")); err != nil {
			t.Fatal(err)
		}
		c.Close()
		n.setRefuse(false)
		for name, token := range map[string]string{"told by the server": n.world.token(carol, 5), "told by the token": jwt(carol, 5)} {
			o.Token = func(context.Context) (string, error) { return token, nil }
			o.Outbox = mustOpen(t, path)
			if _, err := Open(t.Context(), o); !errors.Is(err, ErrIdentity) {
				t.Errorf("%s: %v", name, err)
			}
		}
		synctest.Wait()
		for _, log := range n.world.logs {
			if log.head() > 0 {
				t.Errorf("it was sent: %+v", log.messages)
			}
		}
	})
}

func jwt(user, device wire.ID) string {
	claims := fmt.Sprintf(`{"sub":"%d","device":"%d","iat":1,"exp":2}`, user, device)
	return "e30." + base64.RawURLEncoding.EncodeToString([]byte(claims)) + ".c2lnbmF0dXJl"
}

func TestTokensTellWhoTheyAreFor(t *testing.T) {
	for token, want := range map[string][2]wire.ID{
		jwt(5, 9): {5, 9}, "": {}, "a.b": {}, "a.b.c": {}, "e30.e30.x": {}, jwt(0, 1): {}, jwt(1<<48, 1): {},
	} {
		if user, device := identityOf(token); user != want[0] || device != want[1] {
			t.Errorf("%q: %d %d", token, user, device)
		}
	}
}

// A failingStore keeps nothing any more once it is told to fail.
type failingStore struct {
	OutboxStore
	failing atomic.Bool
}

func (s *failingStore) Write(changes []OutboxChange) error {
	if s.failing.Load() {
		return errDisk
	}
	return s.OutboxStore.Write(changes)
}

func TestAStoreThatFailsStopsSendingAndNothingElse(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNetwork(t)
		o := n.options()
		store := &failingStore{OutboxStore: mustOpen(t, filepath.Join(t.TempDir(), "outbox"))}
		o.Outbox = store
		c := n.open(o)
		mustSend(t, c, "stored")
		store.failing.Store(true)
		for range 2 {
			if _, err := c.Queue(toBob, wire.Text("not stored")); !errors.Is(err, ErrOutboxWrite) || !errors.Is(err, errDisk) {
				t.Error(err)
			}
		}
		n.do(func(w *world) { w.say(bob, alice, "hi") })
		for next[*MessageEvent](t, c).Author != bob {
		}
		n.mutex.Lock()
		defer n.mutex.Unlock()
		if head := n.world.logs[wire.DirectConversation(alice, bob)].head(); head != 2 {
			t.Errorf("%d messages at the server, want 2", head)
		}
	})
}

func TestWhereEventsBegin(t *testing.T) {
	for _, test := range []struct {
		name  string
		begin Begin
		known map[wire.Ref]uint64
		want  uint64
	}{
		{"at the head", BeginHead, nil, 9},
		{"after the delivered cursor", BeginDelivered, nil, 7},
		{"after the read cursor", BeginRead, nil, 4},
		{"after what the program has", BeginHead, map[wire.Ref]uint64{toBob: 2}, 3},
		{"after more than there is", BeginRead, map[wire.Ref]uint64{toBob: 100}, 9},
	} {
		synctest.Test(t, func(t *testing.T) {
			n := newNetwork(t)
			for i := range 8 {
				n.world.say(bob, alice, fmt.Sprint(i))
			}
			log := n.world.logs[wire.DirectConversation(alice, bob)]
			n.world.move(log, alice, wire.Read, 3, nil)
			n.world.move(log, alice, wire.Delivered, 6, nil)
			o := n.options()
			o.Begin, o.Known = test.begin, test.known
			c := n.open(o)
			until(t, c, Live)
			n.do(func(w *world) { w.say(bob, alice, "new") })
			if e := next[*MessageEvent](t, c); e.Sequence != test.want {
				t.Errorf("%s: the first message is %d, want %d", test.name, e.Sequence, test.want)
			}
		})
	}
}

func TestTheDeliveredCursorIsTheProgramsIfItWants(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNetwork(t)
		o := n.options()
		o.ManualDelivered = true
		c := n.open(o)
		until(t, c, Live)
		n.do(func(w *world) { w.say(bob, alice, "hi") })
		next[*MessageEvent](t, c)
		synctest.Wait()
		n.wantCursors(t, 0, 0)
		if err := c.Delivered(toBob, 1); err != nil {
			t.Error(err)
		}
		synctest.Wait()
		n.wantCursors(t, 1, 0)
	})
}

func TestACursorIsSentAgainUntilASyncCoversIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNetwork(t)
		cursors := 0
		lose := true
		n.script = func(p *peer, message []byte) bool {
			for _, name := range frames(message) {
				if name == "CURSOR" {
					cursors++
					return lose // the server dies before it has done anything with it
				}
			}
			return false
		}
		c := n.open(n.options())
		until(t, c, Live)
		n.do(func(w *world) { w.say(bob, alice, "hi") })
		next[*MessageEvent](t, c)
		synctest.Wait()
		for life := range 4 {
			n.mutex.Lock()
			lose = life < 1
			n.mutex.Unlock()
			n.cutAll()
			until(t, c, Live)
			synctest.Wait()
		}
		n.wantCursors(t, 1, 0)
		if cursors != 3 { // lost twice, taken once, and covered from then on
			t.Errorf("the cursor was sent %d times", cursors)
		}
	})
}

func TestAnUnknownOutcomeIsLookedForAndNeverCalledFailed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNetwork(t)
		forget := false
		n.script = func(p *peer, message []byte) bool {
			if !forget || p.greeted {
				return false
			}
			// The server has the first of two sends that were lost with their session, and
			// forgets the outbox.
			forget = false
			log := n.world.log(wire.DirectConversation(alice, bob))
			n.world.append(log, alice, wire.Text("x1"), nil)
			for name := range log.outboxes {
				log.evicted[name] = true
			}
			return false
		}
		o := n.options()
		c := n.open(o)
		until(t, c, Live)
		mustSend(t, c, "x1") // an older one of the same content is not taken for it
		n.mutex.Lock()
		n.silent, forget = true, true
		n.mutex.Unlock()
		var pending []*Pending
		for _, text := range []string{"x1", "x2"} {
			p, err := c.Queue(toBob, wire.Text(text))
			if err != nil {
				t.Fatal(err)
			}
			pending = append(pending, p)
		}
		synctest.Wait()
		n.cutAll()
		n.mutex.Lock()
		n.silent = false
		n.mutex.Unlock()
		<-pending[0].Done()
		if sent, err := pending[0].Result(); err != nil || !sent.Found || sent.Sequence != 2 {
			t.Errorf("%+v %v", sent, err)
		}
		<-pending[1].Done()
		if _, err := pending[1].Result(); !errors.Is(err, ErrUnknownOutcome) {
			t.Error(err)
		}
		if sent := mustSend(t, c, "under a new epoch"); sent.Sequence != 3 {
			t.Errorf("%+v", sent)
		}
	})
}

// Two programs that use copies of one outbox: nothing is lost or doubled, and the second
// takes a new epoch.
func TestACopiedOutboxGetsANewEpoch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNetwork(t)
		epochs := map[uint64]bool{}
		o := n.options()
		for _, text := range texts(2, "copy ") {
			// The same seed draws the same epoch, as a copied file would have it.
			c := n.open(o)
			mustSend(t, c, text)
			mustSend(t, c, text+" again")
			c.Close()
		}
		for _, first := range n.firsts {
			f, _, _ := wire.NextFrame(first)
			h, err := wire.ParseHello(f)
			if err != nil {
				t.Fatal(err)
			}
			epochs[h.OutboxEpoch] = true
		}
		if head := n.world.logs[wire.DirectConversation(alice, bob)].head(); head != 4 || len(epochs) != 2 {
			t.Errorf("%d messages under %d epochs, want 4 under 2", head, len(epochs))
		}
	})
}
