package reactor

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
	"golang.org/x/sys/unix"
)

func reset(c *client) {
	_ = c.Conn.(interface{ SetLinger(int) error }).SetLinger(0)
	_ = c.Close()
}

// A write to a connection that the peer has reset runs gnet's OnClose inside itself.
func TestWriteThatFindsTheConnectionDead(t *testing.T) {
	s, h := listen(t, Config{})
	var clients []*client
	var handles []Handle
	for range 10 {
		clients = append(clients, connect(t, s))
		handles = append(handles, await(t, h[0].handles))
	}
	h[0].run(func() {
		for _, c := range clients[:9] { // the loop is here, so it cannot have noticed
			reset(c)
		}
		for i, handle := range handles {
			h[0].loop.Write(handle, []byte{'a' + byte(i)})
		}
		for _, handle := range handles {
			if !h[0].loop.Alive(handle) {
				t.Errorf("%x ended inside the turn", handle)
			}
		}
	})
	clients[9].expect(opBinary, "j")
	for range 9 {
		h[0].awaitEvent("closed")
	}
	h[0].run(func() {
		if len(h[0].live) != 1 {
			t.Errorf("%d sessions live", len(h[0].live))
		}
	})
}

// A Closed that writes to others and closes them brings more output and more Closed.
func TestClosedMayWriteAndClose(t *testing.T) {
	s, h := listen(t, Config{})
	first, second := connect(t, s), connect(t, s)
	a, b := await(t, h[0].handles), await(t, h[0].handles)
	h[0].run(func() {
		h[0].closed = func(handle Handle) {
			if handle == a {
				h[0].loop.Write(a, []byte("to the dead"))
				h[0].loop.Write(b, []byte("your friend has left"))
				h[0].loop.Close(b, 4300, "so must you")
			}
		}
	})
	reset(first)
	second.expect(opBinary, "your friend has left")
	second.expectClose(4300)
	_ = second.Close()
	h[0].awaitEvent("closed")
	h[0].awaitEvent("closed")
}

func TestBurstBeyondTheArenaReachesEverybody(t *testing.T) {
	s, h := listen(t, Config{})
	const sessions = 100
	page := strings.Repeat("b", 60<<10)
	var clients []*client
	var handles []Handle
	for range sessions {
		clients = append(clients, connect(t, s))
		handles = append(handles, await(t, h[0].handles))
	}
	done := make(chan error, sessions)
	for _, c := range clients {
		go func() {
			for want := 2 * len(page); want > 0; {
				_, payload, err := c.read()
				if err != nil {
					done <- err
					return
				}
				want -= len(payload)
			}
			done <- nil
		}()
	}
	arena := 0
	h[0].run(func() {
		for range 2 {
			for _, handle := range handles {
				h[0].loop.Write(handle, []byte(page))
				arena = max(arena, len(h[0].loop.output.arena))
			}
		}
	})
	for range sessions {
		if err := await(t, done); err != nil {
			t.Fatal(err)
		}
	}
	if arena > arenaBytesMax+len(page)+linkBytes {
		t.Errorf("the arena grew to %d bytes", arena)
	}
}

// A goroutine that posts without end must not keep the loop from its sockets.
func TestBusyPosterDoesNotStarveTheSockets(t *testing.T) {
	s, h := listen(t, Config{})
	stop := make(chan struct{})
	var again func(*testHandler)
	again = func(h *testHandler) {
		select {
		case <-stop:
		default:
			h.loop.Post(again)
		}
	}
	s.Loop(0).Post(again)
	c := connect(t, s)
	c.send(frame(opBinary, "heard"))
	c.expect(opBinary, "heard")
	close(stop)
	h[0].run(func() {})
}

func TestPingsWithoutReadingAreBounded(t *testing.T) {
	s, h := listen(t, Config{SendBufferBytes: 4 << 10, QueueBytesMax: 8 << 10, MessageBytesMax: 8 << 10})
	c := connect(t, s)
	burst := []byte(strings.Repeat(string(frame(opPing, strings.Repeat("p", 125))), 100))
	for {
		if _, err := c.Write(burst); err != nil {
			break
		}
	}
	h[0].awaitEvent("closed")
	if n := s.Stats().Closed[ReasonSlow]; n != 1 {
		t.Errorf("closed for slowness: %d", n)
	}
}

