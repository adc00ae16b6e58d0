package cluster

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"

	"parley/raft"
)

// ErrQueueFull reports that ProposalsMax changes wait already: try again later.
var ErrQueueFull = errors.New("cluster: too many changes wait")

// An origin names a proposal: the life of the Machine that made it, and its number there.
type origin struct {
	nonce, count uint64
}

// An entry is one change: version, origin, encoded change. The change has a checksum.
const entryVersion = 1

func appendEntry(dst []byte, id origin, change []byte) []byte {
	dst = append(dst, entryVersion)
	dst = binary.LittleEndian.AppendUint64(dst, id.nonce)
	dst = binary.LittleEndian.AppendUint64(dst, id.count)
	return append(dst, change...)
}

const entryHeaderSize = 1 + 8 + 8

func parseEntry(b []byte) (id origin, c Change, err error) {
	if len(b) < entryHeaderSize || b[0] != entryVersion {
		return id, nil, fmt.Errorf("cluster: %d bytes of an unknown version", len(b))
	}
	id = origin{binary.LittleEndian.Uint64(b[1:]), binary.LittleEndian.Uint64(b[9:])}
	c, err = ParseChange(b[entryHeaderSize:])
	return id, c, err
}

// A proposal waits for its fate.
type proposal struct {
	id     origin
	change []byte
	done   chan fate // capacity 1
}

type fate struct {
	result Result
	err    error
}

// A queue holds the proposals of one Machine, from Propose until their fate is known.
// Whoever takes one out answers it, and nobody else can.
type queue struct {
	nonce uint64
	kick  atomic.Pointer[func()]

	mu       sync.Mutex
	term     uint64 // 0: this replica does not lead
	closed   bool
	count    uint64
	waiting  []*proposal
	inFlight []*proposal
}

func (q *queue) propose(ctx context.Context, c Change) (Result, error) {
	change := AppendChange(nil, c)
	if len(change) > ChangeBytesMax {
		return Result{}, fmt.Errorf("%w: %d bytes", ErrBadChange, len(change))
	}
	if _, err := ParseChange(change); err != nil {
		return Result{}, err // it must not come into the log: no replica could apply it
	}
	p, err := q.add(change)
	if err != nil {
		return Result{}, err
	}
	if kick := q.kick.Load(); kick != nil {
		(*kick)()
	}
	select {
	case f := <-p.done:
		return f.result, f.err
	case <-ctx.Done():
	}
	if q.take(p.id) == nil {
		f := <-p.done
		return f.result, f.err
	}
	return Result{}, fmt.Errorf("cluster: the change was not confirmed: %w", ctx.Err())
}

func (q *queue) add(change []byte) (*proposal, error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	switch {
	case q.closed:
		return nil, raft.ErrClosed
	case q.term == 0:
		return nil, raft.ErrNotLeader
	case len(q.waiting)+len(q.inFlight) >= ProposalsMax:
		return nil, ErrQueueFull
	}
	q.count++
	p := &proposal{id: origin{q.nonce, q.count}, change: change, done: make(chan fate, 1)}
	q.waiting = append(q.waiting, p)
	return p, nil
}

func (q *queue) next(dst []byte) (entry []byte, handle any, ok bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if len(q.waiting) == 0 { // always, while this replica does not lead
		return dst, nil, false
	}
	p := q.waiting[0]
	q.waiting = slices.Delete(q.waiting, 0, 1)
	q.inFlight = append(q.inFlight, p)
	return appendEntry(dst, p.id, p.change), p.id, true
}

// take takes a proposal out; nil if it is not in.
func (q *queue) take(id origin) *proposal {
	if id.nonce != q.nonce {
		return nil
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	for _, list := range []*[]*proposal{&q.inFlight, &q.waiting} {
		for i, p := range *list {
			if p.id == id {
				*list = slices.Delete(*list, i, i+1)
				return p
			}
		}
	}
	return nil
}

// finish answers a proposal, if it is of this life and nobody has given it up.
func (q *queue) finish(id origin, result Result, err error) {
	if p := q.take(id); p != nil {
		p.done <- fate{result, err}
	}
}

func (q *queue) lead(term uint64) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.term = term
}

func (q *queue) leads() uint64 {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.term
}

// follow refuses what has not become an entry yet. What is in flight is applied or fails.
func (q *queue) follow(err error) {
	q.mu.Lock()
	waiting := q.waiting
	q.term, q.waiting = 0, nil
	q.mu.Unlock()
	for _, p := range waiting {
		p.done <- fate{err: err}
	}
}

func (q *queue) close() {
	q.mu.Lock()
	q.closed = true
	q.waiting = append(q.waiting, q.inFlight...)
	q.inFlight = nil
	q.mu.Unlock()
	q.follow(fmt.Errorf("cluster: the change was not confirmed: %w", raft.ErrClosed))
}
