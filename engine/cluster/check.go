package cluster

import (
	"fmt"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"parley/wire"
)

// Check finds contradictions in a map. One that was changed by [Map.Apply] has none.
func (m *Map) Check() error {
	if m.Epoch == 0 {
		if m.Cluster != 0 || m.NextNode != 0 || len(m.Nodes)+len(m.Shards)+len(m.MapReplicas) > 0 || m.Replicas != 0 || m.ClusterVersion != 0 {
			return fmt.Errorf("%w: no epoch", ErrBadMap)
		}
		return nil
	}
	switch {
	case m.Version != mapVersion:
		return fmt.Errorf("%w: encoding version %d", ErrBadMap, m.Version)
	case m.Cluster == 0 || m.ClusterVersion < 1:
		return fmt.Errorf("%w: cluster %d of version %d", ErrBadMap, m.Cluster, m.ClusterVersion)
	case m.Replicas < 1 || m.Replicas > ReplicasMax:
		return fmt.Errorf("%w: %d replicas", ErrBadMap, m.Replicas)
	case len(m.Nodes) == 0 || len(m.Nodes) > NodesMax:
		return fmt.Errorf("%w: %d nodes", ErrBadMap, len(m.Nodes))
	case len(m.Shards) == 0 || len(m.Shards) > ShardsMax:
		return fmt.Errorf("%w: %d shards", ErrBadMap, len(m.Shards))
	}
	if err := m.checkNodes(); err != nil {
		return err
	}
	if err := m.checkShards(); err != nil {
		return err
	}
	return m.checkReplicas("the map's group", m.MapReplicas, MapReplicasMax)
}

func (m *Map) checkNodes() error {
	before := uint32(0)
	addresses, names := make(map[string]bool), make(map[string]bool)
	for i := range m.Nodes {
		n := &m.Nodes[i]
		if n.Number <= before || n.Number >= m.NextNode || n.State > Removed {
			return fmt.Errorf("%w: node %d, next %d", ErrBadMap, n.Number, m.NextNode)
		}
		before = n.Number
		if err := checkNode(n); err != nil {
			return fmt.Errorf("%w: node %d: %w", ErrBadMap, n.Number, err)
		}
		if n.State == Removed {
			continue
		}
		if addresses[n.Address] || names[n.Name] {
			return fmt.Errorf("%w: node %d has the name or address of another", ErrBadMap, n.Number)
		}
		addresses[n.Address], names[n.Name] = true, true
	}
	return nil
}

func (m *Map) checkShards() error {
	next := 0
	for i := range m.Shards {
		s := &m.Shards[i]
		if int(s.ID) != i || int(s.First) != next || s.Last < s.First || int(s.Last) >= slots {
			return fmt.Errorf("%w: shard %d of slots %d to %d", ErrBadMap, s.ID, s.First, s.Last)
		}
		next = int(s.Last) + 1
		if err := m.checkReplicas(fmt.Sprint("shard ", s.ID), s.Replicas, ReplicasMax); err != nil {
			return err
		}
		if _, ok := replicaOn(s.Replicas, s.Preferred); s.Preferred != 0 && !ok {
			return fmt.Errorf("%w: shard %d prefers node %d, which has no replica", ErrBadMap, s.ID, s.Preferred)
		}
	}
	if next != slots {
		return fmt.Errorf("%w: shards end at slot %d", ErrBadMap, next)
	}
	return nil
}

func (m *Map) checkReplicas(group string, replicas []Replica, most int) error {
	if len(replicas) == 0 || len(replicas) > most {
		return fmt.Errorf("%w: %s has %d replicas, must have 1 to %d", ErrBadMap, group, len(replicas), most)
	}
	for i, r := range replicas {
		node, ok := NodeOf(r.ID)
		if !ok || node != r.Node || m.Node(node) == nil {
			return fmt.Errorf("%w: %s has replica %q on node %d", ErrBadMap, group, r.ID, r.Node)
		}
		if _, twice := replicaOn(replicas[:i], r.Node); twice {
			return fmt.Errorf("%w: %s has two replicas on node %d", ErrBadMap, group, r.Node)
		}
	}
	return nil
}

// checkNode checks what an operator or a joining node says of a node.
func checkNode(n *Node) error {
	switch {
	case !plain(n.Name) || n.Name == "":
		return fmt.Errorf("cluster: the name %q must be 1 to %d letters, digits, dots, dashes or underscores", n.Name, NameBytesMax)
	case !plain(n.Zone):
		return fmt.Errorf("cluster: the zone %q must be at most %d letters, digits, dots, dashes or underscores", n.Zone, NameBytesMax)
	case !address(n.Address) || !strings.Contains(n.Address, ":"):
		return fmt.Errorf("cluster: the address %q must be HOST:PORT", n.Address)
	case n.Client != "" && !address(n.Client):
		return fmt.Errorf("cluster: the client address %q has blanks or is longer than %d bytes", n.Client, AddressBytesMax)
	case n.Weight < 1 || n.Weight > WeightMax:
		return fmt.Errorf("cluster: the weight %d must be between 1 and %d", n.Weight, WeightMax)
	case n.Identity == "" || len(n.Identity) > IdentityBytesMax || !utf8.ValidString(n.Identity):
		return fmt.Errorf("cluster: the identity must have 1 to %d bytes", IdentityBytesMax)
	case n.Version < 1 || n.Version > 1<<20:
		return fmt.Errorf("cluster: the version %d cannot be", n.Version)
	}
	return nil
}

// plain tells whether a text is short and safe to show, in a shell too.
func plain(text string) bool {
	return len(text) <= NameBytesMax && !strings.ContainsFunc(text, func(r rune) bool {
		return !(r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r == '-' || r == '_' || r == '.')
	})
}

func address(text string) bool {
	return text != "" && len(text) <= AddressBytesMax && utf8.ValidString(text) && !strings.ContainsFunc(text, func(r rune) bool {
		return unicode.IsSpace(r) || !unicode.IsPrint(r)
	})
}

// evenShards splits the slots among shards, as router.NewTable does.
func evenShards(shards int, replica Replica) []Shard {
	list := make([]Shard, shards)
	for i := range list {
		first, next := i*slots/shards, (i+1)*slots/shards
		list[i] = Shard{
			ID: uint32(i), First: wire.Slot(first), Last: wire.Slot(next - 1),
			Replicas: []Replica{replica}, Preferred: replica.Node,
		}
	}
	return list
}

// sameReplicas compares two lists whatever their order.
func sameReplicas(a, b []Replica) bool {
	if len(a) != len(b) {
		return false
	}
	for _, r := range a {
		if !slices.Contains(b, r) {
			return false
		}
	}
	return true
}
