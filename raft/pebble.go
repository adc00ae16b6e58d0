package raft

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
	hraft "github.com/hashicorp/raft"

	"parley/wire/planted"
)

// Errors of opening a log store.
var (
	// ErrNewerFormat means that the log was written by a newer version of this program.
	ErrNewerFormat = errors.New("raft: the log is of a newer format")
	// errFormat means that Pebble did not take the format that detects damage.
	errFormat = errors.New("raft: the log store's format is too old")
)

const (
	// pebbleFormat is the format of the store's files. Older ones lose every later write
	// in silence when one bit of the write-ahead log flips.
	pebbleFormat = pebble.FormatNewest
	// memTableBytes is also the size of a write-ahead log file. A log that is truncated
	// before it fills is never written a second time.
	memTableBytes = 64 << 20
	// cacheBytes is small: what is read is read once, and the tails hold the rest.
	cacheBytes = 4 << 20
	// batchBytes is the first size of the batch that all writes reuse.
	batchBytes = 256 << 10
)

// pebbleStore is a store in a Pebble instance of its own. The write-ahead log is synced
// by every write; that one fsync is all that a batch costs.
type pebbleStore struct {
	db     *pebble.DB
	batch  *pebble.Batch
	stamp  stamp        // of the next batch
	broken func() error // set once Pebble has reported an error
}

// pebbleConfig is what opening a Pebble store needs.
type pebbleConfig struct {
	path     string
	fs       vfs.FS
	logger   pebble.Logger
	fail     func(error)
	broken   func() error
	readOnly bool
}

func pebbleOptions(c *pebbleConfig, guard *walGuard) *pebble.Options {
	o := &pebble.Options{
		FS:                          aheadFS{c.fs, guard},
		FormatMajorVersion:          pebbleFormat,
		Logger:                      c.logger,
		MemTableSize:                memTableBytes,
		MemTableStopWritesThreshold: 4,
		L0CompactionThreshold:       8,
		CacheSize:                   cacheBytes,
		ReadOnly:                    c.readOnly,
		CompactionConcurrencyRange:  func() (int, int) { return 1, 1 },
		EventListener: &pebble.EventListener{
			BackgroundError: func(err error) {
				if !errors.Is(err, pebble.ErrCancelledCompaction) {
					c.fail(fmt.Errorf("raft: log store: %w", err))
				}
			},
			// Without this one the logger's Fatalf gets a text with the stacks of all who passed the error on.
			DataCorruption: func(i pebble.DataCorruptionInfo) {
				c.fail(fmt.Errorf("%w: %s: %w", ErrDamaged, i.Path, i.Details))
			},
		},
	}
	o.ApplyCompressionSettings(func() pebble.DBCompressionSettings { return pebble.DBCompressionNone })
	for i := range o.Levels {
		o.Levels[i].BlockSize = 32 << 10
	}
	return o
}

// openPebble opens the store, creating it if it is absent.
//
// A new store, or one of an older format, is opened, closed and opened again before the
// first write: Pebble creates the first write-ahead log before it raises the format.
func openPebble(c *pebbleConfig) (*pebbleStore, error) {
	if err := c.fs.MkdirAll(c.path, 0o700); err != nil {
		return nil, fmt.Errorf("raft: open log: %w", err)
	}
	described, err := pebble.Peek(c.path, c.fs)
	if err != nil {
		return nil, fmt.Errorf("raft: open log: %w", err)
	}
	if described.Exists && described.FormatMajorVersion > pebbleFormat {
		return nil, ErrNewerFormat
	}
	if !described.Exists || described.FormatMajorVersion < pebbleFormat {
		db, err := pebble.Open(c.path, pebbleOptions(c, &walGuard{}))
		if err != nil {
			return nil, fmt.Errorf("raft: create log: %w", err)
		}
		if err := db.Close(); err != nil {
			return nil, fmt.Errorf("raft: create log: %w", err)
		}
	}
	if described, err = pebble.Peek(c.path, c.fs); err != nil {
		return nil, fmt.Errorf("raft: open log: %w", err)
	}
	if described.FormatMajorVersion != pebbleFormat {
		return nil, fmt.Errorf("%w: %d", errFormat, described.FormatMajorVersion)
	}
	if err := checkWAL(c.fs, c.path); err != nil {
		return nil, err
	}
	return reopenPebble(c)
}

