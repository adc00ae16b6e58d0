package raft

import (
	"context"
	"errors"
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
	// Server is this node's server id in every group's configuration; it is never reused.
	Server string
	// Logger gets what an operator should know; nil discards it.
	Logger *slog.Logger
	// Fatal is called once, when the log cannot be trusted any more. In production it must
	// end the process; should it return, the node acknowledges nothing from then on.
	Fatal func(error)
	// Network reaches the other replicas; nil means that this node is alone.
	Network Network
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

// A Machine is the replicated state of one group. Apply, Configure, Lead and Follow are
// called on one goroutine; Record and Persist on others.
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
	// Servers are the initial voters. They are used once, when the group is empty.
	Servers []string
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
