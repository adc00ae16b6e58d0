package raft

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	hraft "github.com/hashicorp/raft"
)

// awaitLeader returns the replica that leads.
func (c *cluster) awaitLeader() *member {
	c.t.Helper()
	eventually(c.t, "a leader", func() bool { return c.leader() != nil })
	return c.leader()
}

// awaitApplied waits until a replica has applied what the leader has.
func (m *member) awaitApplied(index uint64) {
	m.c.t.Helper()
	eventually(m.c.t, m.server+" to catch up", func() bool { return m.group.Applied() >= index })
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// fill proposes entries that are large, one after the other, until all are applied.
func (m *member) fill(count, size int) {
	m.c.t.Helper()
	var last string
	for i := range count {
		m.c.mu.Lock()
		m.c.proposed++
		value := fmt.Sprintf("%s-%d-%s", m.server, m.c.proposed, bytes.Repeat([]byte{byte('a' + i%26)}, size))
		m.mine[value] = true
		m.c.mu.Unlock()
		m.source.add([]byte(value))
		last = value
	}
	m.group.Kick()
	eventually(m.c.t, "large entries", func() bool { return m.c.isAcknowledged(last) })
}

// truncate makes the leader forget the beginning of its log.
func (m *member) truncate(above uint64) {
	m.c.t.Helper()
	must(m.c.t, m.machine.Persist(m.c.t.Context(), 0))
	m.group.Compact()
	eventually(m.c.t, "truncation", func() bool { return m.group.Stats().First > above })
}

// TestOneReplicaBecomesThree starts with one voter whose log was truncated, adds two
// learners that need a snapshot, makes them voters, and takes the first one away.
func TestOneReplicaBecomesThree(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newClusterOf(t, 1, 1)
		defer c.close()
		first := c.awaitLeader()
		first.fill(40, 60<<10)
		first.truncate(10)
		for i := range 2 {
			m := c.join(fmt.Sprint("added", i))
			must(t, first.group.AddLearner(t.Context(), m.server))
			must(t, first.group.AddLearner(t.Context(), m.server))
			first.propose()
			m.awaitApplied(first.group.Applied())
			if m.machine.installs.Load() != 1 {
				t.Errorf("%s installed %d snapshots", m.server, m.machine.installs.Load())
			}
			if got := first.group.Membership(); !slices.Contains(got.Learners, m.server) {
				t.Errorf("members are %+v", got)
			}
		}
		for i := range 2 {
			must(t, first.group.Promote(t.Context(), fmt.Sprint("added", i)))
		}
		c.settle()
		if got := first.group.Membership(); len(got.Voters) != 3 || len(got.Learners) != 0 {
			t.Errorf("members are %+v", got)
		}
		must(t, first.group.Remove(t.Context(), first.server))
		eventually(t, "the first one to follow", func() bool { return !first.group.Leading() })
		c.retire(first)
		c.settle()
		time.Sleep(10 * time.Second)
		if first.group.Leading() {
			t.Error("a removed replica leads")
		}
		must(t, first.node.Drop(1))
		if logs, err := first.node.Logs(); err != nil || len(logs) != 0 {
			t.Errorf("after Drop there are logs of %v, %v", logs, err)
		}
	})
}

