package cluster

import (
	"cmp"
	"math"
	"slices"
)

// Slack is how far the replicas of a node may be from its fair share before some are
// moved: a tenth of it, or one replica if that is more.
const Slack = 0.1

// Place computes where a number of shards should be that are nowhere yet; see [Adjust].
func Place(nodes []Node, shards, copies int) [][]uint32 {
	return Adjust(make([][]uint32, max(shards, 0)), nodes, copies)
}

// Adjust computes which nodes should hold each shard, from the nodes that hold them now.
// Only nodes that are Up get anything; if they are fewer than copies, each gets a copy of
// every shard. A list names the nodes in the order of their rank. It is a pure function.
//
// Each shard ranks the nodes by weighted rendezvous hashing (Thaler and Ravishankar 1998;
// the weighted form is a race of exponential clocks), and takes the best that have room:
// a node has room up to its fair share, which is in proportion to its weight. Copies are
// in different zones as far as there are zones. What a shard has already it keeps. Then
// nodes that are more than [Slack] beyond their share give replicas away, and those that
// are more than Slack short of it get some, by the moves that cost the ranks least.
//
// So when a node comes, only what it gets moves; when one goes, only what it had: 1/n of
// the replicas. Without a memory of where replicas are that cannot be had together with an
// even load: hashing alone loads nodes of 20 replicas unevenly by a quarter, and evening that out
// anew each time moves several times as much.
func Adjust(current [][]uint32, nodes []Node, copies int) [][]uint32 {
	p := newPlacement(nodes, len(current), copies)
	position := make(map[uint32]int32, len(p.nodes))
	for i := range p.nodes {
		position[p.nodes[i].number] = int32(i)
	}
	for s, list := range current {
		var keep []int32
		for _, number := range list {
			if i, ok := position[number]; ok {
				keep = append(keep, i)
			}
		}
		slices.SortStableFunc(keep, func(a, b int32) int { return cmp.Compare(p.cost(s, a), p.cost(s, b)) })
		for _, i := range keep {
			if len(p.taken[s]) < p.copies && p.fits(s, i, -1) {
				p.take(s, i)
			}
		}
	}
	for s := range p.taken {
		p.fill(s)
	}
	p.evenOut()
	return p.result()
}

// A placement is one computation of where replicas belong.
type placement struct {
	copies  int
	perZone int // the most copies of one shard in one zone
	nodes   []candidate
	costs   []float64 // by shard and position in nodes
	taken   [][]int32 // by shard: positions in nodes
}

// A candidate is a node that may get replicas.
type candidate struct {
	number    uint32
	zone      int
	weight    float64
	share     float64 // its fair share
	low, high int     // the bounds of what it should hold
	held      []int   // shards
}

// room tells whether a node has less than its fair share.
func (c *candidate) room() bool { return float64(len(c.held)) < c.share-rounding }

func newPlacement(nodes []Node, shards, copies int) *placement {
	p := &placement{taken: make([][]int32, max(shards, 0))}
	zones := make(map[string]int)
	for i := range nodes {
		n := &nodes[i]
		if n.State != Up {
			continue
		}
		if _, ok := zones[n.Zone]; !ok {
			zones[n.Zone] = len(zones)
		}
		p.nodes = append(p.nodes, candidate{number: n.Number, zone: zones[n.Zone], weight: float64(max(n.Weight, 1))})
	}
	slices.SortFunc(p.nodes, func(a, b candidate) int { return cmp.Compare(a.number, b.number) })
	p.copies = max(min(copies, len(p.nodes)), 0)
	p.share(len(zones))
	p.costs = make([]float64, len(p.taken)*len(p.nodes))
	for s := range p.taken {
		for i := range p.nodes {
			p.costs[s*len(p.nodes)+i] = cost(s, &p.nodes[i])
		}
	}
	return p
}

// cost is how badly a node ranks for a shard: when a clock of the node's weight rings.
func cost(shard int, c *candidate) float64 {
	h := mix(uint64(shard)<<32 | uint64(c.number))
	return -math.Log((float64(h>>11)+0.5)/(1<<53)) / c.weight
}

// mix spreads 64 bits: the finalizer of SplitMix64 (Steele, Lea and Flood 2014).
func mix(x uint64) uint64 {
	x += 0x9e3779b97f4a7c15
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}

func (p *placement) cost(s int, i int32) float64 { return p.costs[s*len(p.nodes)+int(i)] }

// fits tells whether a node may hold a shard, once another (or none: -1) has given it up.
func (p *placement) fits(s int, i, instead int32) bool {
	beside := 0
	for _, other := range p.taken[s] {
		if other == i {
			return false
		}
		if other != instead && p.nodes[other].zone == p.nodes[i].zone {
			beside++
		}
	}
	return beside < p.perZone
}

func (p *placement) take(s int, i int32) {
	p.taken[s] = append(p.taken[s], i)
	p.nodes[i].held = append(p.nodes[i].held, s)
}

// fill gives a shard what it lacks: to the best ranked nodes that have room or, if none
// has, to the one that is least beyond its share.
func (p *placement) fill(s int) {
	for len(p.taken[s]) < p.copies {
		best := int32(-1)
		for i := range int32(len(p.nodes)) {
			if p.fits(s, i, -1) && (best < 0 || p.prefers(s, i, best)) {
				best = i
			}
		}
		if best < 0 {
			return // it has a copy on every node that its zones allow
		}
		p.take(s, best)
	}
}

// prefers tells whether a shard should rather go to node a than to b.
func (p *placement) prefers(s int, a, b int32) bool {
	x, y := &p.nodes[a], &p.nodes[b]
	switch room := x.room(); {
	case room != y.room():
		return room
	case room:
		return p.cost(s, a) < p.cost(s, b)
	}
	return float64(len(x.held))*y.share < float64(len(y.held))*x.share
}

// result lists the numbers of each shard's nodes by rank.
func (p *placement) result() [][]uint32 {
	lists := make([][]uint32, len(p.taken))
	for s, taken := range p.taken {
		slices.SortFunc(taken, func(a, b int32) int { return cmp.Compare(p.cost(s, a), p.cost(s, b)) })
		lists[s] = make([]uint32, len(taken))
		for k, i := range taken {
			lists[s][k] = p.nodes[i].number
		}
	}
	return lists
}
