package engine

import (
	"slices"
	"strconv"

	"parley/engine/admin"
	"parley/engine/reactor"
	"parley/raft/link"

	"github.com/prometheus/client_golang/prometheus"
)

// metrics are what /metrics shows. Most of them are read from the parts when they are
// asked for, so that the hot path counts each thing once.
type metrics struct {
	node      *Node
	registry  *prometheus.Registry
	collapsed prometheus.Counter
}

func newMetrics(n *Node) *metrics {
	m := &metrics{node: n, registry: admin.NewRegistry(nil), collapsed: prometheus.NewCounter(prometheus.CounterOpts{
		Name: "parley_backlogs_collapsed_total",
		Help: "Slow sessions whose pushes were replaced by one HEAD a conversation.",
	})}
	m.registry.MustRegister(m.collapsed, m)
	return m
}

// A gauge or counter without labels, read from the parts.
type reading struct {
	desc  *prometheus.Desc
	kind  prometheus.ValueType
	value func(r *readings) float64
}

// readings are one look at all parts.
type readings struct {
	node    *Node
	reactor reactor.Stats
	links   link.Stats
}

func describe(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc("parley_"+name, help, labels, nil)
}

func gauge(name, help string, value func(r *readings) float64) reading {
	return reading{describe(name, help), prometheus.GaugeValue, value}
}

func counter(name, help string, value func(r *readings) float64) reading {
	return reading{describe(name, help), prometheus.CounterValue, value}
}

var plain = []reading{
	gauge("connections", "Open connections, WebSocket or not.", func(r *readings) float64 { return float64(r.reactor.Connections) }),
	gauge("sessions", "Open WebSockets.", func(r *readings) float64 { return float64(r.reactor.Sessions) }),
	gauge("sessions_blocked", "Sessions whose output the kernel has not taken.", func(r *readings) float64 { return float64(r.reactor.Blocked) }),
	gauge("inbox_items", "Posted items that wait for an event loop.", func(r *readings) float64 { return float64(r.reactor.Backlog) }),
	counter("loop_waits_total", "Times a shard waited for an event loop with too many posted items.", func(r *readings) float64 { return float64(r.node.counters.loopWaits.Load()) }),
	counter("streams_left_total", "Streams of other nodes that were left for a while because an event loop had too many posted items.", func(r *readings) float64 { return float64(r.node.counters.streamsLeft.Load()) }),
	counter("connections_accepted_total", "Connections accepted.", func(r *readings) float64 { return float64(r.reactor.Accepted) }),
	counter("connections_refused_total", "Connections refused because of a limit.", func(r *readings) float64 { return float64(r.reactor.Refused) }),
	counter("upgrades_total", "Connections that became a WebSocket.", func(r *readings) float64 { return float64(r.reactor.Upgraded) }),
	counter("messages_in_total", "WebSocket messages from clients.", func(r *readings) float64 { return float64(r.reactor.MessagesIn) }),
	counter("messages_out_total", "WebSocket messages to clients.", func(r *readings) float64 { return float64(r.reactor.MessagesOut) }),
	counter("bytes_in_total", "Bytes from clients.", func(r *readings) float64 { return float64(r.reactor.BytesIn) }),
	counter("bytes_out_total", "Bytes to clients.", func(r *readings) float64 { return float64(r.reactor.BytesOut) }),
	counter("writes_total", "Write system calls to clients.", func(r *readings) float64 { return float64(r.reactor.Writes) }),
	counter("wakeups_total", "Times an event loop was woken by another goroutine.", func(r *readings) float64 { return float64(r.reactor.Wakeups) }),
	gauge("read_queue", "Reads that wait for a reader.", func(r *readings) float64 { return float64(r.node.readers.depth()) }),
	gauge("disk_full", "1 while sends are refused because less than the reserve is free.", func(r *readings) float64 { return bit(r.node.diskFull.Load()) }),
}

var (
	closedDesc   = describe("connections_closed_total", "Connections closed, by reason.", "reason")
	leadingDesc  = describe("shard_leading", "1 if this node leads the shard.", "shard")
	appliedDesc  = describe("shard_applied_index", "Log index that the shard has applied.", "shard")
	recordDesc   = describe("shard_durable_index", "Log index up to which the shard's state is on disk.", "shard")
	logBytesDesc = describe("shard_log_bytes", "Bytes of entries in the shard's log.", "shard")
	entriesDesc  = describe("shard_entries_total", "Log entries proposed at this node.", "shard")
	failedDesc   = describe("shard_entries_failed_total", "Log entries whose fate this node could not wait for.", "shard")
)

func bit(b bool) float64 {
	if b {
		return 1
	}
	return 0
}

// Describe implements prometheus.Collector.
func (m *metrics) Describe(ch chan<- *prometheus.Desc) {
	for _, r := range slices.Concat(plain, clusterPlain) {
		ch <- r.desc
	}
	for _, d := range clusterLabels {
		ch <- d
	}
	for _, d := range []*prometheus.Desc{closedDesc, leadingDesc, appliedDesc, recordDesc, logBytesDesc, entriesDesc, failedDesc} {
		ch <- d
	}
}

// Collect implements prometheus.Collector.
func (m *metrics) Collect(ch chan<- prometheus.Metric) {
	r := readings{node: m.node}
	if m.node.server != nil {
		r.reactor = m.node.server.Stats()
	}
	if m.node.hub != nil {
		r.links = m.node.hub.Stats()
	}
	for _, p := range slices.Concat(plain, clusterPlain) {
		ch <- prometheus.MustNewConstMetric(p.desc, p.kind, p.value(&r))
	}
	for reason, count := range r.reactor.Closed {
		ch <- prometheus.MustNewConstMetric(closedDesc, prometheus.CounterValue, float64(count), reactor.Reason(reason).String())
	}
	m.collectCluster(ch)
	for _, route := range m.node.routes {
		if l := route.local.Load(); l != nil && l.group != nil {
			collectShard(ch, strconv.Itoa(int(route.id)), l)
		}
	}
}

func collectShard(ch chan<- prometheus.Metric, shard string, r *replica) {
	s := r.group.Stats()
	for _, x := range []struct {
		desc  *prometheus.Desc
		kind  prometheus.ValueType
		value float64
	}{
		{leadingDesc, prometheus.GaugeValue, bit(s.Leading)},
		{appliedDesc, prometheus.GaugeValue, float64(s.Applied)},
		{recordDesc, prometheus.GaugeValue, float64(r.Record().Index)},
		{logBytesDesc, prometheus.GaugeValue, float64(s.LogBytes)},
		{entriesDesc, prometheus.CounterValue, float64(s.Entries)},
		{failedDesc, prometheus.CounterValue, float64(s.Failed)},
	} {
		ch <- prometheus.MustNewConstMetric(x.desc, x.kind, x.value, shard)
	}
}
