package engine

import (
	"context"
	"encoding/binary"

	"parley/engine/delivery"
	"parley/engine/shard"
	"parley/raft"
	"parley/wire"
)

// introduceTries is how often memberships are read again because some ended meanwhile.
const introduceTries = 8

// introduce tells this node's sessions of which groups in the shard their user is a
// member, as the replica here knows it, which has shown that it leads. What the shard tells
// from then on is theirs; what it has told is in whatever is read next.
func (r *route) introduce(l *replica, user wire.ID) error {
	for range introduceTries {
		memberships, index, err := l.Groups([]wire.ID{user})
		if err != nil || len(memberships) == 0 {
			return err
		}
		if done, err := r.introduceAt(index, memberships); done || err != nil {
			return err
		}
	}
	return raft.ErrNotLeader // again
}

func (r *route) introduceAt(index uint64, memberships []shard.MembershipEffect) (done bool, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.inlet != nil && !r.inlet.Here() {
		return false, raft.ErrNotLeader
	}
	e, ok := r.groups.Introduce(r.id, index, memberships)
	if ok {
		r.deliver(e)
	}
	return ok, nil
}

// introduceTo tells the sessions of another node, on its stream, and appends to an answer
// what the node needs to know that it was told.
func (r *route) introduceTo(dst []byte, l *replica, q *question, user wire.ID) ([]byte, error) {
	outlet := r.outlet.Load()
	if outlet == nil {
		return nil, raft.ErrNotLeader
	}
	number, ok, err := outlet.Introduce(q.from, q.generation, []wire.ID{user}, l.Groups)
	if err != nil {
		return nil, err
	}
	if !ok {
		return nil, raft.ErrNotLeader
	}
	return binary.AppendUvarint(dst, number), nil
}

// introduced takes that off an answer, which is no good if what came before it was lost.
func (r *route) introduced(p delivery.Position, answer []byte) ([]byte, error) {
	t := tokenReader{src: answer}
	number := t.uint()
	if t.bad {
		return nil, errBadAnswer
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.inlet.Introduced(p, number) {
		return nil, raft.ErrNotLeader
	}
	return t.src, nil
}

// introduceUser does all of it for a user, wherever the shard is led, and says where it may
// be read for the user then.
func (n *Node) introduceUser(ctx context.Context, r *route, user wire.ID) (delivery.Position, error) {
	p, err := r.attach(user)
	if err != nil {
		return p, err
	}
	if p.Node == 0 {
		l, err := r.lead(ctx)
		if err != nil {
			return p, err
		}
		return p, r.introduce(l, user)
	}
	answer, err := n.ask(ctx, r, p, readGroups, binary.AppendUvarint(nil, uint64(user)))
	if err == nil {
		_, err = r.introduced(p, answer)
	}
	return p, err
}

// answerGroups answers the questions of another node that have to do with groups.
func (r *route) answerGroups(ctx context.Context, l *replica, q *question) ([]byte, error) {
	t := tokenReader{src: q.body}
	switch q.op {
	case readChanged:
		c, err := parseChangedQuery(q.body)
		if err != nil {
			return nil, err
		}
		answer := []byte{0}
		if c.groups {
			if answer, err = r.introduceTo(nil, l, q, c.user); err != nil {
				return nil, err
			}
		}
		rows, index, err := l.changed(ctx, &c)
		return appendPlaces(answer, rows, index), err
	case readGroups:
		return r.introduceTo(nil, l, q, wire.ID(t.uint()))
	case readMembers:
		user := wire.ID(t.uint())
		m, err := parseOne(t.src, wire.TypeMembers, wire.ParseMembers)
		if err != nil {
			return nil, err
		}
		list, err := l.Members(user, m)
		return wire.AppendMemberList(nil, &list), err
	case readGroup:
		user := wire.ID(t.uint())
		g, err := parseOne(t.src, wire.TypeGroupInfo, wire.ParseGroupInfo)
		if err != nil {
			return nil, err
		}
		state, err := l.GroupState(user, g)
		return wire.AppendGroupState(nil, &state), err
	}
	return nil, errQuestion
}
