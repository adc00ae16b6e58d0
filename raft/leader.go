package raft

import (
	"context"
	"fmt"
	"slices"
	"time"

	hraft "github.com/hashicorp/raft"
)

// Leader returns the server that this replica believes to lead, "" if it knows none.
func (g *Group) Leader() string {
	_, id := g.raft.LeaderWithID()
	return string(id)
}

// LeaderTerm returns the server that this replica believes to lead and the term in which
// it does, so that of two answers the newer one can be told.
func (g *Group) LeaderTerm() (server string, term uint64) {
	for {
		term = g.raft.CurrentTerm()
		server = g.Leader()
		if g.raft.CurrentTerm() == term {
			return server, term
		}
	}
}

// leaderWatch notices that another server leads.
type leaderWatch struct {
	news   chan hraft.Observation // that something may have changed; what, is looked up
	server string                 // told last
	term   uint64
}

// observeLeader asks the library for news of leaders. What finds the channel full is
// dropped: it holds the same news.
func (g *Group) observeLeader(r *hraft.Raft) {
	g.leaderWatch.news = make(chan hraft.Observation, 1)
	r.RegisterObserver(hraft.NewObserver(g.leaderWatch.news, false, func(o *hraft.Observation) bool {
		_, ok := o.Data.(hraft.LeaderObservation)
		return ok
	}))
}

// tellLeader tells a change of leader. It runs on the watching goroutine alone.
func (g *Group) tellLeader() {
	w := &g.leaderWatch
	server, term := g.LeaderTerm()
	if g.config.OnLeader == nil || server == w.server && term == w.term {
		return
	}
	w.server, w.term = server, term
	g.config.OnLeader(server, term)
}

// TransferLeadership makes another voter lead, and returns when it does, or at least no
// longer this replica. No entry is proposed meanwhile: what the source holds goes to it as
// a refusal once the other leads, or into the log if it does not (ErrTransfer). It takes
// about a round trip, and at most 2 s; once the other was asked, ctx does not end it.
func (g *Group) TransferLeadership(ctx context.Context, server string) error {
	if !g.Leading() {
		if g.Leader() == server {
			return nil
		}
		return g.notLeader()
	}
	if server == g.server {
		return nil
	}
	if m := g.Membership(); !slices.Contains(m.Voters, server) {
		return fmt.Errorf("%w: %s is to lead group %d", ErrNotMember, server, g.id)
	}
	g.transferMu.Lock()
	defer g.transferMu.Unlock()
	g.flight.pause(true)
	defer g.flight.pause(false)
	deadline := time.Now().Add(transferTimeout)
	ticker := time.NewTicker(transferPoll)
	defer ticker.Stop()
	for asked := false; ; {
		switch {
		case !g.Leading() || g.raft.State() != hraft.Leader:
			return nil
		case time.Now().After(deadline):
			return fmt.Errorf("%w: by %s in group %d", ErrTransfer, server, g.id)
		case !asked && g.flight.isIdle():
			// An entry that is on its way when the transfer begins would be refused unheard.
			g.raft.LeadershipTransferToServer(hraft.ServerID(server), hraft.ServerAddress(server))
			asked = true
		}
		select {
		case <-ticker.C:
		case <-g.closing:
			return ErrClosed
		}
		if err := ctx.Err(); err != nil && !asked {
			return fmt.Errorf("raft: group %d: transfer of leadership: %w", g.id, err)
		}
	}
}
