package raft

import (
	"cmp"
	"errors"
	"fmt"
	"math"
	"runtime"
	"sync"

	hraft "github.com/hashicorp/raft"
)

// ErrLogGap means that a group's log does not reach from the machine's record to where
// it must: it is damaged, or belongs to another state.
var ErrLogGap = errors.New("raft: the log does not continue the state")

// Keys that hashicorp/raft uses in its stable store.
const (
	stableTerm      = "CurrentTerm"
	stableVoteTerm  = "LastVoteTerm"
	stableCandidate = "LastVoteCand"
)

// A mark says how many bytes a log had been given when index was its last entry, since
// the log was opened. Marks are about compactBytes apart, and a log is truncated at them.
type mark struct {
	index uint64
	bytes uint64
}

// groupLog is one group's log and ballot: what hashicorp/raft calls log store and stable
// store. Entries are added on raft's main goroutine; any goroutine may read.
//
// A method that cannot read or write ends the goroutine that called it, unless the caller
// can bear an error: the node has been told to stop by then, and hashicorp/raft would
// panic. See lost.
type groupLog struct {
	group     uint32
	store     store
	committer *committer
	fail      func(error)
	record    func() Record
	appended  func(logs []*hraft.Log) // sees entries before they are durable, and those that are there
	removed   func(from uint64)       // learns that the entries from an index on are replaced
	grown     func()                  // called when it may be time to truncate
	writing   func(logs []*hraft.Log) // nil, or sees entries that are about to be written

	write *operation // of the goroutine that appends

	ballotMu idleMutex
	ballot   ballot
	voteTerm uint64 // staged until the candidate comes

	cutMu idleMutex // held by who deletes entries at the log's beginning

	mu         sync.RWMutex
	base       base
	first      uint64 // 0: empty
	last       uint64
	tail       tail
	marks      []mark // ascending
	bytes      uint64 // given since the log was opened
	truncated  uint64 // of those, deleted
	lastMark   uint64 // bytes at the last mark
	grain      uint64 // bytes between marks; 0: compactBytes
	grownAt    uint64 // bytes when grown was called
	deleteFrom uint64 // staged: entries to delete with the next write

	readMu sync.Mutex
	ahead  []hraft.Log // read for a sequential reader
	next   uint64      // the index that such a reader would want
}

// openLog reads a group's log. An install that a crash cut short is finished, if it came
// about.
func openLog(g *groupLog, record Record) error {
	if err := readLog(g, record); err != nil {
		return err
	}
	if g.base.pending != 0 && g.base.pending == record.Index {
		return g.begin(record)
	}
	return nil
}

// readLog reads a group's log through once: every entry is checked, and its size counted.
func readLog(g *groupLog, record Record) error {
	var err error
	if g.ballot, err = g.store.ballot(g.group); err != nil {
		return err
	}
	if g.base, err = g.store.base(g.group); err != nil {
		return err
	}
	g.voteTerm = g.ballot.voteTerm
	g.write = newOperation(g.group)
	check := GroupCheck{ID: g.group}
	err = g.store.entries(g.group, 0, math.MaxUint64, func(l *hraft.Log, size int) (bool, error) {
		if problem := check.follow(l); problem != "" {
			return false, fmt.Errorf("%w: group %d: %s", ErrDamaged, g.group, problem)
		}
		g.count(l.Index, size)
		if g.appended != nil && l.Type == hraft.LogConfiguration && l.Index > record.ConfigurationIndex {
			g.appended([]*hraft.Log{l})
		}
		return true, nil
	})
	if err != nil {
		return err
	}
	if check.LastTerm > g.ballot.term {
		return fmt.Errorf("%w: group %d: entry of term %d, but the vote is of %d", ErrDamaged, g.group, check.LastTerm, g.ballot.term)
	}
	g.first, g.last = check.First, check.Last
	return nil
}

