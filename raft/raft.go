package raft

import (
	"context"
	"errors"
	"io"
	"log/slog"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// Errors that callers tell apart. Both mean: nothing was decided here, try elsewhere or again.
var (
	// ErrNotLeader is the answer of a replica that does not lead, or cannot show that it does.
	ErrNotLeader = errors.New("raft: not the leader")
	// ErrClosed is the answer of a node or group that was closed.
	ErrClosed = errors.New("raft: closed")
)

// Options say how a node keeps its log and whom it talks to.
type Options struct {
	// Path is the directory of the log store; it is created if absent.
	Path string
	// FS is the file system under the log; nil means the operating system's.
	FS vfs.FS
	// Server is this node's server id in the configuration of every group that is not given
	// one of its own; it is never reused.
	Server string
	// Logger gets what an operator should know; nil discards it.
	Logger *slog.Logger
	// Fatal is called once, when the log cannot be trusted any more. In production it must
	// end the process; should it return, the node acknowledges nothing from then on.
	Fatal func(error)
	// Network reaches the other replicas; nil means that this node is alone.
	Network Network
	// TrailingBytes is how much of a group's log stays behind the record; 0: the constant
	// of that name. Less of it also makes the grain of truncation smaller.
	TrailingBytes uint64
}

// trailing is how much of a log stays, and the grain of its truncation.
func (o *Options) trailing() (bytes, grain uint64) {
	if o.TrailingBytes == 0 {
		return TrailingBytes, compactBytes
	}
	return o.TrailingBytes, min(compactBytes, max(1, o.TrailingBytes/4))
}

// A Record says how far a machine's durable state reaches: the last applied index and
// its term, and the last configuration at or below it.
type Record struct {
	Index, Term        uint64
	ConfigurationIndex uint64
	Configuration      []byte
}

// An Entry is one committed entry. Data is immutable and may be kept.
type Entry struct {
	Index, Term uint64
	Data        []byte
}

// An Export is a copy of a machine's state, on its way to a replica that lacks it.
type Export struct {
	// Record is how far the copy reaches.
	Record Record
	// Size is how many bytes Reader gives, exactly: the receiver is told before.
	Size int64
	// Reader gives what Machine.Install takes. Closing it ends the export.
	Reader io.ReadCloser
}

// A Machine is the replicated state of one group. Apply, Configure, Install, Lead and
// Follow are called one at a time, Follow and Lead alternating; Record, Persist and Export
// from any goroutine.
type Machine interface {
	// Apply takes committed entries in ascending order; an error stops the node.
	Apply(entries []Entry) error
	// Configure takes a committed configuration, in order with the entries.
	Configure(index, term uint64, configuration []byte) error
	// Record returns what is durable: replay starts after its index, and the log is never
	// truncated past it.
	Record() Record
	// Persist returns once index is durable in the state store.
	Persist(ctx context.Context, index uint64) error
	// Export returns a durable, consistent copy of the whole state with its record. Applies
	// and other exports go on beside it.
	Export(ctx context.Context) (*Export, error)
	// Install puts an export in the place of the whole state, data and record in one step,
	// so that a crash leaves the one or the other. It is called on the goroutine of Apply.
	// What is damaged, or at or below what is applied, is refused and changes nothing.
	Install(record Record, source io.Reader) error
	// Lead says that this replica leads and has applied everything that was committed
	// before its term, and an entry of its own term.
	Lead(term uint64)
	// Follow says that it no longer leads. Lead and Follow alternate.
	Follow()
}

// A Source holds what wants to become entries. Its methods are called by the group;
// Next on the batcher's goroutine, Failed on any.
type Source interface {
	// Next appends the next entry to dst, at most EntryBytesMax bytes. The handle comes
	// back in Failed. The appended bytes belong to the group from then on.
	Next(dst []byte) (entry []byte, handle any, ok bool)
	// Failed says that the entry was not applied here and is no longer waited for. Whether
	// it was or will be committed is unknown.
	Failed(handle any, err error)
}

// GroupConfig is what a group is made of.
type GroupConfig struct {
	// ID names the group on all nodes; it is the prefix of its keys in the log store.
	ID uint32
	// Machine is fed by the group.
	Machine Machine
	// Source feeds it.
	Source Source
	// Server is the id of this replica of the group; "" is Options.Server. An id is never
	// used again for a replica that was wiped or dropped: it would forget its vote.
	Server string
	// Servers are the initial voters. They are used once, when the group is empty. Without
	// them an empty replica waits until a leader adds it.
	Servers []string
	// OnLeader is told when the leader that this replica knows, or its term, has changed; ""
	// is nobody. It must not block. nil tells nobody.
	OnLeader func(server string, term uint64)
}

// Stats are a group's counters and positions, for metrics.
type Stats struct {
	Leading       bool
	Term          uint64
	First, Last   uint64 // indexes in the log
	Commit        uint64
	Applied       uint64
	Entries       uint64 // proposed here
	Failed        uint64 // of those, given back to the Source
	LogBytes      uint64 // bytes of entries in the log, truncated ones excluded
	InFlight      int
	TailEntries   int
	TailBytes     int
	SnapshotIndex uint64
}
