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
		for _, node := range o.members(e.Receipts[i].Conversation) {
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
}

// members is the nodes of both users of a direct conversation, some of them twice.
func (o *Outlet) members(c wire.Conversation) []uint32 {
	if c.Kind != wire.Direct {
		return nil
	}
	o.nodes = o.attached.Append(o.nodes[:0], c.A)
	if c.B != c.A {
		o.nodes = o.attached.Append(o.nodes, c.B)
	}
	return o.nodes
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
	for i := range e.Messages {
		if o.concerns(s, e.Messages[i].Conversation) {
			p.Messages = append(p.Messages, uint32(i))
		}
	}
	for i := range e.Receipts {
		if o.concerns(s, e.Receipts[i].Conversation) {
			p.Receipts = append(p.Receipts, uint32(i))
		}
	}
	for i := range e.Listed {
		if o.attached.Has(s.node, e.Listed[i].User) {
			p.Listed = append(p.Listed, uint32(i))
		}
	}
}

func (o *Outlet) concerns(s *stream, c wire.Conversation) bool {
	return c.Kind == wire.Direct && (o.attached.Has(s.node, c.A) || o.attached.Has(s.node, c.B))
}
