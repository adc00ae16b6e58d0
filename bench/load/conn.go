//go:build linux

package load

import (
	"bytes"
	"crypto/sha1"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net/netip"

	"github.com/gobwas/ws"
	"golang.org/x/sys/unix"

	"parley/wire"
)

// Errors of a connection.
var (
	ErrFrame     = errors.New("load: the server sent a WebSocket frame that is not allowed")
	ErrUpgrade   = errors.New("load: the server did not upgrade")
	ErrMalformed = errors.New("load: the server sent frames that cannot be read")
)

// A CloseError is a session that the server ended with a close frame.
type CloseError struct {
	Code   uint16
	Reason string
}

// Error names the protocol's code if the close code carries one.
func (e *CloseError) Error() string {
	if code := wire.CodeOfClose(e.Code); code != 0 {
		return fmt.Sprintf("load: closed: %v %s", code, e.Reason)
	}
	return fmt.Sprintf("load: closed with %d %s", e.Code, e.Reason)
}

// A Handler gets the events of connections, on the loop.
type Handler interface {
	Opened(c *Conn)              // the WebSocket stands
	Frame(c *Conn, f wire.Frame) // dies at return
	Done(c *Conn)                // every frame that was there has been handled
	Closed(c *Conn, err error)   // once for each Dial, unless Abort was called
}

// A Target is where to connect.
type Target struct {
	Address netip.AddrPort
	Path    string
	Source  netip.Addr // of this machine, to have more than 28,000 ports; the zero value leaves it to the kernel
}

// headerRoom is kept before the frames of a message: the longest header of a masked frame.
const headerRoom = 14

// A Conn is one WebSocket connection. Only its loop uses it.
type Conn struct {
	loop     *Loop
	handler  Handler
	fd       int
	upgraded bool
	closed   bool
	dirty    bool
	blocked  bool   // waits for EPOLLOUT
	out      []byte // headerRoom and the frames of the next message
	pending  []byte // not yet taken by the kernel
	held     []byte // the buffer that pending lies in
	in       []byte // the beginning of a frame that has not all come

	// Single puts each frame into a WebSocket message of its own; a round's messages still go
	// out in one write.
	Single bool
	// BytesIn and BytesOut count the socket's bytes with WebSocket headers, since the handshake.
	BytesIn, BytesOut uint64
	// HandshakeBytes counts the HTTP request and answer.
	HandshakeBytes uint64
	// Reads and Writes count system calls.
	Reads, Writes uint64
}

// The handshake's key is the same each time: nobody here caches.
const (
	handshakeKey  = "cGFybGV5IGJlbmNobWFyaw=="
	handshakeGUID = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11" // RFC 6455, section 1.3
)

var handshakeAccept = func() []byte {
	sum := sha1.Sum([]byte(handshakeKey + handshakeGUID))
	return []byte("\r\nSec-WebSocket-Accept: " + base64.StdEncoding.EncodeToString(sum[:]) + "\r\n")
}()

// Dial begins to connect; the handler hears how it went.
func (l *Loop) Dial(t Target, h Handler) (*Conn, error) {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("load: socket: %w", err)
	}
	c := &Conn{loop: l, handler: h, fd: fd}
	if err := c.connect(t); err != nil {
		return nil, errors.Join(fmt.Errorf("load: connect to %v: %w", t.Address, err), unix.Close(fd))
	}
	for len(l.conns) <= fd {
		l.conns = append(l.conns, nil)
	}
	l.conns[fd] = c
	c.pending = fmt.Appendf(nil, "GET %s HTTP/1.1\r\nHost: %v\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"+
		"Sec-WebSocket-Key: %s\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Protocol: %s\r\n\r\n",
		t.Path, t.Address, handshakeKey, wire.Subprotocol)
	c.blocked = true
	return c, l.watch(fd, unix.EPOLLIN|unix.EPOLLOUT)
}

