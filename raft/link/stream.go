package link

import (
	"bufio"
	"context"
	"crypto/tls"
	"net"
	"sync"
	"time"
)

// A stream is a connection of bytes, with or without TLS. It reads through a buffer, and what is
// written between cork and uncork leaves in one system call: TLS would make one of every 16 KiB.
type stream struct {
	net.Conn // what frames are written to and read from: TLS, or the stream's own bottom
	in       *bufio.Reader
	bottom   *bottom
}

// bottom is the connection under TLS.
type bottom struct {
	net.Conn
	in    *bufio.Reader
	count *counters

	mu     sync.Mutex
	corked bool
	held   []byte
}

// counted reads from the connection itself.
type counted struct {
	net.Conn
	count *counters
}

func (c counted) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	c.count.reads.Add(1)
	c.count.bytesIn.Add(uint64(n))
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
	if tcp, ok := conn.(*net.TCPConn); ok {
		_ = tcp.SetKeepAliveConfig(keepAlive) // a connection without it works, too
	}
	b := &bottom{Conn: conn, count: count}
	b.in = bufio.NewReaderSize(counted{conn, count}, readBufferBytes)
	return &stream{Conn: b, in: b.in, bottom: b}
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
		b = b[n:]
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

// close ends the connection at once. A TLS farewell would have to wait for the peer to read.
func (s *stream) close() { _ = s.bottom.Conn.Close() }
