package sim

import (
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"math/rand/v2"
	"net"
	"strings"
	"sync"
	"syscall"
	"time"
)

const (
	// WindowBytes bounds what is under way or unread in one direction of a connection: about
	// what the kernel gives reactor's connections.
	WindowBytes = 64 << 10
	// peerTimeout is when a connection breaks whose bytes do not get through: TCP_USER_TIMEOUT
	// as reactor sets it.
	peerTimeout = 30 * time.Second
	// retransmission is what the first loss of a segment costs; it doubles with each further one.
	retransmission = 200 * time.Millisecond
	// connectTimeout is how long a connection attempt to silence takes.
	connectTimeout = 20 * time.Second
)

// Errors of the simulated network, as the kernel would give them.
var (
	errReset   = fmt.Errorf("sim: %w", syscall.ECONNRESET)
	errRefused = fmt.Errorf("sim: %w", syscall.ECONNREFUSED)
	errTimeout = fmt.Errorf("sim: %w", syscall.ETIMEDOUT)
	errNoHost  = errors.New("sim: no such host")
)

// A Path says how bytes get from one host to another.
type Path struct {
	Delay, Jitter  time.Duration // of each write
	BytesPerSecond int           // 0: no limit
	LossPercent    int           // of writes: each costs retransmissions
	ResetPercent   int           // of writes: the connection breaks
	Cut            bool          // nothing gets through
}

// A Network carries bytes between the hosts of a simulation: connections with delay, loss,
// bandwidth and cuts for each ordered pair of hosts. What it draws, it draws from one
// source for each pair, so that a busy pair does not change the fate of another.
type Network struct {
	seed uint64

	mu     sync.Mutex
	hosts  map[string]*Host // the present life of each
	routes map[[2]string]*route
	base   Path // of routes that nobody has set
	window int  // bytes
}

// A Host is one life of a machine with a name: what goes on there can be stopped as a whole.
type Host struct {
	network   *Network
	name      string
	listeners map[string]*Listener
	conns     map[*Conn]struct{}
	dead      bool // this life is over
	dark      bool // without power: not even a reset comes back
	gate      *Gate
	ports     int
}

// A route is one direction between two hosts.
type route struct {
	path   Path
	random *rand.Rand
	pipes  map[*pipe]struct{}
	free   time.Time // when the bandwidth is free again
	since  time.Time // of the cut
}

// NewNetwork makes a network in which every path is base until it is set, and window bytes
// fit into a direction of a connection.
func NewNetwork(seed uint64, base Path, window int) *Network {
	return &Network{seed: seed, window: window, hosts: make(map[string]*Host), routes: make(map[[2]string]*route), base: base}
}

// source makes a random source for a name, from the network's seed.
func source(seed uint64, name string) *rand.Rand {
	h := fnv.New64a()
	h.Write([]byte(name))
	return rand.New(rand.NewPCG(seed, h.Sum64()))
}

// Host begins a life of a host; the one before must have been killed. Its gate, which may
// be nil, stops all that its process does.
func (n *Network) Host(name string, gate *Gate) *Host {
	n.mu.Lock()
	defer n.mu.Unlock()
	h := &Host{network: n, name: name, listeners: make(map[string]*Listener), conns: make(map[*Conn]struct{}), gate: gate}
	n.hosts[name] = h
	return h
}

// route finds or makes a direction. mu is held.
func (n *Network) route(from, to string) *route {
	key := [2]string{from, to}
	r := n.routes[key]
	if r == nil {
		r = &route{path: n.base, random: source(n.seed, from+">"+to), pipes: make(map[*pipe]struct{})}
		n.routes[key] = r
	}
	return r
}

// Set changes how bytes get from one host to another. What was held by a cut that is over
// arrives after a retransmission.
func (n *Network) Set(from, to string, path Path) {
	n.mu.Lock()
	defer n.mu.Unlock()
	r := n.route(from, to)
	healed := r.path.Cut && !path.Cut
	if path.Cut && !r.path.Cut {
		r.since = time.Now()
		time.AfterFunc(peerTimeout, func() { n.expire(r) })
	}
	r.path = path
	if !healed {
		return
	}
	after := time.Duration(1+r.random.IntN(1000)) * time.Millisecond
	for p := range r.pipes {
		p.again(after)
	}
}

// expire breaks the connections whose bytes have not got through a cut for too long.
func (n *Network) expire(r *route) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if !r.path.Cut || time.Since(r.since) < peerTimeout {
		return
	}
	for p := range r.pipes {
		if len(p.queue) > 0 {
			p.from.fail(errTimeout)
		}
	}
	time.AfterFunc(peerTimeout, func() { n.expire(r) })
}

// Kill ends a life: all that the host has open ends as with its process, and peers get a
// reset. A host that loses power says nothing.
func (h *Host) Kill(power bool) {
	h.network.mu.Lock()
	defer h.network.mu.Unlock()
	h.dead, h.dark = true, power
	for address, l := range h.listeners {
		delete(h.listeners, address)
		l.end(errReset)
	}
	for c := range h.conns {
		if !power {
			c.reset()
		}
		c.fail(errReset)
	}
}

