package raft

import (
	"fmt"

	hraft "github.com/hashicorp/raft"

	"parley/wire/planted"
)

// machine is what the group remembers of its Machine, guarded by machineMu.
type machine struct {
	elected   uint64 // the term that this replica was elected for, 0 if it does not lead
	leads     bool   // the Machine was told so
	stopped   bool   // it returned an error, or the log failed: it is shown nothing more
	entries   []Entry
	responses []any
}

// fsm is the group as hashicorp/raft's state machine. All methods are called on raft's
// apply goroutine.
type fsm Group

var _ hraft.BatchingFSM = (*fsm)(nil)

// Apply is not called, because there is ApplyBatch.
func (f *fsm) Apply(l *hraft.Log) any { return f.ApplyBatch([]*hraft.Log{l})[0] }

// ApplyBatch shows committed entries to the machine, in runs between configurations.
// What this node proposed can no longer fail from here on.
func (f *fsm) ApplyBatch(logs []*hraft.Log) []any {
	g := (*Group)(f)
	own := g.flight.take(logs)
	g.machineMu.Lock()
	m := &g.machine
	for len(m.responses) < len(logs) {
		m.responses = append(m.responses, nil)
	}
	if err := g.show(logs); err != nil {
		m.stopped = true
		g.node.fail(fmt.Errorf("group %d: %w", g.id, err))
	}
	responses := m.responses[:len(logs)]
	if last := logs[len(logs)-1]; !m.stopped {
		g.applied.Store(last.Index)
		if m.elected != 0 && m.elected == last.Term && !m.leads {
			g.begin(last.Term)
		}
	}
	g.machineMu.Unlock()
	g.waiters.reach(g.applied.Load())
	g.flight.done(own)
	return responses
}

// begin tells the machine that it leads. From here on the source is asked for entries.
func (g *Group) begin(term uint64) {
	g.machine.leads = true
	g.config.Machine.Lead(term)
	g.flight.open() // before anybody is told: what is kicked from then on must be proposed
	g.leadership.Store(term)
	g.leadOnce.Do(func() { close(g.lead) })
}

// show gives entries to the machine.
func (g *Group) show(logs []*hraft.Log) error {
	m := &g.machine
	if m.stopped {
		return nil
	}
	m.entries = m.entries[:0]
	applied := g.applied.Load()
	for _, l := range logs {
		if l.Index <= applied {
			return fmt.Errorf("raft: entry %d comes after %d was applied", l.Index, applied)
		}
		applied = l.Index
		switch {
		case l.Type == hraft.LogConfiguration:
			if err := g.flush(); err != nil {
				return err
			}
			if err := g.config.Machine.Configure(l.Index, l.Term, l.Data); err != nil {
				return err
			}
			g.delivered.Store(l.Index)
			g.members.settle(l.Index)
		case planted.Active(planted.SkippedReplay) && !m.leads && l.Index == g.config.Machine.Record().Index+1:
		case len(l.Data) > 0:
			m.entries = append(m.entries, Entry{Index: l.Index, Term: l.Term, Data: l.Data})
		}
	}
	return g.flush()
}

// flush gives the collected run of entries to the machine.
func (g *Group) flush() error {
	m := &g.machine
	if len(m.entries) == 0 {
		return nil
	}
	if err := g.config.Machine.Apply(m.entries); err != nil {
		return err
	}
	g.delivered.Store(m.entries[len(m.entries)-1].Index)
	clear(m.entries)
	m.entries = m.entries[:0]
	return nil
}

// Snapshot is not asked for: the record is the snapshot, and the compactor truncates.
func (f *fsm) Snapshot() (hraft.FSMSnapshot, error) { return nil, hraft.ErrNothingNewToSnapshot }
