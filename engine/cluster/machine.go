package cluster

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"sync/atomic"

	"github.com/cockroachdb/pebble/v2/vfs"

	"parley/raft"
)

// ErrBadEntry reports an entry of the map's group that cannot be decoded: the log is
// damaged, or of a newer version than this program's. The node stops.
var ErrBadEntry = errors.New("cluster: bad entry")

// A Machine is one replica of the map: the state machine of the map's Raft group, the
// queue that feeds it, and the file that it is kept in. The group calls the methods of
// raft.Machine and raft.Source; the others may be called from any goroutine.
type Machine struct {
	fs    vfs.FS
	path  string
	queue queue

	current  atomic.Pointer[Map]
	applying sync.Mutex // of the calls that change the map, and of listeners
	told     listeners

	mu      sync.Mutex
	latest  raft.Record // of current
	durable raft.Record // of the file

	persisting sync.Mutex // of the file
}

var (
	_ raft.Machine = (*Machine)(nil)
	_ raft.Source  = (*Machine)(nil)
)

// OpenMachine reads the map's file, if there is one. The nonce must differ from that of
// every other Machine, earlier lives of this one included: entries of this life are known by it.
func OpenMachine(fs vfs.FS, path string, nonce uint64) (*Machine, error) {
	m := &Machine{fs: fs, path: path, queue: queue{nonce: nonce}}
	now := &Map{}
	b, err := readFile(fs, path, stateBytesMax)
	switch {
	case errors.Is(err, os.ErrNotExist):
	case err != nil:
		return nil, fmt.Errorf("cluster: read the map: %w", err)
	default:
		if m.durable, now, err = parseState(b); err != nil {
			return nil, fmt.Errorf("%s: %w", path, err)
		}
	}
	m.latest = m.durable
	m.current.Store(now)
	return m, nil
}

// Map returns the map as this replica has applied it. It must not be changed.
func (m *Machine) Map() *Map { return m.current.Load() }

// Subscribe calls fn now and after every change, in order, one call at a time; while it
// runs nothing is applied, so it must not block, and it must not call Subscribe. The
// returned function ends it; fn may still run when it returns.
func (m *Machine) Subscribe(fn func(*Map)) (cancel func()) {
	m.applying.Lock()
	defer m.applying.Unlock()
	fn(m.Map())
	return m.told.add(fn)
}

// Apply implements raft.Machine.
func (m *Machine) Apply(entries []raft.Entry) error {
	m.applying.Lock()
	defer m.applying.Unlock()
	for i := range entries {
		if err := m.apply(&entries[i]); err != nil {
			return err
		}
	}
	return nil
}

// apply applies one entry, tells everybody of the new map, then the one who proposed it.
func (m *Machine) apply(e *raft.Entry) error {
	m.mu.Lock()
	known := e.Index <= m.latest.Index
	m.mu.Unlock()
	if known {
		return nil // the file is ahead of the log's own record
	}
	id, c, err := parseEntry(e.Data)
	if err != nil {
		return fmt.Errorf("%w: %d of term %d: %w", ErrBadEntry, e.Index, e.Term, err)
	}
	before := m.Map()
	after, result, refusal := before.Apply(c)
	m.mu.Lock()
	m.latest.Index, m.latest.Term = e.Index, e.Term
	m.current.Store(after)
	m.mu.Unlock()
	if after != before {
		m.told.tell(after)
	}
	m.queue.finish(id, result, refusal)
	return nil
}

// Configure implements raft.Machine.
func (m *Machine) Configure(index, term uint64, configuration []byte) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if index > m.latest.Index {
		m.latest = raft.Record{Index: index, Term: term, ConfigurationIndex: index, Configuration: configuration}
	}
	return nil
}

// Record implements raft.Machine.
func (m *Machine) Record() raft.Record {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.durable
}

// Applied is the index that Map reflects.
func (m *Machine) Applied() uint64 {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.latest.Index
}

// state returns a consistent pair of record and map.
func (m *Machine) state() (raft.Record, *Map) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.latest, m.Map()
}

