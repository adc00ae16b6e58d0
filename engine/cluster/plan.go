package cluster

import (
	"fmt"
	"slices"
	"time"
)

// Status is what the leader of the map's group knows of the cluster as it is.
type Status struct {
	// Down tells since how long nodes have not answered; those that do are not in it.
	Down map[uint32]time.Duration
	// Groups are the Raft configurations of shards, and of the map's group under MapGroup,
	// as their leaders announce them. A group that nobody speaks for is left alone, so a
	// new leader should listen for a while before it plans.
	Groups map[uint32]Membership
	// Damaged are replicas that will never vote again, by their ids.
	Damaged []string
	// ReplaceAfter is how long a node may be down before its replicas are made elsewhere;
	// 0: for ever, until an operator removes it.
	ReplaceAfter time.Duration
	// Random gives the numbers of new replica ids: 64 bits that were never used before.
	Random func() uint64
}

// Settled tells whether a group is where it should be.
func Settled(desired []Replica, actual Membership) bool {
	if len(actual.Learners) > 0 || len(actual.Voters) != len(desired) {
		return false
	}
	for _, r := range desired {
		if !slices.Contains(actual.Voters, r.ID) {
			return false
		}
	}
	return true
}

// Plan lists the next changes that bring a map towards where it should be. At most limit
// shards are in motion at a time; those that lack a replica come first, then those on
// draining nodes, then those with too few or too many copies, then those that only weigh
// on a node. A shard moves by one replica at a time, but grows by all that it lacks, so
// that no even number of voters lasts. A copy is never given up for want of a node to
// make another on.
//
// The changes are to be proposed in this order, one after the other; they are refused from
// the first on that meets a map it was not made for.
func Plan(m *Map, status Status, limit int) []Change {
	if !m.Founded() {
		return nil
	}
	p := newPlanner(m, status, limit)
	p.planMap()
	p.planShards()
	p.planLeaders()
	return p.changes
}

// A planner is one computation of Plan.
type planner struct {
	m       *Map
	status  Status
	nodes   []Node // with those that count as lost marked as removed
	usable  int    // nodes that may get replicas
	limit   int    // shards that may still be set in motion
	changes []Change
	moved   map[uint32]bool // shards with a change
}

func newPlanner(m *Map, status Status, limit int) *planner {
	p := &planner{m: m, status: status, nodes: slices.Clone(m.Nodes), limit: limit, moved: make(map[uint32]bool)}
	for i := range p.nodes {
		n := &p.nodes[i]
		if down, is := status.Down[n.Number]; is && status.ReplaceAfter > 0 && down >= status.ReplaceAfter {
			n.State = Removed
		}
		if n.State == Up {
			p.usable++
		}
	}
	for i := range m.Shards {
		s := &m.Shards[i]
		if actual, known := status.Groups[s.ID]; known && !Settled(s.Replicas, actual) {
			p.limit--
		}
	}
	return p
}

// state is that of a node, as far as replicas go.
func (p *planner) state(number uint32) NodeState {
	for i := range p.nodes {
		if p.nodes[i].Number == number {
			return p.nodes[i].State
		}
	}
	return Removed
}

func (p *planner) down(number uint32) bool {
	_, down := p.status.Down[number]
	return down
}

func (p *planner) add(c Change) { p.changes = append(p.changes, c) }

// epoch is that of the map once the changes so far are made.
func (p *planner) epoch() uint64 { return p.m.Epoch + uint64(len(p.changes)) }

// An urgency orders what is to be done with groups.
type urgency int

const (
	nothing urgency = iota
	repair          // a replica is lost
	drain           // a node is to be emptied
	grow            // copies are missing
	shrink          // there are more copies than wanted
	balance         // a node holds more than its share
)

// A group's plan is where it should be next.
type groupPlan struct {
	urgency  urgency
	replicas []Replica
}

