package reactor

import (
	"context"
	"errors"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"
)

// A testHandler echoes, and tells the test what happened.
type testHandler struct {
	loop    *Loop
	t       testing.TB
	inside  bool
	live    map[Handle]bool
	events  chan string
	handles chan Handle
	message func(h Handle, payload []byte)
	inbox   func(items []any)
	closed  func(h Handle)
}

func (h *testHandler) enter() func() {
	if h.inside {
		h.t.Error("a Handler method was called inside another")
	}
	h.inside = true
	return func() { h.inside = false }
}

func (h *testHandler) tell(event string) {
	select {
	case h.events <- event:
	default:
	}
}

func (h *testHandler) Opened(handle Handle) {
	defer h.enter()()
	if h.live[handle] {
		h.t.Errorf("%x opened twice", handle)
	}
	h.live[handle] = true
	h.tell("opened")
	select {
	case h.handles <- handle:
	default:
	}
}

func (h *testHandler) Message(handle Handle, payload []byte) {
	defer h.enter()()
	if !h.live[handle] {
		h.t.Errorf("message of %x, which is not open", handle)
	}
	if h.message != nil {
		h.message(handle, payload)
		return
	}
	h.loop.Write(handle, payload)
}

func (h *testHandler) Closed(handle Handle) {
	defer h.enter()()
	if !h.live[handle] {
		h.t.Errorf("%x closed, which is not open", handle)
	}
	delete(h.live, handle)
	if h.closed != nil {
		h.closed(handle)
	}
	h.tell("closed")
}

func (h *testHandler) Writable(Handle) {
	defer h.enter()()
	h.tell("writable")
}

func (h *testHandler) Expired(Handle) {
	defer h.enter()()
	h.tell("expired")
}

func (h *testHandler) Inbox(items []any) {
	defer h.enter()()
	if h.inbox != nil {
		h.inbox(items)
		return
	}
	for _, item := range items {
		item.(func(*testHandler))(h)
	}
}

// run runs f on the loop, inside Inbox, and waits for it.
func (h *testHandler) run(f func()) {
	h.t.Helper()
	done := make(chan struct{})
	h.loop.Post(func(*testHandler) { f(); close(done) })
	await(h.t, done)
}

// until waits for a condition that the loop brings about.
func (h *testHandler) until(condition func() bool) {
	h.t.Helper()
	deadline := time.Now().Add(testTimeout)
	for met := false; !met; {
		if time.Now().After(deadline) {
			h.t.Fatal("the condition never came about")
		}
		h.run(func() { met = condition() })
	}
}

func await[T any](t testing.TB, c <-chan T) T {
	t.Helper()
	select {
	case v := <-c:
		return v
	case <-time.After(testTimeout):
		t.Fatal("nothing happened")
		panic("unreachable")
	}
}

// awaitEvent waits for one event and skips others.
func (h *testHandler) awaitEvent(event string) {
	h.t.Helper()
	for await(h.t, h.events) != event {
	}
}

// listen starts a server whose handlers the test can reach.
func listen(t testing.TB, c Config) (*Server, []*testHandler) {
	t.Helper()
	var handlers []*testHandler
	c.Address = "127.0.0.1:0"
	c.Subprotocol = "parley.v1"
	c.NewHandler = func(l *Loop) Handler {
		h := &testHandler{loop: l, t: t, live: map[Handle]bool{}, events: make(chan string, 1000), handles: make(chan Handle, 1000)}
		handlers = append(handlers, h)
		return h
	}
	s, err := Listen(c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = s.Close()
		for _, h := range handlers {
			if len(h.live) > 0 {
				t.Errorf("%d sessions were not closed", len(h.live))
			}
		}
	})
	return s, handlers
}