func TestUnfinishedInputIsBounded(t *testing.T) {
	s, h := listen(t, Config{InputBytesMax: 100 << 10, MessageBytesMax: 64 << 10})
	half := frame(opBinary, strings.Repeat("h", 60<<10))[:50<<10]
	first := frame(opBinary, strings.Repeat("f", 30<<10))
	first[0] &^= 0x80
	a, b, c := connect(t, s), connect(t, s), connect(t, s)
	a.send(half)
	h[0].until(func() bool { return h[0].loop.held >= 50<<10 })
	b.send(first)
	h[0].until(func() bool { return h[0].loop.held >= 80<<10 })
	c.send(half)
	c.expectClose(1013)
	a.send(frame(opBinary, strings.Repeat("h", 60<<10))[50<<10:])
	a.expect(opBinary, strings.Repeat("h", 60<<10))
	_ = b.Close()
	h[0].until(func() bool { return h[0].loop.held == 0 })
}

func TestCloseWaitsForOutputOfASlowReader(t *testing.T) {
	s, h := listen(t, Config{SendBufferBytes: 4 << 10})
	c := connect(t, s)
	handle := await(t, h[0].handles)
	page := strings.Repeat("p", 100<<10)
	h[0].run(func() {
		h[0].loop.Write(handle, []byte(page))
		h[0].loop.Write(handle, []byte(page))
		h[0].loop.Close(handle, 4301, "slow")
	})
	c.expect(opBinary, page)
	c.expect(opBinary, page)
	c.expectClose(4301)
}

// A refusal must be readable though nobody has read the request.
func TestRefusedConnectionIsAnsweredNotReset(t *testing.T) {
	s, h := listen(t, Config{ConnectionsMax: 1})
	connect(t, s)
	await(t, h[0].handles)
	var c *client
	h[0].run(func() { // the loop accepts after the request has come
		c = dial(t, s)
		c.send([]byte(request))
	})
	r := c.response()
	if body, err := io.ReadAll(r.Body); err != nil || r.StatusCode != http.StatusServiceUnavailable || len(body) == 0 {
		t.Errorf("%d %q %v", r.StatusCode, body, err)
	}
	c.expectEnd()
	if n := s.Stats().Refused; n != 1 {
		t.Errorf("refused: %d", n)
	}
}

func TestOriginIsChecked(t *testing.T) {
	s, _ := listen(t, Config{CheckOrigin: func(origin []byte) bool { return string(origin) == "https://good" }})
	for origin, status := range map[string]int{"https://good": 101, "https://evil": 403} {
		c := dial(t, s)
		c.send([]byte(strings.Replace(request, "\r\n\r\n", "\r\nOrigin: "+origin+"\r\n\r\n", 1)))
		if r := c.response(); r.StatusCode != status {
			t.Errorf("%s: %d", origin, r.StatusCode)
		}
	}
}

func TestRestartOnTheSameAddress(t *testing.T) {
	s, _ := listen(t, Config{})
	c := connect(t, s)
	address := s.Address().String()
	if err := s.Close(); err != nil { // closes first, so that TIME_WAIT is the server's
		t.Fatal(err)
	}
	_ = c.Close()
	again, err := Listen(Config{Address: address, NewHandler: func(l *Loop) Handler { return echo{l} }})
	if err != nil {
		t.Fatal(err)
	}
	_ = again.Close()
}

