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
	"parley/wire/planted"
)

// ErrConfig reports a Config that cannot work.
var ErrConfig = errors.New("shard: store, clock, sink and a range of slots are needed")

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
	// TellAlways makes Sink get every batch, also one without effects, on every replica: a
	// cluster resumes at a new leader what the old one has told in part. Otherwise only a
	// replica that has led tells, and only what there is.
	TellAlways bool
	// Deliver proposes a command at the shard that owns a slot, on whatever node leads it;
	// the channel gives nil once it is applied there. See Shard.Receive. nil: rows for
	// other shards wait.
	Deliver func(target wire.Slot, command []byte) <-chan error
	// Logger gets what an operator should know; nil discards it.
	Logger *slog.Logger
}

// A Shard is one replica of one shard: the state machine, the queue of what this node
// proposes, the courier, and the reads. It is a raft.Machine and a raft.Source; Apply,
// Configure, Lead and Follow are the Raft group's to call, on one goroutine. All else is
// for any goroutine.
type Shard struct {
	config  Config
	log     *slog.Logger
	queue   *Queue
	kick    atomic.Pointer[func()]
	machine machine
	courier *courier // while leading
	stats   atomic.Pointer[Stats]
	failed  error // sticks: a state machine that stopped in the middle applies nothing more
}

// Stats are a shard's counters and sizes, for metrics.
type Stats struct {
	Counters
	Applied  uint64 // index
	Leading  bool
	Queued   int // commands that wait for a place in an entry
	Cached   int // conversations decoded in memory
	Outgoing int // rows that wait for other shards
}

