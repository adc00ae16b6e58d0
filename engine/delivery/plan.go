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
)

// A Delivery is one thing for one session. It holds no pointer: a batch of them costs
// the garbage collector nothing.
type Delivery struct {
	Handle uint64
	Index  uint32 // in the list of Effects that Kind names
	Kind   Kind
	Own    bool // the session is of the message's author, or of who moved the cursor
}

// A Batch is what one applied batch means for the sessions of one loop, in order.
type Batch struct {
	Effects    *shard.Effects
	Deliveries []Delivery
}

// Plan looks up whom of this node the effects concern and sorts that by loop. loopOf names the loop
// of a handle; the result has an entry a loop, nil where there is nothing to do.
func Plan(e *shard.Effects, d *Directory, loops int, loopOf func(handle uint64) int) []*Batch {
	p := planner{effects: e, directory: d, batches: make([]*Batch, loops), loopOf: loopOf}
	for i := range e.Sent {
		p.add(Delivery{Handle: here(e.Sent[i].Session, e.Sent[i].Node), Index: uint32(i), Kind: Sent})
	}
	for i := range e.Refused {
		p.add(Delivery{Handle: here(e.Refused[i].Session, e.Refused[i].Node), Index: uint32(i), Kind: Refused})
	}
	for i := range e.Messages {
		m := &e.Messages[i]
		p.members(m.Conversation, m.Author, here(m.From, m.FromNode), Delivery{Index: uint32(i), Kind: Message})
	}
	for i := range e.Receipts {
		r := &e.Receipts[i]
		p.members(r.Conversation, r.User, here(r.From, r.FromNode), Delivery{Index: uint32(i), Kind: Receipt})
	}
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
	batches   []*Batch
	loopOf    func(handle uint64) int
	entries   []Entry
}

func (p *planner) add(d Delivery) {
	loop := p.loopOf(d.Handle)
	if d.Handle == 0 || loop >= len(p.batches) {
		return
	}
	b := p.batches[loop]
	if b == nil {
		e := p.effects
		b = &Batch{Effects: e, Deliveries: make([]Delivery, 0, len(e.Sent)+len(e.Refused)+len(e.Messages)+len(e.Receipts))}
		p.batches[loop] = b
	}
	b.Deliveries = append(b.Deliveries, d)
}

// members adds the sessions of both users of a direct conversation, but for the one
// that the effect came from.
func (p *planner) members(c wire.Conversation, by wire.ID, from uint64, d Delivery) {
	peer := c.Peer(by)
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
