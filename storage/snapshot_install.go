package storage

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/cockroachdb/pebble/v2/sstable"
	"github.com/cockroachdb/pebble/v2/vfs"
)

// ErrStaleSnapshot refuses a snapshot of what is applied already.
var ErrStaleSnapshot = errors.New("storage: snapshot is not newer than what is applied")

// Install puts an export of another replica in the place of the whole shard: its state on
// disk in one step, together with the record, and what its buffers held is gone. Only the
// goroutine that updates the shard may call it. A snapshot that is damaged, cut short, of
// another shard or record, or not newer than what is applied, changes nothing; a crash
// leaves all of the old state or all of the new one. No other shard is touched.
func (s *Shard) Install(record Record, source io.Reader) error {
	err := s.install(record, source)
	if err != nil {
		return fmt.Errorf("storage: install shard %d: %w", s.id, err)
	}
	return nil
}

func (s *Shard) install(record Record, source io.Reader) error {
	if applied := s.applied.Load(); record.Index <= applied {
		return fmt.Errorf("%w: %d, %d is applied", ErrStaleSnapshot, record.Index, applied)
	}
	i := &installer{shard: s, record: record, frames: frameReader{r: source}}
	err := i.stage()
	if err == nil {
		err = s.replace(i)
	}
	if err != nil {
		return errors.Join(err, removeStaged(s.store.options.FS, i.paths...))
	}
	return nil
}

// An installer writes the tables of a stream to files.
type installer struct {
	shard  *Shard
	record Record
	frames frameReader
	stored shardRecord // the record as the stream has it
	paths  []string
	file   vfs.File
	size   uint64
}

// stage writes all tables, synced, and checks that they are what they should be.
func (i *installer) stage() error {
	err := i.receive()
	if i.file != nil {
		err = errors.Join(err, i.file.Close())
	}
	if err != nil {
		return err
	}
	var last []byte
	for n, path := range i.paths {
		if last, err = i.check(path, n == 0, last); err != nil {
			return fmt.Errorf("%w: table %d: %w", ErrSnapshot, n, err)
		}
	}
	return nil
}

func (i *installer) receive() error {
	kind, payload, err := i.frames.next()
	if err != nil {
		return err
	}
	if kind != frameHeader {
		return fmt.Errorf("%w: frame of kind %d comes first", ErrSnapshot, kind)
	}
	if err := i.header(payload); err != nil {
		return err
	}
	for {
		if kind, payload, err = i.frames.next(); err != nil {
			return err
		}
		switch kind {
		case frameData:
			err = i.data(payload)
		case frameTable:
			err = i.endTable(payload)
		case frameEnd:
			return i.end(payload)
		default:
			err = fmt.Errorf("%w: another header", ErrSnapshot)
		}
		if err != nil {
			return err
		}
	}
}

// header compares what the stream is of with what it should be.
func (i *installer) header(payload []byte) error {
	h, err := parseSnapshotHeader(payload)
	if err != nil {
		return err
	}
	s, r := i.shard, h.record.Record
	if h.record.ID != s.id || h.first != s.first || h.record.Last != s.last {
		return fmt.Errorf("%w: it is of shard %d, slots %d to %d", ErrSnapshot, h.record.ID, h.first, h.record.Last)
	}
	want := i.record
	if r.Index != want.Index || r.Term != want.Term || r.ConfigurationIndex != want.ConfigurationIndex ||
		!bytes.Equal(r.Configuration, want.Configuration) {
		return fmt.Errorf("%w: it is at index %d of term %d, not %d of %d", ErrSnapshot, r.Index, r.Term, want.Index, want.Term)
	}
	i.stored = h.record
	return nil
}

func (i *installer) data(payload []byte) (err error) {
	st := i.shard.store
	if i.file == nil {
		path := st.staged(fmt.Sprintf("install-%d.sst", st.staging.Add(1)))
		f, err := st.options.FS.Create(path, categoryExport)
		if err != nil {
			return err
		}
		i.paths, i.size = append(i.paths, path), 0
		i.file = vfs.NewSyncingFile(f, vfs.SyncingFileOptions{BytesPerSync: syncBytes})
	}
	i.size += uint64(len(payload))
	_, err = i.file.Write(payload)
	return err
}

