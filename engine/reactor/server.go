package reactor

import (
	"context"
	"errors"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/panjf2000/gnet/v2"
)

// A Handler is the application on one loop. Every method runs on that loop, must not
// block, and is never called while another one runs.
type Handler interface {
	// Opened says that the WebSocket handshake of a new session is done.
	Opened(h Handle)
	// Message brings one whole binary message, unmasked. The payload dies at return.
	Message(h Handle, payload []byte)
	// Closed ends a session: exactly once for each Opened, whoever closed.
	Closed(h Handle)
	// Writable says that a session that was Blocked has drained.
	Writable(h Handle)
	// Expired says that the deadline set by SetDeadline has passed.
	Expired(h Handle)
	// Inbox brings all that was posted since the last call, in order for each producer.
	// The slice dies at return.
	Inbox(items []any)
}

// Errors of a server.
var (
	// ErrClosed is for a server that was closed before it could do what was asked.
	ErrClosed = errors.New("reactor: closed")
	// ErrLoopEnded means that the event loops ended though nobody closed the server.
	ErrLoopEnded = errors.New("reactor: event loop ended")
)

// closeGrace is what a session's output and close frame are given to leave.
const closeGrace = 2 * time.Second

// A Server listens on one address with several loops. Its methods may be called from
// any goroutine.
type Server struct {
	config  Config
	start   time.Time
	address *net.TCPAddr
	loops   []*Loop
	engine  gnet.Engine
	logger  *logger

	connections atomic.Int64 // open now, of all loops
	handshakes  atomic.Int64 // of these, not a WebSocket yet
	draining    atomic.Bool
	closing     atomic.Bool

	bindMu sync.Mutex
	bound  int // loops that have their gnet loop

	started chan struct{} // closed when every loop is bound
	stopped chan struct{} // closed when gnet has returned; err is set before
	err     error
}

// Listen opens the listeners and starts the loops.
func Listen(c Config) (*Server, error) {
	c, err := c.withDefaults()
	if err != nil {
		return nil, err
	}
	address, release, err := reserve(c.Address)
	if err != nil {
		return nil, err
	}
	defer release()
	s := &Server{config: c, start: time.Now(), address: address, logger: &logger{slog: c.Logger},
		started: make(chan struct{}), stopped: make(chan struct{})}
	for i := range c.Loops {
		s.loops = append(s.loops, newLoop(s, i))
	}
	go s.run()
	select {
	case <-s.started:
		return s, nil
	case <-s.stopped:
		return nil, s.err
	}
}

// Address is where the server listens, with the port that was picked.
func (s *Server) Address() net.Addr { return s.address }

// Loops is the number of loops.
func (s *Server) Loops() int { return len(s.loops) }

// Loop is the i-th loop.
func (s *Server) Loop(i int) *Loop { return s.loops[i] }

// Drain refuses new connections from now on and waits until the last session has gone
// or ctx ends. It closes nobody: the Handler asks its sessions to leave.
func (s *Server) Drain(ctx context.Context) error {
	s.draining.Store(true)
	poll := time.NewTicker(drainPoll)
	defer poll.Stop()
	for s.connections.Load() > 0 {
		select {
		case <-poll.C:
		case <-s.stopped:
			return ErrClosed
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}

// Resume lets new connections in again after a Drain that was not followed by Close.
func (s *Server) Resume() { s.draining.Store(s.closing.Load()) }

// drainPoll is how often a drain looks whether everybody has gone.
const drainPoll = 20 * time.Millisecond

// Close ends every session with 1001, gives their output 2 seconds, and stops the
// loops. Each session's Closed has run when it returns. It must not be called from a
// Handler.
func (s *Server) Close() error {
	s.draining.Store(true)
	if s.closing.CompareAndSwap(false, true) {
		// Stop polls every 500 ms whether the engine has ended; run knows at once.
		ctx, cancel := context.WithCancel(context.Background())
		go func() {
			<-s.stopped
			cancel()
		}()
		_ = s.engine.Stop(ctx)
	}
	<-s.stopped
	return nil
}

// seconds is the time of the timing wheels: whole seconds since the start, from 1.
func (s *Server) seconds() uint32 { return uint32(time.Since(s.start)/time.Second) + 1 }

// tick wakes every loop's timing wheel, unless the loop is still busy with the last.
func (s *Server) tick() {
	for _, l := range s.loops {
		if l.ticking.CompareAndSwap(false, true) && !l.execute(l.tickTask) {
			return
		}
	}
}

// drainLoops closes every connection and waits for their output, while the loops live.
func (s *Server) drainLoops() {
	for _, l := range s.loops {
		l.execute(l.shutdownTask)
	}
	poll := time.NewTicker(drainPoll)
	defer poll.Stop()
	limit := time.After(closeGrace + time.Second) // the wheel's grain is 1 s
	for s.connections.Load() > 0 {
		select {
		case <-poll.C:
			s.tick()
		case <-limit:
			return
		}
	}
}
