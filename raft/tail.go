package raft

import hraft "github.com/hashicorp/raft"

// A tail is the newest entries of a log, in memory: a ring that is indexed by the
// entry's index. It starts small and grows, so that an idle group costs little.
type tail struct {
	ring  []hraft.Log // a power of two long; an entry lies at index & (len-1)
	first uint64      // 0: empty
	last  uint64
	bytes int
}

const tailEntriesMin = 16

func logBytes(l *hraft.Log) int { return len(l.Data) + len(l.Extensions) }

func (t *tail) len() int {
	if t.first == 0 {
		return 0
	}
	return int(t.last - t.first + 1)
}

func (t *tail) at(index uint64) *hraft.Log { return &t.ring[index&uint64(len(t.ring)-1)] }

// get copies an entry; false if the tail does not reach it.
func (t *tail) get(index uint64, l *hraft.Log) bool {
	if t.first == 0 || index < t.first || index > t.last {
		return false
	}
	*l = *t.at(index)
	return true
}

// append adds the entry that follows the last one, and forgets old ones above the limits.
// An entry that does not follow starts the tail afresh.
func (t *tail) append(l *hraft.Log) {
	if t.first != 0 && l.Index != t.last+1 {
		t.reset()
	}
	if t.first == 0 {
		t.first, t.last = l.Index, l.Index-1
	}
	if t.len() == len(t.ring) && len(t.ring) < TailEntriesMax {
		t.grow()
	}
	if t.len() == len(t.ring) {
		t.drop()
	}
	t.last++
	*t.at(l.Index) = *l
	t.bytes += logBytes(l)
	for t.bytes > TailBytesMax && t.first < t.last {
		t.drop()
	}
}

func (t *tail) grow() {
	old := *t
	t.ring = make([]hraft.Log, max(tailEntriesMin, 2*len(t.ring)))
	for i := old.first; i <= old.last; i++ {
		*t.at(i) = *old.at(i)
	}
}

// drop forgets the oldest entry.
func (t *tail) drop() {
	oldest := t.at(t.first)
	t.bytes -= logBytes(oldest)
	*oldest = hraft.Log{}
	t.first++
}

// cut forgets entries from index on.
func (t *tail) cut(index uint64) {
	if t.first == 0 || index > t.last {
		return
	}
	if index <= t.first {
		t.reset()
		return
	}
	for i := index; i <= t.last; i++ {
		l := t.at(i)
		t.bytes -= logBytes(l)
		*l = hraft.Log{}
	}
	t.last = index - 1
}

// trim forgets entries up to index.
func (t *tail) trim(index uint64) {
	for t.first != 0 && t.first <= index {
		if t.first == t.last {
			t.reset()
			return
		}
		t.drop()
	}
}

func (t *tail) reset() {
	clear(t.ring)
	t.first, t.last, t.bytes = 0, 0, 0
}
