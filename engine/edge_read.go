package engine

import (
	"context"
	"errors"
	"time"

	"parley/engine/auth"
	"parley/engine/reactor"
	"parley/engine/session"
	"parley/engine/shard"
	"parley/raft"
	"parley/raft/link"
	"parley/wire"
)

// readTimeout bounds a read with its authorization.
const readTimeout = 5 * time.Second

// A requestQueue is the requests of a session that wait to be read: at most
// wire.RequestsMax, which the session counts.
type requestQueue struct {
	reading bool // one is with the readers
	waiting []any
}

// read has a request answered, after those before it.
func (e *edge) read(s *seat, request any) {
	q := e.requests[s.handle]
	if q == nil {
		q = &requestQueue{}
		e.requests[s.handle] = q
	}
	q.waiting = append(q.waiting, request)
	e.readNext(s)
}

// readNext gives a session's next request to a reader; the answer comes back through the
// inbox. One at a time, and none while the network does not take what was written before:
// what a client asks for at once must not pile up as answers that it is then closed for.
func (e *edge) readNext(s *seat) {
	h, q := s.handle, e.requests[s.handle]
	if q == nil || q.reading || s.State == session.Closed {
		return
	}
	for len(q.waiting) > 0 && s.State != session.Closed && !e.loop.Blocked(h) {
		request := q.waiting[0]
		q.waiting = q.waiting[1:]
		if e.submit(h, caller{s.User, s.Groups()}, request) {
			q.reading = true
			return
		}
		s.Answered()
		e.fail(s, correlationOf(request), wire.CodeOverloaded)
	}
	if len(q.waiting) == 0 {
		delete(e.requests, h)
	}
}

// A caller is who asks: a session of a user, and whether it knows groups.
type caller struct {
	user   wire.ID
	groups bool
}

func (e *edge) submit(h reactor.Handle, c caller, request any) bool {
	loop, node := e.loop, e.node
	return node.readers.submit(c.user, func() {
		ctx, cancel := context.WithTimeout(node.life, readTimeout)
		defer cancel()
		loop.Post(answerItem{handle: h, frames: node.answer(ctx, c, request)})
	})
}

// answered writes the answer of a read.
func (e *edge) answered(item answerItem) {
	s := e.seat(item.handle)
	if s == nil {
		return
	}
	s.Answered()
	if q := e.requests[item.handle]; q != nil {
		q.reading = false
	}
	e.write(s, item.frames)
	e.readNext(s)
}

func correlationOf(request any) uint64 {
	switch q := request.(type) {
	case *wire.Sync:
		return q.Correlation
	case *wire.History:
		return q.Correlation
	case *wire.Users:
		return q.Correlation
	case *wire.Resolve:
		return q.Correlation
	case *wire.Members:
		return q.Correlation
	case *wire.GroupInfo:
		return q.Correlation
	}
	return 0
}

// answer reads what a request asks for and encodes the answer, or the refusal.
func (n *Node) answer(ctx context.Context, c caller, request any) []byte {
	var frames []byte
	var err error
	switch q := request.(type) {
	case *wire.Sync:
		frames, err = n.answerSync(ctx, c, q)
	case *wire.History:
		frames, err = n.answerHistory(ctx, c.user, q)
	case *wire.Users:
		frames, err = n.answerUsers(ctx, q)
	case *wire.Resolve:
		frames, err = n.answerResolve(ctx, q)
	case *wire.Members:
		frames, err = n.answerMembers(ctx, c.user, q)
	case *wire.GroupInfo:
		frames, err = n.answerGroupInfo(ctx, c.user, q)
	}
	if err == nil {
		return frames
	}
	failure := wire.Error{Correlation: correlationOf(request), Code: wire.CodeTimeout}
	var refusal *wire.Error
	switch {
	case errors.As(err, &refusal):
		failure.Code = refusal.Code
	case errors.Is(err, raft.ErrNotLeader):
		failure.Code = wire.CodeNotLeader
	case errors.Is(err, shard.ErrOverloaded):
		failure.Code = wire.CodeOverloaded
	case errors.Is(err, link.ErrUnreachable), errors.Is(err, context.DeadlineExceeded):
	default:
		n.log.Error("a read failed", "user", c.user, "error", err)
	}
	return wire.AppendError(nil, &failure)
}

func (n *Node) answerHistory(ctx context.Context, user wire.ID, q *wire.History) ([]byte, error) {
	page, err := n.page(ctx, user, *q)
	if err != nil {
		return nil, err
	}
	page.Correlation = q.Correlation
	return wire.AppendPage(nil, &page), nil
}

func (n *Node) answerUsers(ctx context.Context, q *wire.Users) ([]byte, error) {
	list := wire.UserList{Correlation: q.Correlation}
	for r, queries := range byRoute(n, q.Queries, func(q wire.UserQuery) wire.Slot { return q.ID.Slot() }) {
		users, err := n.usersAt(ctx, r, queries)
		if err != nil {
			return nil, err
		}
		list.Users = append(list.Users, users...)
	}
	return wire.AppendUserList(nil, &list), nil
}

func (n *Node) answerResolve(ctx context.Context, q *wire.Resolve) ([]byte, error) {
	list := wire.UserList{Correlation: q.Correlation}
	names := make([]string, len(q.Names))
	for i, name := range q.Names {
		names[i] = auth.CanonicalName(name)
	}
	for r, names := range byRoute(n, names, func(name string) wire.Slot { return wire.SlotOf([]byte(name)) }) {
		users, err := n.namesAt(ctx, r, names)
		if err != nil {
			return nil, err
		}
		list.Users = append(list.Users, users...)
	}
	return wire.AppendUserList(nil, &list), nil
}

// byRoute sorts what is asked for by the shards that have it.
func byRoute[T any](n *Node, list []T, slot func(T) wire.Slot) map[*route][]T {
	sorted := make(map[*route][]T)
	for _, x := range list {
		r := n.routeOf(slot(x))
		sorted[r] = append(sorted[r], x)
	}
	return sorted
}

// typing passes on that a user writes.
func (e *edge) typing(s *seat, ref wire.Ref) {
	user, peer := s.User, ref.ID()
	node := e.node
	if ref.Group() {
		node.readers.submit(user, func() { node.tellGroupTyping(user, peer) })
		return
	}
	if peer == user || node.hub == nil && !node.sessions.Has(peer) {
		return
	}
	// Dropped if the readers are busy: TYPING promises nothing.
	node.readers.submit(user, func() { node.tellTyping(user, peer) })
}

// typed tells a session that somebody writes; one that reads slowly is not told.
func (e *edge) typed(item typingItem) {
	s := e.seat(item.handle)
	if s == nil || s.State != session.Live || e.loop.Blocked(item.handle) {
		return
	}
	e.scratch = wire.AppendTyping(e.scratch[:0], &wire.Typing{Ref: item.ref})
	e.loop.Write(item.handle, e.scratch)
}