func TestCloseLeavesNoGoroutine(t *testing.T) {
	// gnet's pool keeps idle workers for 10 s.
	ignore := []goleak.Option{goleak.IgnoreCurrent(), goleak.IgnoreAnyFunction("github.com/panjf2000/ants/v2.(*goWorker).run.func1")}
	s, h := listen(t, Config{Loops: 2})
	c, slow, silent := connect(t, s), connect(t, s), dial(t, s)
	for _, h := range h {
		h.run(func() {
			for handle := range h.live {
				h.loop.SetDeadline(handle, 100)
				h.loop.Write(handle, make([]byte, 100<<10))
				h.loop.Write(handle, make([]byte, 100<<10))
			}
		})
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	for _, c := range []*client{c, slow, silent} {
		_ = c.Close()
	}
	goleak.VerifyNone(t, ignore...)
}

func TestManySessionsOnSeveralLoops(t *testing.T) {
	s, h := listen(t, Config{Loops: 3})
	const sessions = 300
	clients := make([]*client, sessions)
	for i := range clients {
		clients[i] = connect(t, s)
	}
	done := make(chan error, sessions)
	for i, c := range clients {
		go func() {
			for n := range 20 {
				text := fmt.Sprintf("%d of %d", n, i)
				if _, err := c.Write(frame(opBinary, text)); err != nil {
					done <- err
					return
				}
				if _, got, err := c.read(); err != nil || got != text {
					done <- fmt.Errorf("got %q, want %q, %w", got, text, err)
					return
				}
			}
			done <- nil
		}()
	}
	for range sessions {
		if err := await(t, done); err != nil {
			t.Error(err)
		}
	}
	seen := map[Handle]bool{}
	for i, h := range h {
		h.run(func() {
			if len(h.live) == 0 {
				t.Errorf("loop %d has no sessions", i)
			}
			for handle := range h.live {
				if handle.Loop() != i || seen[handle] {
					t.Errorf("handle %x on loop %d", handle, i)
				}
				seen[handle] = true
			}
		})
	}
	if st := s.Stats(); len(seen) != sessions || st.Sessions != sessions || st.Connections != sessions || st.Handshakes != 0 || st.MessagesIn != sessions*20 {
		t.Errorf("%d handles, %+v", len(seen), st)
	}
}

// serverVariable makes this test binary a server with few files, for
// TestFileLimitDoesNotEndTheServer.
const serverVariable = "REACTOR_TEST_SERVER"

// fewFiles serves with at most 100 files; at a line of input it opens the rest itself,
// while its connections stay.
func fewFiles() {
	limit := unix.Rlimit{Cur: 100, Max: 100}
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		panic(err)
	}
	fatal := make(chan error, 1)
	s, err := Listen(Config{Address: "127.0.0.1:0", Loops: 2, NewHandler: func(l *Loop) Handler { return echo{l} },
		Fatal: func(err error) { fatal <- err }})
	if err != nil {
		panic(err)
	}
	fmt.Println(s.Address())
	_, _ = bufio.NewReader(os.Stdin).ReadString('\n')
	for {
		if _, err = unix.Open("/dev/null", unix.O_RDONLY, 0); err != nil {
			break
		}
	}
	fmt.Println("full")
	err = <-fatal
	fmt.Println(errors.Is(err, ErrLoopEnded), strings.Contains(err.Error(), "too many open files"))
	_ = s.Close()
}

func TestFileLimitDoesNotEndTheServer(t *testing.T) {
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), serverVariable+"=1")
	cmd.Stderr = os.Stderr
	in, _ := cmd.StdinPipe()
	out, _ := cmd.StdoutPipe()
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = cmd.Wait() }()
	defer func() { _ = in.Close() }()
	time.AfterFunc(testTimeout, func() { _ = cmd.Process.Kill() })
	lines := bufio.NewReader(out)
	line := func() string {
		s, err := lines.ReadString('\n')
		if err != nil && err != io.EOF {
			t.Fatal(err)
		}
		return strings.TrimSpace(s)
	}
	address := line()
	var served []*client
	for range 200 {
		c := dialAddress(t, address)
		if _, err := c.Write([]byte(request)); err != nil {
			continue
		}
		if r, err := http.ReadResponse(c.In, nil); err == nil && r.StatusCode == http.StatusSwitchingProtocols {
			served = append(served, c)
		}
	}
	if len(served) != 50 {
		t.Errorf("%d connections were served, want half of 100 files", len(served))
	}
	for _, c := range served {
		c.send(frame(opBinary, "still here"))
		c.expect(opBinary, "still here")
	}
	_, _ = io.WriteString(in, "\n")
	if got := line(); got != "full" {
		t.Fatalf("server said %q", got)
	}
	if c, err := net.Dial("tcp", address); err == nil { // the server may be gone at once
		defer func() { _ = c.Close() }()
	}
	if got := line(); got != "true true" {
		t.Errorf("Fatal: %s", got)
	}
}
