package reactor

import (
	"time"

	"parley/engine/websocket"
)

// traffic takes what a connection has sent: all whole frames at once.
func (l *Loop) traffic(r *record) {
	buffered := r.conn.InboundBuffered()
	if buffered < int(r.need) {
		l.holdMore(r, buffered)
		return
	}
	data, err := r.conn.Peek(-1)
	if err != nil || len(data) == 0 {
		return
	}
	l.begin()
	used := l.input(r, data)
	// Discard takes 0 for everything, and after a close there is nothing to discard.
	if used > 0 && r.conn != nil {
		_, _ = r.conn.Discard(used)
	}
	if r.conn != nil {
		l.holdMore(r, len(data)-used)
	}
	l.end()
	l.stats.bytesIn.Add(uint64(used))
}

// input takes what it can use of the data and says how much that was.
func (l *Loop) input(r *record, data []byte) (used int) {
	if r.state == stateUpgrading {
		if used = l.upgrade(r, data); used == 0 || used == len(data) {
			return used
		}
	}
	return used + l.frames(r, data[used:])
}

// upgrade answers the opening handshake once it is all there.
func (l *Loop) upgrade(r *record, data []byte) (used int) {
	response, used, err := l.handshaker.Upgrade(l.output.scratch[:0], data)
	l.output.scratch = response
	if used == 0 && err == nil {
		return 0
	}
	if err == nil && l.server.draining.Load() {
		err = websocket.ErrBusy
		response = websocket.AppendHandshakeError(response[:0], err)
	}
	l.output.append(r, response, true)
	if err != nil {
		l.stats.upgradesFailed.Add(1)
		r.reason = ReasonUpgrade
		r.flags |= flagDeaf
		l.leave(r)
		return len(data)
	}
	r.state = stateOpen
	r.flags |= flagOpened
	l.wheel.set(r, 0)
	l.server.handshakes.Add(-1)
	l.stats.sessions.Add(1)
	l.stats.upgraded.Add(1)
	l.handler.Opened(r.handle())
	return used
}

// frames takes WebSocket frames from the front of the data.
func (l *Loop) frames(r *record, data []byte) (used int) {
	f := &l.fragment
	if r.is(flagFragmented) {
		f = l.fragments[r.slot]
	}
	messages := uint64(0)
	for r.state != stateGone {
		if r.is(flagDeaf) || r.is(flagPeerClosed) {
			used, r.need = len(data), 0
			break
		}
		e, err := l.decoder.Next(data[used:], f)
		used += e.Used
		if err != nil {
			l.fail(r, err)
			continue
		}
		if e.Kind == websocket.KindNone {
			r.need = uint32(e.Need)
			break
		}
		if e.Kind == websocket.KindMessage && r.state == stateOpen {
			messages++
			l.handler.Message(r.handle(), e.Payload)
			continue
		}
		l.control(r, &e)
	}
	l.keep(r, f)
	if messages > 0 {
		l.stats.messagesIn.Add(messages)
	}
	return used
}

// control answers a control frame.
func (l *Loop) control(r *record, e *websocket.Event) {
	switch e.Kind {
	case websocket.KindPing:
		if r.state == stateOpen {
			l.output.scratch = websocket.AppendPong(l.output.scratch[:0], e.Payload)
			l.write(r, l.output.scratch, true)
		}
	case websocket.KindClose:
		r.flags |= flagPeerClosed
		if r.state == stateOpen {
			l.output.scratch = websocket.AppendClose(l.output.scratch[:0], e.Code, "")
			l.output.append(r, l.output.scratch, true)
		}
		l.leave(r)
	}
}

// fail ends a connection that broke the rules.
func (l *Loop) fail(r *record, err *websocket.CloseError) {
	r.flags |= flagDeaf
	if r.state == stateOpen {
		r.reason = ReasonProtocol
		l.closeWith(r, err.Code, err.Reason)
	}
}

// keep puts the fragments of an unfinished message aside, or forgets those of a
// finished one.
func (l *Loop) keep(r *record, f *websocket.Fragments) {
	begun := f.Begun() && r.state == stateOpen
	switch {
	case begun && !r.is(flagFragmented):
		kept := *f
		l.fragments[r.slot] = &kept
		r.flags |= flagFragmented
		l.fragment = websocket.Fragments{}
	case !begun && r.is(flagFragmented) && r.state != stateGone:
		delete(l.fragments, r.slot)
		r.flags &^= flagFragmented
	case !begun:
		l.fragment.Reset()
	}
}

// holdMore counts a connection's unfinished input, and refuses it where all of them
// together hold too much: half a message costs its sender nothing.
func (l *Loop) holdMore(r *record, bytes int) {
	if r.is(flagFragmented) {
		bytes += l.fragments[r.slot].Bytes()
	}
	if bytes == int(r.held) {
		return
	}
	l.hold(r, bytes)
	if l.held > l.server.config.InputBytesMax && bytes > 0 && r.state == stateOpen {
		turning := l.turning
		l.turning = true
		r.flags |= flagDeaf
		r.reason = ReasonHandler
		l.closeWith(r, websocket.CodeTryLater, "too much unfinished input")
		_, _ = r.conn.Discard(0) // everything
		l.hold(r, 0)
		if !turning {
			l.end()
		}
	}
}

// hold sets the bytes of unfinished input of one connection.
func (l *Loop) hold(r *record, bytes int) {
	l.held += bytes - int(r.held)
	r.held = uint32(bytes)
}

// Close ends a session: no more messages are delivered; pending output leaves, then a
// close frame, then the connection when the peer has answered, or after 2 seconds.
func (l *Loop) Close(h Handle, code uint16, reason string) {
	if r := l.slab.find(h); r != nil && r.state == stateOpen {
		r.reason = ReasonHandler
		l.closeWith(r, code, reason)
	}
}

// closeWith queues a close frame and begins to end a connection.
func (l *Loop) closeWith(r *record, code uint16, reason string) {
	l.output.scratch = websocket.AppendClose(l.output.scratch[:0], code, reason)
	l.output.append(r, l.output.scratch, true)
	l.leave(r)
}

// leave begins to end a connection whose last bytes are queued.
func (l *Loop) leave(r *record) {
	if r.state != stateClosing {
		r.state = stateClosing
		l.wheel.set(r, int(closeGrace/time.Second))
	}
	r.need = 0
	l.settled = append(l.settled, r)
}

// shutdown ends all connections of the loop.
func (l *Loop) shutdown() {
	l.begin()
	for slot := range l.slab.used {
		switch r := l.slab.at(slot); r.state {
		case stateOpen:
			r.reason = ReasonShutdown
			l.closeWith(r, websocket.CodeGoingAway, "the server is shutting down")
		case stateUpgrading:
			r.reason = ReasonShutdown
			l.doom(r)
		}
	}
	l.end()
}