// TestChangesOfMembersAreRefused tries what cannot be done.
func TestChangesOfMembersAreRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newClusterOf(t, 1, 1)
		defer c.close()
		l := c.awaitLeader()
		if err := l.group.Remove(t.Context(), l.server); !errors.Is(err, ErrLastVoter) {
			t.Errorf("removal of the only voter: %v", err)
		}
		if err := l.group.Promote(t.Context(), "stranger"); !errors.Is(err, ErrNotMember) {
			t.Errorf("promotion of a stranger: %v", err)
		}
		if err := l.group.TransferLeadership(t.Context(), "stranger"); !errors.Is(err, ErrNotMember) {
			t.Errorf("transfer to a stranger: %v", err)
		}
		must(t, l.group.Remove(t.Context(), "stranger"))
		must(t, l.group.TransferLeadership(t.Context(), l.server))
		m := c.join("added")
		must(t, l.group.AddLearner(t.Context(), m.server))
		m.awaitApplied(l.group.Membership().Index)
		for name, err := range map[string]error{
			"add":      m.group.AddLearner(t.Context(), "other"),
			"promote":  m.group.Promote(t.Context(), "other"),
			"remove":   m.group.Remove(t.Context(), l.server),
			"transfer": m.group.TransferLeadership(t.Context(), m.server),
		} {
			if !errors.Is(err, ErrNotLeader) && !errors.Is(err, ErrNotMember) {
				t.Errorf("%s at a learner: %v", name, err)
			}
		}
		if err := l.group.TransferLeadership(t.Context(), m.server); !errors.Is(err, ErrNotMember) {
			t.Errorf("transfer to a learner: %v", err)
		}
		must(t, m.node.Stop(1)) // without it the change cannot be committed
		must(t, l.group.Promote(t.Context(), m.server))
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := l.group.AddLearner(ctx, "other"); !errors.Is(err, context.DeadlineExceeded) && !errors.Is(err, ErrNotLeader) {
			t.Errorf("a change without majority: %v", err)
		}
		m.again()
		c.settle()
	})
}

// again starts a replica again that was stopped.
func (m *member) again() {
	closeNode(m.c.t, m.node)
	m.start()
}

// TestLearnerCatchesUpWhileTheLeaderIsBusy adds a learner that needs a snapshot while the
// leader is busy: the log that it needs next is kept.
func TestLearnerCatchesUpWhileTheLeaderIsBusy(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := makeCluster(t, 3, 3)
		c.padding, c.truncate = 8<<10, true
		c.start()
		defer c.close()
		l := c.awaitLeader()
		l.fill(20, 60<<10)
		l.truncate(10)
		m := c.join("late")
		stop, stopped := make(chan struct{}), make(chan struct{})
		go func() {
			defer close(stopped)
			for {
				select {
				case <-stop:
					return
				case <-time.After(2 * time.Millisecond):
				}
				if l := c.leader(); l != nil && l.source.waiting() < 100 {
					l.propose()
					if err := l.machine.Persist(context.Background(), 0); err == nil {
						l.group.Compact()
					}
				}
			}
		}()
		c.network.SetDelay(20 * time.Millisecond)
		must(t, l.group.AddLearner(t.Context(), m.server))
		time.Sleep(5 * time.Second)
		close(stop)
		<-stopped
		c.network.SetDelay(0)
		must(t, c.awaitLeader().group.Promote(t.Context(), m.server))
		c.settle()
		if m.machine.installs.Load() > 2 {
			t.Errorf("%d snapshots were installed", m.machine.installs.Load())
		}
	})
}

func (s *testSource) waiting() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.queue)
}

// TestLaggardIsSentASnapshot keeps a replica away until what it needs is truncated.
func TestLaggardIsSentASnapshot(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, 1)
		defer c.close()
		l := c.awaitLeader()
		laggard := c.members[(slices.Index(c.members, l)+1)%3]
		c.network.Isolate(laggard.server)
		l.fill(2*TrailingBytes/(60<<10), 60<<10)
		l.truncate(100)
		if kept := l.group.Stats().LogBytes; kept < TrailingBytes {
			t.Errorf("only %d bytes are kept for others", kept)
		}
		c.settle()
		if laggard.machine.installs.Load() != 1 {
			t.Errorf("%d snapshots were installed", laggard.machine.installs.Load())
		}
		first, last := laggard.group.Stats().First, laggard.group.Stats().Last
		if first == 1 || last < first {
			t.Errorf("the laggard's log has %d to %d", first, last)
		}
		laggard.stop(true)
		laggard.start()
		c.settle()
		laggard.stop(false)
		laggard.start()
		c.settle()
	})
}

// TestMembersChangeUnderFaults replaces replicas by new ones again and again while others
// crash and are cut off: what was acknowledged stays, and all apply the same.
func TestMembersChangeUnderFaults(t *testing.T) {
	for seed := range rounds(8) {
		synctest.Test(t, func(t *testing.T) {
			c := newCluster(t, uint64(seed)+500)
			defer c.close()
			for i := range 4 {
				c.awaitMajority()
				c.replace(fmt.Sprintf("new%d", i))
			}
			c.settle()
			for _, m := range c.retired {
				if m.group.Leading() {
					t.Errorf("%s leads, but was removed", m.server)
				}
			}
		})
		if t.Failed() {
			t.Fatalf("seed %d", seed)
		}
	}
}

