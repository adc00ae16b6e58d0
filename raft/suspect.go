package raft

import (
	"slices"
	"time"

	hraft "github.com/hashicorp/raft"
)

// A suspicion follows the node's failure detector. hashicorp/raft's own timeouts must be
// long, because they run for each group, and a follower that has just looked waits up to
// two of them; one detector for each node can be quicker. Its word alone deposes nobody:
// a leader that was heard of within its lease is not doubted, and pre-votes protect one
// that others hear.
type suspicion struct {
	silent func(server string) bool
	told   map[string]bool // what silent said in this round
	wait   time.Duration   // until the next round
}

// Suspect lets a failure detector of nodes hasten elections: silent says whether nothing
// is heard of the node of a server. Groups that such a server leads elect another once it
// is silent for them too, longer than its lease. silent must not block. It may be called
// once.
func (n *Node) Suspect(silent func(server string) bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if !n.closed {
		n.sweeper.Go(func() { (&suspicion{silent: silent, told: make(map[string]bool)}).run(n) })
	}
}

func (s *suspicion) run(n *Node) {
	timer := time.NewTimer(suspectInterval)
	defer timer.Stop()
	for {
		select {
		case <-n.closing:
			return
		case now := <-timer.C:
			clear(s.told)
			// At the moments at which links send heartbeats, so that an idle node sleeps in between.
			s.wait = suspectInterval - time.Duration(now.UnixNano())%suspectInterval
			for _, g := range n.running() {
				s.look(g, now)
			}
			timer.Reset(max(s.wait, suspectAlert))
		}
	}
}

// isSilent asks the detector once a round for each server.
func (s *suspicion) isSilent(server string) bool {
	silent, known := s.told[server]
	if !known {
		silent = s.silent(server)
		s.told[server] = silent
	}
	return silent
}

// look makes a group elect whose leader is silent, or calms it when it has another.
func (s *suspicion) look(g *Group, now time.Time) {
	leader := g.Leader()
	if leader == "" {
		return // as it was, until there is one
	}
	if leader == g.server || !s.isSilent(leader) {
		g.hasten(false)
		return
	}
	quiet := now.Sub(g.raft.LastContact())
	if quiet < leaseTimeout {
		s.wait = min(s.wait, leaseTimeout-quiet)
		return
	}
	g.hasten(true)
}

// hasten shortens the group's timeouts, upon which a follower looks at once how long ago
// it heard of the leader; or sets them back.
func (g *Group) hasten(on bool) {
	if on == g.hastened.Load() {
		return
	}
	c := g.raft.ReloadableConfig()
	c.HeartbeatTimeout, c.ElectionTimeout = heartbeatTimeout, electionTimeout
	if on {
		c.HeartbeatTimeout, c.ElectionTimeout = leaseTimeout, leaseTimeout
	}
	if err := g.raft.ReloadConfig(c); err != nil {
		g.node.logger.Error("raft: timeouts are refused", "group", g.id, "error", err)
		return
	}
	g.hastened.Store(on)
}

// yield delays what a pre-vote of a hastened election has won, longer for each voter than
// for the one before it. Replicas that doubt a leader at the same moment would otherwise
// all vote for themselves, and wait for an election timeout.
func (g *Group) yield() {
	if !g.hastened.Load() {
		return
	}
	voters := slices.Clone(g.members.latest.Load().voters)
	slices.Sort(voters)
	at := slices.Index(voters, hraft.ServerID(g.server))
	if at < 0 {
		return
	}
	rank := (at + int(g.id)) % len(voters) // another one first in each group
	g.pause(time.Duration(rank) * yieldTime)
}

// doubt waits a moment and tells whether the leader is still doubted.
func (g *Group) doubt() bool {
	return g.hastened.Load() && g.pause(yieldTime) && g.hastened.Load()
}

// pause waits; false: the group is closing.
func (g *Group) pause(d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-g.closing:
		return false
	}
}