// follows checks that the log continues a record. It is empty only at the very beginning
// and behind an install: truncation never takes the last entry.
func (g *groupLog) follows(r Record) error {
	if g.first == 0 && r.Index == g.base.index || g.first != 0 && g.first <= r.Index+1 && r.Index <= g.last {
		return nil
	}
	return fmt.Errorf("%w: group %d: state is at %d, log has %d to %d", ErrLogGap, g.group, r.Index, g.first, g.last)
}

// count notes an entry's size.
func (g *groupLog) count(index uint64, size int) {
	g.bytes += uint64(size)
	if g.bytes-g.lastMark >= cmp.Or(g.grain, compactBytes) {
		g.marks = append(g.marks, mark{index, g.bytes})
		g.lastMark = g.bytes
	}
}

// FirstIndex returns the index of the oldest entry, 0 if there is none.
func (g *groupLog) FirstIndex() (uint64, error) {
	g.mu.RLock()
	defer g.mu.RUnlock()
	return g.first, nil
}

// LastIndex returns the index of the newest entry, 0 if there is none.
func (g *groupLog) LastIndex() (uint64, error) {
	g.mu.RLock()
	defer g.mu.RUnlock()
	return g.last, nil
}

// GetLog reads one entry, from memory if it is new or was read ahead.
func (g *groupLog) GetLog(index uint64, l *hraft.Log) error {
	g.mu.RLock()
	found := g.tail.get(index, l)
	missing := index < g.first || index > g.last || g.first == 0
	if missing && index == g.base.index && index > 0 {
		// What the log was installed behind is asked for to see that it is the leader's.
		*l, found = hraft.Log{Index: index, Term: g.base.term, Type: hraft.LogNoop}, true
	}
	g.mu.RUnlock()
	switch {
	case found:
		return nil
	case missing:
		return hraft.ErrLogNotFound
	}
	err := g.read(index, l)
	if err != nil && !errors.Is(err, hraft.ErrLogNotFound) {
		g.fail(err)
		return g.lost()
	}
	return err
}

// read reads one entry from the store, and those that follow if it follows the last one.
func (g *groupLog) read(index uint64, l *hraft.Log) error {
	g.readMu.Lock()
	defer g.readMu.Unlock()
	if n := len(g.ahead); n > 0 && index >= g.ahead[0].Index && index <= g.ahead[n-1].Index {
		*l = g.ahead[index-g.ahead[0].Index]
		g.next = index + 1
		return nil
	}
	sequential := index == g.next
	g.next = index + 1
	if !sequential {
		return g.store.entry(g.group, index, l)
	}
	g.mu.RLock()
	last := g.last
	g.mu.RUnlock()
	clear(g.ahead)
	g.ahead = g.ahead[:0]
	bytes := 0
	err := g.store.entries(g.group, index, min(last, index+readAheadEntries-1), func(l *hraft.Log, size int) (bool, error) {
		g.ahead = append(g.ahead, *l)
		bytes += size
		return bytes < readAheadBytes, nil
	})
	if err != nil {
		g.ahead = g.ahead[:0]
		return err
	}
	if len(g.ahead) == 0 || g.ahead[0].Index != index {
		g.ahead = g.ahead[:0]
		return hraft.ErrLogNotFound
	}
	*l = g.ahead[0]
	return nil
}

// StoreLog is StoreLogs of one entry.
func (g *groupLog) StoreLog(l *hraft.Log) error { return g.StoreLogs([]*hraft.Log{l}) }

// StoreLogs returns when the entries are durable.
func (g *groupLog) StoreLogs(logs []*hraft.Log) error {
	if len(logs) == 0 {
		return nil
	}
	if g.appended != nil {
		g.appended(logs)
	}
	if g.writing != nil {
		g.writing(logs)
	}
	o := g.write
	o.clear()
	o.logs = append(o.logs, logs...)
	g.mu.Lock()
	if g.deleteFrom != 0 {
		o.deleteFrom, o.deleteTo = g.deleteFrom, math.MaxUint64
		g.deleteFrom = 0
	}
	g.mu.Unlock()
	if err := g.committer.commit(o); err != nil {
		return err
	}
	g.mu.Lock()
	if g.first == 0 {
		g.first = logs[0].Index
	}
	for _, l := range logs {
		g.tail.append(l)
		g.count(l.Index, entrySize(l))
	}
	g.last = logs[len(logs)-1].Index
	grown := g.bytes-g.grownAt >= compactEvery
	if grown {
		g.grownAt = g.bytes
	}
	g.mu.Unlock()
	if grown && g.grown != nil {
		g.grown()
	}
	return nil
}

