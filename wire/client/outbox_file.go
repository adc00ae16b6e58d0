package client

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
)

const (
	// outboxRewriteBytes is the size below which an outbox's file is not rewritten, and
	// outboxRewriteFactor, how many times larger than its content it must be above that.
	outboxRewriteBytes  = 1 << 20
	outboxRewriteFactor = 4
	// outboxUnsyncedMax bounds the writes without a new send that are not yet on disk. What a
	// crash of the machine loses of them is sent again, and the server knows it.
	outboxUnsyncedMax = 32
)

// A fileOutbox is an OutboxStore in one file.
type fileOutbox struct {
	path         string
	lock         io.Closer
	file         outboxFile
	index        *outboxIndex
	size         int64 // of the file
	synced       int64 // of it that is on disk
	unsynced     int   // writes since
	rewriteBytes int64 // outboxRewriteBytes but in tests
	buffer       []byte
	failed       error
}

// An outboxFile is what the store needs of an *os.File.
type outboxFile interface {
	io.WriteCloser
	Sync() error
}

// OpenFileOutbox keeps sends in a file, which is created if it is absent; a file beside
// it, named with .lock, keeps a second client away (ErrOutboxInUse). Sends survive the
// process and the machine. The file belongs to one device: never copy it, or start a
// client of another user on it.
//
// What a crash has left of an unfinished write is cut off: it was never sent. Any other
// unreadable byte is ErrOutboxDamaged: move the file away, and tell the person that
// messages may have been lost.
func OpenFileOutbox(path string) (OutboxStore, error) {
	lock, err := lockFile(path + ".lock")
	if err != nil {
		return nil, err
	}
	s := &fileOutbox{path: path, lock: lock, index: newOutboxIndex(), rewriteBytes: outboxRewriteBytes}
	if err := s.open(); err != nil {
		lock.Close()
		return nil, err
	}
	return s, nil
}

func (s *fileOutbox) open() error {
	content, err := os.ReadFile(s.path)
	switch {
	case errors.Is(err, os.ErrNotExist):
		return s.rewrite()
	case err != nil:
		return err
	}
	size, err := s.read(content)
	if err != nil {
		return fmt.Errorf("%s: %w", s.path, err)
	}
	file, err := os.OpenFile(s.path, os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	if size < int64(len(content)) {
		err = errors.Join(file.Truncate(size), file.Sync())
	}
	if err != nil {
		file.Close()
		return err
	}
	s.file, s.size, s.synced = file, size, size
	return nil
}

// read applies the records of a file, and returns where what is whole of it ends.
func (s *fileOutbox) read(content []byte) (size int64, err error) {
	header := appendOutboxHeader(nil)
	if !bytes.HasPrefix(content, header) {
		return 0, fmt.Errorf("%w: it is no outbox of version %d", ErrOutboxDamaged, outboxVersion)
	}
	for at := len(header); at < len(content); {
		_, changes, end, err := parseRecord(content, at)
		if err != nil {
			if !errors.Is(err, errRecordTorn) || laterSynced(content, at) > int64(at) {
				return 0, fmt.Errorf("%w: at byte %d of %d", ErrOutboxDamaged, at, len(content))
			}
			return int64(at), nil
		}
		for i := range changes {
			s.index.apply(&changes[i])
		}
		at = end
	}
	return int64(len(content)), nil
}

// laterSynced is how much of the file was on disk for sure, as the whole records behind
// an unreadable one tell.
func laterSynced(content []byte, at int) (most int64) {
	for {
		next := bytes.Index(content[at+1:], []byte(recordMagic))
		if next < 0 {
			return most
		}
		at += 1 + next
		if synced, _, _, err := parseRecord(content, at); err == nil {
			most = max(most, synced)
		}
	}
}

// Load implements OutboxStore.
func (s *fileOutbox) Load() (OutboxState, error) { return s.index.state(), nil }

// Write implements OutboxStore.
func (s *fileOutbox) Write(changes []OutboxChange) error {
	if s.failed == nil {
		s.failed = s.write(changes)
	}
	return s.failed
}

func (s *fileOutbox) write(changes []OutboxChange) error {
	durable := false
	for i := range changes {
		switch changes[i].Kind {
		case OutboxAdd, OutboxRenew, OutboxRenumber, OutboxSwitch, OutboxRefuse:
			durable = true
		}
		s.index.apply(&changes[i])
	}
	if s.size > s.rewriteBytes && s.size > outboxRewriteFactor*int64(s.index.bytes) {
		return s.rewrite()
	}
	s.buffer = appendRecord(s.buffer[:0], s.synced, changes)
	if _, err := s.file.Write(s.buffer); err != nil {
		return err
	}
	s.size += int64(len(s.buffer))
	if s.unsynced++; durable || s.unsynced >= outboxUnsyncedMax {
		if err := s.file.Sync(); err != nil {
			return err
		}
		s.synced, s.unsynced = s.size, 0
	}
	return nil
}

// rewrite puts a new file, of what is kept now, in the place of the old one.
func (s *fileOutbox) rewrite() error {
	content := appendRecord(appendOutboxHeader(nil), 0, s.index.changes())
	fresh := s.path + ".new"
	file, err := os.OpenFile(fresh, os.O_WRONLY|os.O_APPEND|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = file.Write(content)
	err = errors.Join(err, file.Sync())
	if err == nil {
		err = os.Rename(fresh, s.path)
	}
	if err == nil {
		err = syncFolder(filepath.Dir(s.path))
	}
	if err != nil {
		file.Close()
		return err
	}
	if s.file != nil {
		s.file.Close()
	}
	s.file, s.size, s.synced, s.unsynced = file, int64(len(content)), int64(len(content)), 0
	return nil
}

func syncFolder(path string) error {
	folder, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(folder.Sync(), folder.Close())
}

// Close implements OutboxStore.
func (s *fileOutbox) Close() error {
	var err error
	if s.failed == nil {
		err = s.file.Sync()
	}
	return errors.Join(err, s.file.Close(), s.lock.Close())
}

// changes are those that make the index from nothing.
func (x *outboxIndex) changes() []OutboxChange {
	var changes []OutboxChange
	if x.user != 0 {
		changes = append(changes, OutboxChange{Kind: OutboxIdentity, User: x.user, Device: x.device, ClusterEpoch: x.clusterEpoch})
	}
	if x.epoch == 0 {
		return changes
	}
	state := x.state()
	current := 0 // the first entry of the current epoch
	for ; current < len(state.Entries) && state.Entries[current].Epoch != x.epoch; current++ {
		changes = append(changes, OutboxChange{Kind: OutboxAdd, Entry: state.Entries[current]})
	}
	changes = append(changes, OutboxChange{Kind: OutboxRenew, Key: Key{Epoch: x.epoch}})
	for _, entry := range state.Entries[current:] {
		changes = append(changes, OutboxChange{Kind: OutboxAdd, Entry: entry})
	}
	for _, hole := range state.Holes {
		changes = append(changes, OutboxChange{Kind: OutboxHole, Key: hole})
	}
	for ref, counter := range state.Counters {
		changes = append(changes, OutboxChange{Kind: OutboxCounter, Key: Key{Epoch: x.epoch, Ref: ref, Counter: counter}})
	}
	return changes
}