// Reset breaks the connections between two hosts.
func (n *Network) Reset(a, b string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	h := n.hosts[a]
	if h == nil {
		return
	}
	for c := range h.conns {
		if c.peer.host.name == b {
			c.peer.fail(errReset)
			c.fail(errReset)
		}
	}
}

// An address is one of the simulated network.
type address string

// Network is the name of the network.
func (address) Network() string { return "sim" }

// String is host:port.
func (a address) String() string { return string(a) }

func hostOf(address string) string {
	name, _, _ := strings.Cut(address, ":")
	return name
}

// A Listener takes connections at one address of a host.
type Listener struct {
	network *Network
	host    *Host
	address string
	ready   sync.Cond
	queue   []*Conn
	err     error
}

// Listen opens a port of the host.
func (h *Host) Listen(port int) (*Listener, error) {
	n := h.network
	n.mu.Lock()
	defer n.mu.Unlock()
	at := fmt.Sprintf("%s:%d", h.name, port)
	if h.dead {
		return nil, fmt.Errorf("%w: %s", errNoHost, at)
	}
	if h.listeners[at] != nil {
		return nil, fmt.Errorf("sim: listen %s: %w", at, syscall.EADDRINUSE)
	}
	l := &Listener{network: n, host: h, address: at}
	l.ready.L = &n.mu
	h.listeners[at] = l
	return l, nil
}

// Accept implements net.Listener.
func (l *Listener) Accept() (net.Conn, error) {
	c, err := l.accept()
	if err != nil {
		return nil, err
	}
	return c, nil
}

func (l *Listener) accept() (*Conn, error) {
	l.host.gate.Wait()
	l.network.mu.Lock()
	defer l.network.mu.Unlock()
	for len(l.queue) == 0 && l.err == nil {
		l.ready.Wait()
	}
	if l.err != nil {
		return nil, l.err
	}
	c := l.queue[0]
	l.queue = l.queue[1:]
	return c, nil
}

// Close implements net.Listener.
func (l *Listener) Close() error {
	l.network.mu.Lock()
	defer l.network.mu.Unlock()
	if l.host.listeners[l.address] == l {
		delete(l.host.listeners, l.address)
	}
	l.end(net.ErrClosed)
	return nil
}

// end refuses whoever waits. mu is held.
func (l *Listener) end(err error) {
	if l.err == nil {
		l.err = err
	}
	for _, c := range l.queue {
		c.reset()
		c.fail(err)
	}
	l.queue = nil
	l.ready.Broadcast()
}

// Addr implements net.Listener.
func (l *Listener) Addr() net.Addr { return address(l.address) }

// Dial connects to an address, HOST:PORT.
func (h *Host) Dial(ctx context.Context, to string) (net.Conn, error) {
	h.gate.Wait()
	ctx, cancel := context.WithTimeout(ctx, connectTimeout)
	defer cancel()
	for try := retransmission; ; try *= 2 {
		wait, c, err := h.dial(to)
		if c != nil || err != nil {
			if !pause(ctx, wait) {
				if c != nil {
					c.Close()
				}
				return nil, fmt.Errorf("sim: dial %s: %w", to, ctx.Err())
			}
			if err != nil {
				return nil, err
			}
			return c, nil
		}
		if !pause(ctx, try) { // the SYN was lost
			return nil, fmt.Errorf("sim: dial %s: %w", to, errTimeout)
		}
	}
}

// pause waits; false if ctx ended first.
func pause(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// dial tries once. Neither a connection nor an error means silence.
func (a *Host) dial(to string) (wait time.Duration, c *Conn, err error) {
	n := a.network
	n.mu.Lock()
	defer n.mu.Unlock()
	b := n.hosts[hostOf(to)]
	if a.dead || b == nil {
		return 0, nil, fmt.Errorf("%w: %s to %s", errNoHost, a.name, to)
	}
	there, back := n.route(a.name, b.name), n.route(b.name, a.name)
	if there.path.Cut || back.path.Cut || b.dark || there.random.IntN(100) < there.path.LossPercent {
		return 0, nil, nil
	}
	wait = there.path.Delay + back.path.Delay
	l := b.listeners[to]
	if l == nil {
		return wait, nil, errRefused
	}
	a.ports++
	local := fmt.Sprintf("%s:%d", a.name, 1<<15+a.ports)
	ours, theirs := n.connect(a, b, local, to)
	l.queue = append(l.queue, theirs)
	l.ready.Signal()
	return wait, ours, nil
}

// A Gate stops a process like SIGSTOP: whoever passes it waits while it is closed. A nil
// gate is open.
type Gate struct {
	mu     sync.Mutex
	opened sync.Cond
	closed bool
}

// NewGate makes an open gate.
func NewGate() *Gate {
	g := &Gate{}
	g.opened.L = &g.mu
	return g
}

// Close stops whoever comes.
func (g *Gate) Close() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.closed = true
}

// Open lets all pass.
func (g *Gate) Open() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.closed = false
	g.opened.Broadcast()
}

// Wait returns when the gate is open.
func (g *Gate) Wait() {
	if g == nil {
		return
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	for g.closed {
		g.opened.Wait()
	}
}
