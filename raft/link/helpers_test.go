package link

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func testLogger() *slog.Logger {
	if os.Getenv("LINK_LOG") == "" {
		return slog.New(slog.DiscardHandler)
	}
	return slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelDebug}))
}

// testNodeOf understands replica ids as "n<node>" and "n<node>-<anything>".
func testNodeOf(server string) (uint32, bool) {
	number, _, _ := strings.Cut(strings.TrimPrefix(server, "n"), "-")
	n, err := strconv.ParseUint(number, 10, 32)
	return uint32(n), err == nil && strings.HasPrefix(server, "n")
}

// A world is where hubs find each other: TCP on loopback, or connections in memory that work
// under synctest and can be cut.
type world struct {
	t   testing.TB
	tcp bool
	// logs is where replicas keep theirs.
	logs string
	// slow is how long a connection in memory takes for each 64 KiB.
	slow atomic.Int64
	tls  func(node uint32) *tls.Config

	mu        sync.Mutex
	addresses map[uint32]string
	listeners map[string]*memoryListener
	cuts      map[[2]uint32]chan struct{} // closed when healed
}

func newWorld(t testing.TB, tcp bool) *world {
	return &world{t: t, tcp: tcp, addresses: make(map[uint32]string), listeners: make(map[string]*memoryListener), cuts: make(map[[2]uint32]chan struct{})}
}

func (w *world) address(node uint32) (string, bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	a, ok := w.addresses[node]
	return a, ok
}

// options are those of a node that listens.
func (w *world) options(node uint32) Options {
	o := Options{Self: node, Cluster: 7, Address: w.address, NodeOf: testNodeOf, Logger: testLogger().With("self", node)}
	if w.tls != nil {
		o.TLS = w.tls(node)
	}
	w.listen(node, &o)
	return o
}

func (w *world) listen(node uint32, o *Options) {
	if w.tcp {
		old, _ := w.address(node)
		if old == "" {
			old = "127.0.0.1:0"
		}
		l, err := net.Listen("tcp", old)
		if err != nil {
			w.t.Fatal(err)
		}
		o.Listener = l
		w.mu.Lock()
		w.addresses[node] = l.Addr().String()
		w.mu.Unlock()
		return
	}
	l := &memoryListener{world: w, node: node, conns: make(chan net.Conn), closed: make(chan struct{})}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.addresses[node] = fmt.Sprint("memory:", node)
	w.listeners[w.addresses[node]] = l
	o.Listener = l
	o.Dial = func(ctx context.Context, address string) (net.Conn, error) { return w.dial(ctx, node, address) }
}

func (w *world) hub(node uint32) *Hub { return w.open(w.options(node)) }

func (w *world) open(o Options) *Hub {
	w.t.Helper()
	h, err := Open(o)
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { h.Close() })
	return h
}

// cut stops what one node sends to another, without a word to either. Nil heals.
func (w *world) cut(from, to uint32) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.cuts[[2]uint32{from, to}] == nil {
		w.cuts[[2]uint32{from, to}] = make(chan struct{})
	}
}

func (w *world) heal() {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, healed := range w.cuts {
		close(healed)
	}
	clear(w.cuts)
}

// cutOff returns what ends a cut, nil if there is none.
func (w *world) cutOff(from, to uint32) <-chan struct{} {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.cuts[[2]uint32{from, to}]
}

func (w *world) dial(ctx context.Context, from uint32, address string) (net.Conn, error) {
	w.mu.Lock()
	l := w.listeners[address]
	w.mu.Unlock()
	if l == nil {
		return nil, fmt.Errorf("memory: %s: %w", address, syscall.ECONNREFUSED)
	}
	for _, way := range [][2]uint32{{from, l.node}, {l.node, from}} {
		if healed := w.cutOff(way[0], way[1]); healed != nil {
			<-ctx.Done() // as an address that does not answer
			return nil, ctx.Err()
		}
	}
	a, b := net.Pipe()
	near := &memoryConn{Conn: a, world: w, from: from, to: l.node, closed: make(chan struct{})}
	far := &memoryConn{Conn: b, world: w, from: l.node, to: from, closed: make(chan struct{})}
	select {
	case l.conns <- far:
		return near, nil
	case <-l.closed:
	case <-ctx.Done():
	}
	near.Close()
	far.Close()
	return nil, fmt.Errorf("memory: %s: %w", address, syscall.ECONNREFUSED)
}