func (i *installer) endTable(payload []byte) error {
	size, err := frameNumber(payload)
	if err != nil {
		return err
	}
	if i.file == nil || size != i.size {
		return fmt.Errorf("%w: table %d is not %d bytes long", ErrSnapshot, len(i.paths), size)
	}
	err = errors.Join(i.file.Sync(), i.file.Close())
	i.file = nil
	return err
}

func (i *installer) end(payload []byte) error {
	tables, err := frameNumber(payload)
	if err != nil {
		return err
	}
	if i.file != nil || tables == 0 || tables != uint64(len(i.paths)) {
		return fmt.Errorf("%w: %d tables, %d announced", ErrSnapshot, len(i.paths), tables)
	}
	return i.frames.end()
}

// check reads the ends of a table: it must lie behind the one before and within the shard,
// and the first one must begin with the record. It returns the last key.
func (i *installer) check(path string, first bool, before []byte) (last []byte, err error) {
	f, err := i.shard.store.options.FS.Open(path)
	if err != nil {
		return nil, err
	}
	readable, err := sstable.NewSimpleReadable(f)
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	r, err := sstable.NewReader(context.Background(), readable, i.shard.store.readers)
	if err != nil {
		return nil, errors.Join(err, readable.Close())
	}
	defer func() { err = errors.Join(err, r.Close()) }()
	it, err := r.NewIter(sstable.NoTransforms, nil, nil, sstable.AssertNoBlobHandles)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, it.Close()) }()
	kv := it.First()
	if kv == nil {
		return nil, errors.Join(it.Error(), errors.New("it is empty"))
	}
	span := i.shard.span()
	if first {
		value, _, err := kv.Value(nil)
		if err != nil {
			return nil, err
		}
		if !bytes.Equal(kv.K.UserKey, appendShardKey(nil, i.shard.first)) || !bytes.Equal(value, appendShardRecord(nil, &i.stored)) {
			return nil, errors.New("it does not begin with the record")
		}
	} else if bytes.Compare(kv.K.UserKey, before) <= 0 {
		return nil, errors.New("it begins before the end of the one before")
	}
	if kv = it.Last(); kv == nil || bytes.Compare(kv.K.UserKey, span.End) >= 0 {
		return nil, errors.Join(it.Error(), errors.New("it goes beyond the shard"))
	}
	return bytes.Clone(kv.K.UserKey), nil
}

// replace puts the staged tables in the place of the shard's state.
func (s *Shard) replace(i *installer) error {
	st := s.store
	select {
	case st.exclusive <- struct{}{}:
	case <-st.stopped:
		return st.reason()
	}
	defer func() { <-st.exclusive }()
	leave, err := st.enter()
	if err != nil {
		return err
	}
	defer leave()
	if err := s.swap(i); err != nil {
		return err
	}
	next := st.seal.clone()
	next.set(s, i.record)
	if err := writeSeal(st.options.FS, st.options.Path, &next); err != nil {
		err = fmt.Errorf("seal: %w", err)
		st.fail(err)
		return err
	}
	st.seal = next
	st.thawed()
	s.publish(i.record)
	return nil
}

// swap ingests the tables and lets go of the buffers; readers see the one state or the other.
func (s *Shard) swap(i *installer) error {
	st := s.store
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.torn != nil {
		return s.torn
	}
	if applied := s.active.record.Index; i.record.Index <= applied {
		return fmt.Errorf("%w: %d, %d is applied", ErrStaleSnapshot, i.record.Index, applied)
	}
	if _, err := st.db.IngestAndExcise(context.Background(), i.paths, nil, nil, s.span()); err != nil {
		err = fmt.Errorf("ingest: %w", err)
		s.torn = err
		st.fail(err)
		return err
	}
	s.clear()
	s.active = newBuffer(&st.slabs, nil)
	s.active.record = i.record
	s.applied.Store(i.record.Index)
	s.begun.Store(i.record.Index)
	return nil
}

// clear lets go of all buffers, and tells the views that still hold them. mu is held.
func (s *Shard) clear() {
	st := s.store
	s.swaps++
	st.activeBytes.Add(-s.active.bytes())
	s.active.release()
	for _, b := range s.frozen {
		st.frozenBytes.Add(-b.bytes())
		b.release()
	}
	s.frozen = nil
}

// holds reports whether a frozen buffer is still the shard's: an install lets go of those
// that a flush has yet to write.
func (s *Shard) holds(b *buffer) bool {
	s.mu.RLock()
	defer s.mu.RUnlock()
	for _, frozen := range s.frozen {
		if frozen == b {
			return true
		}
	}
	return false
}
