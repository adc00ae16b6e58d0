package shard

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync/atomic"

	"parley/raft"
	"parley/storage"
	"parley/wire"
)

// ErrConfig reports a Config that cannot work.
var ErrConfig = errors.New("shard: bad configuration")

// Config is what a shard is made of.
type Config struct {
	// ID names the shard, and its Raft group, in the whole cluster.
	ID uint32
	// First and Last bound the slots that the shard owns, both included.
	First, Last wire.Slot
	// Store holds the shard's state.
	Store *storage.Shard
	// Nonce is random and differs in every life of the process: it tells this life's
	// entries from those of former ones, whose senders are gone.
	Nonce uint64
	// Now is the clock that the leader stamps entries with.
	Now func() wire.Time
	// Sink gets the effects.
	Sink Sink
	// Deliver proposes a command at the shard that owns a slot, on whatever node leads it;
	// the channel gives nil once it is applied there. See Shard.Receive. nil: rows for
	// other shards wait.
	Deliver func(target wire.Slot, command []byte) <-chan error
	// Logger gets what an operator should know; nil discards it.
	Logger *slog.Logger
}

// A Shard is one replica of one shard: the state machine, the queue of what this node
// proposes, the courier, and the reads. It is a raft.Machine and a raft.Source.
type Shard struct {
	config  Config
	queue   *Queue
	kick    atomic.Pointer[func()]
	applied atomic.Uint64
}

// Open takes up the state that the store holds. Attach the Raft group's Kick next.
func Open(c Config) (*Shard, error) {
	if c.Store == nil || c.Now == nil || c.Sink == nil || c.First > c.Last || c.Last >= wire.Slots {
		return nil, fmt.Errorf("%w: store, clock, sink and slots are needed", ErrConfig)
	}
	s := &Shard{config: c}
	s.queue = NewQueue(c.Nonce, c.Now, s.Kick)
	return s, nil
}

// Attach tells the shard how to wake its Raft group, which is started after it.
func (s *Shard) Attach(kick func()) { s.kick.Store(&kick) }

// Kick wakes the Raft group: once after any number of Send and Cursor.
func (s *Shard) Kick() {
	if kick := s.kick.Load(); kick != nil {
		(*kick)()
	}
}

// Send queues a message; Kick afterwards. Any error means that nothing was decided and
// nobody will answer: the caller refuses with CodeOf(err).
func (s *Shard) Send(m *Send) error { return s.queue.Send(m) }

// Cursor queues a moved cursor; Kick afterwards. It has no answer but BAD_CURSOR.
func (s *Shard) Cursor(c *Cursor) error { return s.queue.Cursor(c) }

// Leading reports whether this replica takes sends and cursors.
func (s *Shard) Leading() bool { return false }

// Receive proposes a command that another shard's courier delivers; the channel gives
// nil once it is applied. It is what Config.Deliver comes down to at the target.
func (s *Shard) Receive(command []byte) <-chan error { return s.queue.control(command, 1) }

// Close refuses whoever waits and stops the courier. The Raft group is closed before.
func (s *Shard) Close() error { return nil }

// Apply implements raft.Machine.
func (s *Shard) Apply(entries []raft.Entry) error { return nil }

// Configure implements raft.Machine.
func (s *Shard) Configure(index, term uint64, configuration []byte) error { return nil }

// Record implements raft.Machine.
func (s *Shard) Record() raft.Record { return raft.Record{} }

// Persist implements raft.Machine.
func (s *Shard) Persist(ctx context.Context, index uint64) error { return nil }

// Lead implements raft.Machine.
func (s *Shard) Lead(term uint64) {}

// Follow implements raft.Machine.
func (s *Shard) Follow() {}

// Next implements raft.Source.
func (s *Shard) Next(dst []byte) (entry []byte, handle any, ok bool) { return s.queue.Next(dst) }

// Failed implements raft.Source.
func (s *Shard) Failed(handle any, err error) {}