// planGroup finds the next step of a group that should be on the target nodes and has, or
// should have, these replicas; wanted is how many it should have in the end.
func (p *planner) planGroup(replicas []Replica, actual Membership, target []uint32, wanted int) groupPlan {
	if !Settled(replicas, actual) {
		return p.planMoving(replicas, actual, target)
	}
	for i, r := range replicas {
		if slices.Contains(p.status.Damaged, r.ID) && p.state(r.Node) == Up && !p.down(r.Node) {
			return p.exchange(repair, replicas, i, r.Node)
		}
	}
	missing := p.missing(replicas, target)
	if len(missing) > 0 && p.down(missing[0]) {
		return groupPlan{} // it would not get there
	}
	for _, bad := range []struct {
		state   NodeState
		urgency urgency
	}{{Removed, repair}, {Draining, drain}} {
		for i, r := range replicas {
			if p.state(r.Node) == bad.state && len(missing) > 0 {
				return p.exchange(bad.urgency, replicas, i, missing[0])
			}
		}
	}
	surplus := p.surplus(replicas, target)
	switch {
	case len(replicas) < len(target):
		return p.growth(replicas, missing, len(target))
	case len(replicas) > wanted && surplus >= 0:
		return groupPlan{shrink, slices.Delete(slices.Clone(replicas), surplus, surplus+1)}
	case len(missing) > 0 && surplus >= 0 && p.calm(replicas):
		return p.exchange(balance, replicas, surplus, missing[0])
	}
	return groupPlan{}
}

// calm tells whether a group may move for balance: all its replicas answer, and the cluster
// has nodes for all copies, so that what moves now would not move again when they come.
func (p *planner) calm(replicas []Replica) bool {
	return p.usable >= p.m.Replicas && !slices.ContainsFunc(replicas, func(r Replica) bool { return p.down(r.Node) })
}

// planMoving exchanges a copy on its way to a node that is lost: it would never arrive.
func (p *planner) planMoving(replicas []Replica, actual Membership, target []uint32) groupPlan {
	missing := p.missing(replicas, target)
	for i, r := range replicas {
		if slices.Contains(actual.Voters, r.ID) {
			continue
		}
		if slices.Contains(p.status.Damaged, r.ID) && p.state(r.Node) == Up {
			return p.exchange(repair, replicas, i, r.Node)
		}
		if p.state(r.Node) == Removed && len(missing) > 0 && !p.down(missing[0]) {
			return p.exchange(repair, replicas, i, missing[0])
		}
	}
	return groupPlan{}
}

// missing lists the target nodes without a replica.
func (p *planner) missing(replicas []Replica, target []uint32) (missing []uint32) {
	for _, node := range target {
		if _, ok := replicaOn(replicas, node); !ok {
			missing = append(missing, node)
		}
	}
	return missing
}

// surplus is the position of a replica that is on no target node, on a bad one if there
// is any; -1: none.
func (p *planner) surplus(replicas []Replica, target []uint32) int {
	surplus := -1
	for i, r := range replicas {
		if !slices.Contains(target, r.Node) && (surplus < 0 || p.state(r.Node) > p.state(replicas[surplus].Node)) {
			surplus = i
		}
	}
	return surplus
}

func (p *planner) exchange(u urgency, replicas []Replica, i int, node uint32) groupPlan {
	replicas = slices.Clone(replicas)
	replicas[i] = NewReplica(node, p.status.Random())
	return groupPlan{u, replicas}
}

func (p *planner) growth(replicas []Replica, missing []uint32, size int) groupPlan {
	replicas = slices.Clone(replicas)
	for _, node := range missing {
		if len(replicas) < size {
			if p.down(node) {
				return groupPlan{}
			}
			replicas = append(replicas, NewReplica(node, p.status.Random()))
		}
	}
	return groupPlan{grow, replicas}
}

// odd is how many replicas a group should have if it may have at most some number and
// there are fewer nodes: an even number stands no more losses than one fewer.
func odd(wanted, nodes int) int {
	if nodes >= wanted {
		return wanted
	}
	return max(1, nodes-1+nodes%2)
}

