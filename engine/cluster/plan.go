package cluster

import "time"

// Status is what the leader of the map's group knows of the cluster as it is.
type Status struct {
	// Down tells since how long nodes have not answered; those that do are not in it.
	Down map[uint32]time.Duration
	// Groups are the Raft configurations of shards, and of the map's group under MapGroup,
	// as their leaders announce them. A shard that nobody speaks for is left alone.
	Groups map[uint32]Membership
	// Damaged are replicas that will never vote again, by their ids.
	Damaged []string
	// ReplaceAfter is how long a node may be down before its replicas are made elsewhere;
	// 0: for ever, until an operator removes it.
	ReplaceAfter time.Duration
	// Random gives the numbers of new replica ids: 64 bits that were never used before.
	Random func() uint64
}

// Plan lists the next changes that bring a map towards where it should be, with at most
// limit shards in motion.
func Plan(m *Map, status Status, limit int) []Change { return nil }

// NewRemoval makes the change that removes a node, having looked at what the groups are.
func NewRemoval(m *Map, node uint32, status Status) (RemoveNode, error) {
	return RemoveNode{}, nil
}
