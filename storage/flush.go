package storage

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/cockroachdb/pebble/v2/objstorage/objstorageprovider"
	"github.com/cockroachdb/pebble/v2/sstable"
	"github.com/cockroachdb/pebble/v2/vfs"

	"parley/wire/planted"
)

// A generation is what one flush writes: the frozen buffers of all shards that changed.
type generation struct {
	parts []frozenPart // by first slot
	done  []chan error // who waits for it
}

type frozenPart struct {
	shard  *Shard
	buffer *buffer
}

// freezer decides when to flush: at the interval, when buffers are full, when asked. It
// freezes each shard between two of its updates.
func (s *Store) freezer() {
	defer s.workers.Done()
	defer close(s.generations)
	ticker := time.NewTicker(s.options.FlushInterval)
	defer ticker.Stop()
	for {
		var g generation
		select {
		case <-ticker.C:
		case <-s.kick:
			if !s.due() {
				continue
			}
		case done := <-s.requests:
			g.done = append(g.done, done)
		case <-s.closing:
			return
		case <-s.stopped:
			return
		}
		if len(g.done) > 0 {
			s.counters.hurried.Add(1)
		}
		select {
		case s.permits <- struct{}{}:
		case <-s.stopped:
			return
		}
		g.parts = s.freezeAll()
		s.thawed()
		s.generations <- g // never blocks: as many places as permits
		ticker.Reset(s.options.FlushInterval)
	}
}

func (s *Store) freezeAll() (parts []frozenPart) {
	s.mu.Lock()
	shards := slices.Clone(s.shards)
	s.mu.Unlock()
	for _, shard := range shards {
		if b := shard.freeze(); b != nil {
			parts = append(parts, frozenPart{shard, b})
		}
	}
	return parts
}

// flusher writes one generation after the other.
func (s *Store) flusher() {
	defer s.workers.Done()
	for g := range s.generations {
		s.exclusive <- struct{}{}
		err := s.reason()
		// Of a shard that was installed or dropped meanwhile there is nothing to write.
		parts := slices.DeleteFunc(g.parts, func(p frozenPart) bool { return !p.shard.holds(p.buffer) })
		if err == nil && len(parts) > 0 {
			if err = s.flush(parts); err != nil {
				s.fail(err)
			}
		}
		<-s.exclusive
		<-s.permits
		if len(g.done) > 0 {
			s.counters.hurried.Add(-1)
		}
		for _, done := range g.done {
			done <- err
		}
	}
}

// flush writes frozen buffers as tables, ingests all of them in one step, seals, and only
// then lets go of the buffers and tells the log how far it may be cut.
func (s *Store) flush(parts []frozenPart) error {
	start := time.Now()
	w := tableWriter{store: s, staging: s.options.FS.PathJoin(s.options.Path, stagingName)}
	for i := range parts {
		if err := w.shard(parts[i].shard, parts[i].buffer); err != nil {
			w.abort()
			return fmt.Errorf("storage: write tables: %w", err)
		}
	}
	if err := w.end(); err != nil {
		return fmt.Errorf("storage: write tables: %w", err)
	}
	if err := s.db.Ingest(context.Background(), w.paths); err != nil {
		return fmt.Errorf("storage: ingest: %w", err)
	}
	next := s.seal.clone()
	for i := range parts {
		next.set(parts[i].shard, parts[i].buffer.record)
	}
	if err := writeSeal(s.options.FS, s.options.Path, &next); err != nil {
		return fmt.Errorf("storage: seal: %w", err)
	}
	s.seal = next
	for i := range parts {
		record := parts[i].buffer.record
		parts[i].shard.drop(parts[i].buffer)
		parts[i].shard.publish(record)
	}
	s.counters.flushes.Add(1)
	s.counters.flushedBytes.Add(w.written)
	s.counters.flushNanoseconds.Add(int64(time.Since(start)))
	return nil
}

// A tableWriter writes the sorted records of shards in ascending order into tables.
type tableWriter struct {
	store   *Store
	staging string
	paths   []string
	table   *sstable.Writer
	written int64
	key     []byte
	value   []byte
}

