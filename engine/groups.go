package engine

import (
	"context"
	"encoding/binary"

	"parley/wire"
)

// answerMembers reads a page of a group's members.
func (n *Node) answerMembers(ctx context.Context, user wire.ID, q *wire.Members) ([]byte, error) {
	list, err := n.membersOf(ctx, user, q)
	if err != nil {
		return nil, err
	}
	list.Correlation = q.Correlation
	return wire.AppendMemberList(nil, &list), nil
}

func (n *Node) membersOf(ctx context.Context, user wire.ID, q *wire.Members) (wire.MemberList, error) {
	r := n.routeOf(q.Ref.ID().Slot())
	p, err := r.position()
	if err != nil {
		return wire.MemberList{}, err
	}
	if p.Node == 0 {
		l, err := r.lead(ctx)
		if err != nil {
			return wire.MemberList{}, err
		}
		return l.Members(user, *q)
	}
	answer, err := n.ask(ctx, r, p, readMembers, wire.AppendMembers(binary.AppendUvarint(nil, uint64(user)), q))
	if err != nil {
		return wire.MemberList{}, err
	}
	return parseOne(answer, wire.TypeMemberList, wire.ParseMemberList)
}

// answerGroupInfo reads how a group is.
func (n *Node) answerGroupInfo(ctx context.Context, user wire.ID, q *wire.GroupInfo) ([]byte, error) {
	state, err := n.groupState(ctx, user, q)
	if err != nil {
		return nil, err
	}
	state.Correlation = q.Correlation
	return wire.AppendGroupState(nil, &state), nil
}

func (n *Node) groupState(ctx context.Context, user wire.ID, q *wire.GroupInfo) (wire.GroupState, error) {
	r := n.routeOf(q.Ref.ID().Slot())
	p, err := r.position()
	if err != nil {
		return wire.GroupState{}, err
	}
	if p.Node == 0 {
		l, err := r.lead(ctx)
		if err != nil {
			return wire.GroupState{}, err
		}
		return l.GroupState(user, *q)
	}
	answer, err := n.ask(ctx, r, p, readGroup, wire.AppendGroupInfo(binary.AppendUvarint(nil, uint64(user)), q))
	if err != nil {
		return wire.GroupState{}, err
	}
	return parseOne(answer, wire.TypeGroupState, wire.ParseGroupState)
}
