package reactor

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"time"
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

// A Config says how to listen. The zero value of a field means its default.
type Config struct {
	Address         string        // host:port; port 0 picks a free one
	Loops           int           // default one for every 2 cores: storage shares them
	ConnectionsMax  int           // default and upper bound: RLIMIT_NOFILE less a reserve
	HandshakesMax   int           // connections that are no WebSocket yet
	SendBufferBytes int           // SO_SNDBUF, default 32 KiB
	UpgradeTimeout  time.Duration // default 5 s, grain 1 s
	MessageBytesMax int           // of one WebSocket message, default 128 KiB
	QueueBytesMax   int           // output that a session may have waiting, default 256 KiB
	Subprotocol     string        // must be offered by clients if not empty
	CheckOrigin     func(origin []byte) bool
	Logger          *slog.Logger
	NewHandler      func(l *Loop) Handler
	// Fatal is called once if the loops end without Close: nobody is served any more.
	Fatal func(error)
}

// Errors of a server.
var (
	ErrClosed    = errors.New("reactor: closed")
	ErrNoHandler = errors.New("reactor: Config.NewHandler is nil")
)

// A Server listens on one address with several loops.
type Server struct{ loops []*Loop }

// Listen opens the listeners and starts the loops.
func Listen(c Config) (*Server, error) { return nil, ErrClosed }

// Address is where the server listens, with the port that was picked.
func (s *Server) Address() net.Addr { return nil }

// Loops is the number of loops.
func (s *Server) Loops() int { return len(s.loops) }

// Loop is the i-th loop.
func (s *Server) Loop(i int) *Loop { return s.loops[i] }

// Drain refuses new connections from now on and waits until the last session has gone
// or ctx ends. It closes nobody: the Handler asks its sessions to leave.
func (s *Server) Drain(ctx context.Context) error { return nil }

// Close ends every session with 1001, gives their output 2 seconds, and stops the
// loops. Each session's Closed has run when it returns.
func (s *Server) Close() error { return nil }

// Stats adds up the counters of all loops. Any goroutine may call it.
func (s *Server) Stats() Stats { return Stats{} }

// Stats are counters since the start, and gauges where the name is a noun of now.
type Stats struct {
	Connections int64 // open now, WebSocket or not
	Sessions    int64 // WebSockets open now
	Blocked     int64 // sessions whose output the kernel has not taken, now
	Backlog     int64 // posted items that wait, now

	Accepted, Refused, Upgraded, UpgradeFailed uint64
	MessagesIn, BytesIn                        uint64
	MessagesOut, BytesOut, Writes              uint64
	Wakeups                                    uint64
	Closed                                     [ReasonCount]uint64 // by Reason
}
