package reactor

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"os"
	"sync"
	"time"

	"github.com/panjf2000/gnet/v2"
	"golang.org/x/sys/unix"

	"parley/engine/websocket"
)

// events is the server as gnet sees it: which loop, which record.
type events struct{ *Server }

// anchor marks the connection that makes a gnet loop known. gnet shows a loop only
// through its connections, but a Loop must take posts before it has one.
var anchor = new(int)

// run is the life of gnet's engine.
func (s *Server) run() {
	defer close(s.stopped)
	err := gnet.Run(events{s}, "tcp://"+gnetAddress(s.address),
		gnet.WithNumEventLoop(len(s.loops)),
		gnet.WithReusePort(true), // each loop accepts for itself
		gnet.WithReuseAddr(true), // a restart must not wait for TIME_WAIT
		gnet.WithTCPNoDelay(gnet.TCPNoDelay),
		gnet.WithSocketSendBuffer(s.config.SendBufferBytes),
		gnet.WithReadBufferCap(64<<10), // one for each loop: a burst of 900 small frames in one read
		gnet.WithTicker(true),
		gnet.WithLogger(s.logger))
	s.stopLoops()
	if s.closing.Load() {
		s.err = ErrClosed
		return
	}
	if err == nil {
		err = s.logger.last()
	}
	s.err = fmt.Errorf("%w: %w", ErrLoopEnded, err)
	select {
	case <-s.started:
		s.config.Fatal(s.err)
	default: // Listen returns it
	}
}

func (s *Server) stopLoops() {
	for _, l := range s.loops {
		l.stop()
	}
}

// OnBoot keeps the engine. Its loops do not run yet.
func (e events) OnBoot(engine gnet.Engine) gnet.Action {
	e.engine = engine
	return gnet.None
}

// OnTick runs on a goroutine of its own, first when all loops run.
func (e events) OnTick() (time.Duration, gnet.Action) {
	select {
	case <-e.started:
		e.tick()
	default:
		for range e.loops {
			if err := e.drop(); err != nil {
				e.logger.Errorf("starting: %v", err)
				return time.Second, gnet.Shutdown
			}
		}
		close(e.started)
	}
	return time.Second, gnet.None
}

// drop puts an anchor into the next of gnet's loops.
func (e events) drop() error {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return os.NewSyscallError("socketpair", err)
	}
	defer func() { _ = unix.Close(fds[1]) }()
	file := os.NewFile(uintptr(fds[0]), "anchor")
	defer func() { _ = file.Close() }()
	conn, err := net.FileConn(file)
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }()
	ctx := gnet.NewContext(gnet.NewNetConnContext(context.Background(), conn), anchor)
	result, err := e.engine.Register(ctx)
	if err != nil {
		return err
	}
	return (<-result).Err
}

// loop finds the Loop of one of gnet's, and ties a new one to the next that is free.
func (e events) loop(el gnet.EventLoop) *Loop {
	e.bindMu.Lock()
	defer e.bindMu.Unlock()
	for _, l := range e.loops[:e.bound] {
		if l.events == el {
			return l
		}
	}
	l := e.loops[e.bound]
	e.bound++
	l.bind(el)
	return l
}

// OnOpen takes a connection into its loop's slab, or refuses it.
func (e events) OnOpen(c gnet.Conn) ([]byte, gnet.Action) {
	l := e.loop(c.EventLoop())
	if c.Context() == anchor {
		return nil, gnet.Close
	}
	if !e.admit() {
		l.stats.refused.Add(1)
		// Unread bytes would make the kernel reset the connection before the answer is read.
		_, _ = unix.Read(c.Fd(), l.unread[:])
		return busyResponse, gnet.Close
	}
	l.stats.accepted.Add(1)
	setPeerTimeout(c.Fd(), e.config.PeerTimeout)
	l.open(c)
	return nil, gnet.None
}

// busyResponse is for connections that there is no room for.
var busyResponse = websocket.AppendHandshakeError(nil, websocket.ErrBusy)

// admit counts a connection in, if there is room for it.
func (s *Server) admit() bool {
	if s.draining.Load() || s.handshakes.Load() >= int64(s.config.HandshakesMax) {
		return false
	}
	if s.connections.Add(1) > int64(s.config.ConnectionsMax) {
		s.connections.Add(-1)
		return false
	}
	s.handshakes.Add(1)
	return true
}

// OnTraffic brings what a connection sent.
func (e events) OnTraffic(c gnet.Conn) gnet.Action {
	if r, ok := c.Context().(*record); ok {
		e.loops[r.loop].traffic(r)
	}
	return gnet.None
}

// OnClose ends a connection. gnet calls it from its own events, and from inside
// Conn.Write and EventLoop.Close, so in the middle of our turns too.
func (e events) OnClose(c gnet.Conn, _ error) gnet.Action {
	if r, ok := c.Context().(*record); ok {
		e.loops[r.loop].closed(r)
	}
	return gnet.None
}

// OnShutdown runs while the loops still live, and holds gnet up until it returns. If a
// loop has ended by itself there is nothing to wait for.
func (e events) OnShutdown(gnet.Engine) {
	if e.closing.Load() {
		e.drainLoops()
	}
	e.stopLoops()
}

// logger passes gnet's log on and remembers the last error, the only trace of why a
// loop has ended. Of errors that come in a row it keeps the first: that is the cause.
type logger struct {
	slog *slog.Logger
	mu   sync.Mutex
	err  error
	at   time.Time
}

// errorsInARow is how far apart errors with one cause may be.
const errorsInARow = time.Second

func (l *logger) last() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.err == nil {
		return ErrClosed
	}
	return l.err
}

// Debugf passes a message on.
func (l *logger) Debugf(format string, args ...any) {
	l.slog.Debug("gnet: " + fmt.Sprintf(format, args...))
}

// Infof passes a message on; gnet's news interest its developers.
func (l *logger) Infof(format string, args ...any) { l.Debugf(format, args...) }

// Warnf passes a message on. gnet warns of an event for a connection that was closed
// earlier in the same round, which is ordinary.
func (l *logger) Warnf(format string, args ...any) { l.Debugf(format, args...) }

// Errorf passes an error on and keeps it.
func (l *logger) Errorf(format string, args ...any) {
	err := fmt.Errorf(format, args...)
	l.mu.Lock()
	if now := time.Now(); now.Sub(l.at) > errorsInARow {
		l.err, l.at = err, now
	}
	l.mu.Unlock()
	l.slog.Error("gnet: " + err.Error())
}

// Fatalf does not end the process: that is Config.Fatal's to decide.
func (l *logger) Fatalf(format string, args ...any) { l.Errorf(format, args...) }
