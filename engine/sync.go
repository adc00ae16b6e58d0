package engine

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"

	"parley/engine/delivery"
	"parley/wire"
)

// pageBytesMax bounds the items of one CONVERSATIONS frame, so that it stays within
// wire.FrameBytesMax with its token.
const pageBytesMax = wire.FrameBytesMax - wire.ConversationsHeaderBytes - syncTokenBytesMax

// errAhead says that a device has seen more of a shard than there is: the shard was
// restored from a backup.
var errAhead = errors.New("engine: a sync token is ahead of its shard")

// answerSync reads the conversations that changed since the token. The session is
// already pushed to, so what changes while this reads reaches the client either way.
func (n *Node) answerSync(ctx context.Context, c caller, q *wire.Sync) ([]byte, error) {
	token, err := parseSyncToken(q.Token, n.identity.Cluster, len(n.routes))
	if err == nil && c.groups && !token.groups {
		err = errTokenTooOld // the device did not know groups, and was told of none
	}
	reset := err != nil && len(q.Token) > 0
	if err != nil {
		token = newSyncToken(n.identity.Cluster, c.groups)
	}
	token.groups = c.groups
	limit := int(q.Limit)
	if limit == 0 {
		limit = wire.SyncItemsMax
	}
	p := syncPage{node: n, caller: c, token: token, limit: limit, previews: int(q.Previews)}
	rows, err := p.choose(ctx)
	if errors.Is(err, errAhead) {
		reset, p.token = true, newSyncToken(n.identity.Cluster, c.groups)
		rows, err = p.choose(ctx)
	}
	if err != nil {
		return nil, err
	}
	answer := wire.Conversations{Correlation: q.Correlation}
	if reset {
		answer.Flags |= wire.SyncReset
	}
	if err := p.fill(ctx, &answer, rows); err != nil {
		return nil, err
	}
	if told := len(answer.Items) > 0 || answer.Flags != 0 || p.token.paging; told || len(q.Token) == 0 {
		answer.Token = p.token.append(nil) // else: nothing changed, keep yours
	}
	return wire.AppendConversations(nil, &answer), nil
}

// A syncPage is one answer to SYNC in the making. First each shard chooses the rows of its
// index that come first in order of activity; then only the conversations of those that
// are first of all are read.
type syncPage struct {
	node *Node
	caller
	token    syncToken
	limit    int
	previews int
	readAt   map[int]delivery.Position // where each shard's rows came from
}

// A syncRow is a conversation that changed: where it stands, and in which shard it is.
type syncRow struct {
	place
	shard int
}

// choose finds the rows that come first, one more than the page takes if there is one, and
// moves the token's marks to what it saw. Between two pages it leaves out what an earlier
// page has told, unless it changed again since.
//
// The shards to ask are those of the token and those that the user's list, at home, names
// since: home's mark is how far the list was read, and how far home's own rows were.
func (p *syncPage) choose(ctx context.Context) ([]syncRow, error) {
	n := p.node
	home := n.table.Shard(p.user.Slot())
	listed, listedAt, err := n.listedFor(ctx, p.user, p.token.marks[home].since)
	if err != nil {
		return nil, err
	}
	shards := append(slices.Collect(maps.Keys(p.token.marks)), home)
	for _, shard := range listed {
		shards = append(shards, int(shard))
	}
	slices.Sort(shards)
	p.readAt = make(map[int]delivery.Position)
	first := selection[syncRow]{keep: p.limit + 1, before: func(a, b syncRow) bool { return a.before(b.place) }}
	for _, shard := range slices.Compact(shards) {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		m := p.token.marks[shard]
		q := changedQuery{caller: p.caller, mark: m, paging: p.token.paging, bound: p.token.bound, limit: p.limit + 1}
		rows, reached, position, err := n.changedIn(ctx, n.routes[shard], &q)
		if err != nil {
			return nil, err
		}
		if shard == home {
			reached = min(reached, listedAt)
		}
		if m.since > reached || m.reached > reached {
			return nil, fmt.Errorf("%w: shard %d", errAhead, shard)
		}
		for _, at := range rows {
			first.add(syncRow{at, shard})
		}
		p.token.marks[shard], p.readAt[shard] = mark{since: m.since, reached: reached}, position
	}
	return first.take(), nil
}

// fill reads the conversations of the chosen rows, as many as the client and a frame take,
// with previews for the first ones, and makes the token of what comes next. What changed
// since the rows were read is told as it is now, and once more on a later page.
func (p *syncPage) fill(ctx context.Context, answer *wire.Conversations, rows []syncRow) error {
	more := len(rows) > p.limit
	rows = rows[:min(len(rows), p.limit)]
	states, err := p.states(ctx, rows)
	if err != nil {
		return err
	}
	size, end := 0, 0
	for ; end < len(rows); end++ {
		v, ok := states[rows[end].ref]
		if !ok {
			continue
		}
		if size += wire.ConversationStateBytes(v); size > pageBytesMax {
			more = true
			break
		}
		answer.Items = append(answer.Items, *v)
	}
	slices.SortFunc(answer.Items, func(a, b wire.ConversationState) int {
		if (place{a.Time, a.Ref}).before(place{b.Time, b.Ref}) {
			return -1
		}
		return 1
	})
	if more {
		answer.Flags |= wire.SyncMore
		p.token.paging, p.token.bound = true, rows[end-1].place
		return nil
	}
	p.token.paging = false
	for shard, m := range p.token.marks {
		p.token.marks[shard] = mark{since: m.reached, reached: m.reached}
	}
	return nil
}

// states reads the conversations of rows, shard by shard.
func (p *syncPage) states(ctx context.Context, rows []syncRow) (map[wire.Ref]*wire.ConversationState, error) {
	previews := p.previews
	if p.token.paging {
		previews = 0 // the first page had them
	}
	questions := make(map[int]*statesQuery)
	for i, row := range rows {
		q := questions[row.shard]
		if q == nil {
			q = &statesQuery{user: p.user}
			questions[row.shard] = q
		}
		q.refs = append(q.refs, row.ref)
		if i < previews {
			q.previews++
		}
	}
	states := make(map[wire.Ref]*wire.ConversationState, len(rows))
	for shard, q := range questions {
		list, err := p.node.statesIn(ctx, p.node.routes[shard], p.readAt[shard], q)
		if err != nil {
			return nil, err
		}
		for i := range list {
			states[list[i].Ref] = &list[i]
		}
	}
	return states, nil
}

// A selection keeps those of many that come first, and no more than twice as many.
type selection[T any] struct {
	keep   int
	before func(a, b T) bool
	list   []T
	full   bool // keep are known, and the last of them is list[keep-1]
}

func (s *selection[T]) add(x T) {
	if s.full && !s.before(x, s.list[s.keep-1]) {
		return
	}
	if s.list = append(s.list, x); len(s.list) >= 2*s.keep {
		s.cut()
	}
}

func (s *selection[T]) cut() {
	slices.SortFunc(s.list, func(a, b T) int {
		if s.before(a, b) {
			return -1
		}
		return 1
	})
	if len(s.list) >= s.keep {
		s.list, s.full = s.list[:s.keep], true
	}
}

// take gives the selected ones in their order.
func (s *selection[T]) take() []T {
	s.cut()
	return s.list
}
