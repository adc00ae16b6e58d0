package delivery

import (
	"iter"
	"sync"

	"parley/engine/shard"
	"parley/wire"
)

// An Outlet is a shard's replica seen from the edges: it keeps what was told last, knows
// who is attached from where, and serves each edge one stream. The leader has the
// streams, but any replica can go on with one, and one that leads no more does until the
// edges have gone. Any goroutine may use it.
//
// What a stream cannot send breaks it. The edge is told so, or notices a gap, and opens
// another one from where it stands.
type Outlet struct {
	shard  uint32
	recent *Recent
	send   func(node uint32, frame []byte) error

	mu       sync.Mutex
	told     uint64 // index of the last batch
	ended    uint64 // index of the last one in which a membership ended
	attached Attached
	streams  map[uint32]*stream // by node
	order    []*stream
	nodes    []uint32
	frame    []byte
}

// A stream is what one edge has been told.
type stream struct {
	node       uint32
	generation uint64
	number     uint64 // of the next request
	since      uint64 // opening: where to begin
	fresh      bool
	opening    bool   // more users follow
	broken     bool   // the edge must be told
	began      uint64 // index from which on effects are told
	sent       uint64 // index up to which the edge was told everything
	behind     int    // bytes of effects since then that did not concern it
	introduced uint64 // frames that introduced users
	detached   uint64 // number of the last request that detached users, plus 1
	heard      uint64 // that, as frames have said that are missed if they are lost
	hinted     uint64 // and as others have said
	pick       Pick
}

// NewOutlet makes the outlet of a replica that keeps its recent effects in recent. send
// takes a frame for a node; it copies it and must not block. An error means that the
// frame is lost.
func NewOutlet(shard uint32, recent *Recent, send func(node uint32, frame []byte) error) *Outlet {
	return &Outlet{shard: shard, recent: recent, send: send, told: recent.Complete(), streams: make(map[uint32]*stream)}
}

// Request takes what an edge asks for, in the order of its link. It reports whether the
// sends and cursors of a forwarding request are to be queued; what the queue refuses goes
// to Effects, as refusals without an index.
func (o *Outlet) Request(node uint32, r *Request) (forward bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	s := o.streams[node]
	switch {
	case s != nil && r.Generation < s.generation:
		return false // of a stream that has been replaced
	case r.Kind == RequestOpen && (s == nil || r.Generation > s.generation):
		o.drop(s)
		o.open(node, r)
		return false
	case r.Kind == RequestClose:
		o.drop(s)
		return false
	case s == nil || r.Generation != s.generation:
		o.drop(s)
		s = o.newStream(node, r.Generation)
		s.broken = true // its opening was lost
	case s.broken:
	case r.Number != s.number:
		o.breakStream(s)
	}
	if s.broken {
		o.tellBroken(s)
		return false
	}
	s.number++
	switch r.Kind {
	case RequestAttach:
		o.attach(s, r)
	case RequestDetach:
		o.attached.Detach(node, r.Users...)
		o.attached.Unwant(node, r.Since, r.Groups...)
		if len(r.Users) > 0 {
			s.detached = s.number
		}
	}
	return r.Kind == RequestForward
}

func (o *Outlet) newStream(node uint32, generation uint64) *stream {
	s := &stream{node: node, generation: generation, pick: Pick{Node: node}}
	o.streams[node] = s
	o.order = append(o.order, s)
	return s
}

// drop forgets a stream, if there is one, with the users attached through it.
func (o *Outlet) drop(s *stream) {
	if s == nil {
		return
	}
	o.attached.DropNode(s.node)
	delete(o.streams, s.node)
	for i := range o.order {
		if o.order[i] == s {
			o.order = append(o.order[:i], o.order[i+1:]...)
			break
		}
	}
}

// breakStream ends a stream that its edge must open again.
func (o *Outlet) breakStream(s *stream) {
	s.broken = true
	o.attached.DropNode(s.node)
	s.pick = Pick{Node: s.node}
}

// tellBroken tells an edge that its stream is broken, now or later.
func (o *Outlet) tellBroken(s *stream) {
	o.frame = appendFrame(o.frame[:0], FrameBroken, o.shard, s.generation, 0)
	if o.send(s.node, o.frame) == nil {
		o.drop(s)
	}
}

func (o *Outlet) open(node uint32, r *Request) {
	s := o.newStream(node, r.Generation)
	s.number, s.since, s.fresh, s.opening = r.Number+1, r.Since, r.Fresh, true
	o.attach(s, r)
}

func (o *Outlet) attach(s *stream, r *Request) {
	if !o.attached.Attach(s.node, r.Users...) || !o.attached.Want(s.node, s.since, r.Groups...) {
		o.breakStream(s)
		return
	}
	if s.opening && !r.More {
		s.opening = false
		o.begin(s)
	}
}

// begin sends what the edge lacks.
func (o *Outlet) begin(s *stream) {
	list, complete, ok := o.recent.After(s.since)
	if s.fresh || !ok {
		kind := FrameReset
		if s.fresh {
			kind = FrameBegin
		}
		s.began, s.sent = complete, complete
		o.frame = appendFrame(o.frame[:0], kind, o.shard, s.generation, complete)
		o.put(s)
		return
	}
	s.began, s.sent = s.since, s.since
	for _, e := range list {
		for part := range split(e) {
			o.pickFor(s, part)
			o.tell(s, part)
			if s.broken {
				return
			}
		}
	}
	if s.sent < complete {
		o.idle(s, complete)
	}
}

// put sends the frame that was made; a stream that cannot send is broken.
func (o *Outlet) put(s *stream) {
	if o.send(s.node, o.frame) != nil {
		o.breakStream(s)
	}
}