func (c *cluster) awaitMajority() {
	c.network.Heal()
	c.awaitLeader()
}

// replace puts a new replica in the place of another one, with faults in between.
func (c *cluster) replace(server string) {
	old := c.members[c.r.IntN(len(c.members))]
	m := c.join(server)
	steps := []func(g *Group) error{
		func(g *Group) error { return g.AddLearner(c.t.Context(), m.server) },
		func(g *Group) error {
			if m.group.Applied() == 0 {
				return errors.New("test: not caught up")
			}
			return g.Promote(c.t.Context(), m.server)
		},
		func(g *Group) error { return g.Remove(c.t.Context(), old.server) },
	}
	for i, step := range steps {
		c.step()
		for try := 0; ; try++ {
			if try > 2 {
				c.network.Heal()
			}
			if try > 500 {
				c.t.Fatalf("step %d for %s does not come about", i, server)
			}
			if l := c.leader(); l != nil && step(l.group) == nil {
				break
			}
			time.Sleep(100 * time.Millisecond)
		}
		if l := c.leader(); l != nil && c.r.IntN(2) == 0 {
			_ = l.machine.Persist(c.t.Context(), 0)
			l.group.Compact()
		}
	}
	c.retire(old)
}

// TestLeadershipIsTransferred moves the lead around under load: nothing that was
// acknowledged is lost, and the others are quick.
func TestLeadershipIsTransferred(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, 5)
		defer c.close()
		c.awaitLeader()
		var longest time.Duration
		for i := range 30 {
			l := c.awaitLeader()
			next := c.members[(slices.Index(c.members, l)+1+i%2)%3]
			for range 5 {
				l.propose()
			}
			began := time.Now()
			if err := l.group.TransferLeadership(t.Context(), next.server); err != nil {
				t.Fatalf("transfer %d: %v", i, err)
			}
			eventually(t, "the other to lead", func() bool { return next.group.Leading() })
			longest = max(longest, time.Since(began))
			must(t, l.group.TransferLeadership(t.Context(), next.server))
			if server, term := next.group.LeaderTerm(); server != next.server || term != next.group.Term() {
				t.Errorf("the leader says that %s leads in term %d", server, term)
			}
		}
		t.Logf("at most %v", longest)
		c.settle()
	})
}

// TestTransferToASilentServerIsGivenUp cuts off who is to lead: the leader leads on, and
// what waited goes into the log.
func TestTransferToASilentServerIsGivenUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, 6)
		defer c.close()
		l := c.awaitLeader()
		away := c.members[(slices.Index(c.members, l)+1)%3]
		c.network.Isolate(away.server)
		time.Sleep(3 * time.Second)
		done := make(chan error, 1)
		go func() { done <- l.group.TransferLeadership(t.Context(), away.server) }()
		time.Sleep(50 * time.Millisecond)
		value := l.propose()
		if err := <-done; !errors.Is(err, ErrTransfer) {
			t.Errorf("transfer: %v", err)
		}
		eventually(t, "what waited", func() bool { return c.isAcknowledged(value) })
		if l.source.failures() != 0 {
			t.Errorf("%d entries failed", l.source.failures())
		}
		c.settle()
	})
}

// hangingNetwork is a network in which whoever asks another one to lead gets no answer
// before a while.
type hangingNetwork struct {
	Network
	asked atomic.Int32
	hang  time.Duration
}

type hangingTransport struct {
	Transport
	*hangingNetwork
}

func (n *hangingNetwork) Transport(group uint32, server string) (Transport, error) {
	t, err := n.Network.Transport(group, server)
	return &hangingTransport{t, n}, err
}

func (t *hangingTransport) TimeoutNow(hraft.ServerID, hraft.ServerAddress, *hraft.TimeoutNowRequest, *hraft.TimeoutNowResponse) error {
	t.asked.Add(1)
	time.Sleep(t.hang)
	return errUnreachable
}

