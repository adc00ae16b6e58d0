package raft

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	hraft "github.com/hashicorp/raft"

	"parley/wire/planted"
)

// Authorize returns nil if everything that was acknowledged anywhere before the call has
// been applied here: this replica leads and has applied an entry of its own term, a
// majority has answered a message that was sent after the call, and what was committed at
// the call is applied. ErrNotLeader says that another replica must be asked.
//
// A group whose only voter is this node has nobody to ask: it costs a few loads. Calls
// that come while an answer is awaited share the next message.
func (g *Group) Authorize(ctx context.Context) error {
	term := g.leadership.Load()
	if term == 0 {
		return g.notLeader()
	}
	commit := g.raft.CommitIndex()
	if !g.alone() && !planted.Active(planted.StaleReads) {
		if err := g.reads.confirm(ctx, term); err != nil {
			return err
		}
	}
	if g.applied.Load() < commit {
		if err := g.waiters.wait(ctx, commit, &g.applied); err != nil {
			return err
		}
	}
	if g.leadership.Load() != term {
		return g.notLeader()
	}
	return nil
}

func (g *Group) notLeader() error {
	select {
	case <-g.closing:
		return ErrClosed
	default:
		return ErrNotLeader
	}
}

// appliedWaiters are reads that wait for the machine to reach an index.
type appliedWaiters struct {
	count atomic.Int32
	mu    sync.Mutex
	list  []appliedWaiter
}

type appliedWaiter struct {
	index uint64
	done  chan error // capacity 1
}

func (w *appliedWaiters) wait(ctx context.Context, index uint64, applied *atomic.Uint64) error {
	done := make(chan error, 1)
	w.mu.Lock()
	w.count.Add(1)
	w.list = append(w.list, appliedWaiter{index, done})
	w.mu.Unlock()
	if applied.Load() >= index { // it was reached before count was seen
		w.reach(applied.Load())
	}
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		w.forget(done)
		return ctx.Err()
	}
}

func (w *appliedWaiters) forget(done chan error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for i := range w.list {
		if w.list[i].done == done {
			w.list = append(w.list[:i], w.list[i+1:]...)
			w.count.Add(-1)
			return
		}
	}
}

// reach wakes those that wait for index or less.
func (w *appliedWaiters) reach(index uint64) {
	if w.count.Load() == 0 {
		return
	}
	w.finish(func(i uint64) bool { return i <= index }, nil)
}

func (w *appliedWaiters) fail(err error) {
	w.finish(func(uint64) bool { return true }, err)
}

func (w *appliedWaiters) finish(matches func(uint64) bool, err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	kept := w.list[:0]
	for _, waiter := range w.list {
		if matches(waiter.index) {
			waiter.done <- err
		} else {
			kept = append(kept, waiter)
		}
	}
	clear(w.list[len(kept):])
	w.list = kept
	w.count.Store(int32(len(kept)))
}

// reads are the calls of Authorize that wait for a majority. Each takes a ticket; each
// peer is asked by at most one goroutine at a time, whose message answers all tickets
// taken before it was sent. hashicorp/raft's VerifyLeader would accept the answer to an
// older message, and waits behind the log's fsync.
type reads struct {
	group   *Group
	running sync.WaitGroup

	mu      sync.Mutex
	stopped bool
	ticket  uint64
	waiting []read
	peers   map[hraft.ServerID]*peer
}

type read struct {
	ticket uint64
	term   uint64
	done   chan error // capacity 1
}

// peer is what is known of another voter.
type peer struct {
	asking   bool
	term     uint64 // that answered applies to
	answered uint64 // the highest ticket that was taken before an answered message was sent
}

func (r *reads) confirm(ctx context.Context, term uint64) error {
	done := make(chan error, 1)
	r.mu.Lock()
	if r.stopped {
		r.mu.Unlock()
		return ErrClosed
	}
	r.ticket++
	r.waiting = append(r.waiting, read{r.ticket, term, done})
	r.ask(term)
	r.mu.Unlock()
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		r.forget(done)
		return ctx.Err()
	}
}

