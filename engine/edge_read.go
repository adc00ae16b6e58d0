package engine

import (
	"context"
	"errors"
	"time"

	"parley/engine/reactor"
	"parley/engine/session"
	"parley/raft"
	"parley/wire"
)

// readTimeout bounds a read with its authorization.
const readTimeout = 5 * time.Second

// read has a request answered by a reader; the answer comes back through the inbox.
func (e *edge) read(s *seat, request any) {
	h, user := s.handle, s.User
	loop, node := e.loop, e.node
	ok := node.readers.submit(func() {
		ctx, cancel := context.WithTimeout(context.Background(), readTimeout)
		defer cancel()
		loop.Post(answerItem{handle: h, frames: node.answer(ctx, user, request)})
	})
	if !ok {
		s.Answered()
		e.fail(s, correlationOf(request), wire.CodeOverloaded)
	}
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
	}
	return 0
}

// answer reads what a request asks for and encodes the answer, or the refusal.
func (n *Node) answer(ctx context.Context, user wire.ID, request any) []byte {
	var frames []byte
	var err error
	switch q := request.(type) {
	case *wire.Sync:
		frames, err = n.answerSync(ctx, user, q)
	case *wire.History:
		frames, err = n.answerHistory(ctx, user, q)
	case *wire.Users:
		frames, err = n.answerUsers(ctx, q)
	case *wire.Resolve:
		frames, err = n.answerResolve(ctx, q)
	}
	if err == nil {
		return frames
	}
	failure := wire.Error{Correlation: correlationOf(request), Code: wire.CodeTimeout}
	if errors.Is(err, raft.ErrNotLeader) {
		failure.Code = wire.CodeNotLeader
	} else {
		n.log.Error("a read failed", "user", user, "error", err)
	}
	return wire.AppendError(nil, &failure)
}

// authorized is the shard of a slot, once this node has shown that it may read there.
func (n *Node) authorized(ctx context.Context, slot wire.Slot) (*replica, error) {
	r := n.replicaOf(slot)
	return r, r.group.Authorize(ctx)
}

func (n *Node) answerHistory(ctx context.Context, user wire.ID, q *wire.History) ([]byte, error) {
	r, err := n.authorized(ctx, q.Ref.Conversation(user).Slot())
	if err != nil {
		return nil, err
	}
	page, err := r.Page(user, *q)
	if err != nil {
		return nil, err
	}
	page.Correlation = q.Correlation
	return wire.AppendPage(nil, &page), nil
}

func (n *Node) answerUsers(ctx context.Context, q *wire.Users) ([]byte, error) {
	list := wire.UserList{Correlation: q.Correlation}
	for _, query := range q.Queries {
		r, err := n.authorized(ctx, query.ID.Slot())
		if err != nil {
			return nil, err
		}
		u, ok, err := r.User(query.ID)
		if err != nil {
			return nil, err
		}
		if ok && u.Version > query.Version {
			list.Users = append(list.Users, wire.User{ID: u.ID, Version: u.Version, Name: u.Name})
		}
	}
	return wire.AppendUserList(nil, &list), nil
}

func (n *Node) answerResolve(ctx context.Context, q *wire.Resolve) ([]byte, error) {
	list := wire.UserList{Correlation: q.Correlation}
	for _, name := range q.Names {
		u, ok, err := n.userByName(ctx, name)
		if err != nil {
			return nil, err
		}
		if ok {
			list.Users = append(list.Users, wire.User{ID: u.ID, Version: u.Version, Name: u.Name})
		}
	}
	return wire.AppendUserList(nil, &list), nil
}

// typing passes on that a user writes, to the other's sessions at this node, if the two
// have a conversation: a stranger's typing is nobody's business.
func (e *edge) typing(s *seat, ref wire.Ref) {
	user, peer := s.User, ref.ID()
	entries := e.node.sessions.Append(nil, peer)
	if peer == user || len(entries) == 0 {
		return
	}
	node, conversation := e.node, ref.Conversation(user)
	// Dropped if the readers are busy: TYPING promises nothing.
	node.readers.submit(func() {
		r := node.replicaOf(conversation.Slot())
		if _, exists, err := r.State(user, conversation, false); err != nil || !exists {
			return
		}
		for _, entry := range entries {
			h := reactor.Handle(entry.Handle)
			node.post(h, typingItem{handle: h, ref: wire.DirectRef(user)})
		}
	})
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