// reopenPebble opens a store of the right format.
func reopenPebble(c *pebbleConfig) (*pebbleStore, error) {
	guard := &walGuard{fail: c.fail}
	db, err := pebble.Open(c.path, pebbleOptions(c, guard))
	if err != nil {
		return nil, fmt.Errorf("raft: open log: %w", err)
	}
	guard.on.Store(!c.readOnly)
	s := &pebbleStore{db: db, broken: c.broken, stamp: stamp{life: rand.Uint64(), number: 1}}
	if err := s.checkFormat(c.readOnly); err != nil {
		return nil, errors.Join(err, db.Close())
	}
	if !c.readOnly {
		s.batch = db.NewBatchWithSize(batchBytes)
	}
	return s, nil
}

// checkFormat compares the versions of Pebble's files and of the records, and writes the
// latter into a new store.
func (s *pebbleStore) checkFormat(readOnly bool) error {
	if v := s.db.FormatMajorVersion(); v != pebbleFormat {
		return fmt.Errorf("%w: %d", errFormat, v)
	}
	key := plainKey(nodeGroup, kindFormat)
	value, closer, err := s.db.Get(key)
	if errors.Is(err, pebble.ErrNotFound) {
		if readOnly {
			return nil
		}
		return s.db.Set(key, []byte{recordVersion}, pebble.Sync)
	}
	if err != nil {
		return fmt.Errorf("raft: open log: %w", err)
	}
	defer closer.Close()
	switch {
	case len(value) == 1 && value[0] == recordVersion:
		return nil
	case len(value) == 1 && value[0] > recordVersion:
		return ErrNewerFormat
	}
	return fmt.Errorf("%w: format record", ErrDamaged)
}

func (s *pebbleStore) write(operations []*operation) error {
	b := s.batch
	if err := b.LogData(appendStamp(nil, s.stamp), nil); err != nil {
		return err
	}
	for _, o := range operations {
		if err := appendOperation(b, o); err != nil {
			return err
		}
	}
	durable := pebble.Sync
	if planted.Active(planted.NoFsync) {
		durable = pebble.NoSync
	}
	err := b.Commit(durable)
	b.Reset()
	if err != nil {
		return fmt.Errorf("raft: write log: %w", err)
	}
	s.stamp.number++
	// Pebble reports a failed commit to its logger only.
	return s.broken()
}

func appendOperation(b *pebble.Batch, o *operation) error {
	if o.drop {
		if err := b.DeleteRange(plainKey(o.group, kindFormat), plainKey(o.group+1, kindFormat), nil); err != nil {
			return err
		}
	}
	if o.deleteFrom != 0 {
		end := entriesEnd(o.group)
		if o.deleteTo != math.MaxUint64 {
			end = entryKey(o.group, o.deleteTo+1)
		}
		if err := b.DeleteRange(entryKey(o.group, o.deleteFrom), end, nil); err != nil {
			return err
		}
	}
	for _, l := range o.logs {
		d := b.SetDeferred(entryKeySize, entrySize(l))
		putEntryKey(d.Key, o.group, l.Index)
		putEntry(d.Value, d.Key, l)
		if err := d.Finish(); err != nil {
			return err
		}
	}
	if o.base != nil {
		key := plainKey(o.group, kindBase)
		if err := b.Set(key, appendBase(nil, key, o.base), nil); err != nil {
			return err
		}
	}
	if o.ballot != nil {
		key := plainKey(o.group, kindBallot)
		return b.Set(key, appendBallot(nil, key, o.ballot), nil)
	}
	return nil
}

