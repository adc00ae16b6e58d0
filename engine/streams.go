package engine

import (
	"context"
	"time"

	"parley/engine/cluster"
	"parley/engine/delivery"
	"parley/engine/reactor"
	"parley/engine/shard"
	"parley/wire"
)

// streamRequest takes what an edge wants of a stream, on the goroutine that reads from
// the edge's node.
func (n *Node) streamRequest(from uint32, payload []byte) {
	var q delivery.Request
	if err := q.Parse(payload, from); err != nil || int(q.Shard) >= len(n.routes) {
		n.log.Warn("a request for a stream cannot be read", "node", from, "error", err)
		return
	}
	r := n.routes[q.Shard]
	outlet, l := r.outlet.Load(), r.local.Load()
	if outlet == nil || l == nil {
		return // the edge hears of the leader and asks there
	}
	if !outlet.Request(from, &q) {
		return
	}
	var refused []shard.RefusedEffect
	refuse := func(o shard.Origin, err error) {
		if err != nil {
			refused = append(refused, shard.RefusedEffect{Origin: o, Code: shard.CodeOf(err)})
		}
	}
	full := n.diskFull.Load()
	for i := range q.Sends {
		if full {
			refused = append(refused, shard.RefusedEffect{Origin: q.Sends[i].Origin, Code: wire.CodeDiskFull})
			continue
		}
		refuse(q.Sends[i].Origin, l.Send(&q.Sends[i]))
	}
	for i := range q.Cursors {
		c := &q.Cursors[i]
		origin := shard.Origin{Node: c.Node, Session: c.Session}
		if full {
			refused = append(refused, shard.RefusedEffect{Origin: origin, Code: wire.CodeDiskFull})
			continue
		}
		refuse(origin, l.Cursor(c))
	}
	l.Kick()
	if len(refused) > 0 {
		outlet.Effects(&shard.Effects{Shard: r.id, Refused: refused})
	}
}

// streamFrame takes what a stream brings.
func (n *Node) streamFrame(from uint32, payload []byte) {
	f, err := delivery.ParseFrame(payload)
	if err != nil || int(f.Shard) >= len(n.routes) {
		n.log.Warn("a frame of a stream cannot be read", "node", from, "error", err)
		return
	}
	r := n.routes[f.Shard]
	if f.Effects != nil && f.Effects.Index != 0 && n.behind() {
		n.counters.streamsLeft.Add(1)
		r.event(func(dst []delivery.Action) []delivery.Action { return r.inlet.LinkDown(dst, from) })
		return
	}
	r.event(func(dst []delivery.Action) []delivery.Action { return r.inlet.Frame(dst, from, &f) })
}

// deliver passes effects on to this node's sessions: each loop gets what concerns its own.
// It returns the groups that are told here and that perhaps nobody wants. mu is held.
func (r *route) deliver(e *shard.Effects) (unwanted []wire.ID) {
	n := r.node
	loops := n.allLoops()
	if len(loops) == 0 {
		return nil
	}
	loopOf := func(handle uint64) int { return reactor.Handle(handle).Loop() }
	for i, batch := range delivery.Plan(e, n.sessions, &r.groups, len(loops), loopOf) {
		if batch != nil {
			loops[i].Post(batch)
		}
	}
	for i := range e.Listed {
		n.listed(e.Listed[i])
	}
	return r.groups.Unwanted()
}

// restart ends the sessions of users who missed something that is no longer known here:
// they sync anew when they are back.
func (n *Node) restart(users []wire.ID) {
	var entries []delivery.Entry
	for _, user := range users {
		entries = n.sessions.Append(entries[:0], user)
		for _, entry := range entries {
			h := reactor.Handle(entry.Handle)
			n.counters.restarts.Add(1)
			n.post(h, closeItem{handle: h, code: wire.CodeGoingAway, reason: "what happened meanwhile is no longer known here: sync again"})
		}
	}
}

// listed tells a user's sessions of a conversation that came to the user's list: a sync
// that looked at the list before could not know of it. The row is there because of the
// first message, so this much is sure; a page of the history says how far it reaches.
func (n *Node) listed(l shard.ListedEffect) {
	if l.Gone {
		return // the message by which the user left says so
	}
	if n.hub == nil {
		n.tellListed(l)
		return
	}
	// The route of the conversation is another one, and this one's mutex is held.
	if n.sessions.Has(l.User) {
		n.listings.add(l)
	}
}

func (n *Node) tellListed(l shard.ListedEffect) {
	n.tellHead(l.User, wire.Head{Ref: l.Conversation.Ref(l.User), Sequence: 1, Revision: 1})
}

