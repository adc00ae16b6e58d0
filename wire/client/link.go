package client

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"time"

	"github.com/gobwas/ws"

	"parley/wire"
)

// A link is one WebSocket connection: a goroutine that reads and one that writes. The
// driver owns it.
type link struct {
	conn   net.Conn
	reader *bufio.Reader

	in      chan []byte   // whole binary messages
	out     chan outgoing // at most one at a time
	written chan error    // the answer to each of out but the last
	failure error         // why in was closed; read it after that
	silent  chan struct{} // closed when nothing will be written any more
	pongs   chan []byte   // payloads of pings, the last one only
	quit    chan struct{} // closed by stop
	once    sync.Once
	running sync.WaitGroup
}

// An outgoing is one WebSocket message, or the close that ends the link.
type outgoing struct {
	payload []byte
	close   bool
	code    ws.StatusCode
}

// A closeError is the server's WebSocket close.
type closeError struct {
	code   uint16
	reason string
}

func (e *closeError) Error() string {
	return fmt.Sprintf("client: the server closed with %d %s", e.code, e.reason)
}

// dialLink opens a connection and makes it a WebSocket.
func dialLink(ctx context.Context, o *Options, to address) (*link, error) {
	conn, err := o.dialer()(ctx, "tcp", to.dial)
	if err != nil {
		return nil, err
	}
	stop := context.AfterFunc(ctx, func() { conn.SetDeadline(time.Unix(1, 0)) })
	l, err := upgrade(ctx, o, conn, to)
	if !stop() && err == nil {
		err = context.Cause(ctx)
	}
	if err != nil {
		conn.Close()
		return nil, err
	}
	l.start()
	return l, nil
}

func upgrade(ctx context.Context, o *Options, conn net.Conn, to address) (*link, error) {
	if to.secure {
		config := &tls.Config{}
		if o.TLS != nil {
			config = o.TLS.Clone()
		}
		if config.ServerName == "" {
			config.ServerName = to.host
		}
		secure := tls.Client(conn, config)
		if err := secure.HandshakeContext(ctx); err != nil {
			return nil, err
		}
		conn = secure
	}
	dialer := ws.Dialer{Protocols: []string{wire.Subprotocol}}
	reader, handshake, err := dialer.Upgrade(conn, to.url)
	if err != nil {
		return nil, upgradeError(err)
	}
	if handshake.Protocol != wire.Subprotocol {
		return nil, fmt.Errorf("%w: it does not speak %s", ErrRefused, wire.Subprotocol)
	}
	if reader == nil {
		reader = bufio.NewReader(conn)
	}
	return &link{conn: conn, reader: reader, in: make(chan []byte), out: make(chan outgoing, 1), written: make(chan error, 1),
		silent: make(chan struct{}), pongs: make(chan []byte, 1), quit: make(chan struct{})}, nil
}

// upgradeError tells a server that is busy from one that is no Parley.
func upgradeError(err error) error {
	var status ws.StatusError
	if errors.As(err, &status) {
		if n := int(status); n >= 400 && n < 500 && n != 408 && n != 425 && n != 429 {
			return fmt.Errorf("%w: HTTP status %d", ErrRefused, n)
		}
	}
	return err
}

func (l *link) start() {
	l.running.Add(2)
	go l.read()
	go l.write()
}

// stop ends the link without another word and waits for its goroutines.
func (l *link) stop() {
	l.once.Do(func() { close(l.quit) })
	l.conn.Close()
	l.running.Wait()
}

// farewell says goodbye, gives the server a moment to take it, and stops.
func (l *link) farewell(status ws.StatusCode) {
	late := time.NewTimer(closeTimeout)
	defer late.Stop()
	defer l.stop()
	select {
	case l.out <- outgoing{close: true, code: status}:
	case <-late.C:
		return
	}
	for in, silent := l.in, l.silent; in != nil || silent != nil; {
		select {
		case _, ok := <-in:
			if !ok {
				in = nil
			}
		case <-silent:
			silent = nil
		case <-late.C:
			return
		}
	}
}

func (l *link) read() {
	defer l.running.Done()
	defer close(l.in)
	for {
		message, err := l.next()
		if err != nil {
			l.failure = err
			return
		}
		select {
		case l.in <- message:
		case <-l.quit:
			l.failure = ErrClosed
			return
		}
	}
}

// next reads one message. Control frames between its fragments are dealt with.
func (l *link) next() ([]byte, error) {
	var message []byte
	for fragmented := false; ; {
		h, err := ws.ReadHeader(l.reader)
		if err != nil {
			return nil, err
		}
		state := ws.StateClientSide
		if fragmented {
			state = state.Set(ws.StateFragmented)
		}
		if err := ws.CheckHeader(h, state); err != nil {
			return nil, fmt.Errorf("%w: %w", ErrProtocol, err)
		}
		if h.OpCode == ws.OpText || h.Length > int64(wire.ServerMessageBytesMax-len(message)) {
			return nil, fmt.Errorf("%w: a frame of type %d and %d bytes", ErrProtocol, h.OpCode, h.Length)
		}
		if h.OpCode.IsControl() {
			if err := l.control(h); err != nil {
				return nil, err
			}
			continue
		}
		n := len(message)
		message = append(message, make([]byte, h.Length)...)
		if _, err := io.ReadFull(l.reader, message[n:]); err != nil {
			return nil, err
		}
		if fragmented = !h.Fin; !fragmented {
			return message, nil
		}
	}
}

func (l *link) control(h ws.Header) error {
	payload := make([]byte, h.Length)
	if _, err := io.ReadFull(l.reader, payload); err != nil {
		return err
	}
	switch h.OpCode {
	case ws.OpClose:
		code, reason := ws.ParseCloseFrameData(payload)
		return &closeError{uint16(code), reason}
	case ws.OpPing:
		select {
		case <-l.pongs: // only the last one needs an answer
		default:
		}
		l.pongs <- payload
	}
	return nil
}

// write writes what comes by out, one system call each, and pongs.
func (l *link) write() {
	defer l.running.Done()
	defer close(l.silent)
	var buffer []byte
	for {
		var frame ws.Frame
		var m outgoing
		select {
		case <-l.quit:
			return
		case pong := <-l.pongs:
			frame = ws.NewPongFrame(pong)
		case m = <-l.out:
			frame = ws.NewBinaryFrame(m.payload)
			if m.close {
				frame = ws.NewCloseFrame(ws.NewCloseFrameBody(m.code, ""))
			}
		}
		var err error
		if buffer, err = appendMasked(buffer[:0], frame); err == nil {
			l.conn.SetWriteDeadline(time.Now().Add(pongTimeout))
			_, err = l.conn.Write(buffer)
		}
		if frame.Header.OpCode == ws.OpBinary {
			l.written <- err
		}
		if m.close || err != nil {
			return
		}
	}
}

// sliceWriter lets ws write a header into a buffer.
type sliceWriter []byte

func (w *sliceWriter) Write(p []byte) (int, error) {
	*w = append(*w, p...)
	return len(p), nil
}

// appendMasked appends a frame as clients send it.
func appendMasked(dst []byte, f ws.Frame) ([]byte, error) {
	f.Header.Masked, f.Header.Mask = true, ws.NewMask()
	w := sliceWriter(dst)
	if err := ws.WriteHeader(&w, f.Header); err != nil {
		return dst, err
	}
	n := len(w)
	w = append(w, f.Payload...)
	ws.Cipher(w[n:], f.Header.Mask, 0)
	return w, nil
}
