package delivery

import (
	"parley/engine/shard"
	"parley/wire"
)

// A Kind tells which list of Effects a Delivery points into.
type Kind uint8

// The kinds of deliveries.
const (
	Sent Kind = iota
	Refused
	Message
	Receipt
	// Membership is for a session of the member: a member of Effects.Memberships.
	Membership
	// Own is for a session of the user whose own it is.
	Own
	// GroupMessage is for no session but for the loop's audience of the group.
	GroupMessage
)

// A Delivery is one thing for one session, or for all of a group's on a loop. It holds no
// pointer: a batch of them costs the garbage collector nothing.
type Delivery struct {
	Handle uint64 // 0: a GroupMessage
	Index  uint32 // in the list of Effects that Kind names
	Kind   Kind
	Own    bool // the session is of the message's author, or of who moved the cursor
}

// A Batch is what one applied batch means for the sessions of one loop, in order. The
// memberships come before the messages, so an Audience settles at its end.
type Batch struct {
	Effects     *shard.Effects
	Deliveries  []Delivery
	Memberships uint64 // which batch with memberships of this shard it is, for Groups.Left; 0: none
}

// Plan looks up whom of this node the effects concern and sorts that by loop. loopOf names the loop
// of a handle; the result has an entry a loop, nil where there is nothing to do.
func Plan(e *shard.Effects, d *Directory, g *Groups, loops int, loopOf func(handle uint64) int) []*Batch {
	p := planner{effects: e, directory: d, groups: g, batches: make([]*Batch, loops), loopOf: loopOf}
	for i := range e.Sent {
		p.add(Delivery{Handle: here(e.Sent[i].Session, e.Sent[i].Node), Index: uint32(i), Kind: Sent})
	}
	for i := range e.Refused {
		p.add(Delivery{Handle: here(e.Refused[i].Session, e.Refused[i].Node), Index: uint32(i), Kind: Refused})
	}
	for i := range e.Memberships {
		p.membership(i)
	}
	for i := range e.Messages {
		m := &e.Messages[i]
		if m.Conversation.Kind == wire.Group {
			p.group(m.Conversation.A, i)
			continue
		}
		p.members(m.Conversation, m.Author, here(m.From, m.FromNode), Delivery{Index: uint32(i), Kind: Message})
	}
	for i := range e.Receipts {
		r := &e.Receipts[i]
		p.members(r.Conversation, r.User, here(r.From, r.FromNode), Delivery{Index: uint32(i), Kind: Receipt})
	}
	for i := range e.Own {
		p.own(i)
	}
	g.told(e)
	return p.batches
}

// here is a session's handle if the session is of this node, and no handle otherwise: two
// nodes may have sessions of the same handle.
func here(handle uint64, node uint32) uint64 {
	if node != 0 {
		return 0
	}
	return handle
}

type planner struct {
	effects   *shard.Effects
	directory *Directory
	groups    *Groups
	batches   []*Batch
	loopOf    func(handle uint64) int
	entries   []Entry
}

func (p *planner) add(d Delivery) {
	loop := p.loopOf(d.Handle)
	if d.Handle == 0 || loop >= len(p.batches) {
		return
	}
	p.put(loop, d)
}

// put adds a delivery to the batch of a loop.
func (p *planner) put(loop int, d Delivery) *Batch {
	b := p.batches[loop]
	if b == nil {
		e := p.effects
		b = &Batch{Effects: e, Deliveries: make([]Delivery, 0, len(e.Sent)+len(e.Refused)+len(e.Messages)+len(e.Receipts)+len(e.Memberships)+len(e.Own))}
		p.batches[loop] = b
	}
	b.Deliveries = append(b.Deliveries, d)
	return b
}

// membership adds the sessions of who came, stays or goes, whose loops get the group's
// messages from then on.
func (p *planner) membership(i int) {
	m := &p.effects.Memberships[i]
	p.entries = p.entries[:0]
	if p.groups.attached(m.User) {
		p.entries = p.directory.Append(p.entries, m.User)
	}
	if len(p.entries) == 0 && m.Role != wire.RoleNone {
		p.groups.unwant(m.Group) // the user has gone
	}
	for _, entry := range p.entries {
		loop := p.loopOf(entry.Handle)
		if loop >= len(p.batches) {
			continue
		}
		b := p.put(loop, Delivery{Handle: entry.Handle, Index: uint32(i), Kind: Membership})
		if b.Memberships == 0 {
			b.Memberships = p.groups.posting(loop)
		}
		if m.Role != wire.RoleNone {
			p.groups.join(m.Group, loop)
		}
	}
}

// group adds a group's message for each loop that has members.
func (p *planner) group(group wire.ID, i int) {
	wanted := false
	for loop := range p.groups.loops.tags(group) {
		if int(loop) < len(p.batches) {
			wanted = true
			p.put(int(loop), Delivery{Index: uint32(i), Kind: GroupMessage})
		}
	}
	if !wanted {
		p.groups.unwant(group)
	}
}

// own adds the sessions of the one user whom it concerns, but for the one that asked.
func (p *planner) own(i int) {
	x := &p.effects.Own[i]
	from := here(x.From, x.FromNode)
	p.entries = p.directory.Append(p.entries[:0], x.User)
	for _, entry := range p.entries {
		if entry.Handle != from {
			p.add(Delivery{Handle: entry.Handle, Index: uint32(i), Kind: Own})
		}
	}
}

// members adds the sessions of both users of a direct conversation, but for the one
// that the effect came from. A receipt in a group is for the user's own.
func (p *planner) members(c wire.Conversation, by wire.ID, from uint64, d Delivery) {
	peer := by
	if c.Kind == wire.Direct {
		peer = c.Peer(by)
	}
	p.entries = p.directory.Append(p.entries[:0], peer)
	own := peer == by
	for _, entry := range p.entries {
		if own && entry.Handle == from {
			continue
		}
		d.Handle, d.Own = entry.Handle, own
		p.add(d)
	}
	if own {
		return // a conversation with oneself
	}
	p.entries = p.directory.Append(p.entries[:0], by)
	for _, entry := range p.entries {
		if entry.Handle != from {
			d.Handle, d.Own = entry.Handle, true
			p.add(d)
		}
	}
}
