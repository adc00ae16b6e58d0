package reactor

import (
	"encoding/binary"
	"time"

	"golang.org/x/sys/unix"

	"parley/engine/websocket"
)

// An output is what the sessions of a loop are to be sent at the end of the turn. The
// bytes lie in one arena in the order of the calls, each session's linked into a chain:
// one allocation serves all, and the next turn uses it again.
type output struct {
	arena     []byte
	dirty     []chain
	message   []byte // one session's bytes, as they go to the kernel
	scratch   []byte // control frames and handshakes, before they are queued
	flushable bool   // no payload is in use that a closed connection would free
}

// A chain is the pending output of one session: links in the arena.
type chain struct {
	r           *record
	first, last uint32
	bytes       uint32
}

// A link is a header of 8 bytes in the arena, where the next one begins and how long
// this one is, and its bytes. Offset 0 means none: the arena begins with a filler.
const (
	linkBytes = 8
	linkRaw   = 1 << 31 // whole WebSocket frames, not a part of a message
	filler    = 8
)

const (
	// flushBytes is when a turn that may sends off what it has for one session: beyond it
	// nothing is saved by waiting, and what the kernel refuses is known in time.
	flushBytes = 64 << 10
	// arenaBytesMax is when a turn that may sends off what it has: a burst for all
	// sessions must not need memory for all of them at once.
	arenaBytesMax = 4 << 20
	arenaKept     = 1 << 20
	messageKept   = 512 << 10
)

// append queues bytes for a session.
func (o *output) append(r *record, bytes []byte, raw bool) {
	if len(bytes) == 0 {
		return
	}
	if len(o.arena) == 0 {
		o.arena = append(o.arena, make([]byte, filler)...)
	}
	length := uint32(len(bytes))
	if raw {
		length |= linkRaw
	}
	at := uint32(len(o.arena))
	if r.pending == 0 {
		o.dirty = append(o.dirty, chain{r: r, first: at})
		r.pending = uint32(len(o.dirty))
	} else {
		binary.LittleEndian.PutUint32(o.arena[o.dirty[r.pending-1].last:], at)
	}
	c := &o.dirty[r.pending-1]
	c.last = at
	c.bytes += uint32(len(bytes))
	o.arena = binary.LittleEndian.AppendUint32(o.arena, 0)
	o.arena = binary.LittleEndian.AppendUint32(o.arena, length)
	o.arena = append(o.arena, bytes...)
}

// link reads a link: its bytes, whether they are frames already, and the next.
func (o *output) link(at uint32) (bytes []byte, raw bool, next uint32) {
	next = binary.LittleEndian.Uint32(o.arena[at:])
	length := binary.LittleEndian.Uint32(o.arena[at+4:])
	raw, length = length&linkRaw != 0, length&^linkRaw
	return o.arena[at+linkBytes : at+linkBytes+length], raw, next
}

// compose makes a chain into what the kernel gets: one WebSocket message, or more where
// one would be too long or a control frame lies between.
func (o *output) compose(dst []byte, c *chain, messageBytesMax int) (composed []byte, messages int) {
	for at := c.first; at != 0; {
		bytes, raw, next := o.link(at)
		if raw {
			dst, at = append(dst, bytes...), next
			continue
		}
		length, end := len(bytes), next
		for end != 0 {
			more, raw, after := o.link(end)
			if raw || length+len(more) > messageBytesMax {
				break
			}
			length, end = length+len(more), after
		}
		dst = websocket.AppendMessageHeader(dst, length)
		for ; at != end; at = next {
			bytes, _, next = o.link(at)
			dst = append(dst, bytes...)
		}
		messages++
	}
	return dst, messages
}

// pending is how many bytes are queued for a session.
func (o *output) pending(r *record) int {
	if r.pending == 0 {
		return 0
	}
	return int(o.dirty[r.pending-1].bytes)
}

// forget drops the pending output of a session that has ended.
func (o *output) forget(r *record) {
	if r.pending != 0 {
		o.dirty[r.pending-1].r = nil
		r.pending = 0
	}
}

// reset makes room for the next turn's output.
func (o *output) reset() {
	clear(o.dirty)
	o.dirty, o.arena = o.dirty[:0], o.arena[:0]
	if cap(o.arena) > arenaKept {
		o.arena = nil
	}
	if cap(o.message) > messageKept {
		o.message = nil
	}
}

// flush sends off what is pending: one write for each session.
func (l *Loop) flush() {
	o := &l.output
	if len(o.dirty) == 0 {
		return
	}
	writes, messages, bytes := 0, 0, 0
	for i := range o.dirty {
		r := o.dirty[i].r
		if r == nil {
			continue
		}
		r.pending = 0
		composed, n := o.compose(o.message[:0], &o.dirty[i], l.server.config.MessageBytesMax)
		o.message = composed
		writes, messages, bytes = writes+1, messages+n, bytes+len(composed)
		// Write may find the connection dead and run OnClose before it returns.
		if _, err := r.conn.Write(composed); err == nil && r.conn != nil && r.conn.OutboundBuffered() > 0 {
			l.block(r)
		}
	}
	o.reset()
	l.stats.writes.Add(uint64(writes))
	l.stats.messagesOut.Add(uint64(messages))
	l.stats.bytesOut.Add(uint64(bytes))
}

