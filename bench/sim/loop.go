package sim

import (
	"sync"
	"time"

	"parley/engine/reactor"
	"parley/engine/websocket"
	"parley/wire"
)

// A Loop is one goroutine that owns sessions. It is an engine.Loop.
type Loop struct {
	server     *Server
	index      int
	handler    reactor.Handler
	handshaker *websocket.Handshaker
	decoder    websocket.Decoder
	wake       chan struct{}

	mu     sync.Mutex
	posted []any
	tasks  []func()
	fresh  []*Conn
	ready  []*session
	dead   bool

	// What follows is the loop goroutine's.
	slots   []*session // nil: free
	lives   []uint32   // generations, by slot
	dirty   []*session
	settled []*session
	doomed  []*session
}

func (l *Loop) ring() {
	select {
	case l.wake <- struct{}{}:
	default:
	}
}

// take hands a new connection to the loop.
func (l *Loop) take(c *Conn) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.fresh = append(l.fresh, c)
	l.ring()
}

// control runs fn on the loop.
func (l *Loop) control(fn func()) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.tasks = append(l.tasks, fn)
	l.ring()
}

// Index implements engine.Loop.
func (l *Loop) Index() int { return l.index }

// Post implements engine.Loop.
func (l *Loop) Post(item any) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.dead {
		l.posted = append(l.posted, item)
		l.ring()
	}
}

// Backlog implements engine.Loop.
func (l *Loop) Backlog() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.posted)
}

// run is the loop.
func (l *Loop) run() {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	defer l.stop()
	for {
		select {
		case <-l.wake:
		case <-tick.C:
			l.server.gate.Wait()
			l.expire()
		case <-l.server.done:
			return
		}
		l.server.gate.Wait()
		l.round()
	}
}

// round does what has come up.
func (l *Loop) round() {
	l.mu.Lock()
	posted, tasks, fresh, ready := l.posted, l.tasks, l.fresh, l.ready
	l.posted, l.tasks, l.fresh, l.ready = nil, nil, nil, nil
	for _, s := range ready {
		s.queued = false
	}
	l.mu.Unlock()
	for _, c := range fresh {
		l.open(c)
	}
	for _, s := range ready {
		l.traffic(s)
	}
	if len(posted) > 0 {
		l.handler.Inbox(posted)
		l.end()
	}
	for _, task := range tasks {
		task()
		l.end()
	}
}

// open takes a connection into the slab.
func (l *Loop) open(c *Conn) {
	slot := 0
	for slot < len(l.slots) && l.slots[slot] != nil {
		slot++
	}
	if slot == len(l.slots) {
		l.slots, l.lives = append(l.slots, nil), append(l.lives, 0)
	}
	l.lives[slot] = l.lives[slot]%generationMax + 1
	s := &session{loop: l, conn: c, slot: uint32(slot), generation: l.lives[slot], deadline: time.Now().Add(upgradeTimeout)}
	l.slots[slot] = s
	c.Notify(func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		if !s.queued && !l.dead {
			s.queued = true
			l.ready = append(l.ready, s)
			l.ring()
		}
	})
}

// traffic looks at one connection: what it takes, then what it sent. That is a turn.
func (l *Loop) traffic(s *session) {
	if s.state == stateGone {
		return
	}
	if s.transmit() && s.blocked {
		s.blocked = false
		if s.state == stateOpen {
			l.handler.Writable(s.handle())
			l.end()
		}
	}
	ended := s.receive()
	if s.state != stateGone {
		l.input(s)
	}
	l.end()
	if ended && s.state != stateGone {
		l.drop(s)
		l.end()
	}
	if s.state == stateClosing {
		l.settled = append(l.settled, s)
		l.end()
	}
}

// input uses what can be used of a session's input.
func (l *Loop) input(s *session) {
	if s.state == stateUpgrading && len(s.input) > 0 {
		response, used, err := l.handshaker.Upgrade(nil, s.input)
		if used == 0 && err == nil {
			return
		}
		s.input = s.input[used:]
		l.append(s, response, true)
		if err != nil {
			s.deaf, s.input = true, nil
			l.leave(s)
			return
		}
		s.state, s.opened, s.deadline = stateOpen, true, time.Time{}
		l.handler.Opened(s.handle())
	}
	for len(s.input) > 0 && s.state != stateGone && s.state != stateUpgrading {
		if s.deaf || s.goodbye {
			s.input = nil
			return
		}
		e, err := l.decoder.Next(s.input, &s.fragments)
		s.input = s.input[e.Used:]
		switch {
		case err != nil:
			s.deaf = true
			if s.state == stateOpen {
				l.closeWith(s, err.Code, err.Reason)
			}
		case e.Kind == websocket.KindNone:
			return
		case e.Kind == websocket.KindMessage && s.state == stateOpen:
			l.handler.Message(s.handle(), e.Payload)
		case e.Kind == websocket.KindPing && s.state == stateOpen:
			l.append(s, websocket.AppendPong(nil, e.Payload), true)
		case e.Kind == websocket.KindClose:
			s.goodbye = true
			if s.state == stateOpen {
				l.append(s, websocket.AppendClose(nil, e.Code, ""), true)
			}
			l.leave(s)
		}
	}
}