// planMap plans for the map's own group: 1, 3 or 5 voters, as the cluster is large.
func (p *planner) planMap() {
	actual, known := p.status.Groups[MapGroup]
	if !known {
		return
	}
	replicas := p.m.MapReplicas
	wanted := odd(MapReplicasMax, p.usable)
	target := Adjust([][]uint32{nodesOf(replicas)}, p.nodes, wanted)[0]
	plan := p.planGroup(replicas, actual, target, MapReplicasMax)
	if plan.urgency == nothing && Settled(replicas, actual) && len(target) < len(replicas) && len(target) >= quorum(len(replicas)) &&
		slices.ContainsFunc(replicas, func(r Replica) bool { return p.state(r.Node) != Up }) {
		// There is no other node for one that is to go: five become three.
		plan = groupPlan{shrink, slices.DeleteFunc(slices.Clone(replicas), func(r Replica) bool { return !slices.Contains(target, r.Node) })}
	}
	if plan.urgency != nothing {
		p.add(SetMapReplicas{Replicas: plan.replicas, Epoch: p.epoch()})
	}
}

func nodesOf(replicas []Replica) []uint32 {
	nodes := make([]uint32, len(replicas))
	for i, r := range replicas {
		nodes[i] = r.Node
	}
	return nodes
}

// planShards plans for the shards, the most urgent first.
func (p *planner) planShards() {
	current := make([][]uint32, len(p.m.Shards))
	for i := range current {
		current[i] = nodesOf(p.m.Shards[i].Replicas)
	}
	targets := Adjust(current, p.nodes, odd(p.m.Replicas, p.usable))
	plans := make([]groupPlan, len(p.m.Shards))
	for i := range p.m.Shards {
		s := &p.m.Shards[i]
		if actual, known := p.status.Groups[s.ID]; known {
			plans[i] = p.planGroup(s.Replicas, actual, targets[i], p.m.Replicas)
		}
		if s.Pinned && plans[i].urgency == balance {
			plans[i] = groupPlan{}
		}
	}
	for u := repair; u <= balance; u++ {
		for i := range plans {
			if plans[i].urgency == u {
				p.planShard(&p.m.Shards[i], plans[i].replicas)
			}
		}
	}
}

// planShard sets a shard in motion, unless enough are. One that is in motion may change
// its aim.
func (p *planner) planShard(s *Shard, replicas []Replica) {
	if Settled(s.Replicas, p.status.Groups[s.ID]) {
		if p.limit <= 0 {
			return
		}
		p.limit--
	}
	preferred := s.Preferred
	if _, ok := replicaOn(replicas, preferred); !ok {
		preferred = 0
	}
	p.moved[s.ID] = true
	p.add(SetReplicas{Shard: s.ID, Replicas: replicas, Preferred: preferred, Pinned: s.Pinned, Epoch: p.epoch()})
}

// planLeaders spreads the leaders of shards that do not move. A node that is down for a
// while keeps its part: it leads again when it is back.
func (p *planner) planLeaders() {
	lists, current := make([][]uint32, len(p.m.Shards)), make([]uint32, len(p.m.Shards))
	for i := range p.m.Shards {
		s := &p.m.Shards[i]
		lists[i], current[i] = nodesOf(s.Replicas), s.Preferred
	}
	for i, node := range Leaders(lists, p.nodes, current) {
		s := &p.m.Shards[i]
		if n := p.m.Live(s.Preferred); s.Pinned && n != nil && n.State == Up {
			continue // an operator has chosen
		}
		if actual, known := p.status.Groups[s.ID]; known && node != s.Preferred && !p.moved[s.ID] && Settled(s.Replicas, actual) {
			p.add(SetPreferred{Shard: s.ID, Node: node})
		}
	}
}

// down lists the live nodes that do not answer.
func (s *Status) down(m *Map) []uint32 {
	var down []uint32
	for i := range m.Nodes {
		n := &m.Nodes[i]
		if _, is := s.Down[n.Number]; is && n.State != Removed {
			down = append(down, n.Number)
		}
	}
	return down
}

// NewRemoval makes the change that removes a node, having looked at what the groups are:
// replicas on nodes that are down do not count for a majority, and a group that nobody
// speaks for could depend on the node.
func NewRemoval(m *Map, number uint32, status Status) (RemoveNode, error) {
	if m.Node(number) == nil {
		return RemoveNode{}, fmt.Errorf("%w: %d", ErrUnknownNode, number)
	}
	down := status.down(m)
	if err := m.survives(number, down, status.Groups); err != nil {
		return RemoveNode{}, err
	}
	return RemoveNode{Number: number, Down: down, Epoch: m.Epoch}, nil
}
