package engine

import (
	"encoding/binary"
	"sync"
	"time"

	"parley/engine/reactor"
	"parley/engine/session"
	"parley/engine/shard"
	"parley/wire"
)

const (
	// countsInterval is how often, at most, those who write in a group are told how many members
	// have received and read their messages.
	countsInterval = 250 * time.Millisecond
	// countsFold is how long the first cursor waits for others.
	countsFold = 50 * time.Millisecond
	// countsShare is the part of the time that may go into counting one group: the larger a
	// group is, the less often it is counted. 100,000 members take about 40 ms.
	countsShare = 20
	// TalliesMax bounds the groups of a shard that are remembered, for what their authors were
	// told last. A forgotten one's authors may be told the same again.
	TalliesMax = 4 << 10
)

// A tally is what a shard's leader tells those who write in groups. Nothing of it is kept
// for long: who writes is read from the group, and counting looks at the members. It
// promises nothing, as a receipt does; who needs to know asks MEMBERS.
type tally struct {
	count  func(group wire.ID) // is called when it is time to
	mu     sync.Mutex
	groups map[wire.ID]*tallied
}

type tallied struct {
	busy  bool // it will be counted, or is being
	moved bool // since the count under way began, or the last one
	next  time.Time
	told  map[wire.ID]shard.Count
}

// countsItem tells a session how far its user's message has come.
type countsItem struct {
	handle reactor.Handle
	counts wire.Counts
}

// tell has the groups of moved cursors counted, if this replica leads.
func (r *route) tell(e *shard.Effects) {
	for i := range e.Receipts {
		if c := e.Receipts[i].Conversation; c.Kind == wire.Group && r.leads() {
			r.tally.want(c.A, true)
		}
	}
	for i := range e.Memberships {
		r.tally.want(e.Memberships[i].Group, false)
	}
}

func (r *route) leads() bool {
	l := r.local.Load()
	return l != nil && l.group != nil && l.group.Leading()
}

// want has a group counted soon; one that is not known only if it is new.
func (t *tally) want(group wire.ID, isNew bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	g := t.groups[group]
	switch {
	case g == nil && !isNew:
		return
	case g == nil:
		if g = t.add(group); g == nil {
			return
		}
	}
	if g.moved = true; !g.busy {
		t.schedule(group, g)
	}
}

func (t *tally) schedule(group wire.ID, g *tallied) {
	g.busy = true
	time.AfterFunc(max(time.Until(g.next), countsFold), func() { t.count(group) })
}

// add remembers a group, in place of one that is at rest; nil if there is none.
func (t *tally) add(group wire.ID) *tallied {
	if len(t.groups) >= TalliesMax {
		for other, g := range t.groups {
			if !g.busy {
				delete(t.groups, other)
				break
			}
		}
		if len(t.groups) >= TalliesMax {
			return nil
		}
	}
	if t.groups == nil {
		t.groups = make(map[wire.ID]*tallied)
	}
	g := &tallied{}
	t.groups[group] = g
	return g
}

// countSoon counts a group where reads are done, or later if those are busy.
func (r *route) countSoon(group wire.ID) {
	if r.node.life.Err() == nil && !r.node.readers.answer(func() { r.count(group) }) {
		time.AfterFunc(countsInterval, func() { r.countSoon(group) })
	}
}

// count counts a group and tells the authors of whom it has news.
func (r *route) count(group wire.ID) {
	began := time.Now()
	l := r.local.Load()
	if l == nil || !r.leads() {
		r.tally.forget(group)
		return
	}
	r.tally.begin(group)
	counts, err := l.Counts(group, r.isAttached)
	if err != nil {
		r.node.log.Warn("a group's receipts were not counted", "shard", r.id, "error", err)
	}
	next := began.Add(max(countsInterval, countsShare*time.Since(began)))
	for _, c := range r.tally.end(group, next, counts) {
		r.showCounts(c.Author, wire.Counts{Ref: wire.GroupRef(group), Position: c.Position, Delivered: c.Delivered, Read: c.Read, Of: c.Of})
	}
}

// isAttached tells whether a user has a session at any node.
func (r *route) isAttached(user wire.ID) bool {
	if r.node.sessions.Has(user) {
		return true
	}
	outlet := r.outlet.Load()
	return outlet != nil && len(outlet.Nodes(nil, user)) > 0
}

func (t *tally) forget(group wire.ID) {
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.groups, group)
}

// begin says that what moves from here on needs another count.
func (t *tally) begin(group wire.ID) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if g := t.groups[group]; g != nil {
		g.moved = false
	}
}

// end takes what a count says and returns what of it is new. The next one is not before next.
func (t *tally) end(group wire.ID, next time.Time, counts []shard.Count) (news []shard.Count) {
	t.mu.Lock()
	defer t.mu.Unlock()
	g := t.groups[group]
	if g == nil {
		return counts
	}
	told := make(map[wire.ID]shard.Count, len(counts))
	for _, c := range counts {
		if told[c.Author] = c; g.told[c.Author] != c {
			news = append(news, c)
		}
	}
	g.next, g.told, g.busy = next, told, false
	if g.moved {
		t.schedule(group, g)
	}
	return news
}

// showCounts tells the sessions of an author, here and at other nodes.
func (r *route) showCounts(author wire.ID, c wire.Counts) {
	n := r.node
	n.postCounts(author, c)
	outlet := r.outlet.Load()
	if outlet == nil {
		return
	}
	for _, node := range outlet.Nodes(nil, author) {
		_ = n.hub.Send(node, kindCounts, wire.AppendCounts(binary.AppendUvarint(nil, uint64(author)), &c))
	}
}

func (n *Node) postCounts(author wire.ID, c wire.Counts) {
	for _, entry := range n.sessions.Append(nil, author) {
		h := reactor.Handle(entry.Handle)
		n.post(h, countsItem{handle: h, counts: c})
	}
}

// heardCounts takes what a leader tells an author who is here.
func (n *Node) heardCounts(_ uint32, payload []byte) {
	t := tokenReader{src: payload}
	author := wire.ID(t.uint())
	if t.bad || !author.Valid() {
		return
	}
	if c, err := parseOne(t.src, wire.TypeCounts, wire.ParseCounts); err == nil {
		n.postCounts(author, c)
	}
}

// counted tells a session; one that reads slowly is not told.
func (e *edge) counted(item countsItem) {
	s := e.seat(item.handle)
	if s == nil || s.State != session.Live || !s.Groups() || e.loop.Blocked(item.handle) {
		return
	}
	e.scratch = wire.AppendCounts(e.scratch[:0], &item.counts)
	e.loop.Write(item.handle, e.scratch)
}
