package sim

import (
	"io"
	"net"
	"os"
	"sync"
	"time"
)

// A segment is what one write put on the way.
type segment struct {
	bytes []byte
	at    time.Time // when it arrives, if nothing holds it
	fin   bool
}

// A pipe is one direction of a connection. The network's mutex guards it.
type pipe struct {
	network  *Network
	route    *route
	from, to *Conn
	queue    []segment // under way, in order
	flight   int       // bytes in it
	unread   []byte
	last     time.Time // arrival of the last segment
	silent   time.Time // since when the other end has no power, as far as it was noticed
	finished bool      // the end has arrived
}

// A Conn is one end of a simulated connection. It keeps bytes whole and in order, as TCP
// does; what is lost comes later, or the connection breaks.
type Conn struct {
	network       *Network
	host          *Host
	peer          *Conn
	local, remote string
	in, out       *pipe

	changed       sync.Cond // something may go on: bytes, room, an end, a deadline
	err           error     // why nothing goes on any more
	closed        bool      // by this side
	readDeadline  deadline
	writeDeadline deadline
	notify        func() // beside changed; called with the network's mutex held
}

// A deadline is a time after which calls give up.
type deadline struct {
	at    time.Time
	timer *time.Timer
}

func (d *deadline) passed() bool { return !d.at.IsZero() && !time.Now().Before(d.at) }

// connect makes both ends of a connection. mu is held.
func (n *Network) connect(a, b *Host, local, remote string) (ours, theirs *Conn) {
	ours = &Conn{network: n, host: a, local: local, remote: remote}
	theirs = &Conn{network: n, host: b, local: remote, remote: local}
	ours.peer, theirs.peer = theirs, ours
	ours.out = &pipe{network: n, route: n.route(a.name, b.name), from: ours, to: theirs}
	theirs.out = &pipe{network: n, route: n.route(b.name, a.name), from: theirs, to: ours}
	ours.in, theirs.in = theirs.out, ours.out
	for _, c := range []*Conn{ours, theirs} {
		c.changed.L = &n.mu
		c.host.conns[c] = struct{}{}
		c.out.route.pipes[c.out] = struct{}{}
	}
	return ours, theirs
}

// put sets bytes on their way. mu is held.
func (p *pipe) put(s segment) {
	r, now := p.route, time.Now()
	if len(s.bytes) > 0 && r.path.ResetPercent > 0 && r.random.IntN(100) < r.path.ResetPercent {
		p.from.peer.fail(errReset)
		p.from.fail(errReset)
		return
	}
	at := now.Add(r.path.Delay)
	if r.path.Jitter > 0 {
		at = at.Add(time.Duration(r.random.Int64N(int64(r.path.Jitter))))
	}
	for again := retransmission; r.path.LossPercent > 0 && r.random.IntN(100) < r.path.LossPercent && again < peerTimeout; again *= 2 {
		at = at.Add(again)
	}
	if r.path.BytesPerSecond > 0 {
		if r.free.Before(now) {
			r.free = now
		}
		r.free = r.free.Add(time.Duration(len(s.bytes)) * time.Second / time.Duration(r.path.BytesPerSecond))
		at = at.Add(r.free.Sub(now))
	}
	if at.Before(p.last) {
		at = p.last // nothing overtakes within a connection
	}
	s.at, p.last = at, at
	p.queue = append(p.queue, s)
	p.flight += len(s.bytes)
	time.AfterFunc(at.Sub(now), p.arrive)
}

// again lets what was held arrive after a while. mu is held.
func (p *pipe) again(after time.Duration) {
	at := time.Now().Add(after)
	for i := range p.queue {
		if s := &p.queue[i]; s.at.Before(at) {
			s.at = at
		}
	}
	if len(p.queue) > 0 {
		p.last = p.queue[len(p.queue)-1].at
		time.AfterFunc(after, p.arrive)
	}
}

// arrive hands over what has arrived by now.
func (p *pipe) arrive() {
	p.network.mu.Lock()
	defer p.network.mu.Unlock()
	now, moved := time.Now(), false
	for len(p.queue) > 0 && !p.queue[0].at.After(now) && !p.route.path.Cut {
		if p.to.host.dark {
			p.retry()
			return
		}
		s := p.queue[0]
		p.queue = p.queue[1:]
		p.flight -= len(s.bytes)
		moved = true
		switch {
		case p.to.err != nil || p.to.closed:
			if len(s.bytes) > 0 { // the other end is no more, and its host says so
				p.to.reset()
			}
		case s.fin:
			p.finished = true
		default:
			p.unread = append(p.unread, s.bytes...)
		}
	}
	if p.from.closed && len(p.queue) == 0 {
		delete(p.route.pipes, p)
	}
	if moved {
		p.to.wake()
		p.from.wake()
	}
}

// retry is for segments to a host that has lost power: they are sent again each second,
// until it is back and knows nothing of the connection, or the sender gives up. mu is held.
func (p *pipe) retry() {
	now := time.Now()
	if p.silent.IsZero() {
		p.silent = now
	}
	switch {
	case p.from.err != nil:
	case p.network.hosts[p.to.host.name] != p.to.host:
		p.from.fail(errReset)
	case now.Sub(p.silent) >= peerTimeout:
		p.from.fail(errTimeout)
	default:
		time.AfterFunc(time.Second, p.arrive)
	}
}

// wake tells whoever waits at this end. mu is held.
func (c *Conn) wake() {
	c.changed.Broadcast()
	if c.notify != nil {
		c.notify()
	}
}