func (c *Conn) connect(t Target) error {
	if err := unix.SetsockoptInt(c.fd, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1); err != nil {
		return err
	}
	if t.Source.IsValid() {
		// The port is picked at connect, where only the pair of addresses has to be unique.
		if err := unix.SetsockoptInt(c.fd, unix.IPPROTO_IP, unix.IP_BIND_ADDRESS_NO_PORT, 1); err != nil {
			return err
		}
		if err := unix.Bind(c.fd, &unix.SockaddrInet4{Addr: t.Source.As4()}); err != nil {
			return err
		}
	}
	err := unix.Connect(c.fd, &unix.SockaddrInet4{Port: int(t.Address.Port()), Addr: t.Address.Addr().As4()})
	if errors.Is(err, unix.EINPROGRESS) {
		return nil
	}
	return err
}

// Frames is where to append the frames of the next message: all that one round appends
// goes out as one WebSocket message in one write.
func (c *Conn) Frames() *[]byte {
	if c.out == nil {
		c.out = c.loop.buffer()[:headerRoom]
	}
	if !c.dirty {
		c.dirty = true
		c.loop.dirty = append(c.loop.dirty, c)
	}
	return &c.out
}

// Alive reports whether the connection has not ended.
func (c *Conn) Alive() bool { return !c.closed }

// Abort closes the socket at once; the handler does not hear of it.
func (c *Conn) Abort() {
	if c.closed {
		return
	}
	c.closed = true
	c.loop.conns[c.fd] = nil
	_ = unix.Close(c.fd) // takes it out of the epoll set, too
	if c.held != nil {
		c.loop.release(c.held)
	}
	c.out, c.pending, c.held, c.in = nil, nil, nil, nil
}

func (c *Conn) fail(err error) {
	if c.closed {
		return
	}
	c.Abort()
	c.handler.Closed(c, err)
}

// flush makes one message of what was appended and writes it, unless an earlier one is
// still on its way.
func (c *Conn) flush() {
	if c.closed || !c.upgraded || len(c.pending) > 0 || len(c.out) <= headerRoom {
		return
	}
	buffer := c.out
	c.out = nil
	if c.Single {
		buffer = c.split(buffer)
		c.pending = buffer
	} else {
		c.pending = mask(buffer, ws.OpBinary)
	}
	c.held = buffer
	c.write()
}

// split makes a message of each frame.
func (c *Conn) split(frames []byte) []byte {
	messages, one := c.loop.buffer()[:0], c.loop.buffer()
	for rest := frames[headerRoom:]; len(rest) > 0; {
		_, after, err := wire.NextFrame(rest)
		if err != nil {
			break // not reached: what was appended are frames
		}
		one = append(one[:headerRoom], rest[:len(rest)-len(after)]...)
		messages = append(messages, mask(one, ws.OpBinary)...)
		rest = after
	}
	c.loop.release(one)
	c.loop.release(frames)
	return messages
}

// mask turns headerRoom and a payload into a client's frame, in place.
func mask(buffer []byte, opcode ws.OpCode) []byte {
	payload := buffer[headerRoom:]
	key := ws.NewMask()
	start := headerRoom - 4
	copy(buffer[start:], key[:])
	switch n := len(payload); {
	case n < 126:
		start -= 2
		buffer[start+1] = 0x80 | byte(n)
	case n <= 0xffff:
		start -= 4
		buffer[start+1] = 0x80 | 126
		binary.BigEndian.PutUint16(buffer[start+2:], uint16(n))
	default:
		start -= 10
		buffer[start+1] = 0x80 | 127
		binary.BigEndian.PutUint64(buffer[start+2:], uint64(n))
	}
	buffer[start] = 0x80 | byte(opcode)
	ws.Cipher(payload, key, 0)
	return buffer[start:]
}

// write gives the kernel what is pending.
func (c *Conn) write() {
	n, err := unix.Write(c.fd, c.pending)
	c.Writes++
	if errors.Is(err, unix.EAGAIN) || errors.Is(err, unix.EINTR) {
		n, err = 0, nil
	}
	if err != nil {
		c.fail(fmt.Errorf("load: write: %w", err))
		return
	}
	c.count(&c.BytesOut, n)
	c.pending = c.pending[n:]
	blocked := len(c.pending) > 0
	if !blocked && c.held != nil {
		c.loop.release(c.held)
		c.held = nil
	}
	if blocked == c.blocked {
		return
	}
	c.blocked = blocked
	events := uint32(unix.EPOLLIN)
	if blocked {
		events |= unix.EPOLLOUT
	}
	if err := c.loop.rewatch(c.fd, events); err != nil {
		c.fail(fmt.Errorf("load: epoll: %w", err))
	}
}