// TestLeadershipAfterATransferThatHangs has a leader ask another replica to lead, be cut off
// before there is an answer, and be elected again: the library then refuses the first
// entries of the new term, and the leader leads all the same.
func TestLeadershipAfterATransferThatHangs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := makeCluster(t, 7, 3)
		hanging := make(map[string]*hangingNetwork)
		for _, m := range c.members {
			hanging[m.server] = &hangingNetwork{Network: c.network.Network(m.server), hang: 10 * time.Second}
			m.startOn(hanging[m.server])
		}
		defer c.close()
		l := c.awaitLeader()
		at := slices.Index(c.members, l)
		target, other := c.members[(at+1)%3], c.members[(at+2)%3]
		c.network.Isolate(other.server)
		value := l.propose() // without which the other one cannot win an election
		eventually(t, "an entry that two have", func() bool { return c.isAcknowledged(value) })
		transferred := make(chan error, 1)
		go func() { transferred <- l.group.TransferLeadership(t.Context(), target.server) }()
		eventually(t, "the question", func() bool { return hanging[l.server].asked.Load() == 1 })
		c.network.Isolate(l.server)
		eventually(t, "the end of the leadership", func() bool { return !l.group.Leading() })
		if err := <-transferred; err != nil {
			t.Errorf("transfer: %v", err)
		}
		c.network.Heal()
		c.network.Isolate(target.server)
		eventually(t, "the next leadership", l.group.Leading)
		c.network.Heal()
		c.settle()
	})
}

// badSender is a network whose first snapshots end too early, and whose next ones arrive
// but are not answered.
type badSender struct {
	Network
	short, lost atomic.Int32
}

type badTransport struct {
	Transport
	*badSender
}

func (n *badSender) Transport(group uint32, server string) (Transport, error) {
	t, err := n.Network.Transport(group, server)
	return &badTransport{t, n}, err
}

func (t *badTransport) InstallSnapshot(id hraft.ServerID, target hraft.ServerAddress, args *hraft.InstallSnapshotRequest, resp *hraft.InstallSnapshotResponse, data io.Reader) error {
	if t.short.Add(-1) >= 0 {
		data = io.LimitReader(data, args.Size/2)
	}
	err := t.Transport.InstallSnapshot(id, target, args, resp, data)
	if err == nil && t.lost.Add(-1) >= 0 {
		return errUnreachable
	}
	return err
}

// TestBadSnapshotsAreSentAgain cuts the first ones short, which changes nothing, and loses
// the answers to the next ones: an idle group has no newer one to send.
func TestBadSnapshotsAreSentAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newClusterOf(t, 1, 1)
		defer c.close()
		l := c.awaitLeader()
		l.fill(20, 60<<10)
		l.truncate(5)
		must(t, l.node.Close())
		l.machine = l.machine.restart()
		sender := &badSender{Network: c.network.Network(l.server)}
		sender.short.Store(3)
		sender.lost.Store(3)
		l.startOn(sender)
		m := c.join("added")
		must(t, l.group.AddLearner(t.Context(), m.server))
		time.Sleep(20 * time.Second)
		if m.machine.installs.Load() != 1 || m.group.Applied() != l.group.Applied() {
			t.Errorf("%d installed, applied is %d of %d", m.machine.installs.Load(), m.group.Applied(), l.group.Applied())
		}
		c.settle()
		if sender.short.Load() > 0 || sender.lost.Load() > 0 || m.machine.installs.Load() != 1 {
			t.Errorf("%d left to cut, %d to lose, %d installed", sender.short.Load(), sender.lost.Load(), m.machine.installs.Load())
		}
	})
}

// TestRefusedInstallChangesNothing lets the machine refuse: the replica goes on and takes
// the next one.
func TestRefusedInstallChangesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newClusterOf(t, 1, 1)
		defer c.close()
		l := c.awaitLeader()
		l.fill(20, 60<<10)
		l.truncate(5)
		m := c.join("added")
		m.machine.failInstall = errors.New("test: refused")
		must(t, l.group.AddLearner(t.Context(), m.server))
		time.Sleep(5 * time.Second)
		if m.group.Applied() != 0 {
			t.Errorf("applied is %d", m.group.Applied())
		}
		m.stop(true) // between the note and the install
		m.start()
		c.settle()
		if m.machine.installs.Load() != 1 {
			t.Errorf("%d installed", m.machine.installs.Load())
		}
	})
}
