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
	if err := nodes[0].TransferShard(t.Context(), 0, name); err != nil {
		t.Fatal(err)
	}
	waitUntil(t, func() bool { g := leaving.groupOf(0); return g != nil && g.Leading() })
	if err := leaving.Drain(t.Context()); err != nil {
		t.Fatal(err)
	}
	var leader *Node
	waitUntil(t, func() bool {
		for _, n := range nodes {
			if g := n.groupOf(0); g != nil && g.Leading() && n != leaving {
				leader = n
			}
		}
		return leader != nil
	})
	if _, preferred := leader.maps.view.Map().Wanted(0); preferred != leaving.identity.Number {
		t.Fatalf("node %d is preferred", preferred)
	}
	if step := leader.nextStep(t.Context(), 0, leader.groupOf(0)); step.Action != cluster.Done {
		t.Errorf("the next step is %v of %s: %s", step.Action, step.Replica, step.Reason)
	}
	if leaving.groupOf(0).Leading() {
		t.Error("the leaving node leads again")
	}
}

// A node that was to go and is taken back serves clients again, and may lead.
func TestANodeThatIsTakenBackServesAgain(t *testing.T) {
	nodes := startCluster(t, 3)
	n := nodes[2]
	ada := user(t, nodes[0], "ada")
	before := n.maps.view.Map().Node(n.identity.Number).Name
	if err := nodes[0].DrainNode(t.Context(), before, false); err != nil {
		t.Fatal(err)
	}
	waitUntil(t, func() bool { return n.Ready() != nil })
	waitUntil(t, func() bool { return nodes[0].DrainNode(t.Context(), before, true) == nil })
	waitUntil(t, func() bool { return n.Ready() == nil })
	s, _ := live(t, n, "ada", 1, 100)
	sendUntilSent(t, s, wire.DirectRef(ada), 1, "a note to myself")
	waitUntil(t, func() bool { return nodes[0].TransferShard(t.Context(), 0, before) == nil })
	waitUntil(t, func() bool { g := n.groupOf(0); return g != nil && g.Leading() })
}
