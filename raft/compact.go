package raft

import (
	"context"
	"sync"
)

// A compactor truncates the logs of a node's groups, one at a time, on a goroutine that
// lives while there is something to do.
type compactor struct {
	ctx     context.Context
	cancel  context.CancelFunc
	logger  func(g *Group, err error)
	running sync.WaitGroup

	mu      sync.Mutex
	stopped bool
	busy    bool
	queue   []*Group
}

func newCompactor(n *Node) *compactor {
	c := &compactor{logger: func(g *Group, err error) {
		n.logger.Warn("raft: truncation failed", "group", g.id, "error", err)
	}}
	c.ctx, c.cancel = context.WithCancel(context.Background())
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
		if len(c.queue) == 0 || c.stopped {
			c.busy = false
			c.mu.Unlock()
			return
		}
		g := c.queue[0]
		c.queue = c.queue[1:]
		g.compacting = false
		c.mu.Unlock()
		if err := g.compact(c.ctx); err != nil && c.ctx.Err() == nil {
			c.logger(g, err)
		}
	}
}

// stop waits for the truncation under way.
func (c *compactor) stop() {
	c.mu.Lock()
	c.stopped = true
	c.mu.Unlock()
	c.cancel()
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
	keep := uint64(TrailingBytes)
	if g.alone() {
		keep = 0
	}
	return g.log.truncate(g.truncation, record.Index, keep)
}
