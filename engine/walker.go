package engine

import (
	"context"
	"time"

	"parley/engine/cluster"
	"parley/raft"
)

// Pace of walking from what a group is to what the map wants.
const (
	walkTimeout = 10 * time.Second
	// caughtUpEntries is how far a learner may be behind when it gets its vote: what a
	// group under full load has in flight, and what it takes to ask.
	caughtUpEntries = 64
)

// walk is the task that brings the groups led here to what the map wants, a step at a
// time; each group on its own, so that a slow one delays none.
func (n *Node) walk() {
	tick := time.NewTicker(n.config.intervals.walk)
	defer tick.Stop()
	busy := make(map[uint32]chan struct{})
	for {
		select {
		case <-n.stop:
			for _, done := range busy {
				<-done
			}
			return
		case <-tick.C:
		}
		for _, group := range n.roster.groups() {
			g := n.groupOf(group)
			if g == nil || !g.Leading() || running(busy[group]) || n.walked(group, g) {
				continue
			}
			done := make(chan struct{})
			busy[group] = done
			go func() {
				defer close(done)
				n.walkGroup(group, g)
			}()
		}
	}
}

// running tells whether a channel that is closed at the end is still open.
func running(done chan struct{}) bool {
	if done == nil {
		return false
	}
	select {
	case <-done:
		return false
	default:
		return true
	}
}

// walked tells, without asking anybody, that a group is where it should be.
func (n *Node) walked(group uint32, g *raft.Group) bool {
	desired, preferred := n.maps.view.Map().Wanted(group)
	return cluster.Settled(desired, membership(g)) && (preferred == 0 || preferred == n.identity.Number)
}

// membership is a group's Raft configuration as the planner has it.
func membership(g *raft.Group) cluster.Membership { return cluster.Membership(g.Membership()) }

// walkGroup takes steps until there is nothing to do, or something to wait for.
func (n *Node) walkGroup(group uint32, g *raft.Group) {
	ctx, cancel := context.WithTimeout(n.life, walkTimeout)
	defer cancel()
	for ctx.Err() == nil && g.Leading() {
		step := n.nextStep(ctx, group, g)
		if step.Action == cluster.Done || step.Action == cluster.Wait {
			n.log.Debug("replica step", "group", group, "action", step.Action, "reason", step.Reason)
			return
		}
		n.log.Info("replica step", "group", group, "action", step.Action, "replica", step.Replica, "reason", step.Reason)
		if err := take(ctx, g, step); err != nil {
			n.log.Warn("replica step failed", "group", group, "action", step.Action, "replica", step.Replica, "error", err)
			if node, ok := cluster.NodeOf(step.Replica); ok && step.Action == cluster.Transfer {
				n.transfers.fail(group, node)
			}
			return
		}
		n.counters.steps.Add(1)
		if step.Action == cluster.Transfer {
			n.transfers.succeed(group)
			return // another node goes on
		}
	}
}

// reasonOldMap is why a leader waits that would act by a map of before.
const reasonOldMap = "another node has a newer map"

// nextStep asks the group's replicas how far they are, and decides.
func (n *Node) nextStep(ctx context.Context, group uint32, g *raft.Group) cluster.Step {
	actual := g.Membership()
	at := n.progress(ctx, group, actual)
	m := n.maps.view.Map()
	if at.epoch > m.Epoch {
		// Of two leaders with different maps each would hand over to the other, again and again.
		n.epochShown(at.newest, at.epoch)
		return cluster.Step{Action: cluster.Wait, Reason: reasonOldMap}
	}
	desired, preferred := m.Wanted(group)
	if preferred != 0 && (at.unfit[preferred] || n.transfers.rests(group, preferred)) {
		preferred = 0 // it would give the leadership back, or did not take it
	}
	commit := g.Commit()
	return cluster.Walk(desired, cluster.Membership(actual), cluster.Local{
		Self: n.roster.id(group), Preferred: preferred,
		Up: func(replica string) bool {
			_, ok := at.applied[replica]
			return ok
		},
		CaughtUp: func(replica string) bool { return at.applied[replica]+caughtUpEntries >= commit },
	})
}

// A progress is what the nodes of a group's replicas say.
type progress struct {
	applied map[string]uint64 // of each replica that answers
	unfit   map[uint32]bool   // the nodes that should lead nothing: their clocks are wrong, or they are about to stop
	newest  uint32            // the node with the newest map
	epoch   uint64            // of that map
}

