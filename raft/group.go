package raft

import (
	"context"
	"errors"
	"fmt"
	"math"
	"sync"
	"sync/atomic"
	"time"

	hraft "github.com/hashicorp/raft"
)

// A Group is this node's replica of one replicated log. Its methods may be called from
// any goroutine.
type Group struct {
	id         uint32
	server     string // this replica's id
	node       *Node
	config     GroupConfig
	log        *groupLog
	raft       *hraft.Raft
	transport  *carrier
	snapshots  *snapshots
	members    *members
	ctx        context.Context // ends when the group stops
	cancel     context.CancelFunc
	truncation *operation // of the compactor
	backlogMax uint64     // LogBytesMax; tests lower it
	trailing   uint64     // TrailingBytes; tests lower it
	compacting bool       // guarded by the compactor
	notify     chan bool  // hashicorp/raft's news of leadership
	closing    chan struct{}
	running    sync.WaitGroup

	leaderWatch leaderWatch
	transferMu  idleMutex   // held by the transfer of leadership under way
	hastened    atomic.Bool // timeouts are short

	// machineMu makes calls of the machine one at a time.
	machineMu idleMutex
	machine   machine

	leadership atomic.Uint64 // the term that this replica leads in and has applied an entry of; 0: none
	applied    atomic.Uint64 // highest index that the machine was shown or that needs no showing
	delivered  atomic.Uint64 // highest index that the machine was shown
	lead       chan struct{} // closed at the first leadership
	leadOnce   sync.Once

	flight  flight
	waiters appliedWaiters
	reads   reads
}

// groupSettings are hashicorp/raft's.
func (g *Group) groupSettings() *hraft.Config {
	c := hraft.DefaultConfig()
	c.LocalID = hraft.ServerID(g.server)
	c.HeartbeatTimeout = heartbeatTimeout
	c.ElectionTimeout = electionTimeout
	c.LeaderLeaseTimeout = leaseTimeout
	c.CommitTimeout = commitTimeout
	c.MaxAppendEntries = EntriesAppendMax
	c.BatchApplyCh = true
	c.NoSnapshotRestoreOnStart = true
	c.NoLegacyTelemetry = true
	c.ShutdownOnRemove = false
	c.NotifyCh = g.notify
	c.Logger = &raftLogger{logger: g.node.logger.With("group", g.id)}
	// The library neither takes snapshots nor truncates: the record is the snapshot, and
	// the compactor truncates behind it.
	c.SnapshotInterval = math.MaxInt64 / 4
	c.SnapshotThreshold = math.MaxUint64
	c.TrailingLogs = math.MaxUint64
	return c
}

func newGroup(n *Node, c GroupConfig) *Group {
	trailing, grain := n.options.trailing()
	g := &Group{
		id: c.ID, node: n, config: c, server: c.Server,
		members:    newMembers(),
		truncation: newOperation(c.ID),
		backlogMax: LogBytesMax,
		trailing:   trailing,
		notify:     make(chan bool, 16),
		closing:    make(chan struct{}),
		lead:       make(chan struct{}),
	}
	if g.server == "" {
		g.server = n.options.Server
	}
	g.ctx, g.cancel = context.WithCancel(context.Background())
	g.snapshots = &snapshots{group: g, holds: make(map[*export]struct{})}
	g.log = &groupLog{
		group: c.ID, store: n.store, committer: n.committer, fail: n.fail, grain: grain,
		record: c.Machine.Record, appended: g.watchMembers, removed: g.members.cut, grown: g.Compact,
		writing: g.ship,
	}
	g.flight.window = InFlightMax
	g.flight.wake = make(chan struct{}, 1)
	g.reads.group = g
	return g
}

