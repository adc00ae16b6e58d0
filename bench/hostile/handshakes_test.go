//go:build linux

package hostile

import (
	"bytes"
	"errors"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"parley/wire"
	"parley/wire/wiretest"
)

// Requests that are no good opening handshake, with the status that they get.
func TestRequestsThatAreNoUpgradeGetTheirStatus(t *testing.T) {
	t.Parallel()
	s := serve(t, t.TempDir())
	w := s.witness(t)
	without := func(header string) string {
		var lines []string
		for line := range strings.Lines(wiretest.Request) {
			if !strings.HasPrefix(line, header) {
				lines = append(lines, line)
			}
		}
		return strings.Join(lines, "")
	}
	replaced := func(old, new string) string { return strings.Replace(wiretest.Request, old, new, 1) }
	for _, test := range []struct{ name, request, status string }{
		{"a plain GET", "GET / HTTP/1.1\r\nHost: test\r\n\r\n", "426"},
		{"another path", replaced(wire.Path, "/v2/socket"), "404"},
		{"another method", replaced("GET", "POST"), "405"},
		{"HTTP/1.0", replaced("HTTP/1.1", "HTTP/1.0"), "505"},
		{"no subprotocol", without("Sec-WebSocket-Protocol"), "400"},
		{"wrong subprotocol", replaced(wire.Subprotocol, "parley.v2"), "400"},
		{"subprotocol of another case", replaced(wire.Subprotocol, "PARLEY.V1"), "400"},
		{"no key", without("Sec-WebSocket-Key"), "400"},
		{"short key", replaced("dGhlIHNhbXBsZSBub25jZQ==", "AAAA"), "400"},
		{"no version", without("Sec-WebSocket-Version"), "400"},
		{"old version", replaced("Version: 13", "Version: 8"), "426"},
		{"no upgrade", without("Upgrade"), "426"},
		{"no connection", without("Connection"), "426"},
		{"no host", without("Host"), "400"},
		{"a header that is none", replaced("Host: test", "Host: test\r\nno colon here"), "400"},
		{"the hello of TLS", "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + strings.Repeat("x", 100), "400"},
		{"HTTP/2", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", ""},
		{"noise", strings.Repeat("\x00\xff", 100), "400"},
		{"one line for ever", "GET /" + strings.Repeat("a", 1<<20), "431"},
		{"headers of 1 MB", "GET " + wire.Path + " HTTP/1.1\r\n" + strings.Repeat("X-Filler: "+strings.Repeat("y", 90)+"\r\n", 10_000) + "\r\n", "431"},
		{"a header of 1 MB", replaced("Host: test", "Host: test\r\nCookie: "+strings.Repeat("z", 1<<20)), "431"},
	} {
		t.Run(test.name, func(t *testing.T) {
			w.during(t, func() {
				conn := s.connect(t)
				go io.WriteString(conn, test.request) // the server may hang up before it has all
				answer, err := io.ReadAll(conn)
				if err != nil && !gone(err) {
					t.Fatalf("neither answered nor closed: %v", err)
				}
				status, _, _ := strings.Cut(strings.TrimPrefix(string(answer), "HTTP/1.1 "), " ")
				// The answer to a request that goes on may be lost with the reset.
				lost := len(answer) == 0 && len(test.request) > 100_000
				if status != test.status && test.status != "" && !lost || status == "101" {
					t.Errorf("status %q, want %q: %.200q", status, test.status, answer)
				}
			})
		})
	}
}

// A slow client is not a hostile one: a handshake and a HELLO that come byte by byte, in time, are
// served.
func TestASlowHandshakeIsServed(t *testing.T) {
	t.Parallel()
	s := serve(t, t.TempDir())
	w := s.witness(t)
	s.user(t, "mallory")
	w.during(t, func() {
		c := &client{Client: wiretest.New(s.connect(t))}
		for _, b := range []byte(wiretest.Request) {
			c.write([]byte{b})
			time.Sleep(time.Millisecond)
		}
		if err := c.Upgraded(); err != nil {
			t.Fatal(err)
		}
		for _, b := range wiretest.Message(wiretest.Binary, wire.AppendHello(nil, &wire.Hello{Version: wire.Version, Credential: s.token(t, "mallory", 7, time.Hour)})) {
			c.write([]byte{b})
		}
		c.want(t, wire.TypeWelcome)
	})
}

// What comes with the handshake in one packet is served, and what comes after a refused one is not.
func TestFramesMayComeWithTheHandshake(t *testing.T) {
	t.Parallel()
	s := serve(t, t.TempDir())
	w := s.witness(t)
	s.user(t, "mallory")
	hello := wiretest.Message(wiretest.Binary, wire.AppendHello(nil, &wire.Hello{Version: wire.Version, Credential: s.token(t, "mallory", 7, time.Hour)}))
	w.during(t, func() {
		c := &client{Client: wiretest.New(s.connect(t))}
		c.write(append([]byte(wiretest.Request), hello...))
		if err := c.Upgraded(); err != nil {
			t.Fatal(err)
		}
		c.want(t, wire.TypeWelcome)

		conn := s.connect(t)
		conn.Write(append([]byte(strings.Replace(wiretest.Request, "parley.v1", "parley.v9", 1)), hello...))
		answer, err := io.ReadAll(conn)
		if err != nil && !gone(err) || !bytes.HasPrefix(answer, []byte("HTTP/1.1 400 ")) {
			t.Errorf("%q, %v", answer, err)
		}
	})
}

// A WebSocket that says no HELLO, or says it for ever, is closed.
func TestASocketWithoutAHelloIsClosed(t *testing.T) {
	t.Parallel()
	s := serve(t, t.TempDir())
	w := s.witness(t)
	w.during(t, func() {
		var all sync.WaitGroup
		for name, talk := range map[string]func(c *client){
			"nothing":                 func(*client) {},
			"a frame that never ends": func(c *client) { dribble(c, wiretest.Message(wiretest.Binary, make([]byte, wire.MessageBytesMax))) },
			"fragments for ever": func(c *client) {
				dribble(c, append(wiretest.Message(0x02, nil), bytes.Repeat(wiretest.Message(0x00, nil), 1000)...))
			},
			"WebSocket pings for ever": func(c *client) { dribble(c, bytes.Repeat(wiretest.Message(wiretest.Ping, nil), 1000)) },
			"empty messages for ever":  func(c *client) { dribble(c, bytes.Repeat(wiretest.Message(wiretest.Binary, nil), 1000)) },
		} {
			c := s.dial(t)
			all.Go(func() { talk(c) })
			all.Go(func() {
				for {
					if _, err := c.Next(); err != nil {
						if c.Code != wire.CodeHelloTimeout.CloseCode() {
							t.Errorf("%s: close code %d, %v", name, c.Code, err)
						}
						c.Close()
						return
					}
				}
			})
		}
		all.Wait()
	})
}

// dribble writes byte by byte until the other side has closed.
func dribble(c *client, b []byte) {
	for i := range b {
		if _, err := c.Write(b[i : i+1]); err != nil {
			return
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// 5,000 connections that do not get to be WebSockets, all at once: they say nothing, half of a
// request, or a byte now and then. The server cuts them all, without much memory, and serves others.
func TestFiveThousandHandshakesThatNeverEndAreCut(t *testing.T) {
	const count, sayers = 5000, 3
	heavy(t, count+500)
	s := serve(t, t.TempDir())
	w := s.witness(t)
	// 5,000 requests of up to 4 KiB take 20 MB when all of them are unfinished.
	s.memory(t, 80<<20, func() {
		w.during(t, func() {
			conns := make([]net.Conn, count)
			for i := range conns {
				conns[i] = s.connect(t)
				switch i % sayers {
				case 1:
					io.WriteString(conns[i], wiretest.Request[:len(wiretest.Request)/2])
				case 2:
					io.WriteString(conns[i], "GET /"+strings.Repeat("a", 3000))
				}
			}
			stop := make(chan struct{})
			var dribbling sync.WaitGroup
			dribbling.Go(func() { dribbleAll(conns, stop) })
			for i, conn := range conns {
				// A server that hangs up ends the read; the test's own deadline would, too. Who goes on
				// to write may lose the answer to a reset.
				answer, err := io.ReadAll(conn)
				if err != nil && !gone(err) {
					t.Errorf("connection %d was not cut: %v", i, err)
					break
				}
				if late := bytes.HasPrefix(answer, []byte("HTTP/1.1 408 ")); !late && (len(answer) > 0 || i%sayers < 2) {
					t.Errorf("connection %d was cut with %q, %v", i, answer, err)
					break
				}
			}
			close(stop)
			dribbling.Wait()
			eventually(t, "the server has forgotten them", func() bool { return s.metric(t, "parley_connections") == 2 })
		})
	})
}

// dribbleAll sends one more byte on every third connection, ten times a second.
func dribbleAll(conns []net.Conn, stop chan struct{}) {
	for at := 0; ; at++ {
		for i := 2; i < len(conns); i += 3 {
			if conns[i] == nil {
				continue
			}
			if _, err := conns[i].Write([]byte{'a'}); errors.Is(err, net.ErrClosed) {
				return
			}
		}
		select {
		case <-stop:
			return
		case <-time.After(100 * time.Millisecond):
		}
	}
}