func (c *Conn) count(counter *uint64, n int) {
	if !c.upgraded {
		counter = &c.HandshakeBytes
	}
	*counter += uint64(n)
}

func (c *Conn) writable() {
	if len(c.pending) > 0 {
		c.write()
	}
	if !c.closed && len(c.pending) == 0 {
		c.flush()
	}
}

// readable takes what is there, handles whole frames and keeps the rest.
func (c *Conn) readable() {
	buffer := c.loop.read
	kept := copy(buffer, c.in)
	n, err := unix.Read(c.fd, buffer[kept:])
	c.Reads++
	c.loop.tick()
	switch {
	case errors.Is(err, unix.EAGAIN) || errors.Is(err, unix.EINTR):
		return
	case err != nil:
		c.fail(fmt.Errorf("load: read: %w", err))
		return
	case n == 0:
		c.fail(io.ErrUnexpectedEOF)
		return
	}
	c.count(&c.BytesIn, n)
	src := buffer[:kept+n]
	if !c.upgraded {
		if src, err = c.upgrade(src); err == nil && !c.upgraded {
			c.in = append(c.in[:0], src...)
			return
		}
	}
	if err == nil {
		src, err = c.frames(src)
	}
	if c.closed {
		return
	}
	if err != nil {
		c.fail(err)
		return
	}
	if len(src) == 0 {
		c.in = nil
	} else {
		c.in = append(c.in[:0], src...)
	}
	c.handler.Done(c)
}

// upgrade reads the answer to the handshake, once all of it has come.
func (c *Conn) upgrade(src []byte) ([]byte, error) {
	end := bytes.Index(src, []byte("\r\n\r\n"))
	if end < 0 {
		return src, nil
	}
	head := src[:end+2]
	if !bytes.HasPrefix(head, []byte("HTTP/1.1 101 ")) || !bytes.Contains(head, handshakeAccept) {
		line, _, _ := bytes.Cut(head, []byte("\r\n"))
		return nil, fmt.Errorf("%w: %s", ErrUpgrade, line)
	}
	rest := src[end+4:]
	// What was read beyond the answer is the session's.
	c.HandshakeBytes -= uint64(len(rest))
	c.BytesIn += uint64(len(rest))
	c.upgraded = true
	c.handler.Opened(c)
	return rest, nil
}

// frames handles the whole WebSocket frames of src and returns what is left.
func (c *Conn) frames(src []byte) ([]byte, error) {
	for !c.closed {
		h, size, err := frameHeader(src)
		if err != nil {
			return nil, err
		}
		if size == 0 || len(src) < size+h.length {
			return src, nil
		}
		payload := src[size : size+h.length]
		src = src[size+h.length:]
		if err := c.message(h, payload); err != nil {
			return nil, err
		}
	}
	return nil, nil
}

func (c *Conn) message(h frame, payload []byte) error {
	switch ws.OpCode(h.opcode) {
	case ws.OpBinary:
		if !h.final {
			return ErrFrame // Parley's server does not fragment
		}
		for len(payload) > 0 && !c.closed {
			f, rest, err := wire.NextFrame(payload)
			if err != nil {
				return fmt.Errorf("%w: %w", ErrMalformed, err)
			}
			payload = rest
			c.handler.Frame(c, f)
		}
		return nil
	case ws.OpClose:
		e := &CloseError{Code: 1005}
		if len(payload) >= 2 {
			e.Code, e.Reason = binary.BigEndian.Uint16(payload), string(payload[2:])
		}
		return e
	case ws.OpPong:
		return nil
	}
	return ErrFrame // Parley's server sends neither text nor pings
}