type memoryListener struct {
	world  *world
	node   uint32
	conns  chan net.Conn
	closed chan struct{}
	once   sync.Once
}

func (l *memoryListener) Accept() (net.Conn, error) {
	select {
	case c := <-l.conns:
		return c, nil
	case <-l.closed:
		return nil, net.ErrClosed
	}
}

func (l *memoryListener) Close() error {
	l.once.Do(func() {
		close(l.closed)
		l.world.mu.Lock()
		defer l.world.mu.Unlock()
		for address, other := range l.world.listeners {
			if other == l {
				delete(l.world.listeners, address)
			}
		}
	})
	return nil
}

func (l *memoryListener) Addr() net.Addr { return &net.UnixAddr{Name: "memory", Net: "memory"} }

// A memoryConn stops when its way is cut, as if packets were lost.
type memoryConn struct {
	net.Conn
	world    *world
	from, to uint32
	closed   chan struct{}
	once     sync.Once
}

func (c *memoryConn) Write(p []byte) (int, error) {
	if healed := c.world.cutOff(c.from, c.to); healed != nil {
		select {
		case <-healed:
		case <-c.closed:
			return 0, net.ErrClosed
		}
	}
	written := 0
	for len(p) > readBufferBytes {
		d := c.world.slow.Load()
		if d == 0 {
			break
		}
		n, err := c.Conn.Write(p[:readBufferBytes])
		if written += n; err != nil {
			return written, err
		}
		p = p[readBufferBytes:]
		time.Sleep(time.Duration(d) / 4)
	}
	n, err := c.Conn.Write(p)
	return written + n, err
}

func (c *memoryConn) Close() error {
	c.once.Do(func() { close(c.closed) })
	return c.Conn.Close()
}

// mesh opens hubs 1 to n that are connected with each other.
func (w *world) mesh(n int) []*Hub {
	var hubs []*Hub
	var nodes []uint32
	for i := range n {
		hubs = append(hubs, w.hub(uint32(i+1)))
		nodes = append(nodes, uint32(i+1))
	}
	for _, h := range hubs {
		h.Connect(nodes)
	}
	for _, h := range hubs {
		w.up(h, nodes...)
	}
	return hubs
}

// up waits until a hub has links to the nodes.
func (w *world) up(h *Hub, nodes ...uint32) {
	w.t.Helper()
	for _, node := range nodes {
		if node != h.Self() {
			eventually(w.t, fmt.Sprintf("link from %d to %d", h.Self(), node), func() bool { return h.Up(node) })
		}
	}
}

// eventually polls; it is for what happens soon but not at once.
func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	deadline := time.Now().Add(30 * time.Second)
	for !ok() {
		if time.Now().After(deadline) {
			t.Fatalf("did not happen: %s", what)
		}
		time.Sleep(time.Millisecond)
	}
}

func echo(_ context.Context, _ uint32, payload []byte, reply Reply) { reply(payload, nil) }

// hold never answers a call.
func hold(context.Context, uint32, []byte, Reply) {}

// discard is a connection whose other end reads everything.
func (w *world) discard() net.Conn {
	a, b := net.Pipe()
	done := make(chan struct{})
	go func() {
		defer close(done)
		_, _ = io.Copy(io.Discard, b)
	}()
	w.t.Cleanup(func() {
		a.Close()
		b.Close()
		<-done
	})
	return a
}
