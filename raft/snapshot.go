package raft

import (
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	hraft "github.com/hashicorp/raft"
)

// errStale is the answer to a snapshot of what was applied here already: the leader sends
// a newer one.
var errStale = errors.New("raft: the snapshot is older than what is applied")

// receivedPrefix begins the names of the files, beside the log's, of snapshots that are
// being received.
const receivedPrefix = "received-"

// snapshots is hashicorp/raft's snapshot store. Of this replica's own state it holds
// nothing: the only snapshot there is is the machine's durable state, and what is said of
// it is read from the machine's record, which is written in one step with that state. So
// the two cannot differ. What is sent is made when it is asked for, so that it is fresh:
// an old one would be followed by the next, for ever, on a busy group.
//
// What is received lies in a file until the machine has taken it. One is received at a time.
type snapshots struct {
	group    *Group
	received atomic.Pointer[received] // from Create until it was taken or given up
	count    uint64

	mu    sync.Mutex
	holds map[*export]struct{}
	sent  uint64    // index of the last export
	after time.Time // when the next one of the same index may go
}

// parseConfiguration decodes a configuration; the library would panic on a damaged one.
func parseConfiguration(data []byte) (c hraft.Configuration, err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("%w: configuration: %v", ErrDamaged, r)
		}
	}()
	return hraft.DecodeConfiguration(data), nil
}

func snapshotMeta(r Record) (*hraft.SnapshotMeta, error) {
	c, err := parseConfiguration(r.Configuration)
	if err != nil {
		return nil, err
	}
	return &hraft.SnapshotMeta{
		Version:            1,
		ID:                 fmt.Sprintf("%d-%d", r.Term, r.Index),
		Index:              r.Index,
		Term:               r.Term,
		Configuration:      c,
		ConfigurationIndex: r.ConfigurationIndex,
	}, nil
}

// List returns the one snapshot, if the machine has durable state.
func (s *snapshots) List() ([]*hraft.SnapshotMeta, error) {
	r := s.group.config.Machine.Record()
	if r.Index == 0 {
		return nil, nil
	}
	meta, err := snapshotMeta(r)
	if err != nil {
		return nil, err
	}
	return []*hraft.SnapshotMeta{meta}, nil
}

// Open opens what was received, for Restore, or makes an export, for a replica that needs
// what was truncated; that may take a while, and ends when the group stops.
func (s *snapshots) Open(id string) (*hraft.SnapshotMeta, io.ReadCloser, error) {
	if in := s.received.Load(); in != nil && in.id == id {
		f, err := in.open()
		return &hraft.SnapshotMeta{Index: in.record.Index, Term: in.record.Term, Size: in.size}, f, err
	}
	e, err := s.export()
	if err != nil {
		return nil, nil, err
	}
	meta, err := snapshotMeta(e.Record)
	if err != nil {
		return nil, nil, errors.Join(err, e.Close())
	}
	meta.Size = e.Size
	return meta, e, nil
}

// An export is a copy of the state under way to another replica. The log behind it is
// kept, because the receiver needs it next.
type export struct {
	*Export
	snapshots *snapshots
	limit     uint64    // the log is not truncated past it
	until     time.Time // when that ends; zero: not yet
}

func (s *snapshots) export() (*export, error) {
	// Nothing is truncated from now on, or what the copy ends with might be.
	e := &export{snapshots: s, limit: s.group.log.firstIndex() - 1}
	s.mu.Lock()
	s.holds[e] = struct{}{}
	s.mu.Unlock()
	made, err := s.group.config.Machine.Export(s.group.ctx)
	if err == nil {
		s.pause(made.Record.Index)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if err != nil {
		delete(s.holds, e)
		return nil, fmt.Errorf("raft: group %d: export: %w", s.group.id, err)
	}
	// The receiver asks by the last entry that it has, so that one is kept too.
	e.Export, e.limit = made, made.Record.Index-1
	return e, nil
}

// pause keeps exports of the same state apart. The library asks for one after the other
// without a pause, should something be wrong with what a replica does behind it.
func (s *snapshots) pause(index uint64) {
	s.mu.Lock()
	var wait time.Duration
	if s.sent == index {
		wait = time.Until(s.after)
	}
	s.sent, s.after = index, time.Now().Add(max(wait, 0)+exportPause)
	s.mu.Unlock()
	if wait <= 0 {
		return
	}
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-s.group.closing:
	}
}

// Read gives the copy.
func (e *export) Read(p []byte) (int, error) { return e.Reader.Read(p) }

// Close ends the export; the log is kept a while longer.
func (e *export) Close() error {
	e.snapshots.mu.Lock()
	e.until = time.Now().Add(exportLinger)
	e.snapshots.mu.Unlock()
	return e.Reader.Close()
}

