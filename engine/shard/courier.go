package shard

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"sync"
	"time"

	"parley/storage"
	"parley/wire"
)

// Pace of the courier.
const (
	courierRetryMin = 50 * time.Millisecond
	courierRetryMax = 5 * time.Second
	// courierWait is how long a delivery may take before it is tried again. The target
	// may then get it twice, which does no harm.
	courierWait = 10 * time.Second
)

var errNoAnswer = errors.New("shard: the target did not answer in time")

// A courier delivers rows of the cross-shard outbox while its shard leads: in order for
// each target slot, again and again until the target has applied them, and then proposes
// their removal. If the leader dies in between, the next one's courier begins with what
// is left, so a row is delivered at least once.
//
// A slot with rows has a goroutine; there are at most wire.Slots of them, and that only
// while every other shard is out of reach.
type courier struct {
	deliver func(target wire.Slot, command []byte) <-chan error
	remove  func(command []byte, count int) <-chan error
	log     *slog.Logger
	ctx     context.Context
	cancel  context.CancelFunc
	workers sync.WaitGroup

	mu   sync.Mutex
	rows map[wire.Slot][]storage.Outgoing // a slot is in it as long as it has a worker
}

func newCourier(deliver func(wire.Slot, []byte) <-chan error, remove func([]byte, int) <-chan error, log *slog.Logger) *courier {
	c := &courier{deliver: deliver, remove: remove, log: log, rows: make(map[wire.Slot][]storage.Outgoing)}
	c.ctx, c.cancel = context.WithCancel(context.Background())
	return c
}

// startCourier starts delivering what waits. It runs on the apply goroutine, so that no
// row comes between what it reads and what publish adds.
func (s *Shard) startCourier(term uint64) {
	if s.config.Deliver == nil || s.courier != nil {
		return
	}
	var rows []storage.Outgoing
	err := s.config.Store.View(func(r *storage.Reader) error {
		return r.Outgoing(func(o storage.Outgoing) error {
			o.Command = bytes.Clone(o.Command)
			rows = append(rows, o)
			return nil
		})
	})
	if err != nil {
		// Without a courier lists would miss conversations in silence: the next entry stops the node.
		s.failed = fmt.Errorf("shard %d: read the rows for other shards at term %d: %w", s.config.ID, term, err)
		s.log.Error("the shard stops", "error", s.failed)
		return
	}
	s.courier = newCourier(s.config.Deliver, s.queue.control, s.log.With("shard", s.config.ID))
	s.courier.add(rows)
}

func (s *Shard) stopCourier() {
	if s.courier != nil {
		s.courier.stop()
		s.courier = nil
	}
}

// add takes rows, in the order of their numbers.
func (c *courier) add(rows []storage.Outgoing) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, row := range rows {
		_, works := c.rows[row.Target]
		c.rows[row.Target] = append(c.rows[row.Target], row)
		if !works {
			c.workers.Go(func() { c.work(row.Target) })
		}
	}
}

// stop ends all deliveries; what was not removed is left to the next leader.
func (c *courier) stop() {
	c.cancel()
	c.workers.Wait()
}

// work delivers a slot's rows until there are none.
func (c *courier) work(target wire.Slot) {
	for {
		command, removal, count := c.next(target)
		if count == 0 {
			return
		}
		delivered := func() error { return c.await(c.deliver(target, command)) }
		removed := func() error { return c.await(c.remove(removal, count)) }
		if !c.persist(target, "deliver", delivered) || !c.persist(target, "remove", removed) {
			return
		}
		c.mu.Lock()
		c.rows[target] = c.rows[target][count:]
		c.mu.Unlock()
	}
}

// next packs a slot's first rows into one delivery and one removal. Without rows it
// takes the slot off the map: the next row starts another worker.
func (c *courier) next(target wire.Slot) (command, removal []byte, count int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, row := range c.rows[target] {
		if count == reservedCommands || count > 0 && len(command)+len(row.Command) > ControlBytesMax {
			break
		}
		command = append(command, row.Command...)
		removal = appendOutgoingDone(removal, row.Number)
		count++
	}
	if count == 0 {
		delete(c.rows, target)
	}
	return command, removal, count
}

// persist tries until it succeeds, waiting longer each time; false: the courier stops.
// It complains once, when it waits as long as it ever will.
func (c *courier) persist(target wire.Slot, what string, try func() error) bool {
	told := false
	for wait := courierRetryMin; ; wait = min(2*wait, courierRetryMax) {
		err := try()
		if err == nil {
			return true
		}
		if c.ctx.Err() != nil {
			return false
		}
		if wait == courierRetryMax && !told {
			told = true
			c.log.Warn("row for another shard waits", "step", what, "slot", target, "error", err)
		}
		// Full jitter over the upper half: couriers that failed together come back apart.
		timer := time.NewTimer(wait/2 + rand.N(wait/2))
		select {
		case <-timer.C:
		case <-c.ctx.Done():
			timer.Stop()
			return false
		}
	}
}

func (c *courier) await(done <-chan error) error {
	timer := time.NewTimer(courierWait)
	defer timer.Stop()
	select {
	case err := <-done:
		return err
	case <-timer.C:
		return errNoAnswer
	case <-c.ctx.Done():
		return fmt.Errorf("shard: courier: %w", c.ctx.Err())
	}
}