// progress asks the nodes of a group's replicas.
func (n *Node) progress(ctx context.Context, group uint32, members raft.Membership) progress {
	type answer struct {
		replica string
		*nodeStatus
	}
	all := append(append([]string(nil), members.Voters...), members.Learners...)
	answers := make(chan answer, len(all))
	for _, replica := range all {
		go func() {
			a := answer{replica: replica}
			if node, ok := cluster.NodeOf(replica); ok {
				a.nodeStatus, _ = n.statusOf(ctx, node)
			}
			answers <- a
		}()
	}
	p := progress{applied: make(map[string]uint64), unfit: make(map[uint32]bool)}
	for range all {
		a := <-answers
		if a.nodeStatus == nil {
			continue
		}
		if g := a.group(group); g != nil && g.Replica == a.replica {
			p.applied[a.replica] = g.Applied
		}
		if a.Clock || a.Draining {
			p.unfit[a.Node] = true
		}
		if a.Epoch > p.epoch {
			p.newest, p.epoch = a.Node, a.Epoch
		}
	}
	return p
}

// take does one step.
func take(ctx context.Context, g *raft.Group, step cluster.Step) error {
	switch step.Action {
	case cluster.AddLearner:
		return g.AddLearner(ctx, step.Replica)
	case cluster.Promote:
		return g.Promote(ctx, step.Replica)
	case cluster.Transfer:
		return g.TransferLeadership(ctx, step.Replica)
	case cluster.Remove:
		return g.Remove(ctx, step.Replica)
	}
	return nil
}

// Pace of planning.
const (
	planTimeout = 10 * time.Second
	// planAfter is how many plan intervals a new leader of the map listens before it plans: what
	// it has not heard of yet it would take for lost.
	planAfter = 3
	// movesMax is how many shards are in motion at once: each copies its state over the
	// network and writes it to a disk that also serves.
	movesMax = 2
)

// plan is the task that moves the map towards where shards belong, on the node that leads
// the map's group.
func (n *Node) plan() {
	tick := time.NewTicker(n.config.intervals.plan)
	defer tick.Stop()
	down := make(map[uint32]time.Time)
	ticks := 0 // since this node leads the map
	for {
		select {
		case <-n.stop:
			return
		case <-tick.C:
		}
		g := n.maps.group.Load()
		if g == nil || !g.Leading() || n.hub == nil {
			clear(down)
			ticks = 0
			continue
		}
		if ticks++; ticks < planAfter {
			continue
		}
		ctx, cancel := context.WithTimeout(n.life, planTimeout)
		n.planOnce(ctx, down)
		cancel()
	}
}

// planOnce makes the next changes of the map. down is since when nodes do not answer.
func (n *Node) planOnce(ctx context.Context, down map[uint32]time.Time) {
	m := n.maps.view.Map()
	for _, change := range cluster.Plan(m, n.clusterStatus(ctx, m, down), movesMax) {
		if _, err := n.maps.machine().Propose(ctx, change); err != nil {
			n.log.Info("a planned change of the map was not made", "change", change, "error", err)
			return
		}
		n.counters.plans.Add(1)
	}
}

// clusterStatus is what the planner wants to know of the cluster as it is.
func (n *Node) clusterStatus(ctx context.Context, m *cluster.Map, down map[uint32]time.Time) cluster.Status {
	return n.statusFrom(m, n.statuses(ctx, m), down)
}

// statusFrom puts together what the nodes have said.
func (n *Node) statusFrom(m *cluster.Map, all map[uint32]*nodeStatus, down map[uint32]time.Time) cluster.Status {
	now := time.Now()
	status := cluster.Status{
		Down: make(map[uint32]time.Duration), Groups: make(map[uint32]cluster.Membership), Random: random64,
		ReplaceAfter: n.config.ReplaceAfter,
	}
	for i := range m.Nodes {
		d := &m.Nodes[i]
		if _, answers := all[d.Number]; answers || d.State == cluster.Removed {
			delete(down, d.Number)
			continue
		}
		if _, known := down[d.Number]; !known {
			down[d.Number] = now
		}
		status.Down[d.Number] = now.Sub(down[d.Number])
	}
	terms := make(map[uint32]uint64)
	for _, s := range all {
		for i := range s.Groups {
			// Two may say that they lead, for a moment: the higher term does.
			if g := &s.Groups[i]; g.Leading && g.Term > terms[g.Group] {
				terms[g.Group] = g.Term
				status.Groups[g.Group] = cluster.Membership{Voters: g.Voters, Learners: g.Learners}
			}
		}
	}
	return status
}
