package raft

import "math"

// prepare notes, before a machine is given another state, what the log is to begin behind
// if the machine takes it. Without the note a log that does not reach the machine's record
// would be a damaged one.
func (g *groupLog) prepare(r Record) error {
	g.mu.RLock()
	b := g.base
	g.mu.RUnlock()
	b.pending = r.Index
	return g.rebase(&b, func(*operation) {})
}

// begin makes the log one that begins behind a record that was installed. Entries behind
// the record stay: if they are another leader's they are replaced like all such, and until
// then the replica votes as one that has them.
func (g *groupLog) begin(r Record) error {
	g.cutMu.Lock()
	defer g.cutMu.Unlock()
	b := base{index: r.Index, term: r.Term}
	err := g.rebase(&b, func(o *operation) {
		switch {
		case g.last <= r.Index: // all of it, with what is staged to be deleted
			o.deleteFrom, o.deleteTo = g.first, math.MaxUint64
			if g.first == 0 {
				o.deleteFrom = g.deleteFrom
			}
		case g.first <= r.Index:
			o.deleteFrom, o.deleteTo = g.first, r.Index
		}
	})
	if err != nil {
		return err
	}
	g.readMu.Lock()
	g.ahead = g.ahead[:0]
	g.readMu.Unlock()
	g.mu.Lock()
	defer g.mu.Unlock()
	g.forget(r.Index)
	return nil
}

// rebase writes a base together with what fill adds.
func (g *groupLog) rebase(b *base, fill func(o *operation)) error {
	o := newOperation(g.group)
	o.base = b
	g.mu.RLock()
	fill(o)
	g.mu.RUnlock()
	if err := g.committer.commit(o); err != nil {
		return err
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	g.base = *b
	return nil
}

// forget drops what is known of entries up to an index, which are deleted. mu is held.
func (g *groupLog) forget(index uint64) {
	g.tail.trim(index)
	n := 0
	for n < len(g.marks) && g.marks[n].index <= index {
		g.truncated = g.marks[n].bytes
		n++
	}
	g.marks = append(g.marks[:0], g.marks[n:]...)
	if g.last > index {
		g.first = max(g.first, index+1)
		return
	}
	g.first, g.last, g.deleteFrom = 0, 0, 0
	g.tail.reset()
	g.truncated, g.lastMark = g.bytes, g.bytes
}
