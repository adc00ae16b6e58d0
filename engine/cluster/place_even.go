package cluster

import (
	"math"
	"slices"
)

// share computes fair shares and the bounds around them: in proportion to weights, but no
// zone gets more than its part of every shard, and no node more than one copy of each.
func (p *placement) share(zones int) {
	if len(p.nodes) == 0 {
		return
	}
	members := make([][]int, zones)
	weights := make([]float64, zones)
	for i := range p.nodes {
		z := p.nodes[i].zone
		members[z] = append(members[z], i)
		weights[z] += p.nodes[i].weight
	}
	room := 0
	for p.perZone = 0; room < p.copies; {
		p.perZone++
		room = 0
		for _, m := range members {
			room += min(len(m), p.perZone)
		}
	}
	shards := len(p.taken)
	most := make([]float64, zones)
	for z, m := range members {
		most[z] = float64(shards * min(len(m), p.perZone))
	}
	for z, total := range divide(float64(shards*p.copies), weights, most) {
		m := members[z]
		own, limits := make([]float64, len(m)), make([]float64, len(m))
		for k, i := range m {
			own[k], limits[k] = p.nodes[i].weight, float64(shards)
		}
		for k, share := range divide(total, own, limits) {
			p.nodes[m[k]].bound(share, shards)
		}
	}
}

// rounding is how wrong a fair share may be, which is a quotient of sums.
const rounding = 1e-9

// bound sets a node's fair share and what it may hold.
func (c *candidate) bound(share float64, shards int) {
	c.share = share
	c.high = max(int(share*(1+Slack)+rounding), int(share+rounding)+1)
	c.low = min(int(math.Ceil(share*(1-Slack)-rounding)), int(math.Ceil(share-rounding))-1)
	c.high, c.low = min(c.high, shards), max(c.low, 0)
}

// divide divides a total in proportion to weights, where nothing gets more than its most:
// what one cannot take goes to the others.
func divide(total float64, weights, most []float64) []float64 {
	shares := make([]float64, len(weights))
	full := make([]bool, len(weights))
	for again := true; again; {
		left, sum := total, 0.0
		for i := range weights {
			if full[i] {
				left -= most[i]
			} else {
				sum += weights[i]
			}
		}
		again = false
		for i, w := range weights {
			if full[i] {
				continue
			}
			if shares[i] = left * w / sum; shares[i] > most[i] {
				shares[i], full[i], again = most[i], true, true
			}
		}
	}
	return shares
}

// evenOut moves replicas off nodes that hold too many and to nodes that hold too few, until
// no move is left that would help. Each makes up for one replica too many or too few, so
// this ends.
func (p *placement) evenOut() {
	for again := true; again; {
		again = false
		for i := range int32(len(p.nodes)) {
			for len(p.nodes[i].held) > p.nodes[i].high && p.relieve(i) {
				again = true
			}
			for len(p.nodes[i].held) < p.nodes[i].low && p.feed(i) {
				again = true
			}
		}
	}
}

// A transfer is a replica that changes nodes. Its loss is how much worse the new node
// ranks than the old one.
type transfer struct {
	shard    int
	from, to int32
	loss     float64
}

// better keeps the transfer that loses less.
func (t *transfer) better(p *placement, s int, from, to int32) {
	if loss := p.cost(s, to) / p.cost(s, from); t.loss == 0 || loss < t.loss {
		*t = transfer{s, from, to, loss}
	}
}

// relieve moves one replica off a node, to one that has less than its share, or at least
// less than it may have.
func (p *placement) relieve(from int32) bool {
	var poor, other transfer
	for to := range int32(len(p.nodes)) {
		c := &p.nodes[to]
		best := &other
		if c.room() {
			best = &poor
		}
		if len(c.held) >= c.high {
			continue
		}
		for _, s := range p.nodes[from].held {
			if p.fits(s, to, from) {
				best.better(p, s, from, to)
			}
		}
	}
	return p.move(poor) || p.move(other)
}

// feed moves one replica to a node, from one that has more than its share, or at least
// more than it needs.
func (p *placement) feed(to int32) bool {
	var rich, other transfer
	for from := range int32(len(p.nodes)) {
		c := &p.nodes[from]
		best := &other
		if float64(len(c.held)) > c.share {
			best = &rich
		}
		if len(c.held) <= c.low {
			continue
		}
		for _, s := range c.held {
			if p.fits(s, to, from) {
				best.better(p, s, from, to)
			}
		}
	}
	return p.move(rich) || p.move(other)
}

func (p *placement) move(t transfer) bool {
	if t.loss == 0 {
		return false
	}
	taken := p.taken[t.shard]
	taken[slices.Index(taken, t.from)] = t.to
	from, to := &p.nodes[t.from], &p.nodes[t.to]
	from.held = slices.DeleteFunc(from.held, func(s int) bool { return s == t.shard })
	to.held = append(to.held, t.shard)
	return true
}
