package engine

import "parley/wire"

// Members is a page of a group's members.
func (l *replica) Members(wire.ID, wire.Members) (wire.MemberList, error) {
	return wire.MemberList{}, &wire.Error{Code: wire.CodeNotMember}
}

// Group is how a group is.
func (l *replica) Group(wire.ID, wire.ID) (wire.GroupState, error) {
	return wire.GroupState{}, &wire.Error{Code: wire.CodeNotMember}
}
