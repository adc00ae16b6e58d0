package shard

import (
	"errors"
	"sync"

	"parley/wire"
)

// Errors of a queue. Both mean: nothing was decided, try again.
var (
	ErrOverloaded = errors.New("shard: queue is full")
	ErrClosed     = errors.New("shard: closed")
)

// An Origin says who waits for a send: a session's handle on this node and the
// correlation of its request.
type Origin struct {
	Session     uint64
	Correlation uint64
}

// A Send is one message on its way into the log.
type Send struct {
	Origin
	Conversation wire.Conversation
	Author       wire.ID
	Device       wire.ID
	Epoch        uint64
	Counter      uint64
	PeerKnown    bool
	Content      wire.Content
}

// A Cursor is one moved cursor on its way into the log.
type Cursor struct {
	Session      uint64
	Conversation wire.Conversation
	User         wire.ID
	Kind         wire.CursorKind
	Position     uint64
}

type cursorKey struct {
	conversation wire.Conversation
	user         wire.ID
	kind         wire.CursorKind
}

// control is a command that one caller waits for.
type control struct {
	command []byte
	done    chan error
}

// A batch is the commands of one entry that this node proposed: sends first, then
// controls, then cursors, in the order of the entry.
type batch struct {
	origin   uint64
	origins  []Origin
	controls []control
	cursors  []uint64 // the session that each cursor came from
}

// A Queue collects a shard's commands and packs them into entries. It is the source
// that the Raft group pulls from, so that what queues while an entry is written goes
// into the next one: batching without a timer. Any goroutine may add to it.
type Queue struct {
	now  func() wire.Time
	kick func()

	mu       sync.Mutex
	closed   bool
	sends    []byte // encoded commands, back to back
	sizes    []uint32
	origins  []Origin
	taken    int // of sizes and origins; offset is the same place in sends
	offset   int
	controls []control
	cursors  []cursorCommand // folded: one for each member, conversation and kind
	sessions []uint64        // where each cursor came from
	folded   map[cursorKey]int
	inFlight []*batch // in the order of their entries
	free     []*batch
	nonce    uint64
	count    uint64
}

// NewQueue makes a queue. nonce tells this process's entries from those of its former
// lives; kick wakes the Raft group.
func NewQueue(nonce uint64, now func() wire.Time, kick func()) *Queue {
	return &Queue{now: now, kick: kick, nonce: nonce &^ (1<<32 - 1), folded: make(map[cursorKey]int)}
}

// Send queues a message without waking the group: a caller with several calls Kick once.
func (q *Queue) Send(s *Send) error {
	c := sendCommand{Conversation: s.Conversation, Author: s.Author, Device: s.Device, Epoch: s.Epoch,
		Counter: s.Counter, PeerKnown: s.PeerKnown, Content: s.Content}
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.closed {
		return ErrClosed
	}
	if len(q.sends)-q.offset > QueueBytesMax {
		return ErrOverloaded
	}
	start := len(q.sends)
	q.sends = appendSend(q.sends, &c)
	q.sizes = append(q.sizes, uint32(len(q.sends)-start))
	q.origins = append(q.origins, s.Origin)
	return nil
}

// Cursor queues a moved cursor, folded with one that still waits.
func (q *Queue) Cursor(c *Cursor) error {
	key := cursorKey{c.Conversation, c.User, c.Kind}
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.closed {
		return ErrClosed
	}
	if at, ok := q.folded[key]; ok {
		if c.Position > q.cursors[at].Position {
			q.cursors[at].Position, q.sessions[at] = c.Position, c.Session
		}
		return nil
	}
	if len(q.cursors) >= QueueBytesMax/64 {
		return ErrOverloaded
	}
	q.folded[key] = len(q.cursors)
	q.cursors = append(q.cursors, cursorCommand{Conversation: c.Conversation, User: c.User, Kind: c.Kind, Position: c.Position})
	q.sessions = append(q.sessions, c.Session)
	return nil
}

// Kick wakes the group after Send and Cursor.
func (q *Queue) Kick() { q.kick() }

// control queues a command and wakes the group; the channel gives its fate.
func (q *Queue) control(command []byte) <-chan error {
	done := make(chan error, 1)
	q.mu.Lock()
	if q.closed {
		done <- ErrClosed
	} else {
		q.controls = append(q.controls, control{command, done})
	}
	q.mu.Unlock()
	q.kick()
	return done
}

