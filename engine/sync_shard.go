package engine

import (
	"context"
	"encoding/binary"
	"fmt"
	"slices"

	"parley/engine/delivery"
	"parley/engine/router"
	"parley/engine/shard"
	"parley/raft"
	"parley/wire"
)

// A changedQuery asks a shard for the conversations of a user that changed and come first
// in order of activity, but for those that an earlier page has told.
type changedQuery struct {
	caller
	mark   mark
	paging bool
	bound  place // while paging
	limit  int
}

// statesChunk is how many states travel in one CONVERSATIONS frame: with previews for all
// they stay within wire.FrameBytesMax.
const statesChunk = 128

// A statesQuery asks a shard for some conversations of a user, the first ones with previews.
type statesQuery struct {
	user     wire.ID
	previews int
	refs     []wire.Ref
}

// listedIn is the set of shards that the list of a user whose home this is names since an
// index, and the index to ask with next time.
func (n *Node) listedIn(ctx context.Context, l *replica, user wire.ID, since uint64) (shards []uint64, index uint64, err error) {
	var set [router.ShardsMax / 64]uint64
	index, err = l.Listed(ctx, user, since, func(c shard.Listed) {
		s := n.table.Shard(c.Conversation.Slot())
		set[s/64] |= 1 << (s % 64)
	})
	for s := range n.routes {
		if set[s/64]&(1<<(s%64)) != 0 {
			shards = append(shards, uint64(s))
		}
	}
	return shards, index, err
}

// listedFor is that set, for a user who is attached at home from now on.
func (n *Node) listedFor(ctx context.Context, user wire.ID, since uint64) (shards []uint64, index uint64, err error) {
	r := n.routeOf(user.Slot())
	p, err := r.attach(user)
	if err != nil {
		return nil, 0, err
	}
	if p.Node == 0 {
		l, err := r.lead(ctx)
		if err != nil {
			return nil, 0, err
		}
		return n.listedIn(ctx, l, user, since)
	}
	answer, err := n.ask(ctx, r, p, readListed, appendNumbers(nil, []uint64{uint64(user), since}))
	if err != nil {
		return nil, 0, err
	}
	t := tokenReader{src: answer}
	if index = t.uint(); t.bad {
		return nil, 0, errBadAnswer
	}
	shards, err = parseNumbers(t.src, uint64(len(n.routes)))
	return shards, index, err
}

// changed answers a changedQuery here: places in their order, at most limit of them.
func (l *replica) changed(ctx context.Context, q *changedQuery) (rows []place, index uint64, err error) {
	first := selection[place]{keep: q.limit, before: place.before}
	index, err = l.Changed(ctx, q.user, q.mark.since, func(c shard.Changed) {
		if c.Conversation.Kind == wire.Group && !q.groups {
			return
		}
		at := place{c.Time, c.Conversation.Ref(q.user)}
		if !q.paging || c.Index > q.mark.reached || q.bound.before(at) {
			first.add(at)
		}
	})
	return first.take(), index, err
}

// changedIn has a shard answer a changedQuery, for a user who is attached there from now
// on, and tells where it was answered.
func (n *Node) changedIn(ctx context.Context, r *route, q *changedQuery) (rows []place, index uint64, p delivery.Position, err error) {
	if p, err = r.attach(q.user); err != nil {
		return nil, 0, p, err
	}
	if p.Node == 0 {
		l, err := r.lead(ctx)
		if err != nil {
			return nil, 0, p, err
		}
		if q.groups {
			if err := r.introduce(l, q.user); err != nil {
				return nil, 0, p, err
			}
		}
		rows, index, err = l.changed(ctx, q)
		return rows, index, p, err
	}
	answer, err := n.ask(ctx, r, p, readChanged, q.append(nil))
	if err != nil {
		return nil, 0, p, err
	}
	if answer, err = r.introduced(p, answer); err != nil {
		return nil, 0, p, err
	}
	rows, index, err = parsePlaces(answer, q.limit)
	return rows, index, p, err
}

// Flags of a changedQuery.
const (
	changedPaging = 1 << iota
	changedGroups
	changedEnd
)

