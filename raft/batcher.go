package raft

import (
	"bytes"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	hraft "github.com/hashicorp/raft"
)

// Errors that Source.Failed gets beside ErrNotLeader and ErrClosed.
var (
	// ErrTimeout means that the entry was neither committed nor refused for 10 s.
	ErrTimeout = errors.New("raft: no commit in time")
	// ErrEntryTooLarge means that the source packed more than EntryBytesMax, or nothing.
	ErrEntryTooLarge = errors.New("raft: entry is empty or too large")
)

// A proposal is an entry of this node that is on its way.
type proposal struct {
	data   []byte // the very bytes that the log carries: they identify it when applied
	handle any
	since  time.Time
}

// flight is what is on its way, and what wakes the batcher. A proposal is in the list
// from before it is given to hashicorp/raft until it is applied or given back, and only
// who takes it from the list may do either: so an entry that was applied is never given
// back, and none is given back twice.
//
// The library's futures are not used: one goroutine would have to wait for each, and some
// are never answered when it shuts down.
type flight struct {
	window int           // InFlightMax; benchmarks vary it
	wake   chan struct{} // capacity 1
	awake  atomic.Bool   // wake was signalled and the batcher has not looked since
	hungry atomic.Bool   // the batcher left something in the source for want of room

	mu       sync.Mutex
	isOpen   bool // this replica leads: the source may be asked for entries to propose
	paused   bool // a transfer of leadership is under way: the library would refuse entries
	pulling  bool // the batcher is asking the source for one to propose
	draining bool
	pending  []proposal // in the order of their entries
	applying int        // taken, but the machine is not done with them
	idle     chan struct{}
	entries  uint64
	failed   uint64
}

// signal wakes the batcher. It never blocks, and costs one load if it is awake.
func (f *flight) signal() {
	if f.awake.Load() || f.awake.Swap(true) {
		return
	}
	select {
	case f.wake <- struct{}{}:
	default:
	}
}

// open lets the batcher propose.
func (f *flight) open() {
	f.mu.Lock()
	f.isOpen = true
	f.mu.Unlock()
	f.signal()
}

// close stops the batcher from proposing, and takes all that is on its way.
func (f *flight) close() []proposal {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.isOpen = false
	return f.takeAll()
}

func (f *flight) takeAll() []proposal {
	taken := f.pending
	f.pending = nil
	f.failed += uint64(len(taken))
	f.settle()
	return taken
}

// settle tells who drains that nothing is on its way. It is called with mu held.
func (f *flight) settle() {
	if f.draining && len(f.pending)+f.applying == 0 && f.idle != nil {
		close(f.idle)
		f.idle = nil
	}
}

// room tells whether the batcher may pull, and whether to propose what it pulls.
func (f *flight) room() (pull, proposes bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.draining || !f.isOpen {
		return true, false
	}
	if f.paused || len(f.pending)+f.applying >= f.window {
		f.hungry.Store(true)
		return false, true
	}
	f.pulling = true
	return true, true
}

// pulled says that the source had nothing.
func (f *flight) pulled() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.pulling = false
}

// pause stops the batcher from asking the source, or lets it go on.
func (f *flight) pause(on bool) {
	f.mu.Lock()
	f.paused = on
	f.mu.Unlock()
	if !on {
		f.signal()
	}
}

// isIdle tells whether nothing is on its way, and nothing will be while paused.
func (f *flight) isIdle() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return !f.pulling && len(f.pending)+f.applying == 0
}

// add puts a proposal on its way; false if this replica has stopped leading meanwhile.
func (f *flight) add(p proposal) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.pulling = false
	if !f.isOpen || f.draining {
		f.failed++
		return false
	}
	f.entries++
	f.pending = append(f.pending, p)
	return true
}

// take takes those that are among logs: they are applied now. It returns how many.
func (f *flight) take(logs []*hraft.Log) (own int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, l := range logs {
		if len(f.pending) == 0 {
			break
		}
		if len(l.Data) == 0 {
			continue
		}
		for i := range f.pending {
			if &f.pending[i].data[0] == &l.Data[0] {
				f.pending = append(f.pending[:i], f.pending[i+1:]...)
				own++
				break
			}
		}
	}
	f.applying += own
	return own
}

// done makes room for as many entries as take returned.
func (f *flight) done(own int) {
	if own > 0 {
		f.mu.Lock()
		f.applying -= own
		f.settle()
		f.mu.Unlock()
	}
	if f.hungry.Load() && f.hungry.Swap(false) {
		f.signal()
	}
}

// expired takes those that have waited since before limit.
func (f *flight) expired(limit time.Time) []proposal {
	f.mu.Lock()
	defer f.mu.Unlock()
	n := 0
	for n < len(f.pending) && f.pending[n].since.Before(limit) {
		n++
	}
	if n == 0 {
		return nil
	}
	taken := append([]proposal(nil), f.pending[:n]...)
	f.pending = append(f.pending[:0], f.pending[n:]...)
	f.failed += uint64(n)
	f.settle()
	return taken
}

// drain stops the batcher from proposing, and waits a while for what is on its way.
func (f *flight) drain() {
	f.mu.Lock()
	f.draining = true
	idle := make(chan struct{})
	f.idle = idle
	f.settle()
	f.mu.Unlock()
	f.signal()
	timer := time.NewTimer(drainTimeout)
	defer timer.Stop()
	select {
	case <-idle:
	case <-timer.C:
	}
}

func (f *flight) stats(s *Stats) {
	f.mu.Lock()
	defer f.mu.Unlock()
	s.Entries, s.Failed, s.InFlight = f.entries, f.failed, len(f.pending)+f.applying
}

// Kick says that the Source has something. It never blocks, and costs one load while the
// batcher has not yet looked. Kick once after Start, for what was queued before.
func (g *Group) Kick() { g.flight.signal() }

// propose is the batcher: it pulls entries while there is room. What queues meanwhile
// goes into the next entry, so that load makes large entries and an idle group none.
func (g *Group) propose() {
	scratch := make([]byte, 0, 4<<10)
	for {
		select {
		case <-g.flight.wake:
		case <-g.closing:
			return
		}
		g.flight.awake.Store(false) // before looking: a kick from here on wakes again
		for {
			pull, proposes := g.flight.room()
			if !pull {
				break
			}
			entry, handle, ok := g.config.Source.Next(scratch[:0])
			if !ok {
				g.flight.pulled()
				break
			}
			g.offer(entry, handle, proposes)
			if scratch = entry; cap(scratch) > 2*EntryBytesMax {
				scratch = nil
			}
		}
	}
}

// offer proposes one entry, or gives it back.
func (g *Group) offer(entry []byte, handle any, proposes bool) {
	switch {
	case !proposes:
		g.config.Source.Failed(handle, ErrNotLeader)
		return
	case len(entry) == 0 || len(entry) > EntryBytesMax:
		g.flight.pulled()
		g.config.Source.Failed(handle, ErrEntryTooLarge)
		return
	}
	data := bytes.Clone(entry)
	if !g.flight.add(proposal{data, handle, time.Now()}) {
		g.config.Source.Failed(handle, ErrNotLeader)
		return
	}
	g.raft.Apply(data, 0)
}

// giveBack returns proposals that were taken from the flight to the source.
func (g *Group) giveBack(taken []proposal, err error) {
	for _, p := range taken {
		g.config.Source.Failed(p.handle, err)
	}
	if len(taken) > 0 {
		g.flight.done(0)
	}
}

// expire gives back what has waited since before limit.
func (g *Group) expire(limit time.Time) { g.giveBack(g.flight.expired(limit), ErrTimeout) }
