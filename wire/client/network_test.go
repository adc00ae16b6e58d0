package client

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/gobwas/ws"
	"go.uber.org/goleak"

	"parley/wire"
)

// The real server's event loops share a pool of goroutines that lives as long as the process.
func TestMain(m *testing.M) {
	const pool = "github.com/panjf2000/ants/v2."
	goleak.VerifyTestMain(m,
		goleak.IgnoreAnyFunction(pool+"(*poolCommon).purgeStaleWorkers"),
		goleak.IgnoreAnyFunction(pool+"(*poolCommon).ticktock"),
		goleak.IgnoreAnyFunction(pool+"(*goWorker).run.func1"))
}

// A network is a world that is reached over WebSockets on pipes. A test that runs in a
// synctest bubble sees a client with all its goroutines and timers, and no time passes.
type network struct {
	t     *testing.T
	mutex sync.Mutex
	world *world

	conns   []*serverConn
	firsts  [][]byte // the first message of each session
	dials   []time.Time
	refuse  bool            // to connect
	limit   func(n int) int // how many bytes pass the n-th connection, in both directions; nil: all
	silent  bool            // nothing is answered any more, and nothing closed
	script  func(p *peer, message []byte) bool
	serving sync.WaitGroup
}

var errNoNetwork = errors.New("client: the test's network is down")

func newNetwork(t *testing.T) *network {
	n := &network{t: t, world: newWorld(rand.New(rand.NewPCG(1, 2)), "alice", "bob", "carol")}
	n.world.pageMessages, n.world.pageItems = 500, 500
	t.Cleanup(n.close)
	return n
}

func (n *network) close() {
	n.mutex.Lock()
	for _, c := range n.conns {
		c.conn.Close()
	}
	n.mutex.Unlock()
	n.serving.Wait()
}

// do changes the world and delivers what it has to say.
func (n *network) do(fn func(w *world)) {
	n.mutex.Lock()
	fn(n.world)
	for len(n.world.commands) > 0 {
		n.world.apply()
	}
	conns := slices.Clone(n.conns)
	n.mutex.Unlock()
	for _, c := range conns {
		c.flush()
	}
}

func (n *network) dial(ctx context.Context, network, address string) (net.Conn, error) {
	n.mutex.Lock()
	defer n.mutex.Unlock()
	n.dials = append(n.dials, time.Now())
	if n.refuse {
		return nil, errNoNetwork
	}
	ours, theirs := net.Pipe()
	var conn net.Conn = ours
	if n.limit != nil {
		if left := n.limit(len(n.dials) - 1); left >= 0 {
			conn = &limitedConn{Conn: ours, left: left}
		}
	}
	c := &serverConn{network: n, conn: theirs, peer: n.world.connect()}
	n.conns = append(n.conns, c)
	n.serving.Go(c.serve)
	return conn, nil
}

// options are those of alice's phone.
func (n *network) options() Options {
	return Options{Address: "ws://server.test", Dial: n.dial, Seed: 7,
		Token: func(context.Context) (string, error) { return n.world.token(alice, simDevice), nil }}
}

func (n *network) open(o Options) *Client {
	n.t.Helper()
	c, err := Open(n.t.Context(), o)
	if err != nil {
		n.t.Fatal(err)
	}
	n.t.Cleanup(func() { c.Close() })
	return c
}

// A limitedConn breaks after a number of bytes in both directions together.
type limitedConn struct {
	net.Conn
	mutex sync.Mutex
	left  int
}

func (c *limitedConn) take(n int) int {
	c.mutex.Lock()
	defer c.mutex.Unlock()
	n = min(n, c.left)
	c.left -= n
	return n
}

func (c *limitedConn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	if err != nil {
		return n, err
	}
	if passed := c.take(n); passed < n {
		c.Conn.Close()
		return passed, io.ErrUnexpectedEOF
	}
	return n, nil
}

func (c *limitedConn) Write(p []byte) (int, error) {
	passed := c.take(len(p))
	n, err := c.Conn.Write(p[:passed])
	if err == nil && passed < len(p) {
		c.Conn.Close()
		err = io.ErrClosedPipe
	}
	return n, err
}

// A serverConn is the server's end of one connection.
type serverConn struct {
	network *network
	conn    net.Conn
	peer    *peer
	started bool       // the upgrade is done
	writing sync.Mutex // one frame at a time
}

func (c *serverConn) serve() {
	defer c.end()
	upgrader := ws.Upgrader{Protocol: func(p []byte) bool { return string(p) == wire.Subprotocol }}
	if _, err := upgrader.Upgrade(c.conn); err != nil {
		return
	}
	c.network.mutex.Lock()
	c.started = true
	c.network.mutex.Unlock()
	for first := true; ; {
		f, err := ws.ReadFrame(c.conn)
		if err != nil {
			return
		}
		if !f.Header.Masked {
			c.network.t.Error("a frame from the client is not masked")
			return
		}
		f = ws.UnmaskFrameInPlace(f)
		switch f.Header.OpCode {
		case ws.OpClose:
			return
		case ws.OpPong:
			continue
		case ws.OpBinary:
		default:
			c.network.t.Errorf("opcode %d", f.Header.OpCode)
			return
		}
		c.network.do(func(*world) {
			if first {
				first = false
				c.network.firsts = append(c.network.firsts, bytes.Clone(f.Payload))
			}
			if c.network.silent || c.network.script != nil && c.network.script(c.peer, f.Payload) {
				return
			}
			c.peer.message(f.Payload)
		})
	}
}

// end takes the connection out of the world.
func (c *serverConn) end() {
	c.conn.Close()
	c.network.mutex.Lock()
	defer c.network.mutex.Unlock()
	c.peer.cut()
	c.network.conns = slices.DeleteFunc(c.network.conns, func(other *serverConn) bool { return other == c })
}

// flush writes what the world has for the client, and its close.
func (c *serverConn) flush() {
	c.writing.Lock()
	defer c.writing.Unlock()
	c.network.mutex.Lock()
	out, closing := c.peer.out, c.peer.closing
	if !c.started || c.network.silent {
		out, closing = nil, 0
	} else {
		c.peer.out = nil
	}
	c.network.mutex.Unlock()
	if len(out) > 0 && ws.WriteFrame(c.conn, ws.NewBinaryFrame(out)) != nil {
		return
	}
	if closing != 0 {
		ws.WriteFrame(c.conn, ws.NewCloseFrame(ws.NewCloseFrameBody(ws.StatusCode(closing), "")))
		c.conn.Close()
	}
}

// frames names the frames of a message, for comparing.
func frames(message []byte) (names []string) {
	for len(message) > 0 {
		f, rest, err := wire.NextFrame(message)
		if err != nil {
			return append(names, err.Error())
		}
		names = append(names, f.Type.String())
		message = rest
	}
	return names
}

// next waits for the next event of a kind that the test wants, and passes over others.
func next[E Event](t *testing.T, c *Client) E {
	t.Helper()
	for e := range c.Events() {
		if e, ok := e.(E); ok {
			return e
		}
	}
	var none E
	t.Fatalf("the client ended before a %T: %v", none, c.Err())
	return none
}

// until waits for a state of the connection.
func until(t *testing.T, c *Client, want ConnectionState) *ConnectionEvent {
	t.Helper()
	for {
		if e := next[*ConnectionEvent](t, c); e.State == want {
			return e
		}
	}
}

func texts(n int, prefix string) (list []string) {
	for i := range n {
		list = append(list, fmt.Sprintf("%s%d", prefix, i+1))
	}
	return list
}