// tellHead tells a user's sessions how far a conversation reaches.
func (n *Node) tellHead(user wire.ID, head wire.Head) {
	for _, entry := range n.sessions.Append(nil, user) {
		h := reactor.Handle(entry.Handle)
		n.post(h, headItem{handle: h, head: head})
	}
}

// attachListed is the task that attaches users to the shards of new conversations before
// it tells them of those.
func (n *Node) attachListed() {
	for l := range n.listings.each(n.stop) {
		r := n.routeOf(l.Conversation.Slot())
		_, _ = r.attach(l.User) // if nobody leads, the stream that opens later has the user
		if l.Conversation.Kind == wire.Direct {
			n.tellListed(l)
		} else if !n.readers.submit(l.User, func() { n.introduceListed(r, l) }) {
			n.listAgain(l)
		}
	}
}

// introduceListed makes sure that the user's sessions hear of a group from now on, and tells
// them how far it reaches: they may have been in it before.
func (n *Node) introduceListed(r *route, l shard.ListedEffect) {
	ctx, cancel := context.WithTimeout(n.life, readTimeout)
	defer cancel()
	p, err := n.introduceUser(ctx, r, l.User)
	if err != nil {
		n.listAgain(l)
		return
	}
	ref := l.Conversation.Ref(l.User)
	list, err := n.statesIn(ctx, r, p, &statesQuery{user: l.User, refs: []wire.Ref{ref}})
	switch {
	case err != nil:
		n.listAgain(l)
	case len(list) == 1 && list[0].Head > 0: // else the user has left meanwhile
		n.tellHead(l.User, wire.Head{Ref: ref, Sequence: list[0].Head, Revision: list[0].Revision})
	}
}

// listPause is how long a listing waits that could not be seen to.
const listPause = 100 * time.Millisecond

// listAgain comes back to a listing later, as long as the user is here.
func (n *Node) listAgain(l shard.ListedEffect) {
	time.AfterFunc(listPause, func() {
		if n.life.Err() == nil && n.sessions.Has(l.User) {
			n.listings.add(l)
		}
	})
}

// announceLeading tells nodes what this one leads: one group, or all.
func (n *Node) announceLeading(nodes []uint32, list []leading) {
	if n.hub == nil || len(nodes) == 0 {
		return
	}
	for i := range list {
		if int(list[i].group) < len(n.routes) {
			if outlet := n.routes[list[i].group].outlet.Load(); outlet != nil {
				list[i].index = outlet.Idle()
			}
		}
	}
	payload := appendLeading(nil, n.config.Now(), list)
	for _, node := range nodes {
		_ = n.hub.Send(node, kindLeading, payload) // it is repeated
	}
}

// announcer is the task that repeats announcements.
func (n *Node) announcer() {
	tick := time.NewTicker(n.config.intervals.announce)
	defer tick.Stop()
	for {
		select {
		case <-n.stop:
			return
		case <-tick.C:
			n.announceLeading(n.others(), n.leaders.owned())
			n.checkClock()
		}
	}
}

// others are the live nodes of the map without this one.
func (n *Node) others() []uint32 {
	var others []uint32
	for _, d := range n.maps.view.Map().Nodes {
		if d.Number != n.identity.Number && d.State != cluster.Removed {
			others = append(others, d.Number)
		}
	}
	return others
}

// heardLeading takes another node's announcement.
func (n *Node) heardLeading(from uint32, payload []byte) {
	clock, list, err := parseLeading(payload)
	if err != nil {
		n.log.Warn("an announcement cannot be read", "node", from, "error", err)
		return
	}
	n.clocks.hear(from, clock, n.config.Now())
	for _, l := range list {
		n.leaders.heard(from, l.group, l.term, l.index)
	}
}

// leaderChanged follows who leads a group; index is what the leader says that its streams
// have reached.
func (n *Node) leaderChanged(group uint32, l leadership, index uint64) {
	if int(group) < len(n.routes) && l.node != 0 {
		n.routes[group].announced(l.node, l.term, index)
	}
}

// linkChanged follows this node's connection to another one.
func (n *Node) linkChanged(node uint32, up bool) {
	if up {
		n.announceLeading([]uint32{node}, n.leaders.owned())
		return
	}
	n.leaders.lost(node)
	n.streamsDown(node)
}

// arrivalChanged follows another node's connection to this one.
func (n *Node) arrivalChanged(node uint32, up bool) {
	if up {
		// It listens now: what was told while it was starting may have found nobody.
		n.announceLeading([]uint32{node}, n.leaders.owned())
		return
	}
	n.streamsDown(node)
}

func (n *Node) streamsDown(node uint32) {
	for _, r := range n.routes {
		r.linkDown(node)
	}
}
