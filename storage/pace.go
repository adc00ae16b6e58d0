package storage

import (
	"sync"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// A pacer spreads writes over time: flushes and compactions compete with the log's fsync
// for the disk, and nobody waits for them until buffers or the first level fill up.
// Safe for concurrent use.
type pacer struct {
	bytesPerSecond int64
	urgent         func() bool // writes go on unpaced while it says so

	mu   sync.Mutex
	next time.Time // when the next write may begin
}

// paceAhead is how much may be written in one go.
const paceAhead = 20 * time.Millisecond

// wait blocks until n more bytes may be written.
func (p *pacer) wait(n int) {
	if p.urgent() {
		return
	}
	cost := time.Duration(int64(n) * int64(time.Second) / p.bytesPerSecond)
	p.mu.Lock()
	now := time.Now()
	if p.next.Before(now) {
		p.next = now
	}
	delay := p.next.Sub(now) - paceAhead
	p.next = p.next.Add(cost)
	p.mu.Unlock()
	if delay > 0 {
		time.Sleep(delay)
	}
}

// A pacedFS paces the tables that Pebble's compactions write. Everything else, the
// manifest above all, goes straight through.
type pacedFS struct {
	vfs.FS
	pacer *pacer
}

// categoryCompaction is how Pebble marks the files that a compaction writes.
const categoryCompaction vfs.DiskWriteCategory = "pebble-compaction"

// Create opens a file for writing.
func (fs *pacedFS) Create(name string, category vfs.DiskWriteCategory) (vfs.File, error) {
	f, err := fs.FS.Create(name, category)
	if err != nil || category != categoryCompaction {
		return f, err
	}
	return &pacedFile{File: f, pacer: fs.pacer}, nil
}

// Unwrap gives the file system below.
func (fs *pacedFS) Unwrap() vfs.FS { return fs.FS }

type pacedFile struct {
	vfs.File
	pacer *pacer
}

// Write appends to the file, when it is its turn.
func (f *pacedFile) Write(p []byte) (int, error) {
	f.pacer.wait(len(p))
	return f.File.Write(p)
}
