package raft

import (
	"sync"
	"sync/atomic"
	"time"
)

// wakeup is what a waiting operation learns: its result, or that its goroutine is to
// write the next batch.
type wakeup struct {
	lead bool
	err  error
}

// A committer turns what all groups have queued into one batch and one fsync. There is
// no goroutine of its own: the first group to come writes, those that come meanwhile
// queue, and one of them writes all that has queued next. So a lone entry changes no
// goroutine here, and at most one write is under way at any time.
type committer struct {
	store store
	fail  func(error)

	started atomic.Int64 // when the write under way began, in nanoseconds since base; 0: none
	base    time.Time

	writes     atomic.Uint64
	operations atomic.Uint64

	mu     sync.Mutex
	err    error // once set, nothing is written any more
	busy   bool
	sealed bool // nothing was written since the last seal
	queue  []*operation
	spare  []*operation
}

func newCommitter(s store, fail func(error)) *committer {
	return &committer{store: s, fail: fail, base: time.Now(), sealed: true}
}

// commit returns once o is durable. Until then o and its entries belong to the committer.
func (c *committer) commit(o *operation) error {
	c.mu.Lock()
	if c.err != nil {
		defer c.mu.Unlock()
		return c.err
	}
	c.queue = append(c.queue, o)
	if c.busy {
		c.mu.Unlock()
		if w := <-o.wake; !w.lead {
			return w.err
		}
		c.mu.Lock()
	}
	c.busy = true
	batch := c.queue
	c.queue, c.spare = c.spare[:0], nil
	c.mu.Unlock()

	err := c.write(batch)
	c.release(err)
	for i, other := range batch {
		if other != o {
			other.wake <- wakeup{err: err}
		}
		batch[i] = nil
	}
	c.mu.Lock()
	c.spare = batch
	c.mu.Unlock()
	return err
}

// write writes a batch and notes when it began, for stalled.
func (c *committer) write(batch []*operation) error {
	c.started.Store(int64(time.Since(c.base)) + 1)
	err := c.store.write(batch)
	c.started.Store(0)
	c.writes.Add(1)
	c.operations.Add(uint64(len(batch)))
	if err != nil {
		c.fail(err)
	}
	return err
}

// release ends a turn: the first that queued meanwhile is to write the next batch. After
// an error nobody is.
func (c *committer) release(err error) {
	c.mu.Lock()
	c.sealed = false
	if err != nil && c.err == nil {
		c.err = err
	}
	queue := c.queue
	if c.err != nil {
		c.queue = nil
	}
	c.busy = len(c.queue) > 0
	broken := c.err
	var next *operation
	if c.busy {
		next = c.queue[0]
	}
	c.mu.Unlock()
	if next != nil {
		next.wake <- wakeup{lead: true}
		return
	}
	if broken != nil {
		for _, o := range queue {
			o.wake <- wakeup{err: broken}
		}
	}
}

// seal makes damage to the last write detectable, if the committer is idle and has
// written since the last seal.
func (c *committer) seal() {
	c.mu.Lock()
	if c.busy || c.sealed || c.err != nil {
		c.mu.Unlock()
		return
	}
	c.busy = true
	c.mu.Unlock()
	err := c.store.seal()
	if err != nil {
		c.fail(err)
	}
	c.release(err)
	c.mu.Lock()
	c.sealed = c.sealed || !c.busy
	c.mu.Unlock()
}

// stalled tells whether the write under way takes suspiciously long.
func (c *committer) stalled() bool {
	started := c.started.Load()
	return started != 0 && int64(time.Since(c.base))-started > int64(stallTimeout)
}

// stop refuses what comes later. It must be called when no operation is under way.
func (c *committer) stop(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.err == nil {
		c.err = err
	}
}
