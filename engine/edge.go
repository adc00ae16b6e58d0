package engine

import (
	"errors"

	"parley/engine/auth"
	"parley/engine/delivery"
	"parley/engine/reactor"
	"parley/engine/session"
	"parley/engine/shard"
	"parley/wire"
)

// LoopsMax bounds the event loops of a node.
const LoopsMax = reactor.LoopsMax

// slabChunk is how many sessions a loop's slab grows by.
const slabChunk = 1024

// A seat is a session in its loop's slab, at the slot of its handle.
type seat struct {
	session.Session
	handle   reactor.Handle // 0: nobody sits here
	attached uint64         // bits of shards that the user is known to be attached at
	since    wire.Time      // when the session was let in
}

// An edge is the application on one event loop: it runs the sessions' state machines,
// queues what they ask for at the shards and writes what comes back. All of it belongs
// to the loop.
type edge struct {
	node     *Node
	loop     Loop
	seats    [][]seat
	backlogs map[reactor.Handle]*delivery.Backlog // of sessions that read slowly
	requests map[reactor.Handle]*requestQueue     // of sessions with any
	peers    peers
	touched  []*route               // shards to be kicked at the end of the message
	forwards map[*route]*forwarding // for shards that other nodes lead
	crowd
	actions  []session.Action
	scratch  []byte
	draining bool
}

func newEdge(n *Node, l Loop) *edge {
	return &edge{node: n, loop: l, backlogs: make(map[reactor.Handle]*delivery.Backlog), peers: newPeers(),
		requests: make(map[reactor.Handle]*requestQueue),
		forwards: make(map[*route]*forwarding)}
}

// seat finds the session of a handle, nil if it has ended.
func (e *edge) seat(h reactor.Handle) *seat {
	slot := h.Slot()
	if chunk := int(slot / slabChunk); chunk < len(e.seats) {
		if s := &e.seats[chunk][slot%slabChunk]; s.handle == h {
			return s
		}
	}
	return nil
}

// at is the session at a slot, which may be anybody's by now, or nobody's.
func (e *edge) at(slot uint32) *seat { return &e.seats[slot/slabChunk][slot%slabChunk] }

// Opened implements reactor.Handler.
func (e *edge) Opened(h reactor.Handle) {
	slot := h.Slot()
	for int(slot/slabChunk) >= len(e.seats) {
		e.seats = append(e.seats, make([]seat, slabChunk))
	}
	e.seats[slot/slabChunk][slot%slabChunk] = seat{handle: h}
	e.loop.SetDeadline(h, wire.HelloSeconds)
}

// Closed implements reactor.Handler.
func (e *edge) Closed(h reactor.Handle) {
	s := e.seat(h)
	if s == nil {
		return
	}
	if s.User != 0 {
		e.node.sessions.Remove(s.User, s.Device, uint64(h))
		e.node.departed(s.User)
	}
	delete(e.backlogs, h)
	delete(e.requests, h)
	*s = seat{}
	e.leaveGroups(h)
}

// Expired implements reactor.Handler.
func (e *edge) Expired(h reactor.Handle) {
	s := e.seat(h)
	if s == nil {
		return
	}
	if s.State == session.Greeting {
		e.close(s, wire.CodeHelloTimeout, "no HELLO came")
		return
	}
	e.close(s, wire.CodeIdleTimeout, "nothing was heard for too long")
}

// Message implements reactor.Handler.
func (e *edge) Message(h reactor.Handle, payload []byte) {
	s := e.seat(h)
	if s == nil || s.State == session.Closed {
		return
	}
	e.actions = s.Message(payload, e, e.actions[:0])
	for i := range e.actions {
		e.act(s, &e.actions[i])
	}
	if s.handle == h && s.State != session.Closed && s.State != session.Greeting {
		e.loop.SetDeadline(h, int(s.IdleSeconds()))
	}
	e.kick()
}

// kick wakes the shards that got something.
func (e *edge) kick() {
	for _, r := range e.touched {
		r.touchedBy[e.loop.Index()] = false
		r.kick()
		e.flush(r)
	}
	e.touched = e.touched[:0]
}

func (e *edge) touch(r *route) {
	if mine := &r.touchedBy[e.loop.Index()]; !*mine {
		*mine = true
		e.touched = append(e.touched, r)
	}
}

// act does what a session asks for.
func (e *edge) act(s *seat, a *session.Action) {
	switch a.Kind {
	case session.Reply:
		e.write(s, a.Frames)
	case session.Greeted:
		e.greeted(s)
	case session.Send:
		e.send(s, &a.Send)
	case session.Change:
		e.change(s, &a.Change)
	case session.Join:
		e.join(s, &a.Join)
	case session.Ask:
		e.ask(s, a.Request)
	case session.Cursor:
		e.cursor(s, &a.Cursor)
	case session.Typing:
		e.typing(s, a.Ref)
	case session.Sync, session.Read:
		e.read(s, a.Request)
	case session.Close:
		e.close(s, a.Code, a.Reason)
	}
}

