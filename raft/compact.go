package raft

import (
	"context"
	"slices"
	"sync"

	"parley/wire/planted"
)

// A compactor truncates the logs of a node's groups, one at a time, on a goroutine that
// lives while there is something to do.
type compactor struct {
	logger  func(g *Group, err error)
	running sync.WaitGroup

	mu      sync.Mutex
	stopped bool
	busy    bool
	queue   []*Group
	current *Group        // being truncated
	turned  chan struct{} // closed when it changes
}

func newCompactor(n *Node) *compactor {
	c := &compactor{turned: make(chan struct{}), logger: func(g *Group, err error) {
		n.logger.Warn("raft: truncation failed", "group", g.id, "error", err)
	}}
	return c
}

// ask queues a group, once.
func (c *compactor) ask(g *Group) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.stopped || g.compacting {
		return
	}
	g.compacting = true
	c.queue = append(c.queue, g)
	if !c.busy {
		c.busy = true
		c.running.Go(c.run)
	}
}

func (c *compactor) run() {
	for {
		c.mu.Lock()
		c.turn(nil)
		if len(c.queue) == 0 || c.stopped {
			c.busy = false
			c.mu.Unlock()
			return
		}
		g := c.queue[0]
		c.queue = c.queue[1:]
		g.compacting = false
		c.turn(g)
		c.mu.Unlock()
		if err := g.compact(g.ctx); err != nil && g.ctx.Err() == nil {
			c.logger(g, err)
		}
	}
}

// turn notes which group is being truncated. mu is held.
func (c *compactor) turn(g *Group) {
	c.current = g
	close(c.turned)
	c.turned = make(chan struct{})
}

// forget takes a group that is stopping off the queue, and waits until it is left alone.
// It is not asked for any more.
func (c *compactor) forget(g *Group) {
	c.mu.Lock()
	defer c.mu.Unlock()
	g.compacting = true
	c.queue = slices.DeleteFunc(c.queue, func(other *Group) bool { return other == g })
	for c.current == g {
		turned := c.turned
		c.mu.Unlock()
		<-turned
		c.mu.Lock()
	}
}

// stop waits for the truncation under way.
func (c *compactor) stop() {
	c.mu.Lock()
	c.stopped = true
	c.mu.Unlock()
	c.running.Wait()
}

// Compact asks for a truncation of the log behind the machine's record. It does not wait.
// It is to be called when the record has moved.
func (g *Group) Compact() { g.node.compactor.ask(g) }

// compact truncates behind the record. If the record lags by more than LogBytesMax, the
// machine is made to catch up first.
func (g *Group) compact(ctx context.Context) error {
	record := g.config.Machine.Record()
	if g.log.pending(record.Index) > g.backlogMax {
		if err := g.config.Machine.Persist(ctx, g.delivered.Load()); err != nil {
			return err
		}
		record = g.config.Machine.Record()
	}
	if planted.Active(planted.EarlyTruncation) {
		record.Index = g.delivered.Load()
	}
	keep := g.trailing
	if g.solitary() {
		keep = 0
	}
	// The record's own entry stays: a replica that was sent the state asks by it for what
	// follows, and would be sent the state again.
	return g.log.truncate(g.truncation, g.snapshots.limit(max(record.Index, 1)-1), keep)
}
