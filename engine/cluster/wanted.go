package cluster

import "errors"

// Wanted is where a group should be and which node should lead it; 0: any. The map's own
// group has no preference. The list is nil for a group that there is not.
func (m *Map) Wanted(group uint32) (replicas []Replica, preferred uint32) {
	if s := m.Shard(group); s != nil {
		return s.Replicas, s.Preferred
	}
	return m.replicasOf(group), 0
}

// refusals are the errors that a change or join is refused with for good, as opposed to
// those after which the same thing may work.
var refusals = []error{
	ErrBadChange, ErrFounded, ErrUnknownNode, ErrUnknownShard, ErrRemoved, ErrDuplicateNode, ErrDuplicateAddress, ErrDuplicateName,
	ErrMajority, ErrVersion, ErrTooMany, ErrBadJoin, ErrOtherCluster, ErrToken,
}

// Refused tells whether an error says that a change or a join is not allowed, so that it
// is of no use to ask again without changing anything.
func Refused(err error) bool {
	for _, refusal := range refusals {
		if errors.Is(err, refusal) {
			return true
		}
	}
	return false
}
