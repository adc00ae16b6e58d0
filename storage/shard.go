package storage

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"

	"parley/wire"
)

// Errors of a shard and its store.
var (
	// ErrClosed is what a closed store answers.
	ErrClosed = errors.New("storage: closed")
	// ErrTorn is what a shard answers after an update failed halfway: what it holds in
	// memory is no state at all, so it is neither read nor written.
	ErrTorn = errors.New("storage: an update failed halfway")
	// ErrReplaced is what a view answers when the shard's state was replaced by a snapshot
	// while it read: look again.
	ErrReplaced = errors.New("storage: the state was replaced during a view")
)

// A Shard is the state of one Raft group: a contiguous range of slots. One goroutine updates
// it; any number may view it.
type Shard struct {
	store       *Store
	id          uint32
	first, last wire.Slot

	mu     sync.RWMutex // held by Update for writing, by views for reading while they look something up
	active *buffer
	frozen []*buffer // newest first; each is dropped once its ingest is visible
	swaps  uint64    // how often the whole state was replaced
	torn   error
	writer Writer

	readers sync.Pool
	applied atomic.Uint64 // index of the last update
	wanted  atomic.Uint64 // the highest index that somebody waits to see ingested
	begun   atomic.Uint64 // index at the last freeze: what is up to it is on its way

	durableMu sync.Mutex
	durable   Record
	ingested  chan struct{} // closed at the next ingest
	dropped   bool
}

func newShard(store *Store, id uint32, first, last wire.Slot, record Record) *Shard {
	s := &Shard{store: store, id: id, first: first, last: last, ingested: make(chan struct{})}
	s.active = newBuffer(&store.slabs, nil)
	s.active.record = record
	s.durable = record
	s.applied.Store(record.Index)
	s.begun.Store(record.Index)
	s.readers.New = func() any { return new(Reader) }
	return s
}

// Record is the shard's applied record as ingested: what is left after a crash. The log must
// be kept from the entry behind it.
func (s *Shard) Record() Record {
	s.durableMu.Lock()
	defer s.durableMu.Unlock()
	return s.durable
}

// WaitIngested returns once the state up to a log index is ingested, and asks for a flush if
// need be. An index that is not applied yet is waited for.
func (s *Shard) WaitIngested(ctx context.Context, index uint64) error {
	for {
		s.durableMu.Lock()
		reached, dropped, next := s.durable.Index >= index, s.dropped, s.ingested
		s.durableMu.Unlock()
		if dropped {
			return ErrDropped
		}
		if reached {
			return nil
		}
		for wanted := s.wanted.Load(); wanted < index; wanted = s.wanted.Load() {
			s.wanted.CompareAndSwap(wanted, index)
		}
		if s.awaited() {
			s.store.kickFlush()
		}
		select {
		case <-next:
		case <-ctx.Done():
			return ctx.Err()
		case <-s.store.stopped:
			return s.store.reason()
		}
	}
}

// Update runs fn under the shard's write lock: readers see all of it or nothing, and a flush
// contains all of it or nothing. Only one goroutine may update a shard, and fn must not call
// the store. It waits while two frozen buffers are still to be written. If fn fails, so does
// the shard: half an update cannot be taken back.
func (s *Shard) Update(fn func(w *Writer) error) error {
	if err := s.store.admit(); err != nil {
		return err
	}
	due, err := s.update(fn)
	if err == nil && (due || s.store.full()) {
		s.store.kickFlush()
	}
	return err
}

// update runs fn. due says that somebody waits for what it has applied.
func (s *Shard) update(fn func(w *Writer) error) (due bool, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.torn != nil {
		return false, s.torn
	}
	before := s.active.bytes()
	s.torn = ErrTorn // stays if fn panics
	s.active.begin()
	w := &s.writer
	w.begin(s)
	w.err = nil
	err = errors.Join(fn(w), w.err)
	err = errors.Join(err, w.finish())
	s.store.activeBytes.Add(s.active.bytes() - before)
	if err != nil {
		s.torn = fmt.Errorf("%w: %w", ErrTorn, err)
		return false, err
	}
	s.torn = nil
	s.applied.Store(s.active.record.Index)
	return s.awaited(), nil
}

// awaited reports whether somebody waits for what is applied and not yet frozen.
func (s *Shard) awaited() bool {
	wanted := s.wanted.Load()
	return wanted > s.begun.Load() && s.applied.Load() >= wanted
}

// View runs fn with one moment of the shard: what the last update left, whatever updates,
// flushes and other views do meanwhile. It holds up updates only for as long as it looks
// something up in a buffer. It keeps buffers from being given back, so fn may read from
// disk but should not wait for anything else.
func (s *Shard) View(fn func(r *Reader) error) error {
	r := s.readers.Get().(*Reader)
	err := r.pin(s)
	if err == nil {
		err = fn(r)
		err = errors.Join(err, r.unpin())
	}
	s.readers.Put(r)
	return err
}

// freeze takes the active buffer away for a flush and puts a new one in its place. It
// returns nil if there is nothing to write, or nothing that may be written.
func (s *Shard) freeze() *buffer {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.torn != nil || s.active.empty() {
		return nil
	}
	b := s.active
	s.frozen = append([]*buffer{b}, s.frozen...)
	s.active = newBuffer(&s.store.slabs, b)
	s.begun.Store(b.record.Index)
	s.store.activeBytes.Add(-b.bytes())
	s.store.frozenBytes.Add(b.bytes())
	return b
}

// drop forgets the oldest frozen buffer, whose ingest is visible.
func (s *Shard) drop(b *buffer) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.frozen = s.frozen[:len(s.frozen)-1]
	s.store.frozenBytes.Add(-b.bytes())
	b.release()
}

// publish makes a record the durable one and wakes who waits for it.
func (s *Shard) publish(record Record) {
	s.durableMu.Lock()
	defer s.durableMu.Unlock()
	s.durable = record
	close(s.ingested)
	s.ingested = make(chan struct{})
}

// stop makes every later call fail with a reason.
func (s *Shard) stop(reason error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.torn = reason
}
