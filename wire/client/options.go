package client

import (
	"context"
	crand "crypto/rand"
	"crypto/tls"
	"encoding/binary"
	"fmt"
	"log/slog"
	"maps"
	"math/rand/v2"
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
	// Address is ws://host:port or wss://host:port; the path is wire.Path unless it names one.
	Address string
	// Token gives a signed token for a connection that has no resume ticket. It must end with
	// its context, which is the connection's and lasts DialSeconds at most. A *wire.Error of a
	// permanent class that it returns ends the client; after any other it is asked again.
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
	// Seed makes the jitter of reconnects and the names of outboxes repeat, for tests only:
	// two clients of one seed would share an outbox. 0: random.
	Seed uint64
}

// check completes the options.
func (o *Options) check() error {
	if _, err := parseAddress(o.Address); err != nil {
		return err
	}
	switch {
	case o.Token == nil:
		return fmt.Errorf("%w: Token is needed", ErrOptions)
	case len(o.Name) > wire.ClientBytesMax:
		return fmt.Errorf("%w: Name has more than %d bytes", ErrOptions, wire.ClientBytesMax)
	case o.Begin > BeginRead:
		return fmt.Errorf("%w: Begin is %d", ErrOptions, o.Begin)
	case o.Previews < 0 || o.Previews > wire.PreviewsMax:
		return fmt.Errorf("%w: Previews is not within 0 and %d", ErrOptions, wire.PreviewsMax)
	case o.HeartbeatSeconds > wire.HeartbeatSecondsMax:
		return fmt.Errorf("%w: HeartbeatSeconds is above %d", ErrOptions, wire.HeartbeatSecondsMax)
	}
	for ref, known := range o.Known {
		if !ref.Valid() || known > wire.NumberMax {
			return fmt.Errorf("%w: Known has conversation %d at %d", ErrOptions, ref, known)
		}
	}
	o.Known = maps.Clone(o.Known)
	if o.Name == "" {
		o.Name = "parley-go"
	}
	if o.Outbox == nil {
		o.Outbox = NewMemoryOutbox()
	}
	return nil
}

// secure reports whether Address asks for TLS, which the server cannot talk us out of.
func (o *Options) secure() bool {
	a, err := parseAddress(o.Address)
	return err == nil && a.secure
}

func (o *Options) logger() *slog.Logger {
	if o.Logger == nil {
		return slog.New(slog.DiscardHandler)
	}
	return o.Logger
}

func (o *Options) dialer() func(ctx context.Context, network, address string) (net.Conn, error) {
	if o.Dial != nil {
		return o.Dial
	}
	return (&net.Dialer{KeepAlive: -1}).DialContext // PING does what keep-alive would
}

// source is where jitter and the outbox's name come from.
func (o *Options) source() *rand.Rand {
	var seed [32]byte
	if o.Seed != 0 {
		binary.LittleEndian.PutUint64(seed[:], o.Seed)
	} else {
		crand.Read(seed[:])
	}
	return rand.New(rand.NewChaCha8(seed))
}
