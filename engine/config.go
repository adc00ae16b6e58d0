package engine

import (
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"parley/engine/admin"
	"parley/engine/router"
)

// Limits and defaults of a node.
const (
	// ShardsDefault is the number of shards of a new cluster: about two led per core.
	ShardsDefault = 8
	// TicketLifetimeDefault is how long a resume ticket is good.
	TicketLifetimeDefault = 24 * time.Hour
	// TicketLifetimeMax bounds it: a ticket is checked without a look at the account.
	TicketLifetimeMax = 30 * 24 * time.Hour
	// TokenLifetimeDefault is how long a token is good when nobody says.
	TokenLifetimeDefault = 12 * time.Hour
	// DrainSpreadDefault is the time over which a stopping node's clients reconnect.
	DrainSpreadDefault = 5 * time.Second
	// DiskReserveBytesDefault is kept free: below it sends are refused while reads go on.
	// A flush of the write buffer and the log behind it fit into it twice.
	DiskReserveBytesDefault = 512 << 20
	// ReadersDefault is the number of goroutines that read for sync and history.
	ReadersDefault = 8
	// ReadQueueMax bounds the requests that wait for them, on the whole node.
	ReadQueueMax = 16_384
)

// A Config says what a node is. The zero value of a field means its default; Data,
// Listen and Fatal have none.
type Config struct {
	// Data is the data directory; it is made if absent, and locked.
	Data string
	// Listen is the address for clients, host:port; port 0 picks a free one.
	Listen string
	// Admin is the address for operators: metrics, health, profiles. It must be a loopback
	// address. Empty: none.
	Admin string
	// Shards is the number of shards of a new data directory; an old one keeps its own.
	Shards int
	// Loops is the number of event loops; 0: one for every two cores.
	Loops int
	// ConnectionsMax bounds the open connections; 0: what RLIMIT_NOFILE allows.
	ConnectionsMax int
	// TicketLifetime is how long a resume ticket is good.
	TicketLifetime time.Duration
	// DrainSpread is the time over which clients are told to come back when the node stops.
	DrainSpread time.Duration
	// DiskReserveBytes is the free space below which sends are refused; negative: none.
	DiskReserveBytes int64
	// Readers is the number of goroutines that read for sync and history.
	Readers int
	// BufferBytesMax bounds the state write buffer, in bytes; 0: 64 MiB.
	BufferBytesMax int64
	// LogTrailingBytes is how much of a shard's log stays for replicas that were away a short
	// time, in bytes; 0: raft.TrailingBytes. One that was away longer is sent the state.
	LogTrailingBytes int64
	// FlushInterval is the longest time a change stays in the write buffer; 0: 30 s.
	FlushInterval time.Duration
	// CacheBytes bounds the cache of state blocks; 0: storage's default.
	CacheBytes int64
	// FS is the file system of the data directory; nil means the operating system's.
	FS vfs.FS
	// Cluster is this node's part in a cluster of several; nil: it is alone.
	Cluster *ClusterConfig
	// ReplaceAfter is how long a node may be out of reach before copies of its shards are
	// made elsewhere; 0: until an operator removes it.
	ReplaceAfter time.Duration
	// Serve starts the server of clients; nil means reactor's, on Listen.
	Serve Serve
	// Now is the wall clock, which stamps messages and judges credentials; nil means the
	// operating system's.
	Now func() time.Time
	// Logger gets what an operator should know; nil discards it.
	Logger *slog.Logger
	// intervals are those of the tasks of a cluster's node. Tests shorten them.
	intervals intervals
	// Fatal is called when the node cannot keep its promises any more: a failed write or
	// fsync. It must end the process.
	Fatal func(error)
}

// ErrConfig reports a configuration that cannot work.
var ErrConfig = errors.New("engine: configuration")

func (c *Config) fill() {
	set := func(d *time.Duration, value time.Duration) {
		if *d == 0 {
			*d = value
		}
	}
	set(&c.TicketLifetime, TicketLifetimeDefault)
	set(&c.DrainSpread, DrainSpreadDefault)
	c.intervals.fill(set)
	if c.Shards == 0 {
		c.Shards = ShardsDefault
	}
	if c.DiskReserveBytes == 0 {
		c.DiskReserveBytes = DiskReserveBytesDefault
	}
	if c.Readers == 0 {
		c.Readers = ReadersDefault
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
}

// Check fills in defaults and says what is wrong with the rest.
func (c *Config) Check() error {
	c.fill()
	switch {
	case c.Data == "":
		return fmt.Errorf("%w: no data directory", ErrConfig)
	case c.Fatal == nil:
		return fmt.Errorf("%w: Fatal is not set", ErrConfig)
	case c.Shards < 1 || c.Shards > router.ShardsMax:
		return fmt.Errorf("%w: shards must be between 1 and %d, not %d", ErrConfig, router.ShardsMax, c.Shards)
	case c.Loops < 0 || c.Loops > LoopsMax:
		return fmt.Errorf("%w: loops must be between 1 and %d, or 0 for one per two cores, not %d", ErrConfig, LoopsMax, c.Loops)
	case c.ConnectionsMax < 0:
		return fmt.Errorf("%w: connections_max must not be negative", ErrConfig)
	case c.TicketLifetime < time.Second || c.TicketLifetime > TicketLifetimeMax:
		return fmt.Errorf("%w: the ticket lifetime must be between 1s and %v, not %v", ErrConfig, TicketLifetimeMax, c.TicketLifetime)
	case c.LogTrailingBytes < 0:
		return fmt.Errorf("%w: the trailing log must not be negative", ErrConfig)
	case c.DrainSpread < 0:
		return fmt.Errorf("%w: the drain spread must not be negative", ErrConfig)
	}
	if c.Cluster != nil {
		if err := c.Cluster.check(); err != nil {
			return err
		}
	}
	if c.Admin == "" {
		return nil
	}
	if err := admin.CheckAddress(c.Admin); err != nil {
		return fmt.Errorf("%w: %w", ErrConfig, err)
	}
	return nil
}
