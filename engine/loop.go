package engine

import (
	"context"
	"net"
	"time"

	"parley/engine/reactor"
	"parley/wire"
)

// A Loop is an event loop as an edge uses it. It is reactor's; a simulation, where there
// is no epoll, brings its own. Post and Backlog are for any goroutine, the rest for the
// loop itself.
type Loop interface {
	Index() int
	Post(item any)
	Backlog() int
	Write(h reactor.Handle, frames []byte)
	Queued(h reactor.Handle) int
	Blocked(h reactor.Handle) bool
	SetDeadline(h reactor.Handle, seconds int)
	Close(h reactor.Handle, code uint16, reason string)
}

// A Server is what has the loops: it accepts connections and ends them.
type Server interface {
	Address() net.Addr
	Drain(ctx context.Context) error
	Resume()
	Stats() reactor.Stats
	Close() error
}

// A Serve starts a server of clients; newHandler is called once for each loop, before
// anything happens on it. Nil in a Config means reactor's.
type Serve func(newHandler func(Loop) reactor.Handler) (Server, error)

// listenReactor starts reactor's server.
func (n *Node) listenReactor(newHandler func(Loop) reactor.Handler) (Server, error) {
	return reactor.Listen(reactor.Config{
		Address: n.config.Listen, Loops: n.config.Loops, ConnectionsMax: n.config.ConnectionsMax,
		MessageBytesMax: wire.MessageBytesMax, Subprotocol: wire.Subprotocol,
		UpgradeTimeout: wire.UpgradeSeconds * time.Second,
		Logger:         n.log, Fatal: n.config.Fatal,
		NewHandler: func(l *reactor.Loop) reactor.Handler { return newHandler(l) },
	})
}
