package sim

import (
	"context"
	"errors"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"parley/engine"
	"parley/engine/reactor"
	"parley/engine/websocket"
	"parley/wire"
)

const (
	// queueBytesMax bounds what waits for one session, as reactor does.
	queueBytesMax = 256 << 10
	// closeGrace is what a session's last bytes are given to leave.
	closeGrace = 2 * time.Second
	// upgradeTimeout is what a handshake may take.
	upgradeTimeout = wire.UpgradeSeconds * time.Second
)

// A Server serves clients on simulated connections, to the contract of reactor's: loops of
// one goroutine each, turns, corked output, deadlines of whole seconds.
type Server struct {
	listener *Listener
	gate     *Gate
	loops    []*Loop
	draining atomic.Bool
	open     atomic.Int64
	running  sync.WaitGroup
	done     chan struct{}
	once     sync.Once
}

// Serve gives what engine.Config.Serve takes: a server with so many loops on a listener.
func Serve(listener *Listener, loops int, gate *Gate) engine.Serve {
	return func(newHandler func(engine.Loop) reactor.Handler) (engine.Server, error) {
		s := &Server{listener: listener, gate: gate, done: make(chan struct{})}
		for i := range loops {
			l := &Loop{server: s, index: i, wake: make(chan struct{}, 1),
				handshaker: websocket.NewHandshaker(wire.Subprotocol, nil),
				decoder:    websocket.Decoder{MessageBytesMax: wire.MessageBytesMax}}
			s.loops = append(s.loops, l)
			l.handler = newHandler(l)
		}
		for _, l := range s.loops {
			s.running.Go(l.run)
		}
		s.running.Go(s.accept)
		return s, nil
	}
}

func (s *Server) accept() {
	for next := 0; ; next++ {
		c, err := s.listener.accept()
		if err != nil {
			return
		}
		if s.draining.Load() {
			c.Close()
			continue
		}
		s.open.Add(1)
		s.loops[next%len(s.loops)].take(c)
	}
}

// Address implements engine.Server.
func (s *Server) Address() net.Addr { return s.listener.Addr() }

// Drain implements engine.Server.
func (s *Server) Drain(ctx context.Context) error {
	s.draining.Store(true)
	poll := time.NewTicker(20 * time.Millisecond)
	defer poll.Stop()
	for s.open.Load() > 0 {
		select {
		case <-poll.C:
		case <-s.done:
			return reactor.ErrClosed
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}

// Resume implements engine.Server.
func (s *Server) Resume() { s.draining.Store(closed(s.done)) }

// Stats implements engine.Server.
func (s *Server) Stats() reactor.Stats { return reactor.Stats{Connections: s.open.Load()} }

// Close implements engine.Server.
func (s *Server) Close() error {
	s.once.Do(func() {
		s.draining.Store(true)
		err := s.listener.Close()
		for _, l := range s.loops {
			l.control(func() { l.shutdown() })
		}
		ctx, cancel := context.WithTimeout(context.Background(), closeGrace+time.Second)
		err = errors.Join(err, s.Drain(ctx))
		cancel()
		close(s.done)
		s.running.Wait()
		_ = err // whoever did not leave in time is cut off
	})
	return nil
}

// A state is where a session is in its life.
type state uint8

const (
	stateUpgrading state = iota
	stateOpen
	stateClosing // its last bytes are queued
	stateGone
)

// A session is one connection of a loop; only its goroutine uses it.
type session struct {
	loop       *Loop
	conn       *Conn
	slot       uint32
	generation uint32
	state      state
	opened     bool // the handler knows it
	deaf       bool // what it sends makes no sense any more
	goodbye    bool // its close frame has come
	halfClosed bool
	blocked    bool
	input      []byte
	fragments  websocket.Fragments
	pending    []part // of this turn
	size       int    // of pending
	output     []byte // what the connection has not taken yet
	deadline   time.Time
	queued     bool // in the loop's ready list, guarded by its mutex
}

// A part is what one call wrote: frames, or raw bytes.
type part struct {
	bytes []byte
	raw   bool
}

const (
	loopShift       = 56
	generationShift = 32
	generationMax   = 1<<24 - 1
)

func (s *session) handle() reactor.Handle {
	return reactor.Handle(uint64(s.loop.index)<<loopShift | uint64(s.generation)<<generationShift | uint64(s.slot))
}

// receive takes what has arrived. It reports whether the connection has ended.
func (s *session) receive() (ended bool) {
	var buffer [4096]byte
	for {
		n, err := s.conn.TryRead(buffer[:])
		s.input = append(s.input, buffer[:n]...)
		if err != nil {
			// A half-closed peer may still take our last bytes, but nobody waits for them.
			return !errors.Is(err, io.EOF) || s.state != stateClosing || len(s.output) == 0
		}
		if n == 0 {
			return false
		}
	}
}

// transmit writes what waits. It reports whether all of it has left.
func (s *session) transmit() bool {
	for len(s.output) > 0 {
		n, err := s.conn.TryWrite(s.output)
		s.output = s.output[n:]
		if err != nil {
			s.output = nil
			return true // reading tells
		}
		if n == 0 {
			return false
		}
	}
	return true
}

// compose makes the turn's output into WebSocket messages, as few as they fit into.
func (s *session) compose() {
	parts := s.pending
	for i := 0; i < len(parts); {
		if parts[i].raw {
			s.output = append(s.output, parts[i].bytes...)
			i++
			continue
		}
		length, end := len(parts[i].bytes), i+1
		for end < len(parts) && !parts[end].raw && length+len(parts[end].bytes) <= wire.MessageBytesMax {
			length += len(parts[end].bytes)
			end++
		}
		s.output = websocket.AppendMessageHeader(s.output, length)
		for ; i < end; i++ {
			s.output = append(s.output, parts[i].bytes...)
		}
	}
	s.pending, s.size = s.pending[:0], 0
}
