package storage

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/sstable"
	"github.com/cockroachdb/pebble/v2/vfs"

	"parley/wire"
)

// ErrShardRange reports a shard whose slots overlap another one's, or are not those that it
// was stored with.
var ErrShardRange = errors.New("storage: shard's slots do not fit")

// Options configure a store. The zero value of each but Path has a default.
type Options struct {
	Path           string        // the state's own folder, DIR/state
	FS             vfs.FS        // nil: the operating system's
	Logger         *slog.Logger  // nil: slog.Default()
	Fatal          func(error)   // told once when state cannot be written any more; must not return in production, nor call the store
	BufferBytesMax int64         // 0: BufferBytesDefault; all shards together
	FlushInterval  time.Duration // 0: FlushIntervalDefault
	CacheBytes     int64         // 0: CacheBytesDefault; uncompressed blocks
}

func (o Options) withDefaults() Options {
	if o.FS == nil {
		o.FS = vfs.Default
	}
	if o.Logger == nil {
		o.Logger = slog.Default()
	}
	if o.Fatal == nil {
		o.Fatal = func(err error) { panic(err) }
	}
	if o.BufferBytesMax == 0 {
		o.BufferBytesMax = BufferBytesDefault
	}
	if o.FlushInterval == 0 {
		o.FlushInterval = FlushIntervalDefault
	}
	if o.CacheBytes == 0 {
		o.CacheBytes = CacheBytesDefault
	}
	return o
}

// A Store holds the state of all shards of a node. Its methods may be called from any
// goroutine. Two goroutines of its own work for it: one freezes buffers, one writes them.
type Store struct {
	options Options
	db      *pebble.DB
	tables  sstable.WriterOptions // of flushes and exports
	readers sstable.ReaderOptions // of tables that are not ingested yet
	pacer   *pacer
	slabs   slabPool
	seal    seal

	mu     sync.Mutex
	shards []*Shard // by first slot

	// failMu guards failed alone: Pebble reports damage from within a read.
	failMu sync.Mutex
	failed error
	guests sync.WaitGroup // use the database beside the workers; see enter

	activeBytes atomic.Int64
	frozenBytes atomic.Int64

	kick        chan struct{} // capacity 1: a flush is wanted
	requests    chan chan error
	permits     chan struct{}   // one for each frozen generation that is not yet written
	generations chan generation // capacity FrozenMax
	exclusive   chan struct{}   // the mutex of flush and snapshot install; a channel, so that waiting for it is idle in a simulation
	exports     chan struct{}   // a place for each export that is not closed
	staging     atomic.Uint64   // numbers files of the staging folder
	stopped     chan struct{}   // closed when the store is closed or has failed
	closing     chan struct{}
	closeOnce   sync.Once
	closed      error // what closing gave
	workers     sync.WaitGroup

	thawMu sync.Mutex
	thaw   chan struct{} // closed when buffers are frozen: updates may go on

	counters counters
}

// Open opens the state store in a folder, or makes one. It fails with ErrDamaged if an
// ingest that was durable is missing.
func Open(o Options) (*Store, error) {
	o = o.withDefaults()
	s := &Store{
		options:     o,
		kick:        make(chan struct{}, 1),
		requests:    make(chan chan error),
		permits:     make(chan struct{}, FrozenMax),
		generations: make(chan generation, FrozenMax),
		exclusive:   make(chan struct{}, 1),
		exports:     make(chan struct{}, ExportsMax),
		stopped:     make(chan struct{}),
		closing:     make(chan struct{}),
		thaw:        make(chan struct{}),
	}
	s.slabs.slabsMax = int(o.BufferBytesMax/slabSize) + 1
	s.pacer = &pacer{bytesPerSecond: pacedBytesPerSecond, urgent: s.pressed}
	if err := s.open(); err != nil {
		return nil, err
	}
	s.workers.Add(2)
	go s.freezer()
	go s.flusher()
	return s, nil
}

func (s *Store) open() error {
	o := s.options
	existed, err := prepareState(o.FS, o.Path)
	if err != nil {
		return err
	}
	fs := &pacedFS{FS: o.FS, pacer: s.pacer}
	settings := pebbleOptions(fs, o.Logger, o.CacheBytes, s.fail)
	scheduler := newScheduler()
	settings.Experimental.CompactionScheduler = scheduler
	settings.EnsureDefaults()
	s.tables = settings.MakeWriterOptions(0, pebbleFormat.MaxTableFormat())
	s.readers = settings.MakeReaderOptions()
	db, err := pebble.Open(o.Path, settings)
	if err != nil {
		var system syscall.Errno
		if errors.As(err, &system) {
			return fmt.Errorf("storage: open state in %s: %w", o.Path, err)
		}
		// What Pebble cannot read has changed since it was written; not all of its errors say so.
		return fmt.Errorf("%w: open %s: %w", ErrDamaged, o.Path, err)
	}
	s.db = db
	if err := s.openSeal(existed); err != nil {
		return errors.Join(err, db.Close())
	}
	scheduler.open()
	return nil
}

// openSeal checks that the state is as new as its seal says.
func (s *Store) openSeal(existed bool) (err error) {
	if v := s.db.FormatMajorVersion(); v != pebbleFormat {
		return fmt.Errorf("%w: state has format %d of Pebble, want %d", ErrDamaged, v, pebbleFormat)
	}
	if !existed {
		return writeSeal(s.options.FS, s.options.Path, &s.seal)
	}
	s.seal, err = readSeal(s.options.FS, s.options.Path)
	if errors.Is(err, errNoSeal) {
		// A crash between making the store and its first seal leaves a store without a key.
		empty, emptyErr := s.holdsNothing()
		if emptyErr != nil || !empty {
			return errors.Join(err, emptyErr)
		}
		return writeSeal(s.options.FS, s.options.Path, &s.seal)
	}
	if err != nil {
		return err
	}
	return s.seal.check(func(first wire.Slot) (shardRecord, bool, error) { return s.readRecord(first) })
}

