package engine

import (
	"bytes"
	"context"

	"parley/engine/reactor"
	"parley/engine/shard"
	"parley/wire"
)

// peers is a loop's memory of which users exist, so that a message to one costs no
// look-up, and of the messages that wait for a look-up. A message to somebody unknown is
// refused by the conversation's shard, not here: only there duplicates are seen.
type peers struct {
	exist     map[wire.ID]struct{}
	held      map[wire.ID][]shard.Send
	heldBytes int
}

// A peerItem is the answer of a look-up.
type peerItem struct {
	peer   wire.ID
	exists bool
	err    error
}

func newPeers() peers {
	return peers{exist: make(map[wire.ID]struct{}), held: make(map[wire.ID][]shard.Send)}
}

func (p *peers) known(user wire.ID) bool {
	_, ok := p.exist[user]
	return ok
}

func (p *peers) learn(user wire.ID) {
	if len(p.exist) >= PeersKnownMax {
		clear(p.exist)
	}
	p.exist[user] = struct{}{}
}

// hold keeps a message until it is known whether its recipient exists. All messages to
// that recipient wait together, so that they keep their order.
func (e *edge) hold(s *seat, peer wire.ID, send *shard.Send) {
	p := &e.peers
	if p.heldBytes+len(send.Content.Bytes) > HeldBytesMax {
		e.fail(s, send.Correlation, wire.CodeOverloaded)
		return
	}
	waiting, asked := p.held[peer]
	if !asked && !e.lookUp(s.User, peer) {
		e.fail(s, send.Correlation, wire.CodeOverloaded)
		return
	}
	kept := *send
	kept.Content.Bytes = bytes.Clone(send.Content.Bytes)
	p.held[peer] = append(waiting, kept)
	p.heldBytes += heldBytes(&kept)
}

// heldBytes counts a held message: its content and about what the rest takes.
func heldBytes(s *shard.Send) int { return len(s.Content.Bytes) + 128 }

// lookUp has somebody looked up for a user.
func (e *edge) lookUp(user, peer wire.ID) bool {
	return e.node.readers.submit(user, func() {
		ctx, cancel := context.WithTimeout(e.node.life, readTimeout)
		defer cancel()
		exists, err := e.node.userExists(ctx, peer)
		e.loop.Post(peerItem{peer: peer, exists: exists, err: err})
	})
}

// looked queues what waited for a look-up.
func (e *edge) looked(item peerItem) {
	p := &e.peers
	waiting := p.held[item.peer]
	delete(p.held, item.peer)
	if item.exists {
		p.learn(item.peer)
	}
	for i := range waiting {
		send := &waiting[i]
		p.heldBytes -= heldBytes(send)
		if item.err != nil {
			e.refuse(reactor.Handle(send.Session), send.Correlation, shard.CodeOf(item.err))
			continue
		}
		send.PeerKnown = item.exists
		e.queue(send)
	}
	e.kick()
}