// Persist implements raft.Machine: it writes the file, unless it is as new already.
func (m *Machine) Persist(ctx context.Context, index uint64) error {
	m.persisting.Lock()
	defer m.persisting.Unlock()
	if m.Record().Index >= index {
		return nil
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	record, now := m.state()
	if record.Index < index {
		return fmt.Errorf("cluster: asked to persist %d, applied %d", index, record.Index)
	}
	return m.write(record, now)
}

// write replaces the file. It is called with persisting held.
func (m *Machine) write(record raft.Record, now *Map) error {
	if err := writeFile(m.fs, m.path, appendState(nil, record, now)); err != nil {
		return fmt.Errorf("cluster: write the map: %w", err)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.durable = record
	return nil
}

// snapshot makes what is applied durable and returns it, for a replica that is too far
// behind to be sent entries.
func (m *Machine) snapshot(ctx context.Context) (raft.Record, []byte, error) {
	m.persisting.Lock()
	defer m.persisting.Unlock()
	record, now := m.state()
	if record.Index > m.Record().Index {
		if err := errors.Join(ctx.Err(), m.write(record, now)); err != nil {
			return raft.Record{}, nil, err
		}
	}
	return record, appendState(nil, record, now), nil
}

// ErrOldSnapshot reports a snapshot that is not newer than what is there.
var ErrOldSnapshot = errors.New("cluster: the snapshot is not newer than the map")

// Export implements raft.Machine.
func (m *Machine) Export(ctx context.Context) (*raft.Export, error) {
	record, state, err := m.snapshot(ctx)
	if err != nil {
		return nil, err
	}
	return &raft.Export{Record: record, Size: int64(len(state)), Reader: io.NopCloser(bytes.NewReader(state))}, nil
}

// Install replaces the map by an export of another replica. It refuses what is not newer
// than what is applied here.
func (m *Machine) Install(record raft.Record, source io.Reader) error {
	b, err := io.ReadAll(io.LimitReader(source, stateBytesMax+1))
	if err != nil {
		return fmt.Errorf("cluster: read a snapshot: %w", err)
	}
	exported, next, err := parseState(b)
	if err != nil {
		return err
	}
	if exported.Index != record.Index {
		return fmt.Errorf("%w: a snapshot of %d holds %d", ErrDamaged, record.Index, exported.Index)
	}
	m.applying.Lock()
	defer m.applying.Unlock()
	m.persisting.Lock()
	defer m.persisting.Unlock()
	if applied := m.Applied(); record.Index <= applied {
		return fmt.Errorf("%w: %d, applied %d", ErrOldSnapshot, record.Index, applied)
	}
	if err := m.write(record, next); err != nil {
		return err
	}
	m.mu.Lock()
	m.latest = record
	m.current.Store(next)
	m.mu.Unlock()
	m.told.tell(next)
	return nil
}

// Attach says how to wake the group: with its Kick.
func (m *Machine) Attach(kick func()) { m.queue.kick.Store(&kick) }

// Lead implements raft.Machine.
func (m *Machine) Lead(term uint64) { m.queue.lead(term) }

// Follow implements raft.Machine.
func (m *Machine) Follow() { m.queue.follow(raft.ErrNotLeader) }

// Term is the term that this replica leads the map's group in, 0 if it does not.
func (m *Machine) Term() uint64 { return m.queue.leads() }

// Next implements raft.Source.
func (m *Machine) Next(dst []byte) (entry []byte, handle any, ok bool) { return m.queue.next(dst) }

// Failed implements raft.Source.
func (m *Machine) Failed(handle any, err error) {
	m.queue.finish(handle.(origin), Result{}, fmt.Errorf("cluster: the change was not confirmed: %w", err))
}

// Propose makes a change on the leader, and returns once it is applied or refused. Any
// error that is not a refusal of this package leaves open whether the change will still
// be made: look at the map before doing it again. Elsewhere it is raft.ErrNotLeader.
func (m *Machine) Propose(ctx context.Context, c Change) (Result, error) {
	return m.queue.propose(ctx, c)
}

// Close ends all proposals. The group must have been stopped.
func (m *Machine) Close() { m.queue.close() }
