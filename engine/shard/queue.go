package shard

import (
	"errors"
	"fmt"
	"sync"

	"parley/raft"
	"parley/wire"
)

// Errors of a queue. All but the last mean: nothing was decided, try again.
var (
	ErrOverloaded = errors.New("shard: queue is full")
	ErrNotLeader  = errors.New("shard: this replica does not lead")
	ErrClosed     = errors.New("shard: closed")
	ErrBadCommand = errors.New("shard: not a command for this shard")
)

// CodeOf is the code that refuses a send or a cursor which the queue did not take, or
// whose entry failed. But for ErrBadCommand, a defect of the caller, it is one of those
// that say: again, under the same counter.
func CodeOf(err error) wire.Code {
	switch {
	case errors.Is(err, ErrOverloaded):
		return wire.CodeOverloaded
	case errors.Is(err, ErrNotLeader), errors.Is(err, raft.ErrNotLeader), errors.Is(err, ErrClosed), errors.Is(err, raft.ErrClosed):
		return wire.CodeNotLeader
	case errors.Is(err, ErrBadCommand):
		return wire.CodeMalformed
	}
	return wire.CodeTimeout
}

// An Origin says who waits for a send: a session's handle, which means something on its
// node only, and the correlation of its request.
type Origin struct {
	Session     uint64
	Correlation uint64
	Node        uint32 // the number of the session's node; 0: this one
}

// A Send is one message on its way into the log. A change of a group is one too: its
// content is an event, which only the server makes of a request.
type Send struct {
	Origin
	Conversation wire.Conversation
	Author       wire.ID
	Device       wire.ID
	Epoch        uint64 // names the outbox
	Counter      uint64
	PeerKnown    bool         // the edge has seen the other user's account
	Event        bool         // the content is an event of a group; all users in it exist
	Secret       []byte       // of a group's link, by which the author joins: no outbox and no content
	Content      wire.Content // copied
	Ask          *Ask         // what the author asks for of the conversation alone: no outbox and no content
}

// A Cursor is one moved cursor on its way into the log.
type Cursor struct {
	Session      uint64
	Node         uint32 // the number of the session's node; 0: this one
	Conversation wire.Conversation
	User         wire.ID
	Kind         wire.CursorKind // Delivered or Read
	Position     uint64
	under        [foldedPositions]uint64 // folded into it, ascending; 0: none
}

// A control is one or more commands that one caller waits for together.
type control struct {
	command []byte
	count   int
	done    chan error // of capacity 1: whoever takes the control answers it once
}

// A batch is the commands of one entry that this node proposed: sends first, then
// controls, then cursors, in the order of the entry.
type batch struct {
	origin   uint64
	origins  []Origin
	controls []control
	cursors  []Cursor
}

// A Queue collects a shard's commands and packs them into entries. It is what the Raft
// group pulls from, so that whatever queues while an entry is written goes into the next
// one: batching without a timer. Any goroutine may add to it.
//
// As long as all that waits fits into one entry, it goes in the order it came. When more
// waits, each author gets a turn, so that a flood delays its author and few others.
type Queue struct {
	now  func() wire.Time
	kick func()

	mu       sync.Mutex
	closed   bool
	leading  bool
	sends    sendQueue
	controls []control
	cursors  cursorQueue
	inFlight []*batch // in the order of their entries
	free     []*batch
	nonce    uint64
	count    uint64
}

// NewQueue makes a queue, which takes nothing before lead. nonce tells this process's
// entries from those of its former lives; kick wakes the Raft group.
func NewQueue(nonce uint64, now func() wire.Time, kick func()) *Queue {
	return &Queue{now: now, kick: kick, nonce: nonce &^ (1<<32 - 1)}
}

// encodable reports whether identifiers survive being encoded. A command that cannot be
// decoded must never get into the log: every replica would stop on it, for good.
func encodable(c wire.Conversation, user wire.ID) bool {
	if !user.Valid() || !c.A.Valid() {
		return false
	}
	return c.Kind == wire.Direct && c.A <= c.B && c.B.Valid() || c.Kind == wire.Group && c.B == 0
}

// usable tells why the queue takes nothing, if so; the mutex is held.
func (q *Queue) usable() error {
	switch {
	case q.closed:
		return ErrClosed
	case !q.leading:
		return ErrNotLeader
	}
	return nil
}