// categoryFlush marks the tables of a flush in the file system's statistics.
const categoryFlush vfs.DiskWriteCategory = "parley-flush"

func (w *tableWriter) open() error {
	if w.table != nil {
		return nil
	}
	fs := w.store.options.FS
	path := fs.PathJoin(w.staging, fmt.Sprintf("%06d.sst", len(w.paths)))
	f, err := fs.Create(path, categoryFlush)
	if err != nil {
		return err
	}
	f = vfs.NewSyncingFile(&pacedFile{File: f, pacer: w.store.pacer}, vfs.SyncingFileOptions{BytesPerSync: syncBytes})
	w.paths = append(w.paths, path)
	// Finishing the table syncs the file.
	w.table = sstable.NewWriter(objstorageprovider.NewFileWritable(f), w.store.tables)
	return nil
}

// end finishes and syncs the table that is open, if any.
func (w *tableWriter) end() error {
	if w.table == nil {
		return nil
	}
	table := w.table
	w.table = nil
	if err := table.Close(); err != nil {
		return err
	}
	metadata, err := table.Metadata()
	if err == nil {
		w.written += int64(metadata.Size)
	}
	return err
}

// abort gives up the open table; Open clears what is left of it.
func (w *tableWriter) abort() {
	if w.table != nil {
		_ = w.table.Close() // the flush has failed already
		w.table = nil
	}
}

func (w *tableWriter) size() uint64 {
	if w.table == nil {
		return 0
	}
	return w.table.Raw().EstimatedSize()
}

// shard writes one shard's buffer: its record first, then records and chunks as they sort.
func (w *tableWriter) shard(s *Shard, b *buffer) error {
	if w.size() >= tableBytesMin {
		if err := w.end(); err != nil {
			return err
		}
	}
	if err := w.open(); err != nil {
		return err
	}
	record := shardRecord{Record: b.record, ID: s.id, Last: s.last}
	if planted.Active(planted.RecordAhead) && record.Index > 0 {
		record.Index++
	}
	w.key = appendShardKey(w.key[:0], s.first)
	if err := w.table.Set(w.key, appendShardRecord(nil, &record)); err != nil {
		return err
	}
	records, logs := b.sortedRecords(), b.sortedLogs()
	for len(records) > 0 || len(logs) > 0 {
		if len(logs) == 0 || len(records) > 0 && b.records.keys[records[0]].compare(b.logs.keys[logs[0]]) < 0 {
			if err := w.record(b, int(records[0])); err != nil {
				return err
			}
			records = records[1:]
		} else {
			if err := w.log(b, int(logs[0])); err != nil {
				return err
			}
			logs = logs[1:]
		}
		if w.size() >= tableBytesMax {
			if err := w.end(); err != nil {
				return err
			}
		}
	}
	return nil
}

func (w *tableWriter) record(b *buffer, n int) error {
	e := &b.entries[n]
	if e.void {
		return nil
	}
	if err := w.open(); err != nil {
		return err
	}
	if e.long != 0 {
		w.key = append(w.key[:0], b.longKeys[e.long-1]...)
	} else {
		w.key = b.records.keys[n].appendTo(w.key[:0], int(e.keySize))
	}
	if e.deleted {
		return w.table.Delete(w.key)
	}
	return w.table.Set(w.key, b.value(&e.state))
}

// log writes a conversation's chunks in ascending order.
func (w *tableWriter) log(b *buffer, n int) error {
	if err := w.open(); err != nil {
		return err
	}
	prefixSize := b.logKeySize(n)
	w.key = b.logs.keys[n].appendTo(w.key[:0], prefixSize)
	for i, c := range b.logChunks(n) {
		if planted.Active(planted.DroppedChunk) && i > 0 {
			break
		}
		w.key = appendSequence(w.key[:prefixSize], c.first)
		w.value = b.chunkValue(w.value[:0], c)
		if err := w.table.Set(w.key, w.value); err != nil {
			return err
		}
	}
	return nil
}
