package link

import (
	"cmp"
	"slices"
	"sync/atomic"
	"time"
)

// counters count what connections did.
type counters struct {
	bytesIn, bytesOut   atomic.Uint64
	framesIn, framesOut atomic.Uint64
	reads, writes       atomic.Uint64
	drops               atomic.Uint64
	dials, connects     atomic.Uint64
	refusals, errors    atomic.Uint64
}

// Stats are counters for metrics. Those of a Hub never go back.
type Stats struct {
	BytesIn, BytesOut   uint64
	FramesIn, FramesOut uint64
	Reads, Writes       uint64 // system calls
	Drops               uint64 // frames that found a queue full, were too large, or had no handler
	Dials               uint64 // attempts to connect
	Connects            uint64 // of those, the ones that led to a link; all but the first are reconnects
	Refusals            uint64 // connections refused, here and by peers
	Errors              uint64 // links that broke or were not established, and bad frames
	QueueBytes          int    // waiting to be written
	Links               int    // up, dialled by this node
	Arrivals            int    // up, dialled by others
}

// PeerStats are those of the link to one node.
type PeerStats struct {
	Stats
	Node   uint32
	Up     bool
	Silent bool
	RTT    time.Duration
}

func (s *Stats) add(c *counters) {
	s.BytesIn += c.bytesIn.Load()
	s.BytesOut += c.bytesOut.Load()
	s.FramesIn += c.framesIn.Load()
	s.FramesOut += c.framesOut.Load()
	s.Reads += c.reads.Load()
	s.Writes += c.writes.Load()
	s.Drops += c.drops.Load()
	s.Dials += c.dials.Load()
	s.Connects += c.connects.Load()
	s.Refusals += c.refusals.Load()
	s.Errors += c.errors.Load()
}

// Stats returns the counters of all connections, those of other nodes to this one included.
func (h *Hub) Stats() Stats {
	h.mu.RLock()
	defer h.mu.RUnlock()
	s := h.retired
	s.add(&h.total)
	for _, p := range h.peers {
		p.stats(&s)
	}
	s.Arrivals = len(h.inbound)
	for _, in := range h.inbound {
		s.QueueBytes += in.out.queued()
	}
	return s
}

// Peers returns the counters of each link, by node. What peers' connections to this node did is in
// Stats alone.
func (h *Hub) Peers() []PeerStats {
	h.mu.RLock()
	peers := make([]*peer, 0, len(h.peers))
	for _, p := range h.peers {
		peers = append(peers, p)
	}
	h.mu.RUnlock()
	slices.SortFunc(peers, func(a, b *peer) int { return cmp.Compare(a.node, b.node) })
	all := make([]PeerStats, len(peers))
	for i, p := range peers {
		all[i] = PeerStats{Node: p.node, Silent: h.Silent(p.node), RTT: time.Duration(p.rtt.Load())}
		p.stats(&all[i].Stats)
		all[i].Up = all[i].Links > 0
	}
	return all
}

func (p *peer) stats(s *Stats) {
	s.add(&p.count)
	if l, _ := p.current(); l != nil {
		s.Links++
		s.QueueBytes += l.out.queued()
	}
}