func TestEcho(t *testing.T) {
	s, _ := listen(t, Config{Loops: 2})
	c := connect(t, s)
	for _, text := range []string{"a", strings.Repeat("x", 125), strings.Repeat("y", 126), strings.Repeat("z", 65535), strings.Repeat("w", 128<<10)} {
		c.send(frame(opBinary, text))
		c.expect(opBinary, text)
	}
}

func TestRepliesOfOneTurnAreOneMessage(t *testing.T) {
	s, h := listen(t, Config{})
	c := connect(t, s)
	h[0].run(func() {}) // the counters of the turn before are in
	var burst []byte
	for range 10 {
		burst = append(burst, frame(opBinary, "0123456789")...)
	}
	before := s.Stats().Writes
	c.send(burst)
	c.expect(opBinary, strings.Repeat("0123456789", 10))
	h[0].run(func() {})
	if writes := s.Stats().Writes - before; writes != 1 {
		t.Errorf("%d writes for one turn", writes)
	}
}

func TestHandshakeByteByByteAndFramesBehindIt(t *testing.T) {
	s, _ := listen(t, Config{})
	c := dial(t, s)
	all := append([]byte(request), frame(opBinary, "behind")...)
	_ = c.Conn.(interface{ SetNoDelay(bool) error }).SetNoDelay(true)
	for i := range all {
		c.send(all[i : i+1])
	}
	c.upgraded()
	c.expect(opBinary, "behind")

	c = dial(t, s)
	c.send(all)
	c.upgraded()
	c.expect(opBinary, "behind")
}

func TestRefusedRequestGetsItsResponse(t *testing.T) {
	s, _ := listen(t, Config{})
	for _, test := range []struct {
		request string
		status  int
	}{
		{"GET /elsewhere HTTP/1.1\r\nHost: x\r\n\r\n", http.StatusNotFound},
		{"GET / HTTP/1.1\r\nHost: x\r\n\r\n", http.StatusUpgradeRequired},
		{"\x16\x03\x01\x02\x00\x01", http.StatusBadRequest},
		{"GET / HTTP/1.1\r\nX: " + strings.Repeat("x", 10_000), http.StatusRequestHeaderFieldsTooLarge},
	} {
		c := dial(t, s)
		c.send([]byte(test.request))
		r := c.response()
		if r.StatusCode != test.status || !r.Close {
			t.Errorf("%.40q: %v, want %d", test.request, r, test.status)
		}
		if body, err := io.ReadAll(r.Body); err != nil || len(body) == 0 {
			t.Errorf("body %q, %v", body, err)
		}
		c.expectEnd()
	}
}

func TestPing(t *testing.T) {
	s, _ := listen(t, Config{})
	c := connect(t, s)
	c.send(append(frame(opPing, "are you there"), frame(opBinary, "x")...))
	c.expect(opPong, "are you there")
	c.expect(opBinary, "x")
}

func TestPeerClosesWithHandshake(t *testing.T) {
	s, h := listen(t, Config{})
	c := connect(t, s)
	c.send(frame(opClose, "\x03\xe8bye"))
	c.expectClose(1000)
	h[0].awaitEvent("closed")
	if n := s.Stats().Closed[ReasonPeer]; n != 1 {
		t.Errorf("closed by peer: %d", n)
	}
}

func TestPeerGoesAway(t *testing.T) {
	s, h := listen(t, Config{})
	for _, early := range []bool{true, false} {
		c := connect(t, s)
		h[0].awaitEvent("opened")
		if early {
			_ = c.Conn.(interface{ SetLinger(int) error }).SetLinger(0)
		}
		_ = c.Close()
		h[0].awaitEvent("closed")
	}
}

