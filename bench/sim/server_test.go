package sim

import (
	"bufio"
	"context"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gobwas/ws"

	"parley/engine"
	"parley/engine/reactor"
	"parley/wire"
)

// A script is a handler that notes what it is told and does what a test wants.
type script struct {
	loop    engine.Loop
	mu      sync.Mutex
	log     []string
	message func(h reactor.Handle, payload []byte)
	inbox   func(items []any)
}

func (s *script) note(text string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.log = append(s.log, text)
}

// told is what the handler has been told so far.
func (s *script) told() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.log)
}

func (s *script) Opened(reactor.Handle)   { s.note("opened") }
func (s *script) Closed(reactor.Handle)   { s.note("closed") }
func (s *script) Writable(reactor.Handle) { s.note("writable") }
func (s *script) Expired(reactor.Handle)  { s.note("expired") }
func (s *script) Message(h reactor.Handle, payload []byte) {
	s.log = append(s.log, "message "+string(payload))
	if s.message != nil {
		s.message(h, payload)
	}
}
func (s *script) Inbox(items []any) { s.inbox(items) }

// serve runs fn in a bubble with a server of one loop and a connection that is upgraded.
func serve(t *testing.T, s *script, fn func(c *Conn, in *bufio.Reader, server engine.Server)) {
	synctest.Test(t, func(t *testing.T) {
		network := NewNetwork(1, Path{Delay: time.Millisecond}, 1<<10)
		a, b := network.Host("a", nil), network.Host("b", nil)
		l, err := b.Listen(80)
		if err != nil {
			t.Fatal(err)
		}
		server, err := Serve(l, 1, nil)(func(l engine.Loop) reactor.Handler { s.loop = l; return s })
		if err != nil {
			t.Fatal(err)
		}
		conn, err := a.Dial(context.Background(), "b:80")
		if err != nil {
			t.Fatal(err)
		}
		io.WriteString(conn, "GET /v1/socket HTTP/1.1\r\nHost: b\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"+
			"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Protocol: "+wire.Subprotocol+"\r\n\r\n")
		in := bufio.NewReader(conn)
		response, err := http.ReadResponse(in, nil)
		if err != nil || response.StatusCode != http.StatusSwitchingProtocols {
			t.Fatalf("upgrade: %v, %v", response, err)
		}
		fn(conn.(*Conn), in, server)
		conn.Close()
		server.Close()
	})
}

// rest lets time pass, and waits until what that brings has been done.
func rest(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

func say(t *testing.T, c *Conn, messages ...string) {
	t.Helper()
	var b strings.Builder
	for _, m := range messages {
		ws.WriteFrame(&b, ws.MaskFrame(ws.NewBinaryFrame([]byte(m))))
	}
	if _, err := io.WriteString(c, b.String()); err != nil {
		t.Fatal(err)
	}
}

func hear(t *testing.T, in *bufio.Reader) ws.Frame {
	t.Helper()
	f, err := ws.ReadFrame(in)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func TestTheServerCorksATurnIntoOneMessage(t *testing.T) {
	s := &script{}
	s.message = func(h reactor.Handle, payload []byte) {
		s.loop.Write(h, payload)
		s.loop.Write(h, []byte("!"))
	}
	serve(t, s, func(c *Conn, in *bufio.Reader, _ engine.Server) {
		say(t, c, "one", "two")
		if f := hear(t, in); string(f.Payload) != "one!two!" {
			t.Fatalf("heard %q", f.Payload)
		}
		c.Close()
		rest(time.Second)
		if want := []string{"opened", "message one", "message two", "closed"}; !slices.Equal(s.told(), want) {
			t.Fatalf("%q, want %q", s.told(), want)
		}
	})
}

func TestTheServerTellsWhoIsSlow(t *testing.T) {
	s := &script{}
	var queued int
	var blocked bool
	s.message = func(h reactor.Handle, payload []byte) { s.loop.Write(h, make([]byte, 10<<10)); s.loop.Post(h) }
	s.inbox = func(items []any) {
		h := items[0].(reactor.Handle)
		queued, blocked = s.loop.Queued(h), s.loop.Blocked(h)
	}
	serve(t, s, func(c *Conn, in *bufio.Reader, _ engine.Server) {
		say(t, c, "much")
		rest(time.Second)
		if queued < 8<<10 || !blocked {
			t.Fatalf("%d queued, blocked %v", queued, blocked)
		}
		hear(t, in)
		rest(time.Second)
		if !slices.Contains(s.told(), "writable") {
			t.Fatalf("%q", s.told())
		}
	})
}

func TestTheServerKeepsDeadlinesAndSaysGoodbye(t *testing.T) {
	s := &script{}
	s.message = func(h reactor.Handle, payload []byte) { s.loop.SetDeadline(h, 5) }
	serve(t, s, func(c *Conn, in *bufio.Reader, server engine.Server) {
		say(t, c, "wait")
		rest(4 * time.Second)
		if slices.Contains(s.told(), "expired") {
			t.Fatal("too early")
		}
		rest(3 * time.Second)
		if !slices.Contains(s.told(), "expired") {
			t.Fatal("not in time")
		}
		go server.Close()
		f := hear(t, in)
		code, _ := ws.ParseCloseFrameData(f.Payload)
		if f.Header.OpCode != ws.OpClose || code != ws.StatusGoingAway {
			t.Fatalf("%+v", f.Header)
		}
		rest(5 * time.Second)
		if told := s.told(); told[len(told)-1] != "closed" {
			t.Fatalf("%q", s.told())
		}
	})
}
