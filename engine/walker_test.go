package engine

import (
	"testing"

	"parley/engine/cluster"
)

// A leader whose map is older than another node's does nothing by it, and asks for the newer
// one: two leaders with different maps would hand over to each other.
func TestALeaderWithAnOldMapWaitsForTheNewer(t *testing.T) {
	nodes := startCluster(t, 3)
	leader, other := leaderOf(t, nodes, 0), nodes[0]
	if leader == other {
		other = nodes[1]
	}
	newer := *other.maps.view.Map()
	waitUntil(t, func() bool { // again if the leader has heard of it from a ping before it was asked
		newer.Epoch++
		m := newer
		other.maps.view.Offer(&m)
		step := leader.nextStep(t.Context(), 0, leader.groupOf(0))
		return step == cluster.Step{Action: cluster.Wait, Reason: reasonOldMap}
	})
	waitUntil(t, func() bool { return leader.maps.view.Map().Epoch >= newer.Epoch })
}
