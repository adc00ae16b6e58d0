package link

import (
	"bufio"
	"context"
	"crypto/tls"
	"net"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// A stream is a connection of bytes, with or without TLS. It reads through a buffer, and what is
// written between cork and uncork leaves in one system call: TLS would make one of every 16 KiB.
type stream struct {
	net.Conn // what frames are written to and read from: TLS, or the stream's own bottom
	in       *bufio.Reader
	bottom   *bottom
	alive    *vitals // nil during the handshake
	began    time.Time
}

// vitals say when a connection did something last, in time of Hub.now. A large frame is heard of long
// before it is whole.
type vitals struct {
	hub      *Hub
	presence *presence    // of the node on the other side
	heard    atomic.Int64 // bytes came
	moved    atomic.Int64 // bytes came, or many went: the peer takes them
}

func (v *vitals) hear() {
	now := v.hub.now()
	v.heard.Store(int64(now))
	v.moved.Store(int64(now))
	v.presence.hear(now)
}

func (v *vitals) move() { v.moved.Store(int64(v.hub.now())) }

func (v *vitals) idle(now time.Duration) time.Duration { return now - time.Duration(v.heard.Load()) }

func (v *vitals) still(now time.Duration) time.Duration { return now - time.Duration(v.moved.Load()) }

// attend begins to note when the connection lives, before its reader starts.
func (s *stream) attend(h *Hub, p *presence) {
	s.alive = &vitals{hub: h, presence: p}
	s.alive.hear()
}

// bottom is the connection under TLS.
type bottom struct {
	net.Conn
	raw   syscall.RawConn // nil if it is no socket, but a test's
	in    *bufio.Reader
	count *counters

	mu     sync.Mutex
	corked bool
	held   []byte
}

// counted reads from the connection itself.
type counted struct{ stream *stream }

func (c counted) Read(p []byte) (int, error) {
	b := c.stream.bottom
	n, err := b.Conn.Read(p)
	b.count.reads.Add(1)
	b.count.bytesIn.Add(uint64(n))
	if n > 0 && c.stream.alive != nil {
		c.stream.alive.hear()
	}
	return n, err
}

func (b *bottom) Read(p []byte) (int, error) { return b.in.Read(p) }

func (b *bottom) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.corked {
		b.held = append(b.held, p...)
		return len(p), nil
	}
	return b.write(p)
}

func (b *bottom) write(p []byte) (int, error) {
	n, err := b.Conn.Write(p)
	b.count.writes.Add(1)
	b.count.bytesOut.Add(uint64(n))
	return n, err
}

// keepAlive finds a machine that is gone under a connection that waits long: a transfer.
var keepAlive = net.KeepAliveConfig{Enable: true, Idle: 5 * time.Second, Interval: 2 * time.Second, Count: 3}

// newStream takes a connection over. Without a configuration it is plain.
func newStream(conn net.Conn, count *counters) *stream {
	b := &bottom{Conn: conn, count: count}
	if tcp, ok := conn.(*net.TCPConn); ok {
		_ = tcp.SetKeepAliveConfig(keepAlive) // a connection without it works, too
		b.raw, _ = tcp.SyscallConn()
	}
	s := &stream{Conn: b, bottom: b, began: time.Now()}
	b.in = bufio.NewReaderSize(counted{s}, readBufferBytes)
	s.in = b.in
	return s
}

// secure puts TLS on the stream.
func (s *stream) secure(ctx context.Context, config *tls.Config, client bool) error {
	if config == nil {
		return nil
	}
	var conn *tls.Conn
	if client {
		conn = tls.Client(s.bottom, config)
	} else {
		conn = tls.Server(s.bottom, config)
	}
	if err := conn.HandshakeContext(ctx); err != nil {
		return err
	}
	s.Conn = conn
	s.in = bufio.NewReaderSize(conn, readBufferBytes/4)
	return nil
}

// writeAll writes under deadlines, in one system call for each writeBytesMax.
func (s *stream) writeAll(b []byte) error {
	for len(b) > 0 {
		n := min(len(b), writeBytesMax)
		if err := s.SetWriteDeadline(time.Now().Add(writeTimeout)); err != nil {
			return err
		}
		if err := s.writeOnce(b[:n]); err != nil {
			return err
		}
		if b = b[n:]; n == writeBytesMax && s.alive != nil {
			s.alive.move()
		}
	}
	return nil
}

func (s *stream) writeOnce(p []byte) error {
	if s.Conn == net.Conn(s.bottom) {
		_, err := s.bottom.Write(p)
		return err
	}
	s.bottom.cork()
	_, err := s.Write(p)
	if flushed := s.bottom.uncork(); err == nil {
		err = flushed
	}
	return err
}

func (b *bottom) cork() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.corked = true
}

func (b *bottom) uncork() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.corked = false
	_, err := b.write(b.held)
	if b.held = b.held[:0]; cap(b.held) > 2*keepBytesMax {
		b.held = nil
	}
	return err
}

// writesNow tells whether the connection can be written to without waiting.
func (s *stream) writesNow() bool { return s.bottom.raw != nil }

// now is a time that no clock change moves.
func (s *stream) now() time.Duration { return time.Since(s.began) }

// writeNow writes as much as the kernel takes at once. Unless that is all, writeRest must follow.
func (s *stream) writeNow(p []byte) (whole bool, err error) {
	s.bottom.cork()
	if _, err := s.Write(p); err != nil {
		return false, err
	}
	return s.bottom.release()
}

// writeRest writes what writeNow left.
func (s *stream) writeRest() error {
	if err := s.SetWriteDeadline(time.Now().Add(writeTimeout)); err != nil {
		return err
	}
	return s.bottom.uncork()
}

// release is uncork without waiting: what the kernel does not take stays, and so does the cork.
func (b *bottom) release() (whole bool, err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	n := 0
	failed := b.raw.Write(func(fd uintptr) bool {
		n, err = syscall.Write(int(fd), b.held)
		return true
	})
	switch {
	case failed != nil:
		return false, failed
	case err == syscall.EAGAIN || err == syscall.EINTR:
		n = 0
	case err != nil:
		return false, err
	}
	b.count.writes.Add(1)
	b.count.bytesOut.Add(uint64(n))
	if n < len(b.held) {
		b.held = b.held[:copy(b.held, b.held[n:])]
		return false, nil
	}
	b.corked, b.held = false, b.held[:0]
	return true, nil
}

// close ends the connection at once. A TLS farewell would have to wait for the peer to read.
func (s *stream) close() { _ = s.bottom.Conn.Close() }
