package engine

import (
	"context"
	"slices"

	"parley/engine/shard"
	"parley/wire"
)

// pageBytesMax bounds the items of one CONVERSATIONS frame, so that it stays within
// wire.FrameBytesMax with its token.
const pageBytesMax = wire.FrameBytesMax - wire.ConversationsHeaderBytes - syncTokenBytesMax

// answerSync reads the conversations that changed since the token. The session is
// already pushed to, so what changes while this reads reaches the client either way.
func (n *Node) answerSync(ctx context.Context, user wire.ID, q *wire.Sync) ([]byte, error) {
	token, err := parseSyncToken(q.Token, n.identity.Cluster)
	reset := err != nil && len(q.Token) > 0
	if err != nil {
		token = syncToken{cluster: n.identity.Cluster, marks: make(map[int]mark)}
	}
	changed, reset2, err := n.changedSince(ctx, user, &token)
	if err != nil {
		return nil, err
	}
	answer := wire.Conversations{Correlation: q.Correlation}
	if reset || reset2 {
		answer.Flags |= wire.SyncReset
	}
	limit := int(q.Limit)
	if limit == 0 {
		limit = wire.SyncItemsMax
	}
	if err := n.fillPage(ctx, user, &answer, &token, changed, limit, int(q.Previews)); err != nil {
		return nil, err
	}
	if told := len(answer.Items) > 0 || answer.Flags != 0 || token.paging; told || len(q.Token) == 0 {
		answer.Token = token.append(nil) // else: nothing changed, keep yours
	}
	return wire.AppendConversations(nil, &answer), nil
}

// changedSince collects what changed in every shard that holds a conversation of the
// user, in order of activity, and moves the token's marks. Between two pages it leaves
// out what an earlier page has told, unless it changed again since.
func (n *Node) changedSince(ctx context.Context, user wire.ID, t *syncToken) (all []shard.Changed, reset bool, err error) {
	shards, err := n.shardsOf(ctx, user)
	if err != nil {
		return nil, false, err
	}
	for index := range shards {
		m := t.marks[index]
		changed, reached, err := n.changedIn(ctx, n.routes[index], user, m.since)
		if err != nil {
			return nil, false, err
		}
		if m.since > reached || m.reached > reached {
			// The device has seen more than there is: the shard was restored from a backup.
			*t = syncToken{cluster: t.cluster, marks: make(map[int]mark)}
			all, _, err = n.changedSince(ctx, user, t)
			return all, true, err
		}
		for i := range changed {
			c := &changed[i]
			at := place{c.State.Time, c.State.Ref}
			if !t.paging || c.Index > m.reached || t.bound.before(at) {
				all = append(all, *c)
			}
		}
		t.marks[index] = mark{since: m.since, reached: reached}
	}
	slices.SortFunc(all, func(a, b shard.Changed) int {
		if (place{a.State.Time, a.State.Ref}).before(place{b.State.Time, b.State.Ref}) {
			return -1
		}
		return 1
	})
	return all, false, nil
}

// shardsOf is the set of shards that hold a conversation of the user; the user's home
// keeps the list.
func (n *Node) shardsOf(ctx context.Context, user wire.ID) (map[int]struct{}, error) {
	listed, err := n.listedFor(ctx, user)
	if err != nil {
		return nil, err
	}
	shards := make(map[int]struct{})
	for _, shard := range listed {
		shards[int(shard)] = struct{}{}
	}
	return shards, nil
}

// fillPage takes the first conversations of what changed, as many as the client and a
// frame take, with previews for the first ones, and makes the token of what comes next.
func (n *Node) fillPage(ctx context.Context, user wire.ID, answer *wire.Conversations, t *syncToken, changed []shard.Changed, limit, previews int) error {
	size := 0
	if t.paging {
		previews = 0 // the first page had them
	}
	for i := range changed {
		c := &changed[i]
		if i < previews {
			preview, err := n.preview(ctx, user, c.Conversation)
			if err != nil {
				return err
			}
			c.State.Preview = preview
		}
		size += wire.ConversationStateBytes(&c.State)
		if i == limit || size > pageBytesMax {
			answer.Flags |= wire.SyncMore
			last := &answer.Items[len(answer.Items)-1]
			t.paging, t.bound = true, place{last.Time, last.Ref}
			return nil
		}
		answer.Items = append(answer.Items, c.State)
	}
	t.paging = false
	for shard, m := range t.marks {
		t.marks[shard] = mark{since: m.reached, reached: m.reached}
	}
	return nil
}