// startGroup recovers a group from its log and its machine's record.
func startGroup(n *Node, c GroupConfig) (*Group, error) {
	g := newGroup(n, c)
	record := c.Machine.Record()
	if record.Index > 0 && (record.Term == 0 || record.ConfigurationIndex == 0) {
		return nil, fmt.Errorf("%w: group %d: the record at %d has no term or configuration", errOptions, g.id, record.Index)
	}
	if err := g.recallMembers(&record); err != nil {
		return nil, err
	}
	if err := openLog(g.log, record); err != nil {
		return nil, err
	}
	if err := g.log.follows(record); err != nil {
		return nil, err
	}
	g.applied.Store(record.Index)
	g.delivered.Store(record.Index)
	transport, err := n.options.Network.Transport(g.id, g.server)
	if err != nil {
		return nil, fmt.Errorf("raft: group %d: %w", g.id, err)
	}
	g.transport = &carrier{Transport: transport, stalled: n.committer.stalled, yield: g.yield, doubt: g.doubt, close: sync.OnceValue(transport.Close)}
	// The log ends the goroutine that it fails on, which must not be the caller's.
	started := make(chan struct{})
	go func() {
		defer close(started)
		err = g.open()
	}()
	<-started
	if failure := n.broken(); failure != nil && g.raft == nil {
		err = failure
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("raft: group %d: %w", g.id, err), g.transport.Close())
	}
	g.running.Go(g.watch)
	g.running.Go(g.propose)
	return g, nil
}

// open bootstraps an empty group and starts hashicorp/raft.
func (g *Group) open() error {
	settings := g.groupSettings()
	if err := g.forgetHalfABootstrap(); err != nil {
		return err
	}
	exists, err := hraft.HasExistingState(g.log, g.log, g.snapshots)
	if err != nil {
		return err
	}
	if !exists && len(g.config.Servers) > 0 {
		var c hraft.Configuration
		for _, s := range g.config.Servers {
			c.Servers = append(c.Servers, hraft.Server{ID: hraft.ServerID(s), Address: hraft.ServerAddress(s)})
		}
		if err := hraft.BootstrapCluster(settings, g.log, g.log, g.snapshots, g.transport, c); err != nil {
			return err
		}
	}
	r, err := hraft.NewRaft(settings, (*fsm)(g), g.log, g.log, g.snapshots, g.transport)
	if err != nil {
		return err
	}
	g.observeLeader(r)
	if g.alone() {
		// A shorter timeout makes a follower look at once, and it has nobody to wait for.
		soon := r.ReloadableConfig()
		soon.HeartbeatTimeout -= time.Millisecond
		if err := r.ReloadConfig(soon); err != nil {
			return errors.Join(err, r.Shutdown().Error())
		}
	}
	g.raft = r
	return nil
}

// ship sends commands to the followers while this replica, their leader, writes them: it
// counts itself among those that have them only once its own write is durable, and a
// follower that has what its leader has lost is an ordinary thing to Raft. All entries of a
// term are its leader's, which stores each once, so none of them comes here a second time.
func (g *Group) ship(logs []*hraft.Log) {
	term := g.leadership.Load()
	if term == 0 || g.alone() {
		return
	}
	for _, l := range logs {
		if l.Type != hraft.LogCommand || l.Term != term {
			return
		}
	}
	g.transport.ship(logs, g.applied.Load())
}

// forgetHalfABootstrap undoes what a crash in the middle of the very first start leaves:
// BootstrapCluster writes term 1, then the first entry, and with the term alone the group
// counts as begun but has no voters, for ever. A replica that has no entry, no record and
// never voted has promised nobody anything in term 1.
func (g *Group) forgetHalfABootstrap() error {
	if len(g.config.Servers) == 0 || g.config.Machine.Record().Index > 0 {
		return nil
	}
	last, err := g.log.LastIndex()
	if err != nil || last > 0 {
		return err
	}
	term, err := g.log.GetUint64([]byte(stableTerm))
	if err != nil || term != 1 {
		return err
	}
	vote, err := g.log.GetUint64([]byte(stableVoteTerm))
	if err != nil || vote > 0 {
		return err
	}
	return g.log.SetUint64([]byte(stableTerm), 0)
}

