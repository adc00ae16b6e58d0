package shard

import "parley/wire"

// Groups are the memberships of users in this shard's groups, as of a Raft index: what an
// edge must know of a user before it can fan a group's messages out. It costs one seek
// for a user without groups.
func (s *Shard) Groups(users []wire.ID) (memberships []MembershipEffect, index uint64, err error) {
	return nil, s.stats.Load().Applied, nil // nothing makes a group yet
}