func TestHandlerCloses(t *testing.T) {
	s, h := listen(t, Config{})
	h[0].run(func() {
		h[0].message = func(handle Handle, payload []byte) {
			h[0].loop.Write(handle, []byte("last words"))
			h[0].loop.Close(handle, 4410, "replaced")
			h[0].loop.Write(handle, []byte("ignored"))
			if h[0].loop.Alive(handle) {
				t.Error("alive after Close")
			}
		}
	})
	c := connect(t, s)
	c.send(append(frame(opBinary, "1"), frame(opBinary, "2")...))
	c.expect(opBinary, "last words")
	op, payload, err := c.read()
	if op != opClose || payload != "\x11\x3areplaced" || err != nil {
		t.Fatalf("%d %q %v", op, payload, err)
	}
	c.send(frame(opClose, "\x11\x3a"))
	c.expectEnd()
	h[0].awaitEvent("closed")
}

func TestHandlerClosesAndPeerIsSilent(t *testing.T) {
	s, h := listen(t, Config{})
	c := connect(t, s)
	handle := await(t, h[0].handles)
	h[0].run(func() { h[0].loop.Close(handle, 1000, "") })
	c.expectClose(1000) // the server's half ends at once
	h[0].run(func() {
		if !h[0].live[handle] {
			t.Error("the connection ended before its peer could answer")
		}
	})
	h[0].awaitEvent("closed") // by the wheel, for the client holds its half open
}

func TestBrokenRulesCloseTheConnection(t *testing.T) {
	s, h := listen(t, Config{MessageBytesMax: 1000})
	for _, test := range []struct {
		frame string
		code  uint16
	}{
		{"\x82\x01x", 1002},
		{"\x81\x80abcd", 1003},
		{"\x82\xfe\x03\xe9abcd", 1009},
	} {
		c := connect(t, s)
		c.send([]byte(test.frame + strings.Repeat("more", 1000)))
		c.expectClose(test.code)
		_ = c.Close()
		h[0].awaitEvent("closed")
	}
	if n := s.Stats().Closed[ReasonProtocol]; n != 3 {
		t.Errorf("closed for protocol: %d", n)
	}
}

func TestFragmentsAndSplits(t *testing.T) {
	s, h := listen(t, Config{})
	c := connect(t, s)
	first, last := frame(opBinary, "frag"), frame(0, "ments")
	first[0] &^= 0x80
	all := append(append(first, frame(opPing, "p")...), last...)
	for cut := 1; cut < len(all); cut++ {
		c.send(all[:cut])
		h[0].run(func() {}) // the loop may have read what was sent
		c.send(all[cut:])
		c.expect(opPong, "p")
		c.expect(opBinary, "fragments")
	}
	h[0].run(func() {
		if n := len(h[0].loop.fragments); n != 0 {
			t.Errorf("%d fragments kept", n)
		}
	})
}

func TestPostsFromManyGoroutinesKeepTheirOrder(t *testing.T) {
	const producers, posts = 8, 5_000
	s, h := listen(t, Config{})
	type item struct{ producer, n int }
	var next [producers]int
	left := producers * posts
	done := make(chan struct{})
	count := func(items []any) {
		for _, x := range items {
			i := x.(item)
			if i.n != next[i.producer] {
				t.Errorf("producer %d: %d, want %d", i.producer, i.n, next[i.producer])
			}
			next[i.producer]++
		}
		if left -= len(items); left == 0 {
			close(done)
		}
	}
	h[0].run(func() { h[0].inbox = count })
	var wg sync.WaitGroup
	for p := range producers {
		wg.Go(func() {
			for n := range posts {
				s.Loop(0).Post(item{p, n})
			}
		})
	}
	wg.Wait()
	await(t, done)
	if w := s.Stats().Wakeups; w > producers*posts/2 {
		t.Logf("%d wakeups for %d posts", w, producers*posts)
	}
}

