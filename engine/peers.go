package engine

import (
	"bytes"
	"context"
	"slices"

	"parley/engine/reactor"
	"parley/engine/shard"
	"parley/wire"
)

// peers is a loop's memory of which users exist, so that a message to one costs no
// look-up, and of what waits for a look-up. A message to somebody unknown is refused by the
// conversation's shard, not here: only there duplicates are seen.
type peers struct {
	exist     map[wire.ID]struct{}
	held      map[wire.Ref][]heldSend
	heldBytes int
}

// A heldSend waits until it is known whether users exist, or behind one that does. All that
// is for one person, or for one group, waits together, so that it keeps its order.
type heldSend struct {
	shard.Send
	users []wire.ID
}

// A peerItem is the answer of a look-up.
type peerItem struct {
	ref   wire.Ref
	asked []wire.ID
	exist []wire.ID // those of them that do
	err   error
}

func newPeers() peers {
	return peers{exist: make(map[wire.ID]struct{}), held: make(map[wire.Ref][]heldSend)}
}

func (p *peers) known(user wire.ID) bool {
	_, ok := p.exist[user]
	return ok
}

// unknown are those of users of whom it is not known whether they exist.
func (p *peers) unknown(users []wire.ID) (unknown []wire.ID) {
	for _, user := range users {
		if !p.known(user) {
			unknown = append(unknown, user)
		}
	}
	return unknown
}

func (p *peers) learn(user wire.ID) {
	if len(p.exist) >= PeersKnownMax {
		clear(p.exist)
	}
	p.exist[user] = struct{}{}
}

// queueWith queues a send once it is known whether users exist.
func (e *edge) queueWith(s *seat, ref wire.Ref, send *shard.Send, users ...wire.ID) {
	p := &e.peers
	waiting, held := p.held[ref]
	unknown := p.unknown(users)
	if !held && len(unknown) == 0 {
		e.queue(send)
		return
	}
	if p.heldBytes+len(send.Content.Bytes) > HeldBytesMax || !held && !e.lookUp(s.User, ref, unknown) {
		e.fail(s, send.Correlation, wire.CodeOverloaded)
		return
	}
	kept := heldSend{Send: *send, users: slices.Clone(users)}
	kept.Content.Bytes, kept.Secret = bytes.Clone(send.Content.Bytes), bytes.Clone(send.Secret)
	p.held[ref] = append(waiting, kept)
	p.heldBytes += kept.bytes()
}

// bytes counts a held send: its content and about what the rest takes.
func (h *heldSend) bytes() int { return len(h.Content.Bytes) + 128 + 8*len(h.users) }

// lookUp has users looked up for another one.
func (e *edge) lookUp(user wire.ID, ref wire.Ref, users []wire.ID) bool {
	return e.node.readers.submit(user, func() {
		ctx, cancel := context.WithTimeout(e.node.life, readTimeout)
		defer cancel()
		exist, err := e.node.usersExist(ctx, users)
		e.loop.Post(peerItem{ref: ref, asked: users, exist: exist, err: err})
	})
}

// resolve takes those that exist off a held send's users, and tells whether others were not
// asked for. What the look-up found counts even if the loop's memory is too small to keep it.
func (p *peers) resolve(h *heldSend, item *peerItem) (again bool) {
	p.heldBytes -= h.bytes()
	h.users = slices.DeleteFunc(h.users, func(user wire.ID) bool {
		_, found := slices.BinarySearch(item.exist, user)
		return found || p.known(user)
	})
	p.heldBytes += h.bytes()
	return item.err == nil && slices.ContainsFunc(h.users, func(user wire.ID) bool { return !slices.Contains(item.asked, user) })
}

// looked queues what waited for a look-up, up to what needs another one.
func (e *edge) looked(item peerItem) {
	p := &e.peers
	waiting := p.held[item.ref]
	delete(p.held, item.ref)
	slices.Sort(item.exist)
	for _, user := range item.exist {
		p.learn(user)
	}
	for i := range waiting {
		h := &waiting[i]
		again := p.resolve(h, &item)
		if again && e.lookUp(h.Author, item.ref, slices.Clone(h.users)) {
			p.held[item.ref] = waiting[i:]
			break
		}
		p.heldBytes -= h.bytes()
		switch missing := len(h.users) > 0; {
		case item.err != nil && missing:
			e.refuse(reactor.Handle(h.Session), h.Correlation, shard.CodeOf(item.err))
		case again:
			e.refuse(reactor.Handle(h.Session), h.Correlation, wire.CodeOverloaded)
		case missing && h.Event:
			// Nobody's account is ever taken away, so no event with these users was accepted before.
			e.refuse(reactor.Handle(h.Session), h.Correlation, wire.CodeUnknownUser)
		default:
			h.PeerKnown = !missing
			e.queue(&h.Send)
		}
	}
	e.kick()
}