// Write queues whole protocol frames for a session and copies them. What is queued
// during one turn leaves as one WebSocket message and one system call at its end;
// beyond MessageBytesMax a new message starts between two calls, so frames must not
// exceed it. A session that has ended is ignored, and one that has QueueBytesMax and
// a message waiting is ended.
func (l *Loop) Write(h Handle, frames []byte) {
	r := l.slab.find(h)
	if r == nil || r.state != stateOpen {
		return
	}
	if len(frames) > l.server.config.MessageBytesMax {
		l.server.config.Logger.Error("reactor: frames beyond MessageBytesMax in one Write", "bytes", len(frames))
		r.reason = ReasonHandler
		l.closeWith(r, websocket.CodeInternal, "frame too large")
		return
	}
	l.write(r, frames, false)
}

// write queues bytes for an open session, unless it reads too slowly.
func (l *Loop) write(r *record, bytes []byte, raw bool) {
	limit := l.server.config.QueueBytesMax + l.server.config.MessageBytesMax
	if l.queued(r)+len(bytes) > limit {
		r.reason = ReasonSlow
		l.doom(r)
		return
	}
	if (len(l.output.arena) > arenaBytesMax || l.output.pending(r) > flushBytes) && l.output.flushable {
		// What the kernel takes now is not queued, and what it does not take is Blocked: a
		// burst within one turn must not make a quick reader look like a slow one.
		l.flush()
		if r.state != stateOpen {
			return
		}
	}
	l.output.append(r, bytes, raw)
}

func (l *Loop) queued(r *record) int { return r.conn.OutboundBuffered() + l.output.pending(r) }

// Queued is how many bytes of the session's output the kernel has not taken yet, those
// of this turn included.
func (l *Loop) Queued(h Handle) int {
	if r := l.slab.find(h); r != nil {
		return l.queued(r)
	}
	return 0
}

// Blocked says that the kernel did not take all of the session's output: hold back what
// can wait until Writable.
func (l *Loop) Blocked(h Handle) bool {
	r := l.slab.find(h)
	return r != nil && r.conn.OutboundBuffered() > 0
}

// blockedPauseMin and Max bound how often blocked sessions are looked at. gnet writes
// on by itself when the kernel has room, but tells nobody that it is done.
const (
	blockedPauseMin = 20 * time.Millisecond
	blockedPauseMax = 160 * time.Millisecond
)

// block puts a session on the list of those to be looked at until they have drained.
func (l *Loop) block(r *record) {
	if r.is(flagBlocked) {
		return
	}
	r.flags |= flagBlocked
	l.stats.blocked.Add(1)
	l.blocked = append(l.blocked, r.handle())
	if len(l.blocked) == 1 || l.blockedPause > blockedPauseMin {
		l.blockedPause = blockedPauseMin
		l.blockedTimer.Reset(l.blockedPause)
	}
}

// pollBlocked looks at the blocked sessions, less often while none of them moves.
func (l *Loop) pollBlocked() {
	l.begin()
	list := l.blocked
	l.blocked, l.blockedOld = l.blockedOld[:0], nil
	drained := false
	for _, h := range list {
		r := l.slab.find(h)
		if r == nil {
			continue
		}
		if r.conn.OutboundBuffered() > 0 {
			l.blocked = append(l.blocked, h)
			continue
		}
		drained = true
		r.flags &^= flagBlocked
		l.stats.blocked.Add(-1)
		if r.state == stateClosing {
			l.settled = append(l.settled, r)
		} else {
			l.handler.Writable(h)
		}
	}
	l.blockedOld = list[:0]
	l.end()
	if len(l.blocked) == 0 {
		return
	}
	l.blockedPause = min(2*l.blockedPause, blockedPauseMax)
	if drained {
		l.blockedPause = blockedPauseMin
	}
	l.blockedTimer.Reset(l.blockedPause)
}

// settle looks at the connections that are closing, now that their output is on its
// way. When all of it has left and the peer has said goodbye too, the connection ends;
// before that only our half of it, so that nothing unread makes the kernel throw our
// last bytes away.
func (l *Loop) settle() {
	for i := 0; i < len(l.settled); i++ {
		r := l.settled[i]
		switch {
		case r.state != stateClosing || r.conn.OutboundBuffered() > 0:
		case r.is(flagPeerClosed):
			l.doom(r)
		case !r.is(flagHalfClosed):
			r.flags |= flagHalfClosed
			_ = unix.Shutdown(r.conn.Fd(), unix.SHUT_WR)
		}
		l.settled[i] = nil
	}
	l.settled = l.settled[:0]
}

// doom has a connection dropped at the end of the turn, whatever it has pending.
func (l *Loop) doom(r *record) {
	if !r.is(flagDoomed) {
		r.flags |= flagDoomed | flagDeaf
		r.state = stateClosing
		l.doomed = append(l.doomed, r)
	}
}

func (l *Loop) dropDoomed() {
	for i := 0; i < len(l.doomed); i++ {
		if r := l.doomed[i]; r.conn != nil {
			_ = l.events.Close(r.conn)
		}
		l.doomed[i] = nil
	}
	l.doomed = l.doomed[:0]
}
