package engine

import (
	"parley/engine/delivery"
	"parley/engine/reactor"
	"parley/engine/shard"
)

// A forwarding is what clients of a loop have sent in one turn to a shard that another
// node leads. Contents still lie in the sockets' buffers.
type forwarding struct {
	sends   []shard.Send
	cursors []shard.Cursor
	bytes   int
}

// forward is what is to be forwarded to a shard.
func (e *edge) forward(r *route) *forwarding {
	f := e.forwards[r]
	if f == nil {
		f = &forwarding{}
		e.forwards[r] = f
	}
	return f
}

func (f *forwarding) send(e *edge, r *route, m *shard.Send) {
	f.sends = append(f.sends, *m)
	if f.bytes += delivery.ForwardBytes(m); f.bytes > delivery.ForwardBytesMax {
		e.flush(r)
	}
}

// cursorBytes is about what a cursor takes in a request.
const cursorBytes = 32

func (f *forwarding) cursor(e *edge, r *route, c *shard.Cursor) {
	f.cursors = append(f.cursors, *c)
	if f.bytes += cursorBytes; f.bytes > delivery.ForwardBytesMax {
		e.flush(r)
	}
}

// flush sends what has come together for a shard.
func (e *edge) flush(r *route) {
	f := e.forwards[r]
	if f == nil || len(f.sends)+len(f.cursors) == 0 {
		return
	}
	if err := r.forward(f.sends, f.cursors); err != nil {
		code := shard.CodeOf(err)
		for i := range f.sends {
			e.refuse(reactor.Handle(f.sends[i].Session), f.sends[i].Correlation, code)
		}
		for i := range f.cursors {
			e.refuse(reactor.Handle(f.cursors[i].Session), 0, code)
		}
	}
	clear(f.sends)
	f.sends, f.cursors, f.bytes = f.sends[:0], f.cursors[:0], 0
}

// attach makes sure, before a session sends to a shard, that its answers and what they
// lead to come here. Most of the time a bit of the session says so.
func (e *edge) attach(s *seat, r *route) {
	if r.inlet == nil || s == nil {
		return
	}
	bit := uint64(1) << (r.id % 64)
	if len(e.node.routes) <= 64 && s.attached&bit != 0 {
		return
	}
	_, _ = r.attach(s.User) // without a leader the user is in the set that the next stream opens with
	s.attached |= bit
}
