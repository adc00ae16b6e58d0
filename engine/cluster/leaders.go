package cluster

import (
	"math"
	"slices"
)

// Leaders computes which node should lead each shard, from the nodes that hold it and the
// one that leads or should lead it now (0: none). Each node that is Up leads its share of
// shards, in proportion to its weight, to within one as far as the replicas allow; whoever
// leads already goes on unless that stands in the way. A shard with no replica on such a
// node keeps its leader.
func Leaders(replicas [][]uint32, nodes []Node, current []uint32) []uint32 {
	l := newLeadership(replicas, nodes)
	for s := range replicas {
		if i, ok := l.position[at(current, s)]; ok && slices.Contains(l.able[s], i) && l.nodes[i].count < l.nodes[i].high {
			l.give(s, i)
		}
	}
	for s := range replicas {
		if l.leader[s] < 0 && !l.push(s, make([]bool, len(l.nodes))) {
			l.give(s, l.idlest(s))
		}
	}
	for i := range l.nodes {
		for l.nodes[i].count < l.nodes[i].low && l.pull(i, make([]bool, len(l.nodes))) {
		}
	}
	leaders := make([]uint32, len(replicas))
	for s, i := range l.leader {
		if leaders[s] = at(current, s); i >= 0 {
			leaders[s] = l.nodes[i].number
		}
	}
	return leaders
}

func at(list []uint32, i int) uint32 {
	if i < len(list) {
		return list[i]
	}
	return 0
}

// A leadership is one computation of Leaders: a matching of shards with nodes, grown and
// evened out along paths of shards that change hands.
type leadership struct {
	nodes    []leaderCandidate
	position map[uint32]int // of nodes by number
	able     [][]int        // by shard: the nodes that could lead it
	holds    [][]int        // by node: the shards that it could lead
	leader   []int          // by shard; -1: none yet
}

type leaderCandidate struct {
	number    uint32
	low, high int
	count     int // shards that it leads
}

func newLeadership(replicas [][]uint32, nodes []Node) *leadership {
	l := &leadership{position: make(map[uint32]int), able: make([][]int, len(replicas)), leader: make([]int, len(replicas))}
	var weights []float64
	for i := range nodes {
		if nodes[i].State == Up {
			l.position[nodes[i].Number] = len(l.nodes)
			l.nodes = append(l.nodes, leaderCandidate{number: nodes[i].Number})
			weights = append(weights, float64(max(nodes[i].Weight, 1)))
		}
	}
	l.holds = make([][]int, len(l.nodes))
	led := 0
	for s, list := range replicas {
		l.leader[s] = -1
		for _, number := range list {
			if i, ok := l.position[number]; ok {
				l.able[s] = append(l.able[s], i)
				l.holds[i] = append(l.holds[i], s)
			}
		}
		if len(l.able[s]) > 0 {
			led++
		}
	}
	most := make([]float64, len(l.nodes))
	for i := range most {
		most[i] = float64(len(l.holds[i]))
	}
	for i, share := range divide(float64(led), weights, most) {
		l.nodes[i].low, l.nodes[i].high = int(share+rounding), int(math.Ceil(share-rounding))
	}
	return l
}

// give makes a node the leader of a shard; -1: none.
func (l *leadership) give(s, i int) {
	if old := l.leader[s]; old >= 0 {
		l.nodes[old].count--
	}
	if l.leader[s] = i; i >= 0 {
		l.nodes[i].count++
	}
}

// push finds a leader for a shard: a node with room, or one that can pass on a shard.
func (l *leadership) push(s int, seen []bool) bool {
	for _, i := range l.able[s] {
		if l.nodes[i].count < l.nodes[i].high {
			l.give(s, i)
			return true
		}
	}
	for _, i := range l.able[s] {
		if seen[i] {
			continue
		}
		seen[i] = true
		for _, other := range l.holds[i] {
			if l.leader[other] == i && other != s && l.push(other, seen) {
				l.give(s, i)
				return true
			}
		}
	}
	return false
}

// pull finds a shard for a node to lead: of a node that leads enough without it, or of one
// that can pull another.
func (l *leadership) pull(i int, seen []bool) bool {
	seen[i] = true
	for _, s := range l.holds[i] {
		if from := l.leader[s]; from >= 0 && from != i && l.nodes[from].count > l.nodes[from].low {
			l.give(s, i)
			return true
		}
	}
	for _, s := range l.holds[i] {
		if from := l.leader[s]; from >= 0 && !seen[from] && l.pull(from, seen) {
			l.give(s, i)
			return true
		}
	}
	return false
}

// idlest is the node that leads the fewest of those that could lead a shard; -1: none could.
func (l *leadership) idlest(s int) int {
	best := -1
	for _, i := range l.able[s] {
		if best < 0 || l.nodes[i].count < l.nodes[best].count {
			best = i
		}
	}
	return best
}