func (q *changedQuery) append(dst []byte) []byte {
	flags := uint64(0)
	if q.paging {
		flags |= changedPaging
	}
	if q.groups {
		flags |= changedGroups
	}
	return appendNumbers(dst, []uint64{uint64(q.user), q.mark.since, q.mark.reached, flags,
		uint64(q.bound.time), uint64(q.bound.ref), uint64(q.limit)})
}

func parseChangedQuery(src []byte) (q changedQuery, err error) {
	t := tokenReader{src: src}
	q = changedQuery{caller: caller{user: wire.ID(t.uint())}, mark: mark{since: t.uint(), reached: t.uint()}}
	flags := t.uint()
	q.paging, q.groups = flags&changedPaging != 0, flags&changedGroups != 0
	q.bound, q.limit = place{wire.Time(t.uint()), wire.Ref(t.uint())}, int(t.uint())
	if t.bad || len(t.src) > 0 || flags >= changedEnd || q.limit < 1 || q.limit > wire.SyncItemsMax+1 {
		return q, errQuestion
	}
	return q, nil
}

func appendPlaces(dst []byte, rows []place, index uint64) []byte {
	dst = binary.AppendUvarint(dst, index)
	for _, at := range rows {
		dst = appendNumbers(dst, []uint64{uint64(at.time), uint64(at.ref)})
	}
	return dst
}

func parsePlaces(src []byte, limit int) (rows []place, index uint64, err error) {
	t := tokenReader{src: src}
	index = t.uint()
	for len(t.src) > 0 && len(rows) < limit {
		rows = append(rows, place{wire.Time(t.uint()), wire.Ref(t.uint())})
	}
	if t.bad || len(t.src) > 0 {
		return nil, 0, errBadAnswer
	}
	return rows, index, nil
}

// states answers a statesQuery here.
func (l *replica) states(ctx context.Context, q *statesQuery) (list []wire.ConversationState, err error) {
	conversations := make([]wire.Conversation, len(q.refs))
	for i, ref := range q.refs {
		conversations[i] = ref.Conversation(q.user)
	}
	list = make([]wire.ConversationState, 0, len(q.refs))
	err = l.States(ctx, q.user, conversations, q.previews, func(v wire.ConversationState) { list = append(list, v) })
	return list, err
}

// statesIn has a shard answer a statesQuery, where it has shown before that it may be read.
func (n *Node) statesIn(ctx context.Context, r *route, p delivery.Position, q *statesQuery) ([]wire.ConversationState, error) {
	if p.Node == 0 {
		l := r.local.Load()
		if l == nil {
			return nil, raft.ErrNotLeader
		}
		return l.states(ctx, q)
	}
	answer, err := n.ask(ctx, r, p, readStates, q.append(nil))
	if err != nil {
		return nil, err
	}
	return parseStates(answer, len(q.refs))
}

func (q *statesQuery) append(dst []byte) []byte {
	dst = appendNumbers(dst, []uint64{uint64(q.user), uint64(q.previews)})
	for _, ref := range q.refs {
		dst = binary.AppendUvarint(dst, uint64(ref))
	}
	return dst
}

func parseStatesQuery(src []byte) (q statesQuery, err error) {
	t := tokenReader{src: src}
	q = statesQuery{user: wire.ID(t.uint()), previews: int(t.uint())}
	for len(t.src) > 0 && len(q.refs) <= wire.SyncItemsMax {
		q.refs = append(q.refs, wire.Ref(t.uint()))
	}
	if t.bad || len(q.refs) > wire.SyncItemsMax || q.previews > wire.PreviewsMax {
		return q, errQuestion
	}
	return q, nil
}

func appendStates(dst []byte, list []wire.ConversationState) []byte {
	for part := range slices.Chunk(list, statesChunk) {
		dst = wire.AppendConversations(dst, &wire.Conversations{Items: part})
	}
	return dst
}

func parseStates(src []byte, limit int) (list []wire.ConversationState, err error) {
	for len(src) > 0 {
		var f wire.Frame
		if f, src, err = wire.NextFrame(src); err != nil {
			return nil, fmt.Errorf("%w: %w", errBadAnswer, err)
		}
		c, err := wire.ParseConversations(f)
		if err != nil || len(c.Items) > limit-len(list) {
			return nil, errBadAnswer
		}
		list = append(list, c.Items...)
	}
	return list, nil
}