// fail ends this end without a word to the other. mu is held.
func (c *Conn) fail(err error) {
	if c.err != nil {
		return
	}
	c.err = err
	delete(c.host.conns, c)
	delete(c.out.route.pipes, c.out)
	c.readDeadline.stop()
	c.writeDeadline.stop()
	c.wake()
}

// reset tells the other end that this one is no more. mu is held.
func (c *Conn) reset() {
	if c.host.dark || c.out.route.path.Cut {
		return // it will hear when its own bytes get no answer
	}
	peer := c.peer
	time.AfterFunc(c.out.route.path.Delay, func() {
		c.network.mu.Lock()
		defer c.network.mu.Unlock()
		peer.fail(errReset)
	})
}

// Read implements net.Conn.
func (c *Conn) Read(b []byte) (int, error) {
	c.host.gate.Wait()
	c.network.mu.Lock()
	defer c.network.mu.Unlock()
	for {
		n, err := c.read(b)
		if n > 0 || err != nil || len(b) == 0 {
			return n, err
		}
		if c.readDeadline.passed() {
			return 0, os.ErrDeadlineExceeded
		}
		c.changed.Wait()
	}
}

// read takes what is there without waiting. mu is held.
func (c *Conn) read(b []byte) (int, error) {
	p := c.in
	switch {
	case c.closed:
		return 0, net.ErrClosed
	case c.readDeadline.passed():
		return 0, os.ErrDeadlineExceeded
	case c.err != nil:
		return 0, c.err
	case len(p.unread) > 0:
		n := copy(b, p.unread)
		p.unread = p.unread[n:]
		p.from.wake() // there is room
		return n, nil
	case p.finished:
		return 0, io.EOF
	}
	return 0, nil
}

// Write implements net.Conn.
func (c *Conn) Write(b []byte) (int, error) {
	c.host.gate.Wait()
	c.network.mu.Lock()
	defer c.network.mu.Unlock()
	for written := 0; ; {
		n, err := c.write(b[written:])
		written += n
		if err != nil || written == len(b) {
			return written, err
		}
		c.changed.Wait()
	}
}

// write puts as much on its way as there is room for, without waiting. mu is held.
func (c *Conn) write(b []byte) (int, error) {
	switch {
	case c.closed:
		return 0, net.ErrClosed
	case c.err != nil:
		return 0, c.err
	case c.writeDeadline.passed():
		return 0, os.ErrDeadlineExceeded
	}
	n := min(len(b), c.network.window-c.out.flight-len(c.out.unread))
	if n <= 0 {
		return 0, nil
	}
	c.out.put(segment{bytes: append([]byte(nil), b[:n]...)})
	return n, nil
}

// TryRead takes what has arrived, without waiting: nothing and no error means nothing yet.
func (c *Conn) TryRead(b []byte) (int, error) {
	c.network.mu.Lock()
	defer c.network.mu.Unlock()
	return c.read(b)
}

// TryWrite writes as much as there is room for, without waiting.
func (c *Conn) TryWrite(b []byte) (int, error) {
	c.network.mu.Lock()
	defer c.network.mu.Unlock()
	return c.write(b)
}

// Notify has fn called whenever TryRead or TryWrite may get further. fn must not use the
// network, nor block.
func (c *Conn) Notify(fn func()) {
	c.network.mu.Lock()
	defer c.network.mu.Unlock()
	c.notify = fn
	fn()
}

// CloseWrite says that no more is written; what was written still arrives.
func (c *Conn) CloseWrite() {
	c.network.mu.Lock()
	defer c.network.mu.Unlock()
	if c.err == nil && !c.closed {
		c.out.put(segment{fin: true})
	}
}

// Close implements net.Conn. What was written still arrives, unless something unread makes
// the host throw it away.
func (c *Conn) Close() error {
	c.network.mu.Lock()
	defer c.network.mu.Unlock()
	if c.closed {
		return net.ErrClosed
	}
	c.closed = true
	if c.err == nil {
		if len(c.in.unread) > 0 {
			c.reset()
			c.fail(net.ErrClosed)
		} else {
			c.out.put(segment{fin: true})
		}
	}
	delete(c.host.conns, c)
	c.readDeadline.stop()
	c.writeDeadline.stop()
	c.wake()
	return nil
}

// LocalAddr implements net.Conn.
func (c *Conn) LocalAddr() net.Addr { return address(c.local) }

// RemoteAddr implements net.Conn.
func (c *Conn) RemoteAddr() net.Addr { return address(c.remote) }

// SetDeadline implements net.Conn.
func (c *Conn) SetDeadline(t time.Time) error {
	return c.setDeadlines(t, &c.readDeadline, &c.writeDeadline)
}

// SetReadDeadline implements net.Conn.
func (c *Conn) SetReadDeadline(t time.Time) error { return c.setDeadlines(t, &c.readDeadline) }

// SetWriteDeadline implements net.Conn.
func (c *Conn) SetWriteDeadline(t time.Time) error { return c.setDeadlines(t, &c.writeDeadline) }

func (c *Conn) setDeadlines(t time.Time, deadlines ...*deadline) error {
	c.network.mu.Lock()
	defer c.network.mu.Unlock()
	if c.closed {
		return net.ErrClosed
	}
	for _, d := range deadlines {
		d.stop()
		d.at = t
		if !t.IsZero() && time.Until(t) > 0 {
			d.timer = time.AfterFunc(time.Until(t), c.expired)
		}
	}
	c.wake()
	return nil
}

func (c *Conn) expired() {
	c.network.mu.Lock()
	defer c.network.mu.Unlock()
	c.wake()
}

func (d *deadline) stop() {
	if d.timer != nil {
		d.timer.Stop()
		d.timer = nil
	}
}
