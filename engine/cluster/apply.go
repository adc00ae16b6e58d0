package cluster

import (
	"fmt"
	"slices"
	"strings"
)

func (c Found) apply(m *Map) (uint32, error) {
	if m.Founded() {
		if m.Cluster == c.Cluster && m.Nodes[0].Number == 1 && m.Nodes[0].Identity == c.Node.Identity {
			return 1, errUnchanged
		}
		return 0, fmt.Errorf("%w: cluster %d", ErrFounded, m.Cluster)
	}
	n := c.Node
	n.Number, n.State = 1, Up
	complete(&n)
	if c.Shards < 1 || c.Shards > ShardsMax {
		return 0, fmt.Errorf("%w: %d shards", ErrBadChange, c.Shards)
	}
	if c.Version > n.Version {
		return 0, fmt.Errorf("%w: the node knows version %d, not %d", ErrVersion, n.Version, c.Version)
	}
	*m = Map{
		Version: mapVersion, Cluster: c.Cluster, ClusterVersion: c.Version, NextNode: 2, Replicas: c.Replicas,
		Nodes: []Node{n}, Shards: evenShards(c.Shards, Replica{Node: 1, ID: c.Replica}),
		MapReplicas: []Replica{{Node: 1, ID: c.MapReplica}},
	}
	return 1, nil
}

// complete gives a node that is new what it does not say.
func complete(n *Node) {
	if n.Name == "" {
		n.Name = fmt.Sprint("n", n.Number)
	}
	if n.Weight == 0 {
		n.Weight = WeightDefault
	}
}

func (c AddNode) apply(m *Map) (uint32, error) {
	if n, err := m.rejoining(&c.Node); n != 0 || err != nil {
		return n, err
	}
	return m.add(c.Node)
}

// rejoining looks for a node by its data folder. One that is there and has not moved may
// join again: it may not have heard that it is in.
func (m *Map) rejoining(joining *Node) (uint32, error) {
	for i := range m.Nodes {
		n := &m.Nodes[i]
		switch {
		case n.Identity != joining.Identity:
		case n.State == Removed:
			return 0, fmt.Errorf("%w: node %d; empty its data folder to let it join as a new node", ErrRemoved, n.Number)
		case n.Address != joining.Address:
			return 0, fmt.Errorf("%w: node %d (%s) at %s; no two nodes may have copies of one folder", ErrDuplicateNode, n.Number, n.Name, n.Address)
		default:
			return n.Number, errUnchanged
		}
	}
	return 0, nil
}

// add takes a node in that is not there yet.
func (m *Map) add(n Node) (uint32, error) {
	if n.Version < m.ClusterVersion {
		return 0, fmt.Errorf("%w: the cluster is at version %d, the node's program knows %d: update it first", ErrVersion, m.ClusterVersion, n.Version)
	}
	if len(m.Nodes) >= NodesMax {
		return 0, fmt.Errorf("%w: nodes, at most %d", ErrTooMany, NodesMax)
	}
	n.Number, n.State = m.NextNode, Up
	complete(&n)
	if err := m.free(&n); err != nil {
		return 0, err
	}
	m.NextNode++
	m.Nodes = append(m.Nodes, n)
	return n.Number, nil
}

// free checks that no other live node has a node's address or name.
func (m *Map) free(n *Node) error {
	for i := range m.Nodes {
		other := &m.Nodes[i]
		if other.State == Removed || other.Number == n.Number {
			continue
		}
		if other.Address == n.Address {
			return fmt.Errorf("%w: node %d (%s) at %s; if that one has lost its data, replace it", ErrDuplicateAddress, other.Number, other.Name, other.Address)
		}
		if other.Name == n.Name {
			return fmt.Errorf("%w: node %d is called %s", ErrDuplicateName, other.Number, other.Name)
		}
	}
	return nil
}

func (c ReplaceNode) apply(m *Map) (uint32, error) {
	if n, err := m.rejoining(&c.Node); n != 0 || err != nil {
		return n, err
	}
	old := m.Node(c.Old)
	if old == nil {
		return 0, fmt.Errorf("%w: %d", ErrUnknownNode, c.Old)
	}
	if old.State != Removed {
		if err := m.remove(c.Old, c.Down); err != nil {
			return 0, err
		}
	}
	return m.add(c.Node)
}

