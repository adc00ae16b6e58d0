package engine

import (
	"testing"

	"parley/engine/cluster"
	"parley/wire"
)

// A node that is about to stop hands over what it leads, and nobody gives it back because the
// map prefers that node.
func TestADrainingNodeIsGivenNothingToLead(t *testing.T) {
	nodes := startCluster(t, 3)
	leaving, name := nodes[1], nodes[1].maps.view.Map().Node(nodes[1].identity.Number).Name
	untilAvailable(t, func() error { return nodes[0].TransferShard(t.Context(), 0, name) })
	waitUntil(t, func() bool { g := leaving.groupOf(0); return g != nil && g.Leading() })
	if err := leaving.Drain(t.Context()); err != nil {
		t.Fatal(err)
	}
	leader := leaderOf(t, []*Node{nodes[0], nodes[2]}, 0)
	prefers := func() bool {
		_, preferred := leader.maps.view.Map().Wanted(0)
		return preferred == leaving.identity.Number
	}
	waitUntil(t, prefers) // a follower of the map's group learns a little later what was committed
	step := cluster.Step{Action: cluster.Wait}
	waitUntil(t, func() bool { // while another node has a newer map
		step = leader.nextStep(t.Context(), 0, leader.groupOf(0))
		return step.Action != cluster.Wait
	})
	if step.Action != cluster.Done || !prefers() {
		t.Errorf("the next step is %v of %s: %s", step.Action, step.Replica, step.Reason)
	}
}

// A node that was to go and is taken back serves clients again, and may lead.
func TestANodeThatIsTakenBackServesAgain(t *testing.T) {
	nodes := startCluster(t, 3)
	n := nodes[2]
	ada := user(t, nodes[0], "ada")
	before := n.maps.view.Map().Node(n.identity.Number).Name
	untilAvailable(t, func() error { return nodes[0].DrainNode(t.Context(), before, false) })
	waitUntil(t, func() bool { return n.Ready() != nil })
	waitUntil(t, func() bool { return nodes[0].DrainNode(t.Context(), before, true) == nil })
	waitUntil(t, func() bool { return n.Ready() == nil })
	s, _ := live(t, n, "ada", 1, 100)
	sendUntilSent(t, s, wire.DirectRef(ada), 1, "a note to myself")
	waitUntil(t, func() bool { return nodes[0].TransferShard(t.Context(), 0, before) == nil })
	waitUntil(t, func() bool { g := n.groupOf(0); return g != nil && g.Leading() })
}