// ask starts asking the voters that are not being asked. mu is held.
func (r *reads) ask(term uint64) {
	if r.peers == nil {
		r.peers = make(map[hraft.ServerID]*peer)
	}
	self := hraft.ServerID(r.group.server)
	for _, id := range r.group.members.latest.Load().voters {
		if id == self {
			continue
		}
		p := r.peers[id]
		if p == nil {
			p = &peer{}
			r.peers[id] = p
		}
		if !p.asking {
			p.asking = true
			r.running.Go(func() { r.probe(id, p) })
		}
	}
}

// probe asks one peer until no read waits for it.
func (r *reads) probe(id hraft.ServerID, p *peer) {
	for {
		r.mu.Lock()
		term := r.needs(p)
		sent := r.ticket
		if term == 0 {
			p.asking = false
			r.mu.Unlock()
			return
		}
		r.mu.Unlock()
		answer, err := r.group.heartbeat(id, term)
		r.mu.Lock()
		switch {
		case err != nil:
		case answer > term:
			r.finish(func(w *read) bool { return w.term <= term }, ErrNotLeader)
		default:
			if p.term != term {
				p.term, p.answered = term, 0
			}
			p.answered = max(p.answered, sent)
			r.settle()
		}
		r.mu.Unlock()
		if err != nil && !r.pause() {
			r.mu.Lock()
			p.asking = false
			r.mu.Unlock()
			return
		}
	}
}

// needs returns the term of a read that the peer has not answered, 0 if there is none.
func (r *reads) needs(p *peer) uint64 {
	for i := len(r.waiting) - 1; i >= 0; i-- {
		if w := &r.waiting[i]; p.term != w.term || p.answered < w.ticket {
			return w.term
		}
	}
	return 0
}

// pause waits before a silent peer is asked again; false if the group stops.
func (r *reads) pause() bool {
	timer := time.NewTimer(probeBackoff)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-r.group.closing:
		return false
	}
}

// settle ends the reads that a majority has answered. mu is held.
func (r *reads) settle() {
	voters := r.group.members.latest.Load().voters
	self := hraft.ServerID(r.group.server)
	r.finish(func(w *read) bool {
		answers := 0
		for _, id := range voters {
			p := r.peers[id]
			if id == self || p != nil && p.term == w.term && p.answered >= w.ticket {
				answers++
			}
		}
		return answers > len(voters)/2
	}, nil)
}

// finish ends the reads that match. mu is held.
func (r *reads) finish(matches func(*read) bool, err error) {
	kept := r.waiting[:0]
	for i := range r.waiting {
		if w := r.waiting[i]; matches(&w) {
			w.done <- err
		} else {
			kept = append(kept, w)
		}
	}
	clear(r.waiting[len(kept):])
	r.waiting = kept
}

func (r *reads) forget(done chan error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for i := range r.waiting {
		if r.waiting[i].done == done {
			r.waiting = append(r.waiting[:i], r.waiting[i+1:]...)
			return
		}
	}
}

// fail ends all reads.
func (r *reads) fail(err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.finish(func(*read) bool { return true }, err)
}

// stop ends all reads and refuses new ones; messages under way are waited for.
func (r *reads) stop() {
	r.mu.Lock()
	r.stopped = true
	r.finish(func(*read) bool { return true }, ErrClosed)
	r.mu.Unlock()
	r.running.Wait()
}

// heartbeat sends an empty message of a term that this replica leads or led in, and
// returns the term that the peer is in.
func (g *Group) heartbeat(id hraft.ServerID, term uint64) (uint64, error) {
	self := g.transport.EncodePeer(hraft.ServerID(g.server), g.transport.LocalAddr())
	request := hraft.AppendEntriesRequest{
		RPCHeader: hraft.RPCHeader{ProtocolVersion: hraft.ProtocolVersionMax, ID: []byte(g.server), Addr: self},
		Term:      term,
		Leader:    self,
	}
	var response hraft.AppendEntriesResponse
	err := g.transport.probe(id, &request, &response)
	if err == nil && !response.Success && response.Term <= term {
		err = ErrNotLeader // refused for another reason: not an answer
	}
	return response.Term, err
}