// greeted makes this the one session of its device.
func (e *edge) greeted(s *seat) {
	replaced := e.node.sessions.Put(s.User, s.Device, uint64(s.handle))
	if old := reactor.Handle(replaced); old != 0 && old != s.handle {
		e.node.post(old, closeItem{handle: old, code: wire.CodeReplaced, reason: "this device has connected again"})
	}
	if s.since = e.Now(); e.node.hub != nil {
		e.node.claim(claim{s.User, s.Device, s.since})
	}
	if e.draining {
		e.goAway(s)
	}
}

// write sends answers to a session. They are never dropped; a session that lets too many
// of them pile up is closed.
func (e *edge) write(s *seat, frames []byte) {
	e.loop.Write(s.handle, frames)
	if e.loop.Queued(s.handle) > ControlBytesMax {
		e.close(s, wire.CodeSlow, "answers were not read")
	}
}

// fail answers a request with a code.
func (e *edge) fail(s *seat, correlation uint64, code wire.Code) {
	failure := wire.Error{Correlation: correlation, Code: code}
	switch code {
	case wire.CodeOverloaded:
		failure.RetryAfterMS = retryOverloadedMS
	case wire.CodeDiskFull:
		failure.RetryAfterMS = retryDiskFullMS
	}
	e.scratch = wire.AppendError(e.scratch[:0], &failure)
	e.write(s, e.scratch)
}

// close ends a session; what was written before still leaves.
func (e *edge) close(s *seat, code wire.Code, reason string) {
	s.State = session.Closed
	e.loop.Close(s.handle, code.CloseCode(), reason)
}

// send queues a message at its conversation's shard.
func (e *edge) send(s *seat, m *wire.Send) {
	if e.node.diskFull.Load() {
		e.fail(s, m.Correlation, wire.CodeDiskFull)
		return
	}
	send := shard.Send{
		Origin:       shard.Origin{Session: uint64(s.handle), Correlation: m.Correlation},
		Conversation: m.Ref.Conversation(s.User), Author: s.User, Device: s.Device, Epoch: s.Epoch,
		Counter: m.Counter, PeerKnown: true, Content: m.Content,
	}
	if m.Ref.Group() || m.Ref.ID() == s.User {
		e.queueWith(s, m.Ref, &send)
	} else {
		e.queueWith(s, m.Ref, &send, m.Ref.ID())
	}
}

func (e *edge) queue(send *shard.Send) {
	r := e.node.routeOf(send.Conversation.Slot())
	e.attach(e.seat(reactor.Handle(send.Session)), r)
	err := r.send(send)
	if r.inlet != nil && errors.Is(err, shard.ErrNotLeader) {
		e.forward(r).send(e, r, send)
		err = nil
	}
	if err != nil {
		e.refuse(reactor.Handle(send.Session), send.Correlation, shard.CodeOf(err))
		return
	}
	e.touch(r)
}

// refuse answers a request of a session that may have ended.
func (e *edge) refuse(h reactor.Handle, correlation uint64, code wire.Code) {
	if s := e.seat(h); s != nil {
		e.fail(s, correlation, code)
	}
}

func (e *edge) cursor(s *seat, c *wire.Cursor) {
	if e.node.diskFull.Load() {
		e.fail(s, 0, wire.CodeDiskFull)
		return
	}
	conversation := c.Ref.Conversation(s.User)
	r := e.node.routeOf(conversation.Slot())
	e.attach(s, r)
	cursor := shard.Cursor{Session: uint64(s.handle), Conversation: conversation, User: s.User, Kind: c.Kind, Position: c.Position}
	err := r.cursor(&cursor)
	if r.inlet != nil && errors.Is(err, shard.ErrNotLeader) {
		e.forward(r).cursor(e, r, &cursor)
		err = nil
	}
	if err != nil {
		e.fail(s, 0, shard.CodeOf(err))
		return
	}
	e.touch(r)
}

// Now implements session.Host.
func (e *edge) Now() wire.Time { return wire.TimeOf(e.node.config.Now()) }

// ClusterEpoch implements session.Host.
func (e *edge) ClusterEpoch() uint64 { return e.node.identity.Cluster }

// Authenticate implements session.Host.
func (e *edge) Authenticate(kind wire.CredentialKind, credential []byte) (session.Identity, *wire.Error) {
	var id auth.Identity
	var err error
	switch kind {
	case wire.CredentialToken:
		id, err = e.node.keys.VerifyToken(credential, e.Now())
	case wire.CredentialTicket:
		id, err = e.node.keys.VerifyTicket(credential, e.Now())
	default:
		return session.Identity{}, &wire.Error{Code: wire.CodeUnsupported, Reason: "not a kind of credential that this server knows"}
	}
	switch {
	case errors.Is(err, auth.ErrExpired):
		return session.Identity{}, &wire.Error{Code: wire.CodeTokenExpired, Reason: "the credential has expired"}
	case err != nil:
		return session.Identity{}, &wire.Error{Code: wire.CodeUnauthenticated, Reason: "not a valid credential"}
	}
	return session.Identity(id), nil
}

// AppendTicket implements session.Host.
func (e *edge) AppendTicket(dst []byte, id session.Identity) (ticket []byte, seconds uint64) {
	lifetime := e.node.config.TicketLifetime
	expires := e.Now() + wire.Time(lifetime.Milliseconds())
	return e.node.keys.AppendTicket(dst, auth.Identity(id), expires), uint64(lifetime.Seconds())
}