func TestHandleOfEndedSessionNamesNothing(t *testing.T) {
	s, h := listen(t, Config{})
	c := connect(t, s)
	old := await(t, h[0].handles)
	_ = c.Close()
	h[0].awaitEvent("closed")
	c = connect(t, s)
	young := await(t, h[0].handles)
	if old.Slot() != young.Slot() || old == young || old.Generation() == young.Generation() {
		t.Fatalf("handles %x and %x", old, young)
	}
	h[0].run(func() {
		h[0].loop.Write(old, []byte("for the dead"))
		h[0].loop.Close(old, 1000, "")
		h[0].loop.SetDeadline(old, 1)
		if h[0].loop.Alive(old) || h[0].loop.Queued(old) != 0 || h[0].loop.Blocked(old) || h[0].loop.RemoteAddr(old).IsValid() {
			t.Error("the old handle names something")
		}
		h[0].loop.Write(young, []byte("for the living"))
		if got := h[0].loop.RemoteAddr(young).String(); got != c.LocalAddr().String() {
			t.Errorf("remote address %s, want %s", got, c.LocalAddr())
		}
	})
	c.expect(opBinary, "for the living")
}

func TestDeadlines(t *testing.T) {
	s, h := listen(t, Config{UpgradeTimeout: time.Second})
	silent := dial(t, s)
	half := dial(t, s)
	half.send([]byte(request[:50]))
	c := connect(t, s)
	handle := await(t, h[0].handles)
	h[0].run(func() { h[0].loop.SetDeadline(handle, 1) })
	h[0].awaitEvent("expired")
	for _, late := range []*client{silent, half} {
		if r := late.response(); r.StatusCode != http.StatusRequestTimeout {
			t.Errorf("status %d for a request that does not end", r.StatusCode)
		}
	}
	c.send(frame(opBinary, "still here"))
	c.expect(opBinary, "still here")
}

func TestSlowReaderIsBlockedThenWritable(t *testing.T) {
	s, h := listen(t, Config{SendBufferBytes: 4 << 10})
	c := connect(t, s)
	_ = c.Conn.(interface{ SetReadBuffer(int) error }).SetReadBuffer(4 << 10)
	handle := await(t, h[0].handles)
	page := strings.Repeat("p", 32<<10)
	sent := 0
	for blocked := false; !blocked; {
		h[0].run(func() {
			h[0].loop.Write(handle, []byte(page))
			sent++
		})
		h[0].run(func() { blocked = h[0].loop.Blocked(handle) && h[0].loop.Queued(handle) > 100<<10 })
	}
	if s.Stats().Blocked != 1 {
		t.Errorf("blocked: %d", s.Stats().Blocked)
	}
	for range sent {
		c.expect(opBinary, page)
	}
	h[0].awaitEvent("writable")
	h[0].run(func() {
		if h[0].loop.Blocked(handle) || h[0].loop.Queued(handle) != 0 {
			t.Error("still blocked")
		}
	})
}

func TestReaderThatNeverReadsIsDropped(t *testing.T) {
	s, h := listen(t, Config{})
	connect(t, s)
	handle := await(t, h[0].handles)
	page := make([]byte, 64<<10)
	queued := 0
	for alive := true; alive; {
		h[0].run(func() {
			h[0].loop.Write(handle, page)
			queued = max(queued, h[0].loop.Queued(handle))
			alive = h[0].loop.Alive(handle)
		})
	}
	h[0].awaitEvent("closed")
	if queued > queueBytesMax+messageBytesMax+16 {
		t.Errorf("%d bytes were queued", queued)
	}
	if n := s.Stats().Closed[ReasonSlow]; n != 1 {
		t.Errorf("closed for slowness: %d", n)
	}
}

func TestConnectionsAreCapped(t *testing.T) {
	s, _ := listen(t, Config{ConnectionsMax: 3, Loops: 2})
	var kept []*client
	for range 3 {
		kept = append(kept, connect(t, s))
	}
	c := dial(t, s)
	if r := c.response(); r.StatusCode != http.StatusServiceUnavailable {
		t.Errorf("status %d", r.StatusCode)
	}
	_ = kept[0].Close()
	for { // until the server has noticed
		c := dial(t, s)
		c.send([]byte(request))
		if r, err := http.ReadResponse(c.In, nil); err == nil && r.StatusCode == http.StatusSwitchingProtocols {
			break
		}
	}
	kept[1].send(frame(opBinary, "x"))
	kept[1].expect(opBinary, "x")
}

