package engine

import (
	"encoding/binary"
	"slices"

	"parley/engine/reactor"
	"parley/engine/session"
	"parley/wire"
)

// Hints that somebody writes go to the leader of the conversation's shard, which knows
// whether there is one and where the other is attached, and from there to those nodes.
const (
	typingAsked      = 0 // to the leader
	typingTold       = 1 // to a node of the other
	groupTypingAsked = 2 // to the group's leader
	groupTypingTold  = 3 // to a node of members
)

// TypingMembersMax is the largest group, in members, in which it is told who is writing.
const TypingMembersMax = 100

func appendTyping(stage byte, user, peer wire.ID) []byte {
	payload := binary.AppendUvarint([]byte{stage}, uint64(user))
	return binary.AppendUvarint(payload, uint64(peer))
}

// tellTyping passes on that a user writes to another. It promises nothing.
func (n *Node) tellTyping(user, peer wire.ID) {
	r := n.routeOf(wire.DirectRef(peer).Conversation(user).Slot())
	p, err := r.position()
	switch {
	case err != nil:
	case p.Node == 0:
		n.serveTyping(r, user, peer)
	default:
		_ = n.hub.Send(p.Node, kindTyping, appendTyping(typingAsked, user, peer))
	}
}

// serveTyping passes it on from the leader, if the two have a conversation: a stranger's
// typing is nobody's business.
func (n *Node) serveTyping(r *route, user, peer wire.ID) {
	l := r.local.Load()
	if l == nil {
		return
	}
	if _, exists, err := l.State(user, wire.DirectRef(peer).Conversation(user), false); err != nil || !exists {
		return
	}
	n.showTyping(user, peer)
	outlet := r.outlet.Load()
	if outlet == nil {
		return
	}
	for _, node := range outlet.Nodes(nil, peer) {
		_ = n.hub.Send(node, kindTyping, appendTyping(typingTold, user, peer))
	}
}

// showTyping tells the sessions here.
func (n *Node) showTyping(user, peer wire.ID) {
	for _, entry := range n.sessions.Append(nil, peer) {
		h := reactor.Handle(entry.Handle)
		n.post(h, typingItem{handle: h, ref: wire.DirectRef(user)})
	}
}

// heardTyping takes either stage of a hint.
func (n *Node) heardTyping(_ uint32, payload []byte) {
	if len(payload) == 0 {
		return
	}
	stage, t := payload[0], tokenReader{src: payload[1:]}
	user, peer := wire.ID(t.uint()), wire.ID(t.uint())
	if t.bad || !user.Valid() || !peer.Valid() {
		return
	}
	switch stage {
	case typingTold:
		n.showTyping(user, peer)
	case typingAsked:
		r := n.routeOf(wire.DirectRef(peer).Conversation(user).Slot())
		n.readers.answer(func() { n.serveTyping(r, user, peer) })
	case groupTypingTold:
		n.showGroupTyping(user, peer)
	case groupTypingAsked:
		n.readers.answer(func() { n.serveGroupTyping(n.routeOf(peer.Slot()), user, peer) })
	}
}

// tellGroupTyping passes on that a user writes in a group. It promises nothing.
func (n *Node) tellGroupTyping(user, group wire.ID) {
	r := n.routeOf(group.Slot())
	p, err := r.position()
	switch {
	case err != nil:
	case p.Node == 0:
		n.serveGroupTyping(r, user, group)
	default:
		_ = n.hub.Send(p.Node, kindTyping, appendTyping(groupTypingAsked, user, group))
	}
}

// serveGroupTyping passes it on from the leader, if the user may write there and the group
// is small: in a large one somebody always writes, and everybody would be told all the time.
func (n *Node) serveGroupTyping(r *route, user, group wire.ID) {
	l := r.local.Load()
	if l == nil {
		return
	}
	state, err := l.GroupState(user, wire.GroupInfo{Ref: wire.GroupRef(group)})
	least := wire.RoleMember
	if state.Flags&wire.GroupBroadcast != 0 {
		least = wire.RoleModerator
	}
	if err != nil || state.Role < least || state.Members > TypingMembersMax {
		return
	}
	n.showGroupTyping(user, group)
	outlet := r.outlet.Load()
	if outlet == nil {
		return
	}
	list, err := l.Members(user, wire.Members{Ref: wire.GroupRef(group)})
	if err != nil {
		return
	}
	var nodes []uint32
	for i := range list.Members {
		nodes = outlet.Nodes(nodes, list.Members[i].User)
	}
	slices.Sort(nodes)
	for _, node := range slices.Compact(nodes) {
		_ = n.hub.Send(node, kindTyping, appendTyping(groupTypingTold, user, group))
	}
}

// showGroupTyping tells the members here.
func (n *Node) showGroupTyping(author, group wire.ID) {
	for _, l := range n.allLoops() {
		l.Post(groupTypingItem{group, author})
	}
}

// typedInGroup tells the loop's members, but for the author's own sessions and those that
// read slowly.
func (e *edge) typedInGroup(item groupTypingItem) {
	e.scratch = wire.AppendTyping(e.scratch[:0], &wire.Typing{Ref: wire.GroupRef(item.group), Author: item.author})
	for slot := range e.audience.Members(item.group) {
		if s := e.at(slot); s.State == session.Live && s.User != item.author && !e.loop.Blocked(s.handle) {
			e.loop.Write(s.handle, e.scratch)
		}
	}
}