// seal writes a stamp alone, so that the last batch cannot vanish unnoticed. It is no
// batch and does not count. There are two, because one that crosses from a block into the
// next cannot be told if what lies before it is damaged.
func (s *pebbleStore) seal() error {
	for range 2 {
		if err := s.db.LogData(appendStamp(nil, s.stamp), pebble.Sync); err != nil {
			return fmt.Errorf("raft: seal log: %w", err)
		}
	}
	return s.broken()
}

func (s *pebbleStore) entry(group uint32, index uint64, l *hraft.Log) error {
	key := entryKey(group, index)
	value, closer, err := s.db.Get(key)
	if errors.Is(err, pebble.ErrNotFound) {
		return hraft.ErrLogNotFound
	}
	if err != nil {
		return fmt.Errorf("raft: read log: %w", err)
	}
	defer closer.Close()
	return parseEntry(key, value, index, l)
}

func (s *pebbleStore) entries(group uint32, from, to uint64, fn func(*hraft.Log, int) (bool, error)) (err error) {
	end := entriesEnd(group)
	if to != math.MaxUint64 {
		end = entryKey(group, to+1)
	}
	it, err := s.db.NewIter(&pebble.IterOptions{LowerBound: entryKey(group, from), UpperBound: end})
	if err != nil {
		return fmt.Errorf("raft: read log: %w", err)
	}
	defer func() {
		if e := it.Close(); err == nil && e != nil {
			err = fmt.Errorf("raft: read log: %w", e)
		}
	}()
	for ok := it.First(); ok; ok = it.Next() {
		_, index, ok := parseEntryKey(it.Key())
		if !ok {
			return fmt.Errorf("%w: key %x", ErrDamaged, it.Key())
		}
		value, err := it.ValueAndErr()
		if err != nil {
			return fmt.Errorf("raft: read log: %w", err)
		}
		var l hraft.Log
		if err := parseEntry(it.Key(), value, index, &l); err != nil {
			return err
		}
		if more, err := fn(&l, len(value)); err != nil || !more {
			return err
		}
	}
	return it.Error()
}

func (s *pebbleStore) ballot(group uint32) (b ballot, err error) {
	err = s.plain(plainKey(group, kindBallot), func(key, value []byte) error {
		b, err = parseBallot(key, value)
		return err
	})
	return b, err
}

func (s *pebbleStore) base(group uint32) (b base, err error) {
	err = s.plain(plainKey(group, kindBase), func(key, value []byte) error {
		b, err = parseBase(key, value)
		return err
	})
	return b, err
}

// plain calls fn with the value of a key, if there is one.
func (s *pebbleStore) plain(key []byte, fn func(key, value []byte) error) error {
	value, closer, err := s.db.Get(key)
	if errors.Is(err, pebble.ErrNotFound) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("raft: read log: %w", err)
	}
	return errors.Join(fn(key, value), closer.Close())
}

func (s *pebbleStore) close() error {
	if s.batch == nil {
		return s.db.Close()
	}
	var err error
	if s.broken() == nil {
		err = errors.Join(s.seal(), s.batch.Close())
	}
	return errors.Join(err, s.db.Close())
}

func (s *pebbleStore) groups() (groups []uint32, err error) {
	it, err := s.db.NewIter(&pebble.IterOptions{UpperBound: plainKey(nodeGroup, kindFormat)})
	if err != nil {
		return nil, fmt.Errorf("raft: read log: %w", err)
	}
	for ok := it.First(); ok; {
		if len(it.Key()) < ballotKeySize {
			return nil, errors.Join(fmt.Errorf("%w: key %x", ErrDamaged, it.Key()), it.Close())
		}
		group := binary.BigEndian.Uint32(it.Key())
		groups = append(groups, group)
		ok = it.SeekGE(plainKey(group+1, kindFormat))
	}
	return groups, errors.Join(it.Error(), it.Close())
}
