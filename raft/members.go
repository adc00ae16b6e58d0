package raft

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	hraft "github.com/hashicorp/raft"
)

// Errors of changing who takes part in a group.
var (
	// ErrNotMember means that the server does not take part in the group, or not as it must.
	ErrNotMember = errors.New("raft: the server is not a member of the group")
	// ErrLastVoter refuses to remove the only voter: nobody could be added afterwards.
	ErrLastVoter = errors.New("raft: the server is the group's only voter")
	// ErrTransfer means that the other server did not take the lead in time. This one leads on.
	ErrTransfer = errors.New("raft: leadership was not taken over in time")
)

// A Membership is who takes part in a group, as of one configuration.
type Membership struct {
	// Index is that of the configuration's entry; 0: the replica knows of none yet.
	Index uint64
	// Voters elect and commit.
	Voters []string
	// Learners get all entries and have no voice.
	Learners []string
}

// Has reports whether a server takes part, in whatever way.
func (m *Membership) Has(server string) bool {
	return slices.Contains(m.Voters, server) || slices.Contains(m.Learners, server)
}

// roster is one configuration.
type roster struct {
	index    uint64
	voters   []hraft.ServerID
	learners []hraft.ServerID
}

func newRoster(index uint64, c hraft.Configuration) *roster {
	r := &roster{index: index}
	for _, s := range c.Servers {
		if s.Suffrage == hraft.Voter {
			r.voters = append(r.voters, s.ID)
		} else {
			r.learners = append(r.learners, s.ID)
		}
	}
	return r
}

// members follow a group's configurations as they are written, before they are durable: a
// new one counts for reads before it can count for anything else. Those that may still be
// replaced by another leader's are kept, and the newest that may not.
type members struct {
	latest atomic.Pointer[roster]

	mu      sync.Mutex
	known   []*roster     // ascending
	changed chan struct{} // closed when known changes, and made anew
}

func newMembers() *members {
	m := &members{known: []*roster{{}}, changed: make(chan struct{})}
	m.latest.Store(m.known[0])
	return m
}

// update changes what is known.
func (m *members) update(change func(known []*roster) []*roster) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.known = change(m.known)
	m.latest.Store(m.known[len(m.known)-1])
	close(m.changed)
	m.changed = make(chan struct{})
}

// reset begins with one configuration.
func (m *members) reset(r *roster) {
	m.update(func([]*roster) []*roster { return []*roster{r} })
}

// add notes a configuration that was written behind all others.
func (m *members) add(r *roster) {
	m.update(func(known []*roster) []*roster { return append(known, r) })
}

// cut forgets the configurations from an index on: their entries are replaced.
func (m *members) cut(from uint64) {
	m.update(func(known []*roster) []*roster {
		for len(known) > 1 && known[len(known)-1].index >= from {
			known = known[:len(known)-1]
		}
		return known
	})
}

// settle forgets the configurations before the newest one up to index, which was applied.
func (m *members) settle(index uint64) {
	m.update(func(known []*roster) []*roster {
		for len(known) > 1 && known[1].index <= index {
			known = known[1:]
		}
		return known
	})
}

// watch returns a channel that is closed when the configurations change next.
func (m *members) watch() <-chan struct{} {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.changed
}

// watchMembers sees entries before they are durable.
func (g *Group) watchMembers(logs []*hraft.Log) {
	for _, l := range logs {
		if l.Type != hraft.LogConfiguration {
			continue
		}
		c, err := parseConfiguration(l.Data)
		if err != nil {
			g.node.fail(fmt.Errorf("group %d: entry %d: %w", g.id, l.Index, err))
			return
		}
		g.members.add(newRoster(l.Index, c))
	}
}

// recallMembers begins with the configuration of a record.
func (g *Group) recallMembers(record *Record) error {
	if record.ConfigurationIndex == 0 {
		return nil
	}
	c, err := parseConfiguration(record.Configuration)
	if err != nil {
		return fmt.Errorf("raft: group %d: record at %d: %w", g.id, record.Index, err)
	}
	g.members.reset(newRoster(record.ConfigurationIndex, c))
	return nil
}

