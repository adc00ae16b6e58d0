//go:build linux

package hostile

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"syscall"
	"testing"
	"time"

	"parley/wire"
	"parley/wire/wiretest"
)

// A client says exactly what a test wants, wrong things included.
type client struct {
	*wiretest.Client
	user wire.ID
}

// connect opens a TCP connection.
func (s *server) connect(t testing.TB) net.Conn {
	t.Helper()
	conn, err := net.DialTimeout("tcp", s.address, patience)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	conn.SetDeadline(time.Now().Add(patience))
	return conn
}

// dial opens a WebSocket.
func (s *server) dial(t testing.TB) *client {
	t.Helper()
	c := &client{Client: wiretest.New(s.connect(t))}
	if err := c.Upgrade(); err != nil {
		t.Fatal(err)
	}
	return c
}

// hello opens a session of a new device.
func (s *server) hello(t testing.TB, name string) *client {
	t.Helper()
	s.devices++
	c := s.dial(t)
	c.greet(t, &wire.Hello{Version: wire.Version, OutboxEpoch: rand.Uint64(), Credential: s.token(t, name, s.devices, time.Hour)})
	return c
}

// live opens a session that is pushed to.
func (s *server) live(t testing.TB, name string) *client {
	t.Helper()
	c := s.hello(t, name)
	c.sync(t, nil)
	return c
}

// greet sends a HELLO that must be welcome.
func (c *client) greet(t testing.TB, h *wire.Hello) wire.Welcome {
	t.Helper()
	c.send(wire.AppendHello(nil, h))
	w, err := wire.ParseWelcome(c.want(t, wire.TypeWelcome))
	if err != nil {
		t.Fatal(err)
	}
	c.user = w.User
	w.Ticket = bytes.Clone(w.Ticket)
	return w
}

// send writes frames as one binary message. That the server has hung up meanwhile is what the next
// read says.
func (c *client) send(frames []byte) { c.write(wiretest.Message(wiretest.Binary, frames)) }

func (c *client) write(b []byte) { c.Write(b) }

// await skips frames up to one of a type. An ERROR that was not asked for is an error.
func (c *client) await(typ wire.Type) (wire.Frame, error) {
	for {
		f, err := c.Next()
		if err != nil {
			return f, fmt.Errorf("waiting for %v: %w (close code %d)", typ, err, c.Code)
		}
		if f.Type == typ {
			return f, nil
		}
		if f.Type == wire.TypeError {
			e, err := wire.ParseError(f)
			return f, errors.Join(fmt.Errorf("waiting for %v: %w", typ, e), err)
		}
	}
}

func (c *client) want(t testing.TB, typ wire.Type) wire.Frame {
	t.Helper()
	f, err := c.await(typ)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// wantError skips frames up to an ERROR, which must have a code.
func (c *client) wantError(t testing.TB, code wire.Code) *wire.Error {
	t.Helper()
	e, err := wire.ParseError(c.want(t, wire.TypeError))
	if err != nil || e.Code != code {
		t.Fatalf("got %v (%v), want %v", e, err, code)
	}
	return e
}

// wantClose reads to the end of the session, which must come with a close code.
func (c *client) wantClose(t testing.TB, code uint16) {
	t.Helper()
	for {
		if _, err := c.Next(); err != nil {
			if c.Code != code {
				t.Fatalf("close code %d (%v), want %d", c.Code, err, code)
			}
			return
		}
	}
}

// wantRefusal wants the end that PROTOCOL.md describes for a broken session: an ERROR without a
// correlation, and a close code that says the same.
func (c *client) wantRefusal(t testing.TB, code wire.Code) {
	t.Helper()
	if e := c.wantError(t, code); e.Correlation != 0 {
		t.Errorf("the ERROR of a session has correlation %d", e.Correlation)
	}
	c.wantClose(t, code.CloseCode())
}

// settled waits until all that the client sent was taken, and the session goes on.
func (c *client) settled(t testing.TB) {
	t.Helper()
	c.send(wire.AppendPing(nil))
	c.want(t, wire.TypePong)
}

func (c *client) sync(t testing.TB, token []byte) wire.Conversations {
	t.Helper()
	c.send(wire.AppendSync(nil, &wire.Sync{Correlation: 1, Token: token}))
	answer, err := wire.ParseConversations(c.want(t, wire.TypeConversations))
	if err != nil {
		t.Fatal(err)
	}
	return answer
}

// text sends a text under a counter, with the counter as correlation.
func (c *client) text(ref wire.Ref, counter uint64, text string) {
	c.send(wire.AppendSend(nil, &wire.Send{Correlation: counter, Ref: ref, Counter: counter, Content: wire.Text(text)}))
}

func (c *client) sent() (wire.Sent, error) {
	f, err := c.await(wire.TypeSent)
	if err != nil {
		return wire.Sent{}, err
	}
	return wire.ParseSent(f)
}

// say sends a text that must be accepted, and gives its sequence.
func (c *client) say(t testing.TB, ref wire.Ref, counter uint64, text string) uint64 {
	t.Helper()
	c.text(ref, counter, text)
	s, err := c.sent()
	if err != nil || s.Correlation != counter {
		t.Fatalf("%+v, %v", s, err)
	}
	return s.Sequence
}

// history reads all messages of a conversation after a sequence: texts in order, without gaps.
func (c *client) history(ref wire.Ref, after uint64) (texts []string, err error) {
	for {
		c.SetDeadline(time.Now().Add(patience))
		c.send(wire.AppendHistory(nil, &wire.History{Correlation: 1, Ref: ref, Sequence: after}))
		f, err := c.await(wire.TypePage)
		if err != nil {
			return texts, err
		}
		p, err := wire.ParsePage(f)
		if err != nil {
			return texts, err
		}
		for i := range p.Messages {
			if after++; p.Messages[i].Sequence != after {
				return texts, fmt.Errorf("sequence %d after %d", p.Messages[i].Sequence, after-1)
			}
			texts = append(texts, string(p.Messages[i].Content.Bytes))
		}
		if p.Flags&wire.PageMoreAfter == 0 {
			if after != p.Head {
				return texts, fmt.Errorf("the head is %d, but messages end at %d", p.Head, after)
			}
			return texts, nil
		}
	}
}

// gone reports whether a connection was ended by the server, and not by the test's own deadline.
func gone(err error) bool {
	var network net.Error
	return err != nil && !(errors.As(err, &network) && network.Timeout())
}

// receiveBuffer makes the kernel take little for a client, before it connects.
func receiveBuffer(bytes int) net.Dialer {
	return net.Dialer{Timeout: patience, Control: func(_, _ string, raw syscall.RawConn) error {
		var failed error
		err := raw.Control(func(fd uintptr) {
			failed = syscall.SetsockoptInt(int(fd), syscall.SOL_SOCKET, syscall.SO_RCVBUF, bytes)
		})
		return errors.Join(err, failed)
	}}
}
