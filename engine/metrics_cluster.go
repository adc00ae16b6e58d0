package engine

import (
	"strconv"
	"sync/atomic"

	"parley/engine/cluster"
	"parley/raft/link"

	"github.com/prometheus/client_golang/prometheus"
)

// clusterCounters count what happens seldom, where it happens.
type clusterCounters struct {
	elections atomic.Uint64 // leaderships that began here
	steps     atomic.Uint64 // of replicas, taken by leaders here
	plans     atomic.Uint64 // changes of the map made by the planner here
	restarts  atomic.Uint64 // sessions ended because a stream had to start over
	loopWaits atomic.Uint64 // times that a shard waited for an event loop
	// streamsLeft counts streams that were left because an event loop was behind.
	streamsLeft atomic.Uint64
}

var clusterPlain = []reading{
	gauge("cluster_epoch", "Epoch of the newest cluster map that this node has.", func(r *readings) float64 { return float64(r.node.maps.view.Map().Epoch) }),
	gauge("cluster_nodes", "Nodes of the cluster map, removed ones left out.", func(r *readings) float64 { return float64(len(r.node.others()) + 1) }),
	gauge("cluster_map_leading", "1 if this node leads the cluster map's group.", func(r *readings) float64 {
		g := r.node.maps.group.Load()
		return bit(g != nil && g.Leading())
	}),
	counter("elections_won_total", "Times this node began to lead a group.", func(r *readings) float64 { return float64(r.node.counters.elections.Load()) }),
	counter("replica_steps_total", "Replicas added, promoted, removed, and leaderships handed over.", func(r *readings) float64 { return float64(r.node.counters.steps.Load()) }),
	counter("plans_total", "Changes of the cluster map that the planner made.", func(r *readings) float64 { return float64(r.node.counters.plans.Load()) }),
	counter("sessions_restarted_total", "Sessions ended because what they missed was no longer known.", func(r *readings) float64 { return float64(r.node.counters.restarts.Load()) }),
	counter("link_bytes_in_total", "Bytes from other nodes.", linkReading(func(s *link.Stats) float64 { return float64(s.BytesIn) })),
	counter("link_bytes_out_total", "Bytes to other nodes.", linkReading(func(s *link.Stats) float64 { return float64(s.BytesOut) })),
	counter("link_frames_out_total", "Frames to other nodes.", linkReading(func(s *link.Stats) float64 { return float64(s.FramesOut) })),
	counter("link_writes_total", "Write system calls to other nodes.", linkReading(func(s *link.Stats) float64 { return float64(s.Writes) })),
	counter("link_drops_total", "Frames for other nodes that found a queue full.", linkReading(func(s *link.Stats) float64 { return float64(s.Drops) })),
	counter("link_errors_total", "Links that broke or were not established.", linkReading(func(s *link.Stats) float64 { return float64(s.Errors) })),
	counter("link_refusals_total", "Connections between nodes that were refused.", linkReading(func(s *link.Stats) float64 { return float64(s.Refusals) })),
	gauge("link_queue_bytes", "Bytes that wait to be written to other nodes.", linkReading(func(s *link.Stats) float64 { return float64(s.QueueBytes) })),
}

func linkReading(value func(s *link.Stats) float64) func(r *readings) float64 {
	return func(r *readings) float64 { return value(&r.links) }
}

var (
	peerUpDesc    = describe("peer_up", "1 if there is a link to the node.", "node")
	peerSilent    = describe("peer_silent", "1 if nothing is heard of the node.", "node")
	peerRTTDesc   = describe("peer_rtt_seconds", "Round trip time to the node, smoothed.", "node")
	leaderDesc    = describe("shard_leader_node", "Number of the node that is known to lead the shard; 0: none.", "shard")
	pendingDesc   = describe("shard_forwarded_pending", "Sends forwarded to the shard's leader that have no answer yet.", "shard")
	attachedDesc  = describe("shard_attached_users", "Users attached at this replica from other nodes.", "shard")
	streamsDesc   = describe("shard_streams", "Streams that this replica serves.", "shard")
	clusterLabels = []*prometheus.Desc{peerUpDesc, peerSilent, peerRTTDesc, leaderDesc, pendingDesc, attachedDesc, streamsDesc}
)

// collectCluster shows what a node alone does not have.
func (m *metrics) collectCluster(ch chan<- prometheus.Metric) {
	n := m.node
	send := func(d *prometheus.Desc, value float64, label string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, value, label)
	}
	for _, r := range n.routes {
		label := strconv.Itoa(int(r.id))
		leader, _ := n.leaders.of(r.id)
		send(leaderDesc, float64(leader), label)
		if r.inlet == nil {
			continue
		}
		r.mu.Lock()
		inlet := r.inlet.Stats()
		r.mu.Unlock()
		send(pendingDesc, float64(inlet.Pending), label)
		if outlet := r.outlet.Load(); outlet != nil {
			stats := outlet.Stats()
			send(attachedDesc, float64(stats.Attached), label)
			send(streamsDesc, float64(stats.Streams), label)
		}
	}
	if n.hub == nil {
		return
	}
	for _, p := range n.hub.Peers() {
		label := strconv.Itoa(int(p.Node))
		send(peerUpDesc, bit(p.Up), label)
		send(peerSilent, bit(p.Silent), label)
		send(peerRTTDesc, p.RTT.Seconds(), label)
	}
}

// ledHere counts a leadership that begins.
func (n *Node) ledHere(group uint32, term uint64) {
	n.counters.elections.Add(1)
	if group == cluster.MapGroup {
		n.log.Info("leading the cluster map", "term", term)
	}
}
