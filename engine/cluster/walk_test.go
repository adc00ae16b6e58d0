package cluster

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
)

// A group is a Raft group as Walk's tests see it: a configuration, a leader, and how each
// replica fares. Replica i is that of node i+1.
type group struct {
	voters, learners, desired uint
	up, current               uint // current is part of up
	leader                    int
	preferred                 uint32
}

const universe = 5

var replicaIDs = func() (ids []string) {
	for i := range universe + 3 {
		ids = append(ids, NewReplica(uint32(i+1), uint64(i)).ID)
	}
	return ids
}()

func has(set uint, i int) bool { return set>>i&1 == 1 }

func size(set uint) (n int) {
	for ; set > 0; set &= set - 1 {
		n++
	}
	return n
}

func ids(set uint) (list []string) {
	for i := range replicaIDs {
		if has(set, i) {
			list = append(list, replicaIDs[i])
		}
	}
	return list
}

func number(id string) int { return slices.Index(replicaIDs, id) }

func (g *group) walk() Step {
	var desired []Replica
	for _, id := range ids(g.desired) {
		node, _ := NodeOf(id)
		desired = append(desired, Replica{node, id})
	}
	return Walk(desired, Membership{Voters: ids(g.voters), Learners: ids(g.learners)}, Local{
		Self: replicaIDs[g.leader], Preferred: g.preferred,
		Up:       func(id string) bool { return has(g.up, number(id)) },
		CaughtUp: func(id string) bool { return has(g.current, number(id)) },
	})
}

// tolerance is how many up to date voters may be lost before there is no majority.
func (g *group) tolerance() int { return size(g.voters&g.current) - quorum(size(g.voters)) }

// take does a step, or says what is wrong with it.
func (g *group) take(s Step) error {
	i := number(s.Replica)
	bit := uint(0)
	if i >= 0 {
		bit = 1 << i
	}
	switch s.Action {
	case Done:
		if g.voters != g.desired || g.learners != 0 {
			return fmt.Errorf("done too early")
		}
	case Wait:
	case AddLearner:
		if g.voters&bit != 0 || g.learners&bit != 0 || g.desired&bit == 0 {
			return fmt.Errorf("%v is no new copy", s)
		}
		g.learners |= bit
	case Promote:
		if g.learners&bit == 0 || g.desired&bit == 0 || g.current&bit == 0 {
			return fmt.Errorf("%v is not ready", s)
		}
		g.learners, g.voters = g.learners&^bit, g.voters|bit
	case Transfer:
		if g.voters&bit == 0 || g.current&bit == 0 || i == g.leader {
			return fmt.Errorf("%v cannot lead", s)
		}
		g.leader = i
	case Remove:
		if i == g.leader || g.desired&bit != 0 || (g.voters|g.learners)&bit == 0 {
			return fmt.Errorf("%v must not be removed", s)
		}
		g.voters, g.learners = g.voters&^bit, g.learners&^bit
	default:
		return fmt.Errorf("%v is no action", s)
	}
	return nil
}

func (g group) String() string {
	return fmt.Sprintf("voters %05b learners %05b desired %05b up %05b current %05b leader %d prefers %d",
		g.voters, g.learners, g.desired, g.up, g.current, g.leader, g.preferred)
}

// safe takes the step of a group and checks what must hold of it.
func (g group) safe() (group, Step, error) {
	before := g
	step := g.walk()
	if err := g.take(step); err != nil {
		return g, step, err
	}
	floor := min(before.tolerance(), (size(g.desired)-1)/2)
	switch {
	case before.tolerance() >= 0 && g.tolerance() < 0:
		return g, step, fmt.Errorf("the majority is lost")
	case g.tolerance() < floor:
		return g, step, fmt.Errorf("tolerates %d losses, before %d", g.tolerance(), before.tolerance())
	case step.Action == Wait && g.desired&^g.current == 0 && before.tolerance() >= 0:
		return g, step, fmt.Errorf("waits although a majority and all that is desired are there")
	}
	switch n := size(g.voters); {
	case n < size(before.voters) && n < quorum(size(g.desired)):
		return g, step, fmt.Errorf("%d voters of %d", n, size(g.desired))
	case n < size(before.voters) && has(before.current, number(step.Replica)) && g.tolerance() < 0:
		return g, step, fmt.Errorf("an up to date voter goes where there are too few")
	case n > size(before.voters) && n > size(g.desired)+1:
		return g, step, fmt.Errorf("%d voters, %d desired", n, size(g.desired))
	}
	if n := size(g.voters); step.Action == Promote && n%2 == 0 && n != size(g.desired) {
		if next := g.walk(); next.Action == Wait {
			return g, step, fmt.Errorf("%d voters, and the next step is %v", n, next)
		}
	}
	return g, step, nil
}

