package cluster

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"parley/raft"
	"parley/wire"
)

// MapGroup is the Raft group of the map. Shards have the ids 0 to 255.
const MapGroup uint32 = 0xFFFF_FF00

// Versions of the cluster. A cluster works at the version that the map names; a node can
// take part if that lies between VersionMin and Version of its program.
const (
	Version    = 1
	VersionMin = 1
)

// mapVersion is the version of the map's encoding.
const mapVersion = 1

// ErrBadMap reports a map that contradicts itself or cannot be decoded.
var ErrBadMap = errors.New("cluster: bad map")

// A Map says what a cluster should look like. A map that others may see is never changed:
// [Map.Apply] returns another. The zero Map is that of a cluster which was not founded.
type Map struct {
	// Version is that of the encoding.
	Version int `json:"version"`
	// Cluster names the cluster, as node.json does.
	Cluster uint64 `json:"cluster"`
	// Epoch counts changes: of two maps of one cluster the one with the higher epoch is newer.
	Epoch uint64 `json:"epoch"`
	// ClusterVersion gates what all nodes must know before anybody uses it.
	ClusterVersion int `json:"cluster_version"`
	// NextNode is the number of the next node; numbers are never used again.
	NextNode uint32 `json:"next_node"`
	// Replicas is how many copies each shard should have.
	Replicas int `json:"replicas"`
	// Nodes are in the order of their numbers, removed ones included.
	Nodes []Node `json:"nodes"`
	// Shards are in the order of their ids, which are those of their Raft groups.
	Shards []Shard `json:"shards"`
	// MapReplicas are the voters that the map's own group should have.
	MapReplicas []Replica `json:"map_replicas"`
}

// NodeState says what is wanted of a node.
type NodeState uint8

// Up nodes get replicas, Draining ones lose theirs, Removed ones have left for good: no
// link accepts them.
const (
	Up NodeState = iota
	Draining
	Removed
)

var stateNames = [...]string{"up", "draining", "removed"}

// String is the word that operators see.
func (s NodeState) String() string {
	if int(s) < len(stateNames) {
		return stateNames[s]
	}
	return fmt.Sprintf("state %d", uint8(s))
}

// MarshalText writes the word, so that JSON shows it.
func (s NodeState) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// UnmarshalText reads the word.
func (s *NodeState) UnmarshalText(text []byte) error {
	i := slices.Index(stateNames[:], string(text))
	if i < 0 {
		return fmt.Errorf("%w: node state %q", ErrBadMap, text)
	}
	*s = NodeState(i)
	return nil
}

// A Node is one process with one data folder.
type Node struct {
	// Number names the node, from 1.
	Number uint32 `json:"number"`
	// Name is what operators call it; no two live nodes share one.
	Name string `json:"name"`
	// Address is where other nodes reach it, host:port.
	Address string `json:"address"`
	// Client is what clients are told to connect to; it may be empty.
	Client string `json:"client"`
	// Zone is what fails together with it; replicas of a shard are kept in different zones.
	Zone string `json:"zone"`
	// Weight is its share of replicas in proportion to that of others.
	Weight int `json:"weight"`
	// State says whether it should hold anything.
	State NodeState `json:"state"`
	// Identity was drawn with its data folder: an emptied folder is another node.
	Identity string `json:"identity"`
	// Version is the highest cluster version that its program knows.
	Version int `json:"version"`
}

// A Shard is a range of slots with the replicas that it should have.
type Shard struct {
	ID uint32 `json:"id"`
	// First and Last are the ends of its range, both included.
	First wire.Slot `json:"first"`
	Last  wire.Slot `json:"last"`
	// Replicas are where it should be.
	Replicas []Replica `json:"replicas"`
	// Preferred is the node that should lead; 0: any.
	Preferred uint32 `json:"preferred"`
	// Pinned keeps the planner from moving it for balance: an operator has placed it.
	Pinned bool `json:"pinned"`
}

// A Replica is one copy of a group: a node and the server id that this copy has in the
// group's Raft configuration.
type Replica struct {
	Node uint32 `json:"node"`
	ID   string `json:"id"`
}

// A Membership is the Raft configuration of a group as it is.
type Membership = raft.Membership

// NewReplica names a new copy of a group on a node. The random number must not have been
// used before: a wiped copy under its old id could forget a vote.
func NewReplica(node uint32, random uint64) Replica {
	return Replica{Node: node, ID: fmt.Sprintf("n%d-%016x", node, random)}
}

// NodeOf tells which node a replica is on. "n-" and 16 digits is an id of the time before
// there were clusters, which only their first node has.
func NodeOf(replica string) (node uint32, ok bool) {
	head, digits, found := strings.Cut(replica, "-")
	number, prefixed := strings.CutPrefix(head, "n")
	if !found || !prefixed || len(digits) != 16 || strings.Trim(digits, "0123456789abcdef") != "" {
		return 0, false
	}
	if number == "" {
		return 1, true
	}
	n, err := strconv.ParseUint(number, 10, 32)
	if err != nil || n == 0 || strconv.FormatUint(n, 10) != number {
		return 0, false
	}
	return uint32(n), true
}

// Founded tells whether there is a cluster at all.
func (m *Map) Founded() bool { return m.Epoch > 0 }

// Node finds a node by its number; nil if the map does not have it.
func (m *Map) Node(number uint32) *Node {
	i, ok := slices.BinarySearchFunc(m.Nodes, number, func(n Node, number uint32) int {
		return int(int64(n.Number) - int64(number))
	})
	if !ok {
		return nil
	}
	return &m.Nodes[i]
}

// Live finds a node that has not been removed; nil if there is none.
func (m *Map) Live(number uint32) *Node {
	if n := m.Node(number); n != nil && n.State != Removed {
		return n
	}
	return nil
}

// NodeNamed finds a live node by its name or, if it has none such, by its number in digits.
func (m *Map) NodeNamed(name string) *Node {
	for i := range m.Nodes {
		if n := &m.Nodes[i]; n.State != Removed && n.Name == name {
			return n
		}
	}
	number, err := strconv.ParseUint(name, 10, 32)
	if err != nil {
		return nil
	}
	return m.Live(uint32(number))
}

// Shard finds a shard; nil if there is none of that id.
func (m *Map) Shard(id uint32) *Shard {
	if int64(id) >= int64(len(m.Shards)) {
		return nil
	}
	return &m.Shards[id]
}

// Replicas of a group are those of a shard, or of the map itself; nil for any other.
func (m *Map) replicasOf(group uint32) []Replica {
	if group == MapGroup {
		return m.MapReplicas
	}
	if s := m.Shard(group); s != nil {
		return s.Replicas
	}
	return nil
}

// Own lists the groups that a node should hold, with the id of its copy of each.
func (m *Map) Own(node uint32) map[uint32]string {
	own := make(map[uint32]string)
	if r, ok := replicaOn(m.MapReplicas, node); ok {
		own[MapGroup] = r.ID
	}
	for i := range m.Shards {
		if r, ok := replicaOn(m.Shards[i].Replicas, node); ok {
			own[m.Shards[i].ID] = r.ID
		}
	}
	return own
}

func replicaOn(replicas []Replica, node uint32) (Replica, bool) {
	for _, r := range replicas {
		if r.Node == node {
			return r, true
		}
	}
	return Replica{}, false
}

// clone copies a map so far that elements may be replaced; lists of replicas are shared.
func (m *Map) clone() *Map {
	c := *m
	c.Nodes, c.Shards = slices.Clone(m.Nodes), slices.Clone(m.Shards)
	return &c
}

// quorum is how many voters of n must agree.
func quorum(n int) int { return n/2 + 1 }
