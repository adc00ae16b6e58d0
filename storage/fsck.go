package storage

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"sync"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/record"
	"github.com/cockroachdb/pebble/v2/sstable"
	"github.com/cockroachdb/pebble/v2/vfs"

	"parley/wire"
)

// A Finding is one thing that is wrong with a state store.
type Finding struct {
	Key     string // the record, readable; empty if it is about a file
	File    string // the file, where it is known
	Problem string
}

// String is the finding in one line.
func (f Finding) String() string {
	switch {
	case f.Key != "" && f.File != "":
		return f.File + ": " + f.Key + ": " + f.Problem
	case f.Key != "":
		return f.Key + ": " + f.Problem
	case f.File != "":
		return f.File + ": " + f.Problem
	}
	return f.Problem
}

// A Summary counts what a check has seen.
type Summary struct {
	Findings                              int64
	Tables, TableBytes                    int64
	Shards, UserIndex, Outgoing, Incoming int64
	Users, Names, Lists                   int64
	Conversations, Members                int64
	Groups, Outboxes                      int64
	Chunks, Messages                      int64
}

// fsckCacheBytes is enough to walk the state once.
const fsckCacheBytes = 16 << 20

// Fsck checks the state store in a folder (DIR/state) and changes nothing: the checksum of
// every block of every live table and of the manifest, the form of every record, that each
// conversation's chunks hold sequences 1..head without gap or overlap, that what records say of each other is
// true, and that no sealed ingest is missing. It works on what a killed process left. The
// log is not its business. report is called for each finding; the error is for a check that
// could not be made. The caller must hold the data directory.
func Fsck(ctx context.Context, path string, fs vfs.FS, report func(Finding)) (Summary, error) {
	if fs == nil {
		fs = vfs.Default
	}
	c := &checker{ctx: ctx, fs: fs, path: path, report: report}
	if _, err := fs.Stat(path); err != nil {
		return c.summary, fmt.Errorf("%w: %s", ErrNoDirectory, path)
	}
	description, err := pebble.Peek(path, fs)
	if err != nil {
		return c.summary, fmt.Errorf("storage: %s: %w", path, err)
	}
	if !description.Exists {
		return c.summary, fmt.Errorf("%w: %s has no state", ErrNoDirectory, path)
	}
	c.manifest(description.ManifestFilename)
	err = c.store()
	return c.summary, err
}

// A checker holds what one check has learned so far. Pebble may report from goroutines of
// its own, so findings are counted under a lock; all else is the caller's goroutine.
type checker struct {
	ctx    context.Context
	fs     vfs.FS
	path   string
	report func(Finding)

	mu      sync.Mutex
	summary Summary

	db       *pebble.DB
	settings *pebble.Options
	slots    slotChecker
}

func (c *checker) find(f Finding) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.summary.Findings++
	c.report(f)
}

func (c *checker) key(p parsedKey, format string, arguments ...any) {
	c.find(Finding{Key: p.String(), Problem: fmt.Sprintf(format, arguments...)})
}

// manifest checks every chunk of the manifest. Pebble stops reading at the first bad one
// and takes what it has for everything.
func (c *checker) manifest(name string) {
	f, err := c.fs.Open(name)
	if err != nil {
		c.find(Finding{File: name, Problem: err.Error()})
		return
	}
	defer f.Close()
	records := record.NewReader(f, 0)
	for {
		r, err := records.Next()
		if errors.Is(err, io.EOF) {
			return
		}
		if err == nil {
			_, err = io.Copy(io.Discard, r)
		}
		if err != nil {
			c.find(Finding{File: name, Problem: "manifest: " + err.Error()})
			return
		}
	}
}

// store opens the state for reading only and checks tables, records and seal.
func (c *checker) store() (err error) {
	fatal := func(err error) { c.find(Finding{Problem: err.Error()}) }
	logger := slog.New(slog.DiscardHandler)
	c.settings = pebbleOptions(c.fs, logger, fsckCacheBytes, fatal)
	c.settings.ReadOnly = true
	c.settings.ErrorIfNotExists = true
	c.settings.EnsureDefaults()
	if c.db, err = pebble.Open(c.path, c.settings); err != nil {
		c.find(Finding{File: c.path, Problem: "does not open: " + err.Error()})
		return nil
	}
	defer func() { err = errors.Join(err, c.db.Close()) }()
	if v := c.db.FormatMajorVersion(); v != pebbleFormat {
		c.find(Finding{File: c.path, Problem: fmt.Sprintf("format %d of Pebble, want %d", v, pebbleFormat)})
	}
	if err := c.tables(); err != nil {
		return err
	}
	if err := c.records(); err != nil {
		return err
	}
	c.sealed()
	return nil
}

// tables checks the checksums of all blocks of all live tables.
func (c *checker) tables() error {
	levels, err := c.db.SSTables()
	if err != nil {
		return fmt.Errorf("storage: list tables: %w", err)
	}
	for _, level := range levels {
		for _, table := range level {
			if err := c.ctx.Err(); err != nil {
				return err
			}
			name := c.fs.PathJoin(c.path, fmt.Sprintf("%06d.sst", table.BackingSSTNum))
			c.summary.Tables++
			c.summary.TableBytes += int64(table.Size)
			if err := c.table(name); err != nil {
				c.find(Finding{File: name, Problem: err.Error()})
			}
		}
	}
	return nil
}

func (c *checker) table(name string) error {
	f, err := c.fs.Open(name)
	if err != nil {
		return err
	}
	readable, err := sstable.NewSimpleReadable(f)
	if err != nil {
		return errors.Join(err, f.Close())
	}
	r, err := sstable.NewReader(c.ctx, readable, c.settings.MakeReaderOptions())
	if err != nil {
		return errors.Join(err, readable.Close())
	}
	return errors.Join(r.ValidateBlockChecksums(), r.Close())
}

// records walks every record in order of keys.
func (c *checker) records() error {
	it, err := c.db.NewIter(nil)
	if err != nil {
		c.find(Finding{File: c.path, Problem: err.Error()})
		return nil
	}
	defer it.Close()
	c.slots = slotChecker{checker: c}
	for ok := it.First(); ok; ok = it.Next() {
		if err := c.ctx.Err(); err != nil {
			return err
		}
		p, err := parseKey(it.Key())
		if err != nil {
			c.find(Finding{Key: "key " + hex.EncodeToString(it.Key()), Problem: err.Error()})
			continue
		}
		value, err := it.ValueAndErr()
		if err != nil {
			c.key(p, "%v", err)
			continue
		}
		c.slots.record(p, value)
	}
	c.slots.endSlot()
	if err := it.Error(); err != nil {
		c.find(Finding{File: c.path, Problem: err.Error()})
	}
	return nil
}

// sealed checks that no ingest that was durable is missing.
func (c *checker) sealed() {
	name := c.fs.PathJoin(c.path, sealName)
	seal, err := readSeal(c.fs, c.path)
	if errors.Is(err, errNoSeal) && c.summary.Shards == 0 {
		return // a crash before the first ingest
	}
	if err == nil {
		err = seal.check(c.readRecord)
	}
	if err != nil {
		c.find(Finding{File: name, Problem: err.Error()})
	}
}

func (c *checker) readRecord(first wire.Slot) (r shardRecord, ok bool, err error) {
	value, closer, err := c.db.Get(appendShardKey(nil, first))
	if errors.Is(err, pebble.ErrNotFound) {
		return r, false, nil
	}
	if err != nil {
		return r, false, err
	}
	r, err = parseShardRecord(value)
	return r, err == nil, errors.Join(err, closer.Close())
}
