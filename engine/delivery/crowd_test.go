package delivery

import (
	"fmt"
	"slices"

	"pgregory.net/rapid"

	"parley/engine/shard"
	"parley/wire"
)

// A crowd is what a place of a world has of groups: event loops with inboxes, to which
// batches are posted as an engine does, and which work when they come to it.
type crowd struct {
	directory *Directory
	groups    Groups
	loops     [worldLoops]worldLoop
}

type worldLoop struct {
	inbox    []*Batch
	audience Audience
	seen     uint64
	left     []wire.ID
}

func worldLoopOf(handle uint64) int { return int(handle % worldLoops) }
func worldSlot(handle uint64) uint32 {
	return uint32(handle % worldHandles)
}

// deliverGroups is what Node.deliver does.
func (p *place) deliverGroups(e *shard.Effects) {
	for loop, b := range Plan(e, p.directory, &p.groups, worldLoops, worldLoopOf) {
		if b != nil {
			p.loops[loop].inbox = append(p.loops[loop].inbox, b)
		}
	}
	p.do(p.inlet.Forget(nil, p.groups.Unwanted()...))
}

// turn has a loop look at its inbox.
func (p *place) turn(loop int) {
	l := &p.loops[loop]
	inbox := l.inbox
	l.inbox = nil
	for _, b := range inbox {
		for _, d := range b.Deliveries {
			switch d.Kind {
			case Membership:
				p.member(l, d.Handle, &b.Effects.Memberships[d.Index])
			case GroupMessage:
				p.hearGroup(l, &b.Effects.Messages[d.Index])
			}
		}
		l.audience.Settle()
		if b.Memberships != 0 {
			l.seen = b.Memberships
		}
	}
	p.report(loop)
}

func (p *place) member(l *worldLoop, handle uint64, m *shard.MembershipEffect) {
	switch s := p.sessions[handle]; {
	case s == nil:
		if !l.audience.Has(m.Group) {
			l.left = append(l.left, m.Group)
		}
	case m.Role == wire.RoleNone:
		l.audience.Leave(m.Group, worldSlot(handle), m.Until)
	default:
		l.audience.Join(m.Group, worldSlot(handle), m.From)
	}
}

// hearGroup tells a group's members of a message.
func (p *place) hearGroup(l *worldLoop, m *shard.MessageEffect) {
	members, others := l.audience.To(m.Conversation.A, m.Sequence)
	for _, slot := range slices.Concat(members, others) {
		s := p.sessions[uint64(p.life)*worldHandles+uint64(slot)]
		if s == nil {
			p.world.t.Fatalf("node %d: slot %d is a member and no session", p.number, slot)
		}
		if !p.world.isFor(s.user, m.Sequence) {
			p.world.t.Fatalf("node %d tells user %d of message %d, who is no member then", p.number, s.user, m.Sequence)
		}
		if last := slices.Max(append(s.heard[2], 0)); last >= m.Sequence {
			p.world.t.Fatalf("node %d tells %d after %d to session %d of user %d", p.number, m.Sequence, last, s.handle, s.user)
		}
		s.heard[2] = append(s.heard[2], m.Sequence)
	}
}

// report tells which groups a loop has no members of any more.
func (p *place) report(loop int) {
	l := &p.loops[loop]
	l.left = l.audience.Left(l.left)
	l.left = slices.DeleteFunc(l.left, l.audience.Has)
	if len(l.left) == 0 {
		return
	}
	if gone, ok := p.groups.Left(loop, l.seen, l.left); ok {
		l.left = nil
		p.do(p.inlet.Forget(nil, gone...))
	}
}

// end ends a session.
func (p *place) end(s *seat) {
	delete(p.sessions, s.handle)
	p.directory.Remove(s.user, wire.ID(s.handle), s.handle)
	p.loops[worldLoopOf(s.handle)].audience.Drop(worldSlot(s.handle))
	p.report(worldLoopOf(s.handle))
}