// Next packs what waits into one entry: sends, then controls, then cursors.
func (q *Queue) Next(dst []byte) (entry []byte, handle any, ok bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.taken == len(q.sizes) && len(q.controls) == 0 && len(q.cursors) == 0 {
		return dst, nil, false
	}
	b := q.newBatch()
	limit := len(dst) + EntryBytesMax
	dst = appendHeader(dst, entryHeader{Time: q.now(), Origin: b.origin})
	commands := 0
	for q.taken < len(q.sizes) && commands < EntryCommandsMax {
		size := int(q.sizes[q.taken])
		if commands > 0 && len(dst)+size > limit {
			break
		}
		dst = append(dst, q.sends[q.offset:q.offset+size]...)
		b.origins = append(b.origins, q.origins[q.taken])
		q.offset += size
		q.taken++
		commands++
	}
	q.compact()
	for len(q.controls) > 0 && commands < EntryCommandsMax && len(dst)+len(q.controls[0].command) <= limit {
		dst = append(dst, q.controls[0].command...)
		b.controls = append(b.controls, q.controls[0])
		q.controls = q.controls[1:]
		commands++
	}
	dst = q.takeCursors(dst, b, limit, EntryCommandsMax-commands)
	q.inFlight = append(q.inFlight, b)
	return dst, b.origin, true
}

// cursorBytes bounds an encoded cursor command.
const cursorBytes = 32

func (q *Queue) takeCursors(dst []byte, b *batch, limit, room int) []byte {
	n := min(len(q.cursors), room, max(0, (limit-len(dst))/cursorBytes))
	for i := range n {
		c := &q.cursors[i]
		dst = appendCursor(dst, c)
		delete(q.folded, cursorKey{c.Conversation, c.User, c.Kind})
	}
	if n == 0 {
		return dst
	}
	b.cursors = append(b.cursors, q.sessions[:n]...)
	q.cursors = q.cursors[:copy(q.cursors, q.cursors[n:])]
	q.sessions = q.sessions[:copy(q.sessions, q.sessions[n:])]
	for i := range q.cursors {
		c := &q.cursors[i]
		q.folded[cursorKey{c.Conversation, c.User, c.Kind}] = i
	}
	return dst
}

// compact drops what was taken from the front of the buffers: at once when nothing is
// left, else when the dead part is the larger one.
func (q *Queue) compact() {
	if q.taken < len(q.sizes) && q.offset < len(q.sends)/2 {
		return
	}
	q.sends = q.sends[:copy(q.sends, q.sends[q.offset:])]
	q.sizes = q.sizes[:copy(q.sizes, q.sizes[q.taken:])]
	q.origins = q.origins[:copy(q.origins, q.origins[q.taken:])]
	q.taken, q.offset = 0, 0
	if cap(q.sends) > QueueBytesMax/8 && len(q.sends) == 0 {
		q.sends = nil
	}
}

func (q *Queue) newBatch() *batch {
	var b *batch
	if n := len(q.free); n > 0 {
		b, q.free = q.free[n-1], q.free[:n-1]
	} else {
		b = &batch{}
	}
	q.count++
	b.origin = q.nonce | q.count&(1<<32-1)
	b.origins, b.controls, b.cursors = b.origins[:0], b.controls[:0], b.cursors[:0]
	return b
}

// claim takes the batch that an applied or failed entry came from; nil if another node
// or an earlier life of this one proposed it, or if its senders have their answer.
func (q *Queue) claim(origin uint64) *batch {
	q.mu.Lock()
	defer q.mu.Unlock()
	for i, b := range q.inFlight {
		if b.origin == origin {
			q.inFlight = append(q.inFlight[:i], q.inFlight[i+1:]...)
			return b
		}
	}
	return nil
}

// release gives a claimed batch back.
func (q *Queue) release(b *batch) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if len(q.free) < 8 {
		q.free = append(q.free, b)
	}
}

// close refuses what is queued later, and returns those who still wait.
func (q *Queue) close() (waiting []Origin, controls []control) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.closed = true
	waiting = append(waiting, q.origins[q.taken:]...)
	controls = q.controls
	q.controls = nil
	return waiting, controls
}