// append queues bytes for the end of the turn.
func (l *Loop) append(s *session, bytes []byte, raw bool) {
	if len(bytes) == 0 {
		return
	}
	if len(s.pending) == 0 {
		l.dirty = append(l.dirty, s)
	}
	s.pending = append(s.pending, part{append([]byte(nil), bytes...), raw})
	s.size += len(bytes)
}

func (l *Loop) closeWith(s *session, code uint16, reason string) {
	l.append(s, websocket.AppendClose(nil, code, reason), true)
	l.leave(s)
}

// leave begins to end a session whose last bytes are queued.
func (l *Loop) leave(s *session) {
	if s.state != stateClosing {
		s.state, s.deadline = stateClosing, time.Now().Add(closeGrace)
	}
	l.settled = append(l.settled, s)
}

// end finishes a turn: output leaves, then those go that are to go.
func (l *Loop) end() {
	for len(l.dirty)+len(l.settled)+len(l.doomed) > 0 {
		dirty := l.dirty
		l.dirty = nil
		for _, s := range dirty {
			if s.state == stateGone {
				continue
			}
			s.compose()
			if !s.transmit() {
				s.blocked = true
			}
		}
		settled := l.settled
		l.settled = nil
		for _, s := range settled {
			switch {
			case s.state != stateClosing || len(s.output) > 0:
			case s.goodbye:
				l.doomed = append(l.doomed, s)
			case !s.halfClosed:
				s.halfClosed = true
				s.conn.CloseWrite()
			}
		}
		doomed := l.doomed
		l.doomed = nil
		for _, s := range doomed {
			l.drop(s)
		}
	}
}

// drop ends a connection.
func (l *Loop) drop(s *session) {
	if s.state == stateGone {
		return
	}
	s.state = stateGone
	s.conn.Close()
	if s.opened {
		l.handler.Closed(s.handle())
	}
	l.slots[s.slot] = nil
	l.server.open.Add(-1)
}

// expire is the wheel: once a second it looks at every deadline.
func (l *Loop) expire() {
	now := time.Now()
	for _, s := range l.slots {
		if s == nil || s.deadline.IsZero() || now.Before(s.deadline) {
			continue
		}
		s.deadline = time.Time{}
		switch s.state {
		case stateOpen:
			l.handler.Expired(s.handle())
		case stateUpgrading:
			l.append(s, websocket.AppendHandshakeError(nil, websocket.ErrLate), true)
			l.doomed = append(l.doomed, s)
		case stateClosing:
			l.doomed = append(l.doomed, s)
		}
		l.end()
	}
}

// shutdown ends all sessions.
func (l *Loop) shutdown() {
	for _, s := range l.slots {
		switch {
		case s == nil:
		case s.state == stateOpen:
			l.closeWith(s, websocket.CodeGoingAway, "the server is shutting down")
		case s.state == stateUpgrading:
			l.doomed = append(l.doomed, s)
		}
	}
}

// stop ends the loop and cuts off whoever is left.
func (l *Loop) stop() {
	l.mu.Lock()
	l.dead, l.posted = true, nil
	fresh := l.fresh
	l.fresh = nil
	l.mu.Unlock()
	for _, c := range fresh {
		c.Close()
		l.server.open.Add(-1)
	}
	for _, s := range l.slots {
		if s != nil {
			l.drop(s)
		}
	}
	l.end()
}

// find is the session that a handle names, nil if it has ended.
func (l *Loop) find(h reactor.Handle) *session {
	if h.Loop() != l.index || int(h.Slot()) >= len(l.slots) {
		return nil
	}
	s := l.slots[h.Slot()]
	if s == nil || s.generation != h.Generation() || s.state != stateOpen && s.state != stateClosing {
		return nil
	}
	return s
}

// Write implements engine.Loop.
func (l *Loop) Write(h reactor.Handle, frames []byte) {
	s := l.find(h)
	if s == nil || s.state != stateOpen {
		return
	}
	switch {
	case len(frames) > wire.MessageBytesMax:
		l.closeWith(s, websocket.CodeInternal, "frame too large")
	case len(s.output)+s.size+len(frames) > queueBytesMax+wire.MessageBytesMax:
		s.deaf, s.state = true, stateClosing
		l.doomed = append(l.doomed, s)
	default:
		l.append(s, frames, false)
	}
}

// Queued implements engine.Loop.
func (l *Loop) Queued(h reactor.Handle) int {
	if s := l.find(h); s != nil {
		return len(s.output) + s.size
	}
	return 0
}

// Blocked implements engine.Loop.
func (l *Loop) Blocked(h reactor.Handle) bool {
	s := l.find(h)
	return s != nil && len(s.output) > 0
}

// SetDeadline implements engine.Loop.
func (l *Loop) SetDeadline(h reactor.Handle, seconds int) {
	s := l.find(h)
	switch {
	case s == nil || s.state != stateOpen:
	case seconds <= 0:
		s.deadline = time.Time{}
	default:
		s.deadline = time.Now().Add(time.Duration(seconds) * time.Second)
	}
}

// Close implements engine.Loop.
func (l *Loop) Close(h reactor.Handle, code uint16, reason string) {
	if s := l.find(h); s != nil && s.state == stateOpen {
		l.closeWith(s, code, reason)
	}
}