// introduceHere is what the leader does for its own sessions.
func (p *place) introduceHere(user wire.ID) bool {
	for range introduceTries {
		list, index, _ := p.readGroups([]wire.ID{user})
		if e, ok := p.groups.Introduce(9, index, list); ok {
			p.do([]Action{{Kind: Deliver, Effects: e}})
			return true
		}
	}
	return false
}

// readAt is how far the state of a leader has come: it has applied everything, and told of
// less.
func (p *place) readAt() uint64 { return uint64(len(p.world.log)) }

// readGroups is Shard.Groups, of a leader that has applied everything, and told of less. More
// may happen, and be told, before it returns.
func (p *place) readGroups(users []wire.ID) (list []shard.MembershipEffect, index uint64, err error) {
	index = uint64(len(p.world.log))
	if p != p.world.leader || len(users) != 1 {
		p.world.t.Fatal("not a read")
	}
	defer func() {
		for range rapid.IntRange(0, 2).Draw(p.world.t, "entries meanwhile") {
			p.world.proposeInGroup()
		}
		p.apply(rapid.IntRange(0, 5).Draw(p.world.t, "applied meanwhile"))
	}()
	for group := wire.ID(1); group <= worldGroups; group++ {
		if from := p.world.memberSince(group, users[0], index); from > 0 {
			list = append(list, shard.MembershipEffect{Group: group, User: users[0], Role: wire.RoleMember, From: from})
		}
	}
	return list, index, nil
}

// memberSince is the entry by which a user is a member of a group as of an index; 0: none.
func (w *world) memberSince(group, user wire.ID, index uint64) (since uint64) {
	for i := range w.log[:index] {
		if e := &w.log[i]; e.conversation.Kind == wire.Group && e.conversation.A == group && e.author == user {
			switch {
			case e.begins:
				since = uint64(i + 1)
			case e.ends:
				since = 0
			}
		}
	}
	return since
}

// isFor reports whether a group's message is for a user.
func (w *world) isFor(user wire.ID, index uint64) bool {
	e := &w.log[index-1]
	return w.memberSince(e.conversation.A, user, index) > 0 || e.author == user && e.ends
}

// proposeInGroup puts a message or a change of members into the log.
func (w *world) proposeInGroup() {
	group, user := wire.ID(rapid.IntRange(1, worldGroups).Draw(w.t, "group")), w.drawUser()
	e := entry{conversation: wire.Conversation{Kind: wire.Group, A: group}, author: user}
	if rapid.IntRange(0, 2).Draw(w.t, "change") == 0 {
		member := w.memberSince(group, user, uint64(len(w.log))) > 0
		e.begins, e.ends = !member, member
	}
	w.propose(e)
}

// changeMember tells of a change of members.
func (p *place) changeMember(e *shard.Effects, x *entry) {
	m := shard.MembershipEffect{Group: x.conversation.A, User: x.author}
	switch {
	case x.begins:
		m.Role, m.From = wire.RoleMember, p.applied
	case x.ends:
		m.Until = p.applied
	default:
		return
	}
	e.Memberships = append(e.Memberships, m)
}

// checkNothingIsLeft ends all sessions: no loop and no stream has groups any more.
func (w *world) checkNothingIsLeft() {
	for _, p := range w.places {
		for len(p.sessions) > 0 {
			p.disconnect(w.firstSeat(p))
		}
	}
	for range 6 {
		w.propose(entry{empty: true})
		w.rest()
		w.announce(w.leader)
	}
	w.rest()
	for _, p := range w.places {
		for i := range p.loops {
			if n := p.loops[i].audience.Memberships(); n > 0 {
				w.t.Errorf("loop %d of node %d has %d memberships of nobody", i, p.number, n)
			}
		}
		if groups := p.groups.Append(nil); len(groups) > 0 {
			w.t.Errorf("node %d still has groups %v", p.number, groups)
		}
	}
	if o := w.leader.outlet; o.attached.groups.used > 0 {
		w.t.Errorf("node %d streams messages that nobody wants: %s", w.leader.number, fmt.Sprint(o.attached.groups.places))
	}
}
