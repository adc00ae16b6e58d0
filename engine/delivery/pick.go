package delivery

import (
	"parley/engine/shard"
	"parley/wire"
)

// pickAll picks for each stream what of a batch concerns its node.
func (o *Outlet) pickAll(e *shard.Effects) {
	for i := range e.Sent {
		if s := o.streams[e.Sent[i].Node]; s != nil {
			s.pick.Sent = append(s.pick.Sent, uint32(i))
		}
	}
	for i := range e.Refused {
		if s := o.streams[e.Refused[i].Node]; s != nil {
			s.pick.Refused = append(s.pick.Refused, uint32(i))
		}
	}
	o.pickMemberships(e)
	if o.attached.Len() == 0 {
		return
	}
	for i := range e.Messages {
		for _, node := range o.members(e.Messages[i].Conversation) {
			if s := o.streams[node]; s != nil {
				s.pick.Messages = appendOnce(s.pick.Messages, uint32(i))
			}
		}
	}
	for i := range e.Receipts {
		for _, node := range o.hearers(&e.Receipts[i]) {
			if s := o.streams[node]; s != nil {
				s.pick.Receipts = appendOnce(s.pick.Receipts, uint32(i))
			}
		}
	}
	for i := range e.Listed {
		o.nodes = o.attached.Append(o.nodes[:0], e.Listed[i].User)
		for _, node := range o.nodes {
			if s := o.streams[node]; s != nil {
				s.pick.Listed = append(s.pick.Listed, uint32(i))
			}
		}
	}
	for i := range e.Own {
		o.nodes = o.attached.Append(o.nodes[:0], e.Own[i].User)
		for _, node := range o.nodes {
			if s := o.streams[node]; s != nil {
				s.pick.Own = append(s.pick.Own, uint32(i))
			}
		}
	}
}

// pickMemberships picks for each stream the memberships of its users. From then on its node
// wants the messages of those groups, those of the same batch too.
func (o *Outlet) pickMemberships(e *shard.Effects) {
	for i := range e.Memberships {
		m := &e.Memberships[i]
		if m.Role == wire.RoleNone {
			o.ended = max(o.ended, e.Index)
		}
		o.nodes = o.attached.Append(o.nodes[:0], m.User)
		for _, node := range o.nodes {
			s := o.streams[node]
			if s == nil {
				continue
			}
			s.pick.Memberships = append(s.pick.Memberships, uint32(i))
			o.membership(s, m, e)
		}
	}
}

// membership follows a membership of a user of a stream. What the edge has heard from
// another replica changes nothing; what it has not heard comes when it begins, or when the
// rest of a batch is picked for it.
func (o *Outlet) membership(s *stream, m *shard.MembershipEffect, e *shard.Effects) {
	if m.Role != wire.RoleNone && !s.opening && !s.broken && e.Previous >= s.sent {
		o.attached.Want(s.node, e.Index, m.Group)
	}
}

// members is the nodes of both users of a direct conversation, some of them twice, or
// those that want a group's messages.
func (o *Outlet) members(c wire.Conversation) []uint32 {
	if c.Kind == wire.Group {
		o.nodes = o.attached.AppendWanting(o.nodes[:0], c.A)
		return o.nodes
	}
	o.nodes = o.attached.Append(o.nodes[:0], c.A)
	if c.B != c.A {
		o.nodes = o.attached.Append(o.nodes, c.B)
	}
	return o.nodes
}

// hearers is the nodes that a receipt is for: in a group, those of the user alone.
func (o *Outlet) hearers(r *shard.ReceiptEffect) []uint32 {
	if r.Conversation.Kind == wire.Group {
		o.nodes = o.attached.Append(o.nodes[:0], r.User)
		return o.nodes
	}
	return o.members(r.Conversation)
}

// appendOnce appends what was not appended just before: both members of a conversation
// may be at one node.
func appendOnce(list []uint32, i uint32) []uint32 {
	if n := len(list); n > 0 && list[n-1] == i {
		return list
	}
	return append(list, i)
}

// pickFor picks for one stream what of a batch concerns its node.
func (o *Outlet) pickFor(s *stream, e *shard.Effects) {
	p := &s.pick
	p.Clear()
	for i := range e.Sent {
		if e.Sent[i].Node == s.node {
			p.Sent = append(p.Sent, uint32(i))
		}
	}
	for i := range e.Refused {
		if e.Refused[i].Node == s.node {
			p.Refused = append(p.Refused, uint32(i))
		}
	}
	for i := range e.Memberships {
		if m := &e.Memberships[i]; o.attached.Has(s.node, m.User) {
			p.Memberships = append(p.Memberships, uint32(i))
			o.membership(s, m, e)
		}
	}
	for i := range e.Messages {
		if o.concerns(s, e.Messages[i].Conversation) {
			p.Messages = append(p.Messages, uint32(i))
		}
	}
	for i := range e.Receipts {
		if r := &e.Receipts[i]; r.Conversation.Kind == wire.Direct && o.concerns(s, r.Conversation) || o.attached.Has(s.node, r.User) {
			p.Receipts = append(p.Receipts, uint32(i))
		}
	}
	for i := range e.Listed {
		if o.attached.Has(s.node, e.Listed[i].User) {
			p.Listed = append(p.Listed, uint32(i))
		}
	}
	for i := range e.Own {
		if o.attached.Has(s.node, e.Own[i].User) {
			p.Own = append(p.Own, uint32(i))
		}
	}
}

func (o *Outlet) concerns(s *stream, c wire.Conversation) bool {
	if c.Kind == wire.Group {
		return o.attached.Wants(s.node, c.A)
	}
	return o.attached.Has(s.node, c.A) || o.attached.Has(s.node, c.B)
}
