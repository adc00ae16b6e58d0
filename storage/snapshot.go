package storage

import (
	"context"
	"errors"
	"fmt"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/objstorage"
	"github.com/cockroachdb/pebble/v2/sstable"
	"github.com/cockroachdb/pebble/v2/vfs"

	"parley/wire"
)

// ExportsMax bounds the exports that are under way at once: each has a copy of its shard on
// the disk until it is closed.
const ExportsMax = 2

// categoryExport marks the files of exports in the file system's statistics.
const categoryExport vfs.DiskWriteCategory = "parley-export"

// An Export is a consistent copy of a shard, as a stream that Install takes. It must be
// closed: it occupies the disk, and one of ExportsMax places.
type Export struct {
	Record Record // how far the copy reaches
	Size   int64  // bytes that Read gives in all

	store *Store
	path  string
	file  vfs.File
}

// Read gives the stream's next bytes.
func (e *Export) Read(p []byte) (int, error) { return e.file.Read(p) }

// Close removes the copy. It may be called once.
func (e *Export) Close() error {
	err := errors.Join(e.file.Close(), e.store.options.FS.Remove(e.path))
	<-e.store.exports
	return err
}

// Export writes all that is applied so far to disk and makes a copy of it, of tables that
// are sorted and compressed as Install ingests them. Updates, views and flushes go on
// beside it; memory is bounded. It waits while ExportsMax others are not closed.
func (s *Shard) Export(ctx context.Context) (*Export, error) {
	st := s.store
	select {
	case st.exports <- struct{}{}:
	case <-ctx.Done():
		return nil, ctx.Err()
	case <-st.stopped:
		return nil, st.reason()
	}
	e, err := s.export(ctx)
	if err != nil {
		<-st.exports
		return nil, fmt.Errorf("storage: export shard %d: %w", s.id, err)
	}
	return e, nil
}

// span is the range of a shard's keys, the upper end excluded.
func (s *Shard) span() pebble.KeyRange { return spanOf(s.first, s.last) }

func spanOf(first, last wire.Slot) pebble.KeyRange {
	bound := func(slot wire.Slot) []byte { return appendPrefix(nil, slot, 0)[:2] }
	return pebble.KeyRange{Start: bound(first), End: bound(last + 1)}
}

// enter keeps the database open until leave is called.
func (s *Store) enter() (leave func(), err error) {
	s.failMu.Lock()
	defer s.failMu.Unlock()
	if s.failed != nil {
		return nil, s.failed
	}
	s.guests.Add(1)
	return s.guests.Done, nil
}

func (s *Shard) export(ctx context.Context) (e *Export, err error) {
	st := s.store
	if err := s.WaitIngested(ctx, s.applied.Load()); err != nil {
		return nil, err
	}
	leave, err := st.enter()
	if err != nil {
		return nil, err
	}
	defer leave()
	// An iterator sees one moment of the store, whatever is ingested or excised later.
	span := s.span()
	it, err := st.db.NewIterWithContext(ctx, &pebble.IterOptions{LowerBound: span.Start, UpperBound: span.End})
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, it.Close()) }()
	e = &Export{store: st, path: st.staged(fmt.Sprintf("export-%d", st.staging.Add(1)))}
	if err := s.copyTo(ctx, e, it); err != nil {
		return nil, errors.Join(err, removeStaged(st.options.FS, e.path))
	}
	if e.file, err = st.options.FS.Open(e.path, vfs.SequentialReadsOption); err != nil {
		return nil, errors.Join(err, removeStaged(st.options.FS, e.path))
	}
	return e, nil
}

// staged names a file of the folder that Open clears.
func (s *Store) staged(name string) string {
	return s.options.FS.PathJoin(s.options.Path, stagingName, name)
}

// removeStaged removes files of which some may not be there.
func removeStaged(fs vfs.FS, paths ...string) (err error) {
	for _, path := range paths {
		if _, e := fs.Stat(path); e == nil {
			err = errors.Join(err, fs.Remove(path))
		}
	}
	return err
}

// copyTo writes what an iterator sees to an export's file.
func (s *Shard) copyTo(ctx context.Context, e *Export, it *pebble.Iterator) error {
	file, err := s.store.options.FS.Create(e.path, categoryExport)
	if err != nil {
		return err
	}
	paced := vfs.NewSyncingFile(&pacedFile{File: file, pacer: s.store.pacer}, vfs.SyncingFileOptions{BytesPerSync: syncBytes})
	w := &exportWriter{frames: newFrameWriter(paced), options: s.store.tables}
	err = w.copy(ctx, s, it)
	if err = errors.Join(err, paced.Close()); err != nil {
		return err
	}
	e.Record, e.Size = w.record, w.frames.written
	return nil
}

// An exportWriter writes what an iterator sees as tables into a stream.
type exportWriter struct {
	frames  *frameWriter
	options sstable.WriterOptions
	record  Record
	table   *sstable.Writer
	size    uint64 // of the table, so far
	tables  uint64
}

func (w *exportWriter) copy(ctx context.Context, s *Shard, it *pebble.Iterator) error {
	if err := w.header(s, it); err != nil {
		return err
	}
	for ok := it.First(); ok; ok = it.Next() {
		value, err := it.ValueAndErr()
		if err == nil {
			err = w.set(it.Key(), value)
		}
		if err == nil {
			err = ctx.Err()
		}
		if err == nil {
			err = s.store.reason()
		}
		if err != nil {
			w.abort()
			return err
		}
	}
	if err := it.Error(); err != nil {
		w.abort()
		return err
	}
	if err := w.end(); err != nil {
		return err
	}
	return w.frames.number(frameEnd, w.tables)
}

// header begins the stream with the shard's record, which is the first of its keys.
func (w *exportWriter) header(s *Shard, it *pebble.Iterator) error {
	if !it.First() {
		return errors.Join(it.Error(), fmt.Errorf("shard %d has no state", s.id))
	}
	value, err := it.ValueAndErr()
	if err != nil {
		return err
	}
	if string(it.Key()) != string(appendShardKey(nil, s.first)) {
		return damaged("shard %d has no record", s.id)
	}
	record, err := parseShardRecord(value)
	if err != nil {
		return err
	}
	w.record = record.Record
	return w.frames.frame(frameHeader, appendSnapshotHeader(nil, &snapshotHeader{first: s.first, record: record}))
}

// set adds a record, in a new table if the last one is full.
func (w *exportWriter) set(key, value []byte) error {
	if w.table != nil && w.table.Raw().EstimatedSize() >= levelTableBytes {
		if err := w.end(); err != nil {
			return err
		}
	}
	if w.table == nil {
		w.tables++
		w.size = 0
		w.table = sstable.NewWriter(w, w.options)
	}
	return w.table.Set(key, value)
}

// end finishes the table that is open.
func (w *exportWriter) end() error {
	table := w.table
	w.table = nil
	return table.Close()
}

func (w *exportWriter) abort() {
	if w.table != nil {
		_ = w.table.Close() // the export has failed already
		w.table = nil
	}
}

// An exportWriter is what its tables are written to.
var _ objstorage.Writable = (*exportWriter)(nil)

// Write adds bytes of the open table to the stream.
func (w *exportWriter) Write(p []byte) error {
	w.size += uint64(len(p))
	_, err := w.frames.Write(p)
	return err
}

// Finish ends the open table in the stream.
func (w *exportWriter) Finish() error { return w.frames.number(frameTable, w.size) }

// Abort is part of the interface; a stream that is given up has no end.
func (w *exportWriter) Abort() {}