// elected waits for the leadership of a group that has no other voter.
func (g *Group) elected(ctx context.Context) error {
	if !g.alone() {
		return nil
	}
	select {
	case <-g.lead:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("raft: group %d: replay of the log: %w", g.id, ctx.Err())
	case <-g.closing:
		return ErrClosed
	case <-g.node.failed:
		return g.node.broken()
	}
}

// watch follows hashicorp/raft's news of leadership.
func (g *Group) watch() {
	again := time.NewTimer(electAgain)
	defer again.Stop()
	for {
		g.tellLeader()
		select {
		case <-g.leaderWatch.news:
		case leads := <-g.notify:
			if leads {
				g.elect()
				again.Reset(electAgain)
			} else {
				g.resign(ErrNotLeader)
			}
		case <-again.C:
			if g.isBeginning() {
				g.elect()
				again.Reset(electAgain)
			}
		case <-g.closing:
			return
		}
	}
}

// isBeginning tells whether this replica was elected and its Machine does not know yet. That
// takes long if a disk or a peer is slow, and for ever if the library has refused the empty
// entry: it does while it remembers a transfer of an earlier leadership, which goes on
// until the peer has answered or did not in time.
func (g *Group) isBeginning() bool {
	g.machineMu.Lock()
	defer g.machineMu.Unlock()
	return g.machine.elected != 0 && !g.machine.leads
}

// elect notes the term that this replica leads in, and proposes the empty entry whose
// application shows that everything before it was applied. One more of them does no harm.
func (g *Group) elect() {
	term := g.raft.CurrentTerm()
	if g.raft.State() != hraft.Leader || g.raft.CurrentTerm() != term {
		return // lost again: the news of that follows
	}
	g.machineMu.Lock()
	g.machine.elected = term
	g.machineMu.Unlock()
	g.raft.Apply(nil, 0)
}

// resign ends a leadership: what is in flight is given back, and the machine is told.
func (g *Group) resign(err error) {
	g.leadership.Store(0)
	g.reads.fail(ErrNotLeader)
	g.waiters.fail(ErrNotLeader)
	g.giveBack(g.flight.close(), err)
	g.machineMu.Lock()
	defer g.machineMu.Unlock()
	g.machine.elected = 0
	g.leadership.Store(0) // Lead may have come in between
	if g.machine.leads {
		g.machine.leads = false
		g.giveBack(g.flight.close(), err)
		g.config.Machine.Follow()
	}
	g.flight.signal()
}

// Leading tells whether this replica leads and its Machine was told so.
func (g *Group) Leading() bool { return g.leadership.Load() != 0 }

// Term returns the term that this replica leads in, 0 if it does not.
func (g *Group) Term() uint64 { return g.leadership.Load() }

// Applied is the highest index that is applied here.
func (g *Group) Applied() uint64 { return g.applied.Load() }

// Commit is the highest index that this replica knows to be committed.
func (g *Group) Commit() uint64 { return max(g.raft.CommitIndex(), g.applied.Load()) }

// Server is this replica's id.
func (g *Group) Server() string { return g.server }

// Stats returns the group's counters.
func (g *Group) Stats() Stats {
	s := Stats{
		Leading: g.Leading(),
		Term:    g.raft.CurrentTerm(),
		Commit:  g.Commit(),
		Applied: g.applied.Load(),
	}
	s.SnapshotIndex = g.config.Machine.Record().Index
	g.flight.stats(&s)
	g.log.stats(&s)
	return s
}

// stop waits shortly for what is in flight, then stops the group.
func (g *Group) stop() {
	g.flight.drain()
	close(g.closing)
	g.cancel()
	g.node.compactor.forget(g)
	// What the library waits for, a snapshot half received above all, ends with the transport.
	if err := errors.Join(g.transport.Close(), g.raft.Shutdown().Error()); err != nil {
		g.node.logger.Warn("raft: shutdown", "group", g.id, "error", err)
	}
	g.running.Wait()
	g.resign(ErrClosed)
	g.reads.stop()
	g.snapshots.dismiss()
}
