//go:build linux

package hostile

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"syscall"
	"testing"
	"time"

	"parley/wire"
)

// request is a good opening handshake.
const request = "GET " + wire.Path + " HTTP/1.1\r\nHost: test\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n" +
	"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Protocol: " + wire.Subprotocol + "\r\n\r\n"

// The first bytes of a client's frames: FIN and the opcode.
const (
	binaryFrame = 0x82
	textFrame   = 0x81
	closeFrame  = 0x88
	pingFrame   = 0x89
	pongFrame   = 0x8A
)

// A client says exactly what a test wants, wrong things included.
type client struct {
	conn  net.Conn
	in    *bufio.Reader
	left  []byte // frames of the last message that were not looked at
	close uint16 // the server's close code, once it came
	user  wire.ID
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
	c := &client{conn: s.connect(t)}
	if err := c.upgrade(); err != nil {
		t.Fatal(err)
	}
	return c
}

func (c *client) upgrade() error {
	if _, err := io.WriteString(c.conn, request); err != nil {
		return err
	}
	return c.upgraded()
}

func (c *client) upgraded() error {
	c.in = bufio.NewReader(c.conn)
	response, err := http.ReadResponse(c.in, nil)
	if err == nil && response.StatusCode != http.StatusSwitchingProtocols {
		err = fmt.Errorf("upgrade: %s", response.Status)
	}
	return err
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
func (c *client) send(frames []byte) { c.write(message(binaryFrame, frames)) }

func (c *client) write(b []byte) { c.conn.Write(b) }

// message is a masked WebSocket frame with the first byte given.
func message(first byte, payload []byte) []byte {
	b := []byte{first}
	switch n := len(payload); {
	case n < 126:
		b = append(b, 0x80|byte(n))
	case n < 1<<16:
		b = binary.BigEndian.AppendUint16(append(b, 0x80|126), uint16(n))
	default:
		b = binary.BigEndian.AppendUint64(append(b, 0x80|127), uint64(n))
	}
	mask := [4]byte{1, 2, 3, 4}
	b = append(b, mask[:]...)
	for i, c := range payload {
		b = append(b, c^mask[i%4])
	}
	return b
}

// read reads a WebSocket frame.
func (c *client) read() (first byte, payload []byte, err error) {
	var header [2]byte
	if _, err := io.ReadFull(c.in, header[:]); err != nil {
		return 0, nil, err
	}
	size := uint64(header[1])
	switch size {
	case 126:
		var b [2]byte
		_, err = io.ReadFull(c.in, b[:])
		size = uint64(binary.BigEndian.Uint16(b[:]))
	case 127:
		var b [8]byte
		_, err = io.ReadFull(c.in, b[:])
		size = binary.BigEndian.Uint64(b[:])
	}
	if err == nil && size > wire.ServerMessageBytesMax {
		err = fmt.Errorf("the server sends a message of %d bytes", size)
	}
	if err != nil {
		return 0, nil, err
	}
	payload = make([]byte, size)
	_, err = io.ReadFull(c.in, payload)
	return header[0], payload, err
}

// next reads the next protocol frame; io.EOF after the server's close.
func (c *client) next() (wire.Frame, error) {
	for len(c.left) == 0 {
		if c.close != 0 {
			return wire.Frame{}, io.EOF
		}
		first, payload, err := c.read()
		if err != nil {
			return wire.Frame{}, err
		}
		switch first {
		case binaryFrame:
			c.left = payload
		case closeFrame:
			c.close = 1005
			if len(payload) >= 2 {
				c.close = binary.BigEndian.Uint16(payload)
			}
			c.write(message(closeFrame, payload[:min(2, len(payload))]))
		case pongFrame:
		default:
			return wire.Frame{}, fmt.Errorf("the server sends a frame that begins with %#x", first)
		}
	}
	f, rest, err := wire.NextFrame(c.left)
	c.left = rest
	return f, err
}

// await skips frames up to one of a type. An ERROR that was not asked for is an error.
func (c *client) await(typ wire.Type) (wire.Frame, error) {
	for {
		f, err := c.next()
		if err != nil {
			return f, fmt.Errorf("waiting for %v: %w (close code %d)", typ, err, c.close)
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
		if _, err := c.next(); err != nil {
			if c.close != code {
				t.Fatalf("close code %d (%v), want %d", c.close, err, code)
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
		c.conn.SetDeadline(time.Now().Add(patience))
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
