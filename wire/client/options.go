package client

import (
	"context"
	"crypto/tls"
	"log/slog"
	"net"

	"parley/wire"
)

// A Begin says from where MessageEvents come in a conversation that the client meets for
// the first time.
type Begin uint8

// The places to begin.
const (
	BeginHead      Begin = iota // what comes from now on; the rest is read by History
	BeginDelivered              // after this user's delivered cursor
	BeginRead                   // after this user's read cursor: all that is unread
)

// Options say where a client connects, as whom, and how. Address and Token are needed.
type Options struct {
	// Address is ws://host:port or wss://host:port, with a path if the server has one.
	Address string
	// Token gives a signed token for a connection that has no resume ticket. A *wire.Error
	// of a permanent class that it returns ends the client; after any other it is asked again.
	Token func(ctx context.Context) (string, error)
	// Name describes the program in the server's logs, at most wire.ClientBytesMax bytes.
	Name string
	// Foreground says that a person is looking at the program.
	Foreground bool
	// HeartbeatSeconds is the interval to ask for; 0 leaves it to the server.
	HeartbeatSeconds uint64
	// Outbox keeps unacknowledged sends; nil: memory. The client closes it.
	Outbox OutboxStore
	// Dial opens the connection below TLS; nil: TCP.
	Dial func(ctx context.Context, network, address string) (net.Conn, error)
	// TLS configures wss://; nil: the system's roots.
	TLS *tls.Config
	// Logger gets what a developer wants to know; nil discards it.
	Logger *slog.Logger
	// Begin says where MessageEvents begin in a conversation that Known does not have.
	Begin Begin
	// Known tells how far the program has each conversation: MessageEvents begin after that
	// sequence.
	Known map[wire.Ref]uint64
	// Previews is how many of the first conversations of a sync carry the beginning of their
	// last message, at most wire.PreviewsMax.
	Previews int
	// ManualDelivered leaves the delivered cursor to Client.Delivered. Without it the client
	// moves it over each message that Events has handed over.
	ManualDelivered bool
	// Seed makes the jitter of reconnects repeat, for tests; 0: a random one.
	Seed uint64
}