// eachGroup visits every group of up to five replicas whose leader has a majority.
func eachGroup(t *testing.T, visit func(g group)) {
	full := uint(1)<<universe - 1
	for voters := uint(1); voters <= full; voters++ {
		rest := full &^ voters
		for learners := rest; ; learners = (learners - 1) & rest {
			for desired := uint(1); desired <= full; desired++ {
				for up := voters; up <= full; up++ {
					if size(up&voters) < quorum(size(voters)) {
						continue
					}
					for leader := range universe {
						if has(voters&up, leader) {
							visit(group{voters: voters, learners: learners, desired: desired, up: up, leader: leader})
						}
					}
					if t.Failed() {
						return
					}
				}
			}
			if learners == 0 {
				break
			}
		}
	}
}

// TestEveryStepIsSafe looks at every group of up to five replicas, whichever of them
// answer and whichever of those lag.
func TestEveryStepIsSafe(t *testing.T) {
	count := 0
	eachGroup(t, func(g group) {
		for current := g.up; ; current = (current - 1) & g.up {
			if has(current, g.leader) {
				g.current = current
				count++
				if after, step, err := g.safe(); err != nil {
					t.Errorf("%v\n%v %q: %v\n%v", g, step.Action, step.Replica, err, after)
					return
				}
			}
			if current == 0 {
				break
			}
		}
	})
	t.Logf("%d groups", count)
}

// TestWalkEndsAsDesired lets every group walk, with all replicas there.
func TestWalkEndsAsDesired(t *testing.T) {
	eachGroup(t, func(g group) {
		if g.up != 1<<universe-1 {
			return
		}
		for _, prefers := range ids(g.desired) {
			g := g
			g.current = g.up
			g.preferred, _ = NodeOf(prefers)
			start, steps := g, 0
			for ; ; steps++ {
				after, step, err := g.safe()
				if err != nil || steps > 3*universe {
					t.Errorf("from %v\nat %v\n%v %q: %v", start, g, step.Action, step.Replica, err)
					return
				}
				if g = after; step.Action == Done {
					break
				}
			}
			if replicaIDs[g.leader] != prefers {
				t.Errorf("from %v\nled by %d at the end", start, g.leader)
			}
		}
	})
}

// TestWalkUnderCrashes moves groups about while replicas crash, come back, lag and catch
// up, leaders change, and what is desired changes when a replica is lost for good.
func TestWalkUnderCrashes(t *testing.T) {
	for seed := range uint64(3000) {
		r := rand.New(rand.NewPCG(seed, 11))
		g := group{voters: 0b111, desired: 0b111, up: 0xff, current: 0xff}
		if seed%3 == 0 {
			g = group{voters: 1, desired: 1, up: 0xff, current: 0xff}
		}
		if err := g.live(r); err != nil {
			t.Fatalf("seed %d: %v\n%v", seed, err, g)
		}
	}
}

// live is the life of a group: faults at random, then none, and it must get there.
func (g *group) live(r *rand.Rand) error {
	for range 200 {
		i := uint(1) << r.IntN(len(replicaIDs))
		switch r.IntN(8) {
		case 0: // a crash; with it the majority may go, until somebody comes back
			g.up, g.current = g.up&^i, g.current&^i
		case 1, 2: // back, but behind
			g.up |= i
		case 3, 4:
			g.current |= i & g.up
		case 5: // the planner thinks again
			if r.IntN(5) == 0 {
				g.desired = 0
				for _, j := range r.Perm(len(replicaIDs))[:1+2*r.IntN(2)] {
					g.desired |= 1 << j
				}
			}
		default:
			if g.elect() {
				if err := g.step(); err != nil {
					return err
				}
			}
		}
	}
	for range 40 {
		g.up, g.current = 0xff, 0xff
		g.elect()
		if g.walk().Action == Done {
			return nil
		}
		if err := g.step(); err != nil {
			return err
		}
	}
	return fmt.Errorf("never gets there")
}

// elect finds a leader, if the one there is has crashed; false if there is no majority.
func (g *group) elect() bool {
	if size(g.voters&g.up) < quorum(size(g.voters)) || g.voters&g.current == 0 {
		return false
	}
	for i := 0; !has(g.voters&g.current, g.leader); i++ {
		g.leader = i
	}
	return true
}

func (g *group) step() error {
	after, step, err := g.safe()
	if err != nil {
		return fmt.Errorf("%v %q: %w", step.Action, step.Replica, err)
	}
	*g = after
	if step.Action == AddLearner {
		g.current &^= 1 << number(step.Replica)
	}
	return nil
}