// limit is how far the log may be truncated at most, when it could be up to an index.
func (s *snapshots) limit(index uint64) uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := time.Now()
	for e := range s.holds {
		switch {
		case !e.until.IsZero() && now.After(e.until):
			delete(s.holds, e)
		case e.limit < index && s.group.log.between(e.limit, index) <= ExportHoldBytesMax:
			index = e.limit
		}
	}
	return index
}

// Create begins to receive a leader's snapshot.
func (s *snapshots) Create(_ hraft.SnapshotVersion, index, term uint64, c hraft.Configuration, at uint64, _ hraft.Transport) (hraft.SnapshotSink, error) {
	s.dismiss()
	if applied := s.group.applied.Load(); index < applied {
		return nil, fmt.Errorf("%w: %d, %d is applied", errStale, index, applied)
	}
	n := s.group.node
	s.count++
	in := &received{
		id: fmt.Sprintf("%s%d-%d", receivedPrefix, s.group.id, s.count),
		fs: n.options.FS,
		record: Record{Index: index, Term: term, ConfigurationIndex: at,
			Configuration: hraft.EncodeConfiguration(c)},
	}
	in.path = in.fs.PathJoin(n.options.Path, in.id)
	f, err := in.fs.Create(in.path, vfs.WriteCategoryUnspecified)
	if err != nil {
		return nil, fmt.Errorf("raft: receive snapshot: %w", err)
	}
	in.file = f
	s.received.Store(in)
	return in, nil
}

// dismiss removes what was received.
func (s *snapshots) dismiss() {
	if in := s.received.Swap(nil); in != nil {
		_ = in.Cancel() // Open clears what is left
	}
}

// received is a snapshot that comes from the leader: hashicorp/raft's sink. It is not
// synced: after a crash it is sent again.
type received struct {
	id     string
	fs     vfs.FS
	path   string
	file   vfs.File // while it is written
	size   int64
	record Record
}

// ID names the snapshot to Open.
func (in *received) ID() string { return in.id }

// Write appends what came.
func (in *received) Write(p []byte) (int, error) {
	n, err := in.file.Write(p)
	in.size += int64(n)
	return n, err
}

// Close ends the writing.
func (in *received) Close() error {
	if in.file == nil {
		return nil
	}
	err := in.file.Close()
	in.file = nil
	return err
}

// Cancel removes it.
func (in *received) Cancel() error { return errors.Join(in.Close(), in.fs.Remove(in.path)) }

func (in *received) open() (io.ReadCloser, error) {
	f, err := in.fs.Open(in.path, vfs.SequentialReadsOption)
	if err != nil {
		return nil, fmt.Errorf("raft: received snapshot: %w", err)
	}
	return f, nil
}

// clearReceived removes what a crash left of received snapshots.
func clearReceived(fs vfs.FS, path string) error {
	names, err := fs.List(path)
	for _, name := range names {
		if err == nil && strings.HasPrefix(name, receivedPrefix) {
			err = fs.Remove(fs.PathJoin(path, name))
		}
	}
	if err != nil {
		return fmt.Errorf("raft: clear received snapshots: %w", err)
	}
	return nil
}

// Restore puts the snapshot that was received in the machine's place. What the machine has
// applied since it was sent is not taken back: the leader is told, and sends a newer one.
func (f *fsm) Restore(source io.ReadCloser) error {
	g := (*Group)(f)
	in := g.snapshots.received.Load()
	if in == nil {
		return errStale
	}
	defer g.snapshots.dismiss()
	g.resign(ErrNotLeader) // the news of that may not have come yet
	g.machineMu.Lock()
	defer g.machineMu.Unlock()
	applied := g.applied.Load()
	switch {
	case g.machine.stopped:
		return ErrClosed
	case in.record.Index < applied:
		return fmt.Errorf("%w: %d, %d is applied", errStale, in.record.Index, applied)
	case in.record.Index == applied:
		return nil // it was installed before, and the leader did not hear of it
	}
	if err := g.install(in.record, source); err != nil {
		g.node.logger.Warn("raft: snapshot refused", "group", g.id, "index", in.record.Index, "error", err)
		return err
	}
	g.waiters.reach(in.record.Index)
	g.node.logger.Info("raft: snapshot installed", "group", g.id, "index", in.record.Index, "bytes", in.size)
	return nil
}

// install gives the machine another state and makes the log begin behind it. machineMu is held.
func (g *Group) install(record Record, source io.Reader) error {
	if err := g.log.prepare(record); err != nil {
		return err
	}
	if err := g.config.Machine.Install(record, source); err != nil {
		return fmt.Errorf("raft: group %d: install: %w", g.id, err)
	}
	if err := g.log.begin(record); err != nil {
		return err
	}
	if err := g.recallMembers(&record); err != nil {
		return err
	}
	g.applied.Store(record.Index)
	g.delivered.Store(record.Index)
	return nil
}
