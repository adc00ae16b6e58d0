package raft

import (
	"fmt"
	"math"
	"slices"

	"github.com/cockroachdb/pebble/v2/vfs"
	hraft "github.com/hashicorp/raft"
)

// A Remnant is the log store of a node that does not run and may never again, open for
// reading only: what is looked at before a majority is given up for lost.
type Remnant struct {
	store *pebbleStore
}

// OpenRemnant checks a log store as CheckLog does and opens it. It refuses a damaged one:
// what is recovered must be what was written. A nil fs is the operating system's.
func OpenRemnant(path string, fs vfs.FS) (*Remnant, error) {
	check, err := CheckLog(path, fs)
	if err != nil {
		return nil, err
	}
	if len(check.Problems) > 0 {
		return nil, fmt.Errorf("%w: %s", ErrDamaged, check.Problems[0])
	}
	if fs == nil {
		fs = vfs.Default
	}
	s, err := readPebble(path, fs)
	if err != nil {
		return nil, asDamage(err)
	}
	return &Remnant{store: s}, nil
}

// Close releases the files.
func (r *Remnant) Close() error { return r.store.close() }

// Groups lists the groups that the store has a log of, ascending.
func (r *Remnant) Groups() ([]uint32, error) { return r.store.groups() }

// Remains are what is left of a group in one log store. Of two copies the one with the
// higher LastTerm, and at equal terms the higher Last, has all that was committed with
// either: that is how Raft itself compares logs.
type Remains struct {
	// Term is the highest that this replica has heard of.
	Term uint64
	// LastTerm and Last are those of the last entry, in the log or behind it in the state.
	LastTerm, Last uint64
	// Members is the last configuration up to there, committed or not.
	Members Membership
	// LastData is the newest entry in the log that a Source has given; nil if there is none.
	LastData []byte
}

// Inspect looks at a group's log. The record is that of its machine, as is durable; a log
// that does not continue it is refused with ErrLogGap.
func (r *Remnant) Inspect(group uint32, record Record) (Remains, error) {
	g := &groupLog{group: group, store: r.store}
	var remains Remains
	configuration, at := record.Configuration, record.ConfigurationIndex
	g.appended = func(logs []*hraft.Log) { configuration, at = logs[0].Data, logs[0].Index }
	if err := readLog(g, record); err != nil {
		return remains, err
	}
	if g.base.pending != 0 && g.base.pending == record.Index {
		g.base = base{index: record.Index, term: record.Term} // the install came about
		if g.last <= record.Index {
			g.first, g.last = 0, 0
		}
	}
	if err := g.follows(record); err != nil {
		return remains, err
	}
	remains.Term, remains.Last, remains.LastTerm = g.ballot.term, record.Index, record.Term
	if at > 0 {
		c, err := parseConfiguration(configuration)
		if err != nil {
			return remains, err
		}
		remains.Members = newRoster(at, c).membership()
	}
	err := r.store.entries(group, 0, math.MaxUint64, func(l *hraft.Log, _ int) (bool, error) {
		if l.Index > record.Index {
			remains.Last, remains.LastTerm = l.Index, l.Term
		}
		if l.Type == hraft.LogCommand && len(l.Data) > 0 {
			remains.LastData = l.Data
		}
		return true, nil
	})
	return remains, err
}

// Entries calls fn with the entries of a group behind an index that a Source has given,
// committed or not, ascending.
func (r *Remnant) Entries(group uint32, behind uint64, fn func(Entry) error) error {
	return r.store.entries(group, behind+1, math.MaxUint64, func(l *hraft.Log, _ int) (bool, error) {
		if l.Type != hraft.LogCommand || len(l.Data) == 0 {
			return true, nil
		}
		return true, fn(Entry{Index: l.Index, Term: l.Term, Data: l.Data})
	})
}