// alone tells whether this replica is the group's only voter.
func (g *Group) alone() bool {
	voters := g.members.latest.Load().voters
	return len(voters) == 1 && voters[0] == hraft.ServerID(g.server)
}

// solitary tells whether nobody else takes part in the group at all.
func (g *Group) solitary() bool { return g.alone() && len(g.members.latest.Load().learners) == 0 }

// Membership returns the latest configuration that this replica has seen, committed or not.
func (g *Group) Membership() Membership { return g.members.latest.Load().membership() }

func (r *roster) membership() Membership {
	m := Membership{Index: r.index}
	for _, id := range r.voters {
		m.Voters = append(m.Voters, string(id))
	}
	for _, id := range r.learners {
		m.Learners = append(m.Learners, string(id))
	}
	return m
}

// AddLearner makes a server get all entries without a voice, and returns once that is
// committed. A server that takes part already is left as it is. ErrNotLeader says that
// another replica must be asked; after any error the change may still come about.
func (g *Group) AddLearner(ctx context.Context, server string) error {
	return g.change(ctx, func(m *Membership) (request, error) {
		if m.Has(server) {
			return nil, nil
		}
		return func(r *hraft.Raft, timeout time.Duration) hraft.IndexFuture {
			return r.AddNonvoter(hraft.ServerID(server), hraft.ServerAddress(server), m.Index, timeout)
		}, nil
	})
}

// Promote makes a learner a voter, and returns once that is committed. Whether it has
// caught up is the caller's to see to: until it has, it may be missing from a majority.
func (g *Group) Promote(ctx context.Context, server string) error {
	return g.change(ctx, func(m *Membership) (request, error) {
		if slices.Contains(m.Voters, server) {
			return nil, nil
		}
		if !m.Has(server) {
			return nil, fmt.Errorf("%w: %s is to vote in group %d", ErrNotMember, server, g.id)
		}
		return func(r *hraft.Raft, timeout time.Duration) hraft.IndexFuture {
			return r.AddVoter(hraft.ServerID(server), hraft.ServerAddress(server), m.Index, timeout)
		}, nil
	})
}

// Remove ends a server's part in the group, and returns once that is committed. A leader
// that removes itself follows from then on. The only voter is not removed: ErrLastVoter.
func (g *Group) Remove(ctx context.Context, server string) error {
	return g.change(ctx, func(m *Membership) (request, error) {
		if !m.Has(server) {
			return nil, nil
		}
		if len(m.Voters) == 1 && m.Voters[0] == server {
			return nil, fmt.Errorf("%w: %s in group %d", ErrLastVoter, server, g.id)
		}
		return func(r *hraft.Raft, timeout time.Duration) hraft.IndexFuture {
			return r.RemoveServer(hraft.ServerID(server), m.Index, timeout)
		}, nil
	})
}

// request asks the library for one change of a membership.
type request func(r *hraft.Raft, timeout time.Duration) hraft.IndexFuture

// change brings the group from the membership that it has to one that next asks nothing
// of, and waits until that is committed.
//
// The library's futures are not waited for, because some are never answered when it shuts
// down. A request names the configuration that it changes, so that repeating one does no harm.
func (g *Group) change(ctx context.Context, next func(m *Membership) (request, error)) error {
	timer := time.NewTimer(changePause)
	defer timer.Stop()
	for {
		changed := g.members.watch()
		m := g.Membership()
		ask, err := next(&m)
		if err == nil && ask == nil && m.Index > 0 && g.applied.Load() >= m.Index {
			return nil
		}
		switch {
		case !g.Leading():
			return g.notLeader()
		case err != nil && g.applied.Load() >= m.Index:
			return err
		case err == nil && ask != nil:
			_ = ask(g.raft, changePause) // the membership shows what came of it
		}
		timer.Reset(changePause)
		select {
		case <-changed:
		case <-timer.C:
		case <-ctx.Done():
			return fmt.Errorf("raft: group %d: change of members: %w", g.id, ctx.Err())
		case <-g.closing:
			return ErrClosed
		}
	}
}