func (c SetNode) apply(m *Map) (uint32, error) {
	n, err := m.changeable(c.Number)
	if err != nil {
		return 0, err
	}
	before := *n
	set(&n.Name, c.Name)
	set(&n.Address, c.Address)
	set(&n.Client, c.Client)
	set(&n.Zone, c.Zone)
	set(&n.Weight, c.Weight)
	set(&n.Version, c.Version)
	set(&n.State, c.State)
	switch {
	case n.State == Removed:
		return 0, fmt.Errorf("%w: a node is removed by a removal", ErrBadChange)
	case n.Version < m.ClusterVersion:
		return 0, fmt.Errorf("%w: the cluster is at version %d, the node's program knows %d", ErrVersion, m.ClusterVersion, n.Version)
	case *n == before:
		return n.Number, errUnchanged
	}
	return n.Number, m.free(n)
}

func set[T any](to *T, from *T) {
	if from != nil {
		*to = *from
	}
}

// changeable finds a live node, for a change.
func (m *Map) changeable(number uint32) (*Node, error) {
	n := m.Node(number)
	if n == nil {
		return nil, fmt.Errorf("%w: %d", ErrUnknownNode, number)
	}
	if n.State == Removed {
		return nil, fmt.Errorf("%w: node %d (%s)", ErrRemoved, n.Number, n.Name)
	}
	return n, nil
}

func (c RemoveNode) apply(m *Map) (uint32, error) {
	if err := m.at(c.Epoch); err != nil {
		return 0, err
	}
	n := m.Node(c.Number)
	if n == nil {
		return 0, fmt.Errorf("%w: %d", ErrUnknownNode, c.Number)
	}
	if n.State == Removed {
		return n.Number, errUnchanged
	}
	return n.Number, m.remove(c.Number, c.Down)
}

// at refuses a change that was made for another epoch of the map.
func (m *Map) at(epoch uint64) error {
	if epoch != 0 && epoch != m.Epoch {
		return fmt.Errorf("%w: made for epoch %d, now %d: look again", ErrEpoch, epoch, m.Epoch)
	}
	return nil
}

// remove marks a live node as removed, if all groups keep a majority. Its replicas stay
// in the lists until the planner has found others.
func (m *Map) remove(number uint32, down []uint32) error {
	if err := m.survives(number, down, nil); err != nil {
		return err
	}
	m.Node(number).State = Removed
	for i := range m.Shards {
		if s := &m.Shards[i]; s.Preferred == number {
			s.Preferred = 0
		}
	}
	return nil
}

// survives checks that every group that a node is part of has a majority without it.
// groups, if not nil, are the configurations of all groups as they are.
func (m *Map) survives(number uint32, down []uint32, groups map[uint32]Membership) error {
	var lost []string
	examine := func(group uint32, name string) {
		text := m.short(number, down, m.replicasOf(group))
		if text == "" && groups != nil {
			if actual, known := groups[group]; !known {
				text = "has no leader now, so that nobody knows what it depends on"
			} else if text = m.short(number, down, replicasOf(actual.Voters)); text != "" {
				text += ", as it is now"
			}
		}
		if text != "" {
			lost = append(lost, name+" "+text)
		}
	}
	examine(MapGroup, "the map's group")
	for i := range m.Shards {
		examine(m.Shards[i].ID, fmt.Sprint("shard ", m.Shards[i].ID))
	}
	if len(lost) == 0 {
		return nil
	}
	name := m.Node(number).Name
	more := ""
	if n := len(lost) - 3; n > 0 {
		lost, more = lost[:3], fmt.Sprintf(", and %d more groups", n)
	}
	return fmt.Errorf("%w without node %d (%s): %s%s. Bring back the nodes that are down, or drain it first: parley node drain %s, "+
		"then remove it once parley node list shows no replicas on it", ErrMajority, number, name, strings.Join(lost, "; "), more, name)
}

// short says what a group has left without a node; "" if that is a majority, or if it is
// not part of the group.
func (m *Map) short(number uint32, down []uint32, replicas []Replica) string {
	if _, part := replicaOn(replicas, number); !part {
		return ""
	}
	left := 0
	for _, r := range replicas {
		if r.Node != number && m.Live(r.Node) != nil && !slices.Contains(down, r.Node) {
			left++
		}
	}
	if left >= quorum(len(replicas)) {
		return ""
	}
	return fmt.Sprintf("would have %d of %d replicas", left, len(replicas))
}