// Recover makes a server the only voter of a group that does not run here, by a
// configuration behind the last entry of its log, of a term that this replica has not heard
// of. Every entry that is there will be committed; what only the other replicas had is lost,
// so that this is for the case that a majority of them is lost for good. The server must be
// a new id, and the old replicas must never be heard again. A group without a log begins
// with that configuration.
//
// The record is that of the group's machine. It is written in one step: after a crash it may
// be called again, and does nothing if it was done. What it returns is the record of a
// machine that has applied the new configuration, and nothing else since the last one.
func (n *Node) Recover(group uint32, record Record, server string) (Record, error) {
	if err := n.reserveIdle(group); err != nil {
		return Record{}, err
	}
	defer n.release(group, nil)
	g := &groupLog{
		group: group, store: n.store, committer: n.committer, fail: n.fail,
		record: func() Record { return record },
	}
	var last *hraft.Log // the last configuration behind the record's
	g.appended = func(logs []*hraft.Log) { last = logs[0] }
	if err := openLog(g, record); err != nil {
		return Record{}, err
	}
	if err := g.follows(record); err != nil {
		return Record{}, err
	}
	if last != nil && last.Index == g.last {
		c, err := parseConfiguration(last.Data)
		if err != nil {
			return Record{}, err
		}
		if slices.Equal(c.Servers, solely(server).Servers) {
			return recordOf(last), nil
		}
	}
	l := &hraft.Log{
		Index: max(g.last, record.Index) + 1,
		Term:  max(g.ballot.term, record.Term) + 1,
		Type:  hraft.LogConfiguration,
		Data:  hraft.EncodeConfiguration(solely(server)),
	}
	o := newOperation(group)
	o.logs, o.ballot = []*hraft.Log{l}, &ballot{term: l.Term}
	if err := n.committer.commit(o); err != nil {
		return Record{}, fmt.Errorf("raft: recover group %d: %w", group, err)
	}
	return recordOf(l), nil
}

// solely is the configuration of one voter.
func solely(server string) hraft.Configuration {
	return hraft.Configuration{Servers: []hraft.Server{{ID: hraft.ServerID(server), Address: hraft.ServerAddress(server)}}}
}

// recordOf is the record of a machine that a configuration was the last thing for.
func recordOf(l *hraft.Log) Record {
	return Record{Index: l.Index, Term: l.Term, ConfigurationIndex: l.Index, Configuration: l.Data}
}

// reserveIdle keeps a group from being started.
func (n *Node) reserveIdle(group uint32) error {
	return n.reserve(group, func(_ *Group, exists bool) error {
		if exists || group == nodeGroup {
			return fmt.Errorf("%w: %d", ErrGroupExists, group)
		}
		return nil
	})
}

// graftBytes is how much Graft writes at once.
const graftBytes = 1 << 20

// Graft puts another store's log of a group behind a record in the place of the log here,
// for a machine that was given the state of that record. The group must not run. After a
// crash in the middle, or an error, it must be done again from the beginning.
func (n *Node) Graft(group uint32, record Record, from *Remnant) error {
	if err := n.reserveIdle(group); err != nil {
		return err
	}
	defer n.release(group, nil)
	b, err := from.store.ballot(group)
	if err != nil {
		return err
	}
	o := newOperation(group)
	o.drop, o.ballot = true, &ballot{term: max(b.term, record.Term)}
	if record.Index > 0 {
		o.base = &base{index: record.Index, term: record.Term}
	}
	if err := n.committer.commit(o); err != nil {
		return fmt.Errorf("raft: graft group %d: %w", group, err)
	}
	o.clear()
	size := 0
	write := func() error {
		if len(o.logs) == 0 {
			return nil
		}
		err := n.committer.commit(o)
		o.clear()
		size = 0
		return err
	}
	err = from.store.entries(group, record.Index+1, math.MaxUint64, func(l *hraft.Log, bytes int) (bool, error) {
		o.logs = append(o.logs, l)
		if size += bytes; size < graftBytes {
			return true, nil
		}
		return true, write()
	})
	if err == nil {
		err = write()
	}
	if err != nil {
		return fmt.Errorf("raft: graft group %d: %w", group, err)
	}
	return nil
}
