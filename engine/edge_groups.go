package engine

import (
	"parley/engine/delivery"
	"parley/engine/reactor"
	"parley/engine/session"
	"parley/engine/shard"
	"parley/wire"
)

// A crowd is what a loop knows of groups: which of its sessions are members. Only what
// comes through the inbox changes it, in the order of each group's shard, and sessions that
// end.
type crowd struct {
	audience delivery.Audience
	seen     []uint64  // by shard: batches with memberships that were handled
	left     []wire.ID // groups without members here, of which the node has not been told
	push     []byte    // a group's message as it is written to everybody
}

// member follows the membership of a session's user. Who does not know groups is told
// nothing of them.
func (e *edge) member(h reactor.Handle, m *shard.MembershipEffect) {
	s := e.seat(h)
	switch {
	case m.Role == wire.RoleNone:
		if s != nil {
			e.audience.Leave(m.Group, h.Slot(), m.Until)
		}
	case s != nil && s.State != session.Closed && s.Groups():
		e.audience.Join(m.Group, h.Slot(), m.From)
		return
	}
	if !e.audience.Has(m.Group) {
		e.left = append(e.left, m.Group)
	}
}

// pushToGroup writes a message to this loop's members of its group: encoded once, the same
// bytes for each of them.
func (e *edge) pushToGroup(x *shard.MessageEffect) {
	members, others := e.audience.To(x.Conversation.A, x.Sequence)
	if len(members)+len(others) == 0 {
		return
	}
	m := wire.Message{Ref: wire.GroupRef(x.Conversation.A), Sequence: x.Sequence, Author: x.Author, Revision: x.Revision, Time: x.Time, Content: x.Content}
	e.push = wire.AppendMessage(e.push[:0], &m)
	from := reactor.Handle(x.From)
	if x.FromNode != 0 {
		from = 0
	}
	head := wire.Head{Ref: m.Ref, Sequence: m.Sequence, Revision: m.Revision}
	for _, slot := range members {
		e.pushOne(slot, from, &head)
	}
	for _, slot := range others {
		e.pushOne(slot, from, &head)
	}
}

// pushOne writes the group's message to one session, unless that one has sent it.
func (e *edge) pushOne(slot uint32, from reactor.Handle, head *wire.Head) {
	s := e.at(slot)
	if s.State != session.Live || s.handle == from {
		return // before its SYNC, that will tell
	}
	if backlog := e.backlog(s); backlog != nil {
		e.kept(s, backlog.Message(*head, e.push))
		return
	}
	e.loop.Write(s.handle, e.push)
}

// settle ends a batch: who has left in it is no member any more.
func (e *edge) settle(b *delivery.Batch) {
	e.audience.Settle()
	if b.Memberships == 0 {
		return
	}
	if e.seen == nil {
		e.seen = make([]uint64, len(e.node.routes))
	}
	e.seen[b.Effects.Shard] = b.Memberships
}

// leaveGroups takes a session that has ended out of its groups.
func (e *edge) leaveGroups(h reactor.Handle) {
	e.audience.Drop(h.Slot())
	e.reportLeft()
}

// reportLeft tells the node of groups that have no members on this loop any more. While
// news of members is on its way here, it waits for that.
func (e *edge) reportLeft() {
	if e.left = e.audience.Left(e.left); len(e.left) == 0 {
		return
	}
	byRoute := make(map[*route][]wire.ID)
	for _, group := range e.left {
		if !e.audience.Has(group) {
			r := e.node.routeOf(group.Slot())
			byRoute[r] = append(byRoute[r], group)
		}
	}
	e.left = nil
	for r, groups := range byRoute {
		seen := uint64(0)
		if e.seen != nil {
			seen = e.seen[r.id]
		}
		if !r.left(e.loop.Index(), seen, groups) {
			e.left = append(e.left, groups...)
		}
	}
}

// change queues what makes or changes a group. The event was looked at; its users must
// exist.
func (e *edge) change(s *seat, g *wire.GroupChange) {
	if e.node.diskFull.Load() {
		e.fail(s, g.Correlation, wire.CodeDiskFull)
		return
	}
	event, err := wire.ParseEvent(g.Event)
	if err != nil {
		e.fail(s, g.Correlation, wire.CodeOf(err))
		return
	}
	ref := g.Ref
	if event.Kind == wire.EventCreate {
		ref = wire.GroupRef(e.node.keys.GroupID(s.User, s.Device, s.Epoch, g.Counter))
	}
	change := shard.Send{
		Origin:       shard.Origin{Session: uint64(s.handle), Correlation: g.Correlation},
		Conversation: ref.Conversation(s.User), Author: s.User, Device: s.Device, Epoch: s.Epoch,
		Counter: g.Counter, PeerKnown: true, Event: true, Content: wire.EventContent(g.Event),
	}
	switch event.Kind {
	case wire.EventCreate, wire.EventAdd, wire.EventBan:
		e.queueWith(s, ref, &change, event.Users...)
	default: // who is not a member is not looked for
		e.queueWith(s, ref, &change)
	}
}

// join queues that a user has a group's link.
func (e *edge) join(s *seat, j *wire.Join) {
	if e.node.diskFull.Load() {
		e.fail(s, j.Correlation, wire.CodeDiskFull)
		return
	}
	e.queueWith(s, j.Ref, &shard.Send{
		Origin:       shard.Origin{Session: uint64(s.handle), Correlation: j.Correlation},
		Conversation: j.Ref.Conversation(s.User), Author: s.User, Device: s.Device, Epoch: s.Epoch, PeerKnown: true, Secret: j.Secret,
	})
}