func replicasOf(ids []string) []Replica {
	replicas := make([]Replica, 0, len(ids))
	for _, id := range ids {
		node, _ := NodeOf(id)
		replicas = append(replicas, Replica{Node: node, ID: id})
	}
	return replicas
}

func (c SetReplicas) apply(m *Map) (uint32, error) {
	if err := m.at(c.Epoch); err != nil {
		return 0, err
	}
	s := m.Shard(c.Shard)
	if s == nil {
		return 0, fmt.Errorf("%w: %d", ErrUnknownShard, c.Shard)
	}
	if sameReplicas(s.Replicas, c.Replicas) && s.Preferred == c.Preferred && s.Pinned == c.Pinned {
		return 0, errUnchanged
	}
	if err := m.placeable(s.Replicas, c.Replicas); err != nil {
		return 0, err
	}
	s.Replicas, s.Preferred, s.Pinned = slices.Clone(c.Replicas), c.Preferred, c.Pinned
	return 0, nil
}

// placeable checks that what is new in a list of replicas is on nodes that are there.
func (m *Map) placeable(before, after []Replica) error {
	for _, r := range after {
		if slices.Contains(before, r) {
			continue
		}
		if _, err := m.changeable(r.Node); err != nil {
			return err
		}
	}
	return nil
}

func (c SetPreferred) apply(m *Map) (uint32, error) {
	s := m.Shard(c.Shard)
	if s == nil {
		return 0, fmt.Errorf("%w: %d", ErrUnknownShard, c.Shard)
	}
	if s.Preferred == c.Node {
		return 0, errUnchanged
	}
	if _, ok := replicaOn(s.Replicas, c.Node); !ok && c.Node != 0 {
		return 0, fmt.Errorf("%w: node %d has no replica of shard %d", ErrBadChange, c.Node, c.Shard)
	}
	s.Preferred = c.Node
	return 0, nil
}

func (c SetMapReplicas) apply(m *Map) (uint32, error) {
	if err := m.at(c.Epoch); err != nil {
		return 0, err
	}
	if sameReplicas(m.MapReplicas, c.Replicas) {
		return 0, errUnchanged
	}
	if err := m.placeable(m.MapReplicas, c.Replicas); err != nil {
		return 0, err
	}
	m.MapReplicas = slices.Clone(c.Replicas)
	return 0, nil
}

func (c SetCopies) apply(m *Map) (uint32, error) {
	if m.Replicas == c.Copies {
		return 0, errUnchanged
	}
	m.Replicas = c.Copies
	return 0, nil
}

func (c SetVersion) apply(m *Map) (uint32, error) {
	if c.Version <= m.ClusterVersion {
		if c.Version == m.ClusterVersion {
			return 0, errUnchanged
		}
		return 0, fmt.Errorf("%w: the cluster is at version %d and cannot go back to %d", ErrVersion, m.ClusterVersion, c.Version)
	}
	for i := range m.Nodes {
		if n := &m.Nodes[i]; n.State != Removed && n.Version < c.Version {
			return 0, fmt.Errorf("%w: node %d (%s) knows version %d: update its program first", ErrVersion, n.Number, n.Name, n.Version)
		}
	}
	m.ClusterVersion = c.Version
	return 0, nil
}

// forget drops the oldest removed nodes that nothing refers to, beyond RemovedMax.
func (m *Map) forget() {
	removed := 0
	for i := range m.Nodes {
		if m.Nodes[i].State == Removed {
			removed++
		}
	}
	m.Nodes = slices.DeleteFunc(m.Nodes, func(n Node) bool {
		if removed <= RemovedMax || n.State != Removed || m.refers(n.Number) {
			return false
		}
		removed--
		return true
	})
}

// refers tells whether any group should have a replica on a node.
func (m *Map) refers(node uint32) bool {
	if _, ok := replicaOn(m.MapReplicas, node); ok {
		return true
	}
	for i := range m.Shards {
		if _, ok := replicaOn(m.Shards[i].Replicas, node); ok {
			return true
		}
	}
	return false
}