// DeleteRange forgets a suffix, which conflicts with the leader's. It is written together
// with the entries that replace it. A prefix is deleted by truncate only: hashicorp/raft
// asks for none, because its TrailingLogs is set beyond reach.
func (g *groupLog) DeleteRange(from, to uint64) error {
	if applied := g.record().Index; from <= applied {
		g.fail(fmt.Errorf("%w: group %d: asked to delete %d to %d, but the state is at %d", ErrDamaged, g.group, from, to, applied))
		return g.lost()
	}
	g.readMu.Lock()
	g.ahead = g.ahead[:0]
	g.readMu.Unlock()
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.first == 0 || from > g.last || to < g.last {
		return nil
	}
	if g.deleteFrom == 0 || from < g.deleteFrom {
		g.deleteFrom = from
	}
	g.tail.cut(from)
	for n := len(g.marks); n > 0 && g.marks[n-1].index >= from; n-- {
		g.marks = g.marks[:n-1]
	}
	g.last = from - 1
	if from <= g.first {
		g.first, g.last = 0, 0
	}
	if g.removed != nil {
		g.removed(from)
	}
	return nil
}

// truncate deletes entries up to a mark at or below limit, but at least keep bytes stay,
// and never the last entry. It returns once that is durable.
func (g *groupLog) truncate(o *operation, limit, keep uint64) error {
	g.cutMu.Lock()
	defer g.cutMu.Unlock()
	g.mu.RLock()
	to, n := uint64(0), 0
	for i, m := range g.marks {
		if m.index > limit || m.index >= g.last || g.bytes-m.bytes < keep {
			break
		}
		to, n = m.index, i+1
	}
	from := g.first
	var bytes uint64
	if n > 0 {
		bytes = g.marks[n-1].bytes
	}
	g.mu.RUnlock()
	if to < from || from == 0 {
		return nil
	}
	o.clear()
	o.deleteFrom, o.deleteTo = from, to
	if err := g.committer.commit(o); err != nil {
		return err
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	g.first = to + 1
	g.truncated = bytes
	g.tail.trim(to)
	g.marks = append(g.marks[:0], g.marks[n:]...)
	return nil
}

// pending says how many bytes of the log lie behind index, to the grain of a mark.
func (g *groupLog) pending(index uint64) uint64 {
	g.mu.RLock()
	defer g.mu.RUnlock()
	before := g.truncated
	for _, m := range g.marks {
		if m.index > index {
			break
		}
		before = m.bytes
	}
	return g.bytes - before
}

// firstIndex is the index of the oldest entry, or of the one that will be.
func (g *groupLog) firstIndex() uint64 {
	g.mu.RLock()
	defer g.mu.RUnlock()
	return max(g.first, g.base.index+1)
}

// between says how many bytes of the log lie behind one index and not behind another, to
// the grain of a mark.
func (g *groupLog) between(from, to uint64) uint64 { return g.pending(from) - g.pending(to) }

// lost ends the calling goroutine: nothing that hashicorp/raft could do next is right.
// Its deferred functions run, so that it counts as stopped.
func (g *groupLog) lost() error {
	runtime.Goexit()
	return nil
}

func (g *groupLog) stats(s *Stats) {
	g.mu.RLock()
	defer g.mu.RUnlock()
	s.First, s.Last = g.first, g.last
	s.LogBytes = g.bytes - g.truncated
	s.TailEntries, s.TailBytes = g.tail.len(), g.tail.bytes
}
