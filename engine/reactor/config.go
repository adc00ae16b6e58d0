package reactor

import (
	"errors"
	"log/slog"
	"runtime"
	"time"

	"golang.org/x/sys/unix"
)

// A Config says how to listen. The zero value of a field means its default.
type Config struct {
	Address         string        // host:port; port 0 picks a free one
	Loops           int           // default one for every 2 cores: storage shares them
	ConnectionsMax  int           // default and upper bound: RLIMIT_NOFILE less a reserve
	HandshakesMax   int           // connections that are no WebSocket yet, default 16,384
	SendBufferBytes int           // SO_SNDBUF, default 32 KiB
	UpgradeTimeout  time.Duration // default 5 s, in whole seconds
	PeerTimeout     time.Duration // TCP_USER_TIMEOUT, default 30 s
	MessageBytesMax int           // of one WebSocket message, default 128 KiB
	QueueBytesMax   int           // output that may wait for one session, default 256 KiB
	InputBytesMax   int           // unfinished input of one loop's connections, default 64 MiB
	// Subprotocol must be offered by clients, if it is not empty.
	Subprotocol string
	// CheckOrigin judges the Origin that a browser sends; nil allows all. It is called
	// from all loops.
	CheckOrigin func(origin []byte) bool
	Logger      *slog.Logger
	// NewHandler makes the application of each loop, before the first connection.
	NewHandler func(l *Loop) Handler
	// Fatal is called once if the loops end without Close: nobody is served any more, and
	// the process should end. nil logs it.
	Fatal func(error)
}

const (
	sendBufferBytes = 32 << 10 // the kernel would let a reader that sleeps have 4 MB
	messageBytesMax = 128 << 10
	queueBytesMax   = 256 << 10
	inputBytesMax   = 64 << 20
	// handshakesMax is a storm of reconnects' share of a second: at 5 s for each that
	// says nothing, an attacker needs 3,300 connections a second to fill it.
	handshakesMax  = 16 << 10
	upgradeTimeout = 5 * time.Second
	peerTimeout    = 30 * time.Second
	// filesReserved are left to storage, replication and the admin port. A failed
	// accept would end all loops.
	filesReserved = 1000
)

// Errors of a configuration.
var (
	// ErrNoHandler means that Config.NewHandler is nil.
	ErrNoHandler = errors.New("reactor: Config.NewHandler is nil")
	// ErrLoops means more loops than handles can name.
	ErrLoops = errors.New("reactor: more than 256 loops")
)

// withDefaults fills in what is zero and refuses what cannot work.
func (c Config) withDefaults() (Config, error) {
	if c.NewHandler == nil {
		return c, ErrNoHandler
	}
	setDefault(&c.Loops, max(1, runtime.GOMAXPROCS(0)/2))
	if c.Loops > LoopsMax {
		return c, ErrLoops
	}
	limit, err := connectionsLimit()
	if err != nil {
		return c, err
	}
	setDefault(&c.ConnectionsMax, limit)
	c.ConnectionsMax = min(c.ConnectionsMax, limit)
	setDefault(&c.HandshakesMax, handshakesMax)
	setDefault(&c.SendBufferBytes, sendBufferBytes)
	setDefault(&c.UpgradeTimeout, upgradeTimeout)
	c.UpgradeTimeout = max(c.UpgradeTimeout, time.Second) // the wheel's grain
	setDefault(&c.PeerTimeout, peerTimeout)
	setDefault(&c.MessageBytesMax, messageBytesMax)
	setDefault(&c.QueueBytesMax, queueBytesMax)
	setDefault(&c.InputBytesMax, inputBytesMax)
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	if c.Fatal == nil {
		log := c.Logger
		c.Fatal = func(err error) { log.Error("reactor: nobody is served any more", "error", err) }
	}
	return c, nil
}

func setDefault[T int | time.Duration](field *T, value T) {
	if *field <= 0 {
		*field = value
	}
}

// connectionsLimit is how many connections this process may hold: its file limit less
// the reserve, or half of a limit that is too small for the reserve.
func connectionsLimit() (int, error) {
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		return 0, err
	}
	files := int(min(limit.Cur, 1<<30))
	return files - min(filesReserved, files/2), nil
}