// Open takes up the state that the store holds. Attach the Raft group's Kick next.
func Open(c Config) (*Shard, error) {
	if c.Store == nil || c.Now == nil || c.Sink == nil || c.First > c.Last || c.Last >= wire.Slots || c.ID > shardIDMax {
		return nil, ErrConfig
	}
	s := &Shard{config: c, log: c.Logger}
	if s.log == nil {
		s.log = slog.New(slog.DiscardHandler)
	}
	s.queue = NewQueue(c.Nonce, c.Now, s.Kick)
	s.machine = machine{id: c.ID, first: c.First, last: c.Last, queue: s.queue, tell: c.TellAlways,
		cache: newConversationCache(ConversationsCachedMax), recent: newRecentChanges(), groupless: &grouplessUsers{}, outgoing: make(map[uint64]struct{})}
	if err := c.Store.View(s.machine.load); err != nil {
		return nil, fmt.Errorf("shard %d: open: %w", c.ID, err)
	}
	s.publish()
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

// Cursors queues cursors as a node has folded them; Kick afterwards. It returns those that
// were not taken, whose sessions are to be told so.
func (s *Shard) Cursors(list []Cursor) (left []Cursor, err error) { return s.queue.Cursors(list) }

// Leading reports whether this replica takes sends and cursors.
func (s *Shard) Leading() bool { return s.queue.isLeading() }

// Receive proposes what another shard's courier delivers: one or more commands, which
// must be of the kinds that travel. The channel gives nil once they are applied. It is
// what Config.Deliver comes down to at the target.
func (s *Shard) Receive(command []byte) <-chan error {
	commands, err := parseCommands(command)
	if err == nil && (len(commands) == 0 || len(commands) > reservedCommands || len(command) > ControlBytesMax) {
		err = ErrBadCommand
	}
	for i := range commands {
		slot := commands[i].user.Slot()
		if kind := commands[i].kind; kind != commandListAdd && kind != commandListGone || slot < s.config.First || slot > s.config.Last {
			err = ErrBadCommand
		}
	}
	if err != nil {
		done := make(chan error, 1)
		done <- fmt.Errorf("shard %d: receive: %w", s.config.ID, err)
		return done
	}
	return s.queue.control(command, len(commands))
}

// Close refuses whoever still waits. The Raft group is closed before.
func (s *Shard) Close() error {
	s.stopCourier()
	waiting, controls := s.queue.close()
	s.dismissWith(wire.CodeTimeout, ErrClosed, waiting, controls) // entries in flight are among them
	return nil
}

// Stats returns the shard's counters as of the last batch.
func (s *Shard) Stats() Stats {
	stats := *s.stats.Load()
	stats.Leading, stats.Queued = s.Leading(), s.queue.depth()
	return stats
}

// Apply implements raft.Machine: all entries of a call become one update of the store,
// then the effects go out.
func (s *Shard) Apply(entries []raft.Entry) error {
	if s.failed != nil {
		return s.failed
	}
	m := &s.machine
	err := s.config.Store.Update(func(w *storage.Writer) error { return m.apply(w, entries) })
	if err != nil {
		s.failed = fmt.Errorf("shard %d: apply: %w", s.config.ID, err)
		for _, b := range m.claimed {
			s.refuse(b, s.failed)
		}
		m.claimed = nil
		return s.failed
	}
	s.publish()
	return nil
}

// publish tells what a batch did, now that readers see it.
func (s *Shard) publish() {
	m := &s.machine
	s.stats.Store(&Stats{Counters: m.counters, Applied: m.applied, Cached: len(m.cache.values), Outgoing: len(m.outgoing)})
	if m.effects != nil && (!m.effects.Empty() || s.config.TellAlways && m.effects.Index != 0) {
		s.config.Sink.Effects(m.effects)
	}
	for i, a := range m.answers {
		a.done <- a.err
		m.answers[i] = answer{}
	}
	for i, b := range m.claimed {
		s.queue.release(b)
		m.claimed[i] = nil
	}
	if len(m.unfolded) > 0 {
		s.retry(m.unfolded)
	}
	if s.courier != nil && len(m.rows) > 0 {
		s.courier.add(m.rows)
	}
	clear(m.rows)
	m.effects, m.batch = nil, nil
	m.answers, m.claimed, m.rows, m.unfolded = m.answers[:0], m.claimed[:0], m.rows[:0], m.unfolded[:0]
}

// Configure implements raft.Machine.
func (s *Shard) Configure(index, term uint64, configuration []byte) error {
	err := s.config.Store.Update(func(w *storage.Writer) error {
		w.SetConfiguration(index, configuration)
		if index > s.machine.applied {
			s.machine.applied = index
			w.SetApplied(index, term)
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("shard %d: configure: %w", s.config.ID, err)
	}
	return nil
}

// Record implements raft.Machine.
func (s *Shard) Record() raft.Record {
	return raftRecord(s.config.Store.Record())
}

// Persist implements raft.Machine.
func (s *Shard) Persist(ctx context.Context, index uint64) error {
	return s.config.Store.WaitIngested(ctx, index)
}

// Lead implements raft.Machine: from now on sends are taken and rows delivered. Effects
// are told from the first time on, for good: a session that has synced here must not
// miss an entry that is applied between two leaderships.
func (s *Shard) Lead(term uint64) {
	s.machine.tell = true
	s.queue.lead()
	s.startCourier(term)
}

// Follow implements raft.Machine: those who wait in the queue are told to try again.
// Entries in flight are applied or fail.
func (s *Shard) Follow() {
	s.stopCourier()
	s.dismiss(s.queue.follow())
}

// Next implements raft.Source.
func (s *Shard) Next(dst []byte) (entry []byte, handle any, ok bool) { return s.queue.Next(dst) }

// Failed implements raft.Source: whether the entry will ever be applied is unknown, so
// the senders are told to try again under the same counters. Cursors of entries that took
// too long queue again; of others the sessions are told to send them again.
func (s *Shard) Failed(handle any, err error) {
	origin, _ := handle.(uint64)
	b := s.queue.claim(origin)
	if b == nil {
		return
	}
	if errors.Is(err, raft.ErrTimeout) {
		s.retry(b.cursors)
	} else {
		// Not at once: a replica that has just lost its leadership would fail again.
		s.dismissWith(CodeOf(err), err, cursorSessions(nil, b.cursors), nil)
	}
	s.refuse(b, err)
}

// retry queues cursors again. The session of one that finds no place is told, so that it
// sends its cursors again by itself.
func (s *Shard) retry(cursors []Cursor) {
	left, err := s.queue.requeue(cursors)
	if err != nil {
		origins := make([]Origin, len(left))
		for i := range left {
			origins[i] = Origin{Session: left[i].Session, Node: left[i].Node}
		}
		s.dismissWith(CodeOf(err), err, origins, nil)
	}
	s.Kick()
}

// refuse tells everybody in a batch to try again. The code is TIMEOUT whatever err is:
// the entry may be applied later, and any other code lets a client number anew.
func (s *Shard) refuse(b *batch, err error) {
	s.dismissWith(wire.CodeTimeout, err, b.origins, b.controls)
	s.queue.release(b)
}

// dismiss tells those who waited in the queue to try again elsewhere.
func (s *Shard) dismiss(waiting []Origin, controls []control) {
	s.dismissWith(wire.CodeNotLeader, ErrNotLeader, waiting, controls)
}

func (s *Shard) dismissWith(code wire.Code, err error, waiting []Origin, controls []control) {
	if planted.Active(planted.FailedIsRefused) {
		code = wire.CodeNotMember
	}
	if len(waiting) > 0 {
		e := &Effects{Shard: s.config.ID, Refused: make([]RefusedEffect, 0, len(waiting))}
		for _, o := range waiting {
			if o.Session != 0 && o.Correlation != 0 && planted.Active(planted.FailedIsSent) {
				e.Sent = append(e.Sent, SentEffect{Origin: o, Sequence: 1, Time: 1})
			} else if o.Session != 0 {
				e.Refused = append(e.Refused, RefusedEffect{o, code})
			}
		}
		s.config.Sink.Effects(e)
	}
	for _, c := range controls {
		c.done <- err
	}
}