func (s *Store) holdsNothing() (bool, error) {
	it, err := s.db.NewIter(nil)
	if err != nil {
		return false, err
	}
	found := it.First()
	return !found, it.Close()
}

// readRecord reads the ingested record of the shard that begins at a slot.
func (s *Store) readRecord(first wire.Slot) (r shardRecord, ok bool, err error) {
	value, closer, err := s.db.Get(appendShardKey(nil, first))
	if errors.Is(err, pebble.ErrNotFound) {
		return r, false, nil
	}
	if err != nil {
		return r, false, err
	}
	r, err = parseShardRecord(value)
	return r, err == nil, errors.Join(err, closer.Close())
}

// Shard opens the shard that owns the slots first..last (both inclusive), or makes it. Each
// is opened once.
func (s *Store) Shard(id uint32, first, last wire.Slot) (*Shard, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.reason(); err != nil {
		return nil, err
	}
	if first > last || last >= wire.Slots {
		return nil, fmt.Errorf("%w: shard %d, slots %d to %d", ErrShardRange, id, first, last)
	}
	at := 0
	for _, other := range s.shards {
		if other.id == id || first <= other.last && other.first <= last {
			return nil, fmt.Errorf("%w: shard %d, slots %d to %d: shard %d has slots %d to %d",
				ErrShardRange, id, first, last, other.id, other.first, other.last)
		}
		if other.first < first {
			at++
		}
	}
	record, ok, err := s.readRecord(first)
	if err != nil {
		return nil, err
	}
	if ok && (record.ID != id || record.Last != last) {
		return nil, fmt.Errorf("%w: shard %d, slots %d to %d: state says shard %d, to slot %d",
			ErrShardRange, id, first, last, record.ID, record.Last)
	}
	shard := newShard(s, id, first, last, record.Record)
	s.shards = slices.Insert(s.shards, at, shard)
	return shard, nil
}

// Flush freezes the buffers of all shards and returns once they are ingested.
func (s *Store) Flush(ctx context.Context) error {
	done := make(chan error, 1)
	select {
	case s.requests <- done:
	case <-ctx.Done():
		return ctx.Err()
	case <-s.stopped:
		return s.reason()
	}
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		return ctx.Err()
	case <-s.stopped:
		return s.reason()
	}
}

// Close flushes, stops and closes the store. No update or view may be running or follow.
// Closing again gives the same answer.
func (s *Store) Close() error {
	s.closeOnce.Do(func() {
		err := s.Flush(context.Background())
		close(s.closing)
		s.workers.Wait()
		s.halt(ErrClosed)
		s.guests.Wait()
		s.mu.Lock()
		shards := s.shards
		s.mu.Unlock()
		for _, shard := range shards {
			shard.stop(ErrClosed)
		}
		s.closed = errors.Join(err, s.db.Close())
	})
	return s.closed
}

// halt makes the store refuse everything from now on; false if it did already.
func (s *Store) halt(reason error) bool {
	s.failMu.Lock()
	defer s.failMu.Unlock()
	if s.failed != nil {
		return false
	}
	s.failed = reason
	close(s.stopped)
	return true
}

// reason says why the store has stopped.
func (s *Store) reason() error {
	s.failMu.Lock()
	defer s.failMu.Unlock()
	return s.failed
}

// fail is the end of a store that cannot write, or has read what it did not write.
func (s *Store) fail(err error) {
	if s.halt(err) {
		s.options.Logger.Error("state store failed", "error", err)
		s.options.Fatal(err)
	}
}

// kickFlush asks for a flush without waiting.
func (s *Store) kickFlush() {
	select {
	case s.kick <- struct{}{}:
	default:
	}
}

// full reports whether the active buffers have reached their limit.
func (s *Store) full() bool { return s.activeBytes.Load() >= s.options.BufferBytesMax }

// pressed reports whether writing must not dawdle: an update may have to wait for it.
func (s *Store) pressed() bool {
	select {
	case <-s.closing:
		return true
	default:
		return len(s.permits) == FrozenMax || s.counters.hurried.Load() > 0
	}
}

// admit waits while the buffers are full and cannot be frozen yet.
func (s *Store) admit() error {
	for waited := false; ; waited = true {
		s.thawMu.Lock()
		thaw := s.thaw
		s.thawMu.Unlock()
		select {
		case <-s.stopped:
			return s.reason()
		default:
		}
		bytes := s.activeBytes.Load()
		limit := s.options.BufferBytesMax
		// The freezer may be a moment late: an eighth more does not stop an update.
		if bytes < limit || bytes < limit+limit/8 && len(s.permits) < FrozenMax {
			return nil
		}
		if !waited {
			s.counters.waits.Add(1)
		}
		s.kickFlush()
		select {
		case <-thaw:
		case <-s.stopped:
		}
	}
}

// due reports whether there is a reason to flush now: one flush may have served several kicks.
func (s *Store) due() bool {
	if s.full() {
		return true
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.ContainsFunc(s.shards, (*Shard).awaited)
}

// thawed lets waiting updates go on.
func (s *Store) thawed() {
	s.thawMu.Lock()
	defer s.thawMu.Unlock()
	close(s.thaw)
	s.thaw = make(chan struct{})
}