// tell sends what was picked of a batch that begins where the stream stands, or later.
func (o *Outlet) tell(s *stream, e *shard.Effects) {
	if s.pick.Empty() {
		if e.Index == 0 {
			return
		}
		s.behind += effectsBytes(e)
		if s.behind > o.recent.limit/idleShare {
			o.idle(s, e.Index)
		}
		return
	}
	frame := *e
	if e.Index != 0 {
		frame.Previous, s.sent, s.behind = s.sent, e.Index, 0
	}
	if len(s.pick.Memberships) > 0 && s.heard != s.detached {
		s.heard = s.detached
		o.frame = appendMembersFrame(o.frame[:0], s.generation, s.detached, &frame, &s.pick)
	} else {
		o.frame = appendEffectsFrame(o.frame[:0], s.generation, &frame, &s.pick)
	}
	s.pick.Clear()
	o.put(s)
}

// idle tells a stream that nothing more concerned it up to an index.
func (o *Outlet) idle(s *stream, index uint64) {
	e := shard.Effects{Shard: o.shard, Previous: s.sent, Index: index}
	s.sent, s.behind = index, 0
	o.frame = appendEffectsFrame(o.frame[:0], s.generation, &e, &Pick{})
	o.put(s)
}

// Effects takes what the replica tells, in its order, and passes it on to the edges that
// it concerns.
func (o *Outlet) Effects(e *shard.Effects) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.recent.Add(e)
	if e.Index != 0 {
		if e.Previous > o.told {
			o.jumped(e.Previous)
		}
		o.told = max(o.told, e.Index)
	}
	if len(o.order) == 0 {
		return
	}
	for part := range split(e) {
		o.pickAll(part)
		for _, s := range o.order {
			o.pass(s, part)
		}
	}
}

// jumped breaks the streams that a snapshot has left behind: what it stands for was never
// told here.
func (o *Outlet) jumped(index uint64) {
	for _, s := range o.order {
		if !s.broken && !s.opening && s.sent < index {
			o.breakStream(s)
		}
	}
}

// pass tells a stream of a batch that was picked for all streams.
func (o *Outlet) pass(s *stream, e *shard.Effects) {
	switch {
	case s.broken || s.opening || e.Index != 0 && e.Index <= s.sent:
		s.pick.Clear()
	case e.Index != 0 && e.Previous < s.sent:
		// The edge has heard a part of the batch from another replica.
		part := e.After(s.sent)
		o.pickFor(s, part)
		o.tell(s, part)
	default:
		o.tell(s, e)
	}
}

// Idle tells every edge how far its stream reaches, and those whose stream is broken
// that it is. The index that it returns may be announced after it on the same links:
// once a second, and when a link comes up.
func (o *Outlet) Idle() (index uint64) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for i := len(o.order) - 1; i >= 0; i-- { // tellBroken takes them out
		s := o.order[i]
		if s.broken {
			o.tellBroken(s)
			continue
		}
		if !s.opening && s.sent < o.told {
			o.idle(s, o.told)
		}
		o.hint(s)
	}
	return o.told
}

// Reached reports whether a read that an edge asks for after a numbered request may be
// answered here: the stream is whole, so whoever was attached before is told of
// everything that the read does not see.
func (o *Outlet) Reached(node uint32, generation, number uint64) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	s := o.streams[node]
	return s != nil && s.generation == generation && !s.broken && !s.opening && s.number >= number
}

// LinkDown breaks the stream to a node whose link has lost what was on its way. The node
// is told at the next Idle.
func (o *Outlet) LinkDown(node uint32) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if s := o.streams[node]; s != nil {
		o.breakStream(s)
	}
}

// DropNode forgets a node that has left the cluster.
func (o *Outlet) DropNode(node uint32) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.drop(o.streams[node])
}

// Nodes appends the nodes that have sessions of a user.
func (o *Outlet) Nodes(dst []uint32, user wire.ID) []uint32 {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.attached.Append(dst, user)
}

// OutletStats are the sizes of an outlet, for metrics.
type OutletStats struct {
	Streams, Broken int
	Attached        int // users, counted once for each node
	Groups          int // whose messages nodes want, likewise
	RecentBytes     int
}

// Stats returns the sizes of the outlet as it is.
func (o *Outlet) Stats() OutletStats {
	o.mu.Lock()
	defer o.mu.Unlock()
	stats := OutletStats{Streams: len(o.order), Attached: o.attached.Len(), Groups: o.attached.groups.used, RecentBytes: o.recent.Bytes()}
	for _, s := range o.order {
		if s.broken {
			stats.Broken++
		}
	}
	return stats
}

// split cuts a batch that is too large for one frame at the ends of entries.
func split(e *shard.Effects) iter.Seq[*shard.Effects] {
	return func(yield func(*shard.Effects) bool) {
		if len(e.Marks) == 0 || effectsBytes(e) <= FrameBytesTarget {
			yield(e)
			return
		}
		const itemBytes = 64 // what any item takes at most, beside its content
		from, bytes, last := e.Previous, 0, shard.Mark{}
		for i := range e.Marks {
			m := &e.Marks[i]
			bytes += itemBytes * (m.Items() - last.Items())
			for _, x := range e.Messages[last.Messages:m.Messages] {
				bytes += len(x.Content.Bytes)
			}
			last = *m
			if bytes > FrameBytesTarget || i == len(e.Marks)-1 {
				if !yield(e.Between(from, m.Index)) {
					return
				}
				from, bytes = m.Index, 0
			}
		}
	}
}