// Send queues a message without waking the group: a caller with several calls Kick once.
func (q *Queue) Send(m *Send) error {
	event := m.Event || len(m.Secret) > 0
	if !encodable(m.Conversation, m.Author) || !m.Device.Valid() || event && m.Conversation.Kind != wire.Group || len(m.Secret) > wire.LinkSecretBytesMax {
		return fmt.Errorf("%w: send by %d.%d to %v", ErrBadCommand, m.Author, m.Device, m.Conversation)
	}
	if m.Ask != nil {
		if err := m.Ask.Check(); err != nil {
			return err
		}
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	if err := q.usable(); err != nil {
		return err
	}
	return q.sends.add(m)
}

// Cursor queues a moved cursor, folded with one that still waits.
func (q *Queue) Cursor(c *Cursor) error {
	if !encodable(c.Conversation, c.User) || c.Kind > wire.Read || c.Position > wire.NumberMax {
		return fmt.Errorf("%w: cursor of %d in %v", ErrBadCommand, c.User, c.Conversation)
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	if err := q.usable(); err != nil {
		return err
	}
	return q.cursors.add(c)
}

// Cursors queues cursors, as a node has folded them, with one look at the lock. It returns
// those that it did not take, and why.
func (q *Queue) Cursors(list []Cursor) (left []Cursor, err error) {
	for i := range list {
		if c := &list[i]; !encodable(c.Conversation, c.User) || c.Kind > wire.Read || c.Position > wire.NumberMax {
			return list, fmt.Errorf("%w: cursor of %d in %v", ErrBadCommand, c.User, c.Conversation)
		}
	}
	return q.requeue(list)
}

// Kick wakes the group after Send and Cursor.
func (q *Queue) Kick() { q.kick() }

// control queues commands that belong together and wakes the group; the channel gives
// their fate.
func (q *Queue) control(command []byte, count int) <-chan error {
	done := make(chan error, 1)
	q.mu.Lock()
	err := q.usable()
	if err == nil && len(q.controls) >= ControlsMax {
		err = ErrOverloaded
	}
	if err == nil {
		q.controls = append(q.controls, control{command, count, done})
	} else {
		done <- err
	}
	q.mu.Unlock()
	if err == nil {
		q.kick()
	}
	return done
}

// Next packs what waits into one entry: sends, then controls, then cursors.
func (q *Queue) Next(dst []byte) (entry []byte, handle any, ok bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	others := len(q.controls) > 0 || q.cursors.len() > 0
	if !q.leading || !others && q.sends.len() == 0 {
		return dst, nil, false
	}
	b := q.newBatch()
	start, room := len(dst), EntryCommandsMax
	limit := start + EntryBytesMax
	dst = appendEntryHeader(dst, b.origin, min(q.now(), wire.NumberMax))
	if others {
		dst = q.sends.take(dst, b, limit-reservedBytes, room-reservedCommands)
	} else {
		dst = q.sends.take(dst, b, limit, room)
	}
	room -= len(b.origins)
	dst, room = q.takeControls(dst, b, limit, room)
	dst = q.cursors.take(dst, b, limit, room)
	sealEntry(dst[start:])
	q.inFlight = append(q.inFlight, b)
	return dst, b.origin, true
}

func (q *Queue) takeControls(dst []byte, b *batch, limit, room int) ([]byte, int) {
	taken := 0
	for _, c := range q.controls {
		if c.count > room || len(dst)+len(c.command) > limit {
			break
		}
		dst = append(dst, c.command...)
		b.controls = append(b.controls, c)
		room -= c.count
		taken++
	}
	q.controls = append(q.controls[:0], q.controls[taken:]...)
	clear(q.controls[len(q.controls):cap(q.controls)])
	return dst, room
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
	return b
}

// claim takes the batch that an applied or failed entry came from; nil if another node
// or an earlier life of this one proposed it, or if its senders have their answer.
func (q *Queue) claim(origin uint64) *batch {
	if origin&^(1<<32-1) != q.nonce {
		return nil
	}
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

// release gives a claimed batch back, once everybody in it has an answer.
func (q *Queue) release(b *batch) {
	clear(b.controls)
	b.origins, b.controls, b.cursors = b.origins[:0], b.controls[:0], b.cursors[:0]
	q.mu.Lock()
	defer q.mu.Unlock()
	if len(q.free) < 8 {
		q.free = append(q.free, b)
	}
}

// requeue queues the cursors of a failed entry, or what refused ones were folded over,
// again: nobody resends them as long as the session lasts, and applying one twice does no
// harm. It returns those that found no place, and why.
func (q *Queue) requeue(cursors []Cursor) (left []Cursor, err error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for i := range cursors {
		if err = q.usable(); err == nil {
			err = q.cursors.add(&cursors[i])
		}
		if err != nil {
			return cursors[i:], err
		}
	}
	return nil, nil
}

// lead makes the queue take commands.
func (q *Queue) lead() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.leading = !q.closed
}

// follow makes the queue refuse commands, and returns those who wait in it: of cursors,
// which have no answer, the sessions, so that they send their cursors again. Entries in
// flight stay: they are applied or fail.
func (q *Queue) follow() (waiting []Origin, controls []control) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.leading = false
	waiting, controls = q.cursors.sessions(q.sends.drain()), q.controls
	q.controls, q.cursors = nil, cursorQueue{}
	return waiting, controls
}

// close refuses what is queued later, and returns all that wait, those of entries in
// flight included.
func (q *Queue) close() (waiting []Origin, controls []control) {
	waiting, controls = q.follow()
	q.mu.Lock()
	defer q.mu.Unlock()
	q.closed = true
	for _, b := range q.inFlight {
		waiting = append(waiting, b.origins...)
		controls = append(controls, b.controls...)
	}
	q.inFlight = nil
	return waiting, controls
}

// depth tells how many sends, controls and cursors wait.
func (q *Queue) depth() int {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.sends.len() + len(q.controls) + q.cursors.len()
}

// isLeading reports whether the queue takes commands.
func (q *Queue) isLeading() bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.usable() == nil
}
