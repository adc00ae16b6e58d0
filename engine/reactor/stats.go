package reactor

import "sync/atomic"

// A Reason says why a connection ended.
type Reason uint8

// The reasons, as the Closed counters of Stats are indexed.
const (
	ReasonPeer     Reason = iota // the peer said goodbye or went away, or the network did
	ReasonHandler                // the Handler closed it, or broke its contract
	ReasonUpgrade                // refused, gone or too slow before it was a WebSocket
	ReasonProtocol               // broke RFC 6455
	ReasonSlow                   // did not read its output
	ReasonShutdown               // Server.Close
	ReasonCount                  // how many there are
)

// String is the reason as a metric's label.
func (r Reason) String() string {
	names := [ReasonCount]string{"peer", "handler", "upgrade", "protocol", "slow", "shutdown"}
	if r < ReasonCount {
		return names[r]
	}
	return "unknown"
}

// counters are a loop's own. They are atomic for their readers; only the loop writes.
type counters struct {
	sessions, blocked                      atomic.Int64
	accepted, refused                      atomic.Uint64
	upgraded, upgradesFailed               atomic.Uint64
	messagesIn, bytesIn                    atomic.Uint64
	messagesOut, bytesOut, writes, wakeups atomic.Uint64
	closed                                 [ReasonCount]atomic.Uint64
}

// Stats are a server's counters since its start, and what there is now.
type Stats struct {
	Connections int64 // open now
	Handshakes  int64 // of these, not a WebSocket yet
	Sessions    int64 // WebSockets that the Handlers know
	Blocked     int64 // sessions whose output the kernel has not taken
	Backlog     int64 // posted items that wait

	Accepted       uint64 // connections taken in
	Refused        uint64 // connections turned away for want of room
	Upgraded       uint64 // handshakes done
	UpgradesFailed uint64 // handshakes refused
	MessagesIn     uint64 // binary messages
	BytesIn        uint64 // with headers and handshakes
	MessagesOut    uint64
	BytesOut       uint64
	Writes         uint64 // system calls for output, without those for what was blocked
	Wakeups        uint64 // of loops by posts
	Closed         [ReasonCount]uint64
}

// Stats adds up the counters of all loops.
func (s *Server) Stats() Stats {
	t := Stats{Connections: s.connections.Load(), Handshakes: s.handshakes.Load()}
	for _, l := range s.loops {
		c := &l.stats
		t.Sessions += c.sessions.Load()
		t.Blocked += c.blocked.Load()
		t.Backlog += int64(l.Backlog())
		t.Accepted += c.accepted.Load()
		t.Refused += c.refused.Load()
		t.Upgraded += c.upgraded.Load()
		t.UpgradesFailed += c.upgradesFailed.Load()
		t.MessagesIn += c.messagesIn.Load()
		t.BytesIn += c.bytesIn.Load()
		t.MessagesOut += c.messagesOut.Load()
		t.BytesOut += c.bytesOut.Load()
		t.Writes += c.writes.Load()
		t.Wakeups += c.wakeups.Load()
		for i := range c.closed {
			t.Closed[i] += c.closed[i].Load()
		}
	}
	return t
}