func TestHandshakesAreCapped(t *testing.T) {
	s, _ := listen(t, Config{HandshakesMax: 2})
	dial(t, s)
	dial(t, s)
	if r := dial(t, s).response(); r.StatusCode != http.StatusServiceUnavailable {
		t.Errorf("status %d", r.StatusCode)
	}
}

func TestWritesBeyondAMessageAreSplitBetweenCalls(t *testing.T) {
	s, h := listen(t, Config{MessageBytesMax: 100})
	c := connect(t, s)
	handle := await(t, h[0].handles)
	h[0].run(func() {
		h[0].loop.Write(handle, []byte(strings.Repeat("a", 60)))
		h[0].loop.Write(handle, []byte(strings.Repeat("b", 40)))
		h[0].loop.Write(handle, []byte(strings.Repeat("c", 1)))
		h[0].loop.Write(handle, []byte(strings.Repeat("d", 100)))
	})
	c.expect(opBinary, strings.Repeat("a", 60)+strings.Repeat("b", 40))
	c.expect(opBinary, "c")
	c.expect(opBinary, strings.Repeat("d", 100))
	h[0].run(func() { h[0].loop.Write(handle, make([]byte, 101)) })
	c.expectClose(1011)
}

func TestCloseSaysGoodbyeAndEndsEverything(t *testing.T) {
	s, h := listen(t, Config{Loops: 2})
	var clients []*client
	for range 20 {
		clients = append(clients, connect(t, s))
	}
	dial(t, s)
	done := make(chan error)
	go func() { done <- s.Close() }()
	for _, c := range clients {
		c.expectClose(1001)
		_ = c.Close()
	}
	if err := await(t, done); err != nil {
		t.Fatal(err)
	}
	for _, h := range h {
		if len(h.live) > 0 {
			t.Errorf("%d sessions were not closed", len(h.live))
		}
	}
	s.Loop(0).Post("into the void")
	if err := s.Close(); err != nil {
		t.Errorf("second Close: %v", err)
	}
	if n := s.Stats().Closed[ReasonShutdown]; n < 20 {
		t.Errorf("closed for shutdown: %d", n)
	}
}

func TestDrainRefusesNewAndWaitsForOld(t *testing.T) {
	s, h := listen(t, Config{})
	c := connect(t, s)
	h[0].awaitEvent("opened")
	done := make(chan error)
	go func() { done <- s.Drain(context.Background()) }()
	for {
		d := dial(t, s)
		d.send([]byte(request))
		if r, err := http.ReadResponse(d.In, nil); err != nil || r.StatusCode == http.StatusServiceUnavailable {
			break
		}
		_ = d.Close()
	}
	c.send(frame(opBinary, "still served"))
	c.expect(opBinary, "still served")
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if err := s.Drain(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("Drain with an ended context: %v", err)
	}
	_ = c.Close()
	if err := await(t, done); err != nil {
		t.Error(err)
	}
}

func TestAddressInUse(t *testing.T) {
	s, _ := listen(t, Config{})
	_, err := Listen(Config{Address: s.Address().String(), NewHandler: func(*Loop) Handler { return nil }})
	if err == nil || !strings.Contains(err.Error(), "address already in use") {
		t.Errorf("error %v", err)
	}
}

func TestBadConfigurations(t *testing.T) {
	if _, err := Listen(Config{Address: "127.0.0.1:0"}); !errors.Is(err, ErrNoHandler) {
		t.Errorf("error %v", err)
	}
	if _, err := Listen(Config{Address: "127.0.0.1:0", Loops: 257, NewHandler: func(*Loop) Handler { return nil }}); !errors.Is(err, ErrLoops) {
		t.Errorf("error %v", err)
	}
}
