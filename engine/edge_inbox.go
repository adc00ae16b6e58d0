package engine

import (
	"parley/engine/delivery"
	"parley/engine/reactor"
	"parley/engine/session"
	"parley/engine/shard"
	"parley/wire"
	"parley/wire/planted"
)

// What is posted to a loop, beside *delivery.Batch and peerItem.
type (
	// answerItem is the answer of a read.
	answerItem struct {
		handle reactor.Handle
		frames []byte
	}
	// headItem tells a session how far a conversation reaches.
	headItem struct {
		handle reactor.Handle
		head   wire.Head
	}
	// typingItem tells a session that somebody writes.
	typingItem struct {
		handle reactor.Handle
		ref    wire.Ref
	}
	// groupTypingItem tells a loop's members of a group that somebody writes there.
	groupTypingItem struct{ group, author wire.ID }
	// closeItem ends a session. With a time, only one that was let in before.
	closeItem struct {
		before wire.Time
		handle reactor.Handle
		code   wire.Code
		reason string
	}
	// drainItem tells all sessions to go elsewhere.
	drainItem struct{}
	// resumeItem tells new ones to stay again.
	resumeItem struct{}
	// endItem closes those that did not.
	endItem struct{}
)

// Inbox implements reactor.Handler.
func (e *edge) Inbox(items []any) {
	for _, item := range items {
		switch item := item.(type) {
		case *delivery.Batch:
			e.deliver(item)
		case answerItem:
			e.answered(item)
		case peerItem:
			e.looked(item)
		case headItem:
			e.head(item)
		case typingItem:
			e.typed(item)
		case groupTypingItem:
			e.typedInGroup(item)
		case countsItem:
			e.counted(item)
		case closeItem:
			if s := e.seat(item.handle); s != nil && s.State != session.Closed && (item.before == 0 || s.since < item.before) {
				e.close(s, item.code, item.reason)
			}
		case drainItem:
			e.drain()
		case resumeItem:
			e.draining = false
		case endItem:
			e.each(func(s *seat) { e.close(s, wire.CodeGoingAway, "the server stops") })
		}
	}
	e.reportLeft()
}

// deliver writes what an applied batch means for this loop's sessions.
func (e *edge) deliver(b *delivery.Batch) {
	for _, d := range b.Deliveries {
		switch d.Kind {
		case delivery.GroupMessage:
			e.pushToGroup(&b.Effects.Messages[d.Index])
			continue
		case delivery.Membership:
			e.member(reactor.Handle(d.Handle), &b.Effects.Memberships[d.Index])
			continue
		}
		s := e.seat(reactor.Handle(d.Handle))
		if s == nil || s.State == session.Closed {
			continue
		}
		switch d.Kind {
		case delivery.Sent:
			e.sent(s, &b.Effects.Sent[d.Index])
		case delivery.Refused:
			x := &b.Effects.Refused[d.Index]
			e.fail(s, x.Correlation, x.Code)
		case delivery.Message:
			e.pushMessage(s, b, d)
			if planted.Active(planted.WrongPerson) {
				e.each(func(s *seat) { e.pushMessage(s, b, d) })
			}
		case delivery.Receipt:
			e.pushReceipt(s, b, d)
		case delivery.Own:
			e.pushOwn(s, &b.Effects.Own[d.Index])
		}
	}
	e.settle(b)
}

// sent acknowledges a send, or tells which group it made.
func (e *edge) sent(s *seat, x *shard.SentEffect) {
	if x.Created != 0 {
		created := wire.Created{Correlation: x.Correlation, Ref: wire.GroupRef(x.Created), Sequence: x.Sequence, Time: x.Time}
		e.scratch = wire.AppendCreated(e.scratch[:0], &created)
	} else {
		sent := wire.Sent{Correlation: x.Correlation, Sequence: x.Sequence, Time: x.Time}
		e.scratch = wire.AppendSent(e.scratch[:0], &sent)
	}
	e.write(s, e.scratch)
}

func (e *edge) pushMessage(s *seat, b *delivery.Batch, d delivery.Delivery) {
	if s.State != session.Live {
		return // its SYNC will tell
	}
	x := &b.Effects.Messages[d.Index]
	m := wire.Message{Ref: x.Conversation.Ref(s.User), Sequence: x.Sequence, Revision: x.Revision, Time: x.Time, Content: x.Content}
	if d.Own {
		m.Author = s.User
	}
	if planted.Active(planted.SyncWindow) && s.Reads > 0 || planted.Active(planted.LostPush) && e.loop.Blocked(s.handle) {
		return
	}
	e.scratch = wire.AppendMessage(e.scratch[:0], &m)
	if backlog := e.backlog(s); backlog != nil {
		e.kept(s, backlog.Message(wire.Head{Ref: m.Ref, Sequence: m.Sequence, Revision: m.Revision}, e.scratch))
		return
	}
	if planted.Active(planted.DoublePush) && d.Own {
		e.loop.Write(s.handle, e.scratch)
	}
	e.loop.Write(s.handle, e.scratch)
}

func (e *edge) pushReceipt(s *seat, b *delivery.Batch, d delivery.Delivery) {
	if s.State != session.Live {
		return
	}
	x := &b.Effects.Receipts[d.Index]
	r := wire.Receipt{Ref: x.Conversation.Ref(s.User), Position: x.Position, Kind: x.Kind, Time: x.Time}
	if d.Own {
		r.Kind += wire.OwnDelivered - wire.Delivered
	}
	e.scratch = wire.AppendReceipt(e.scratch[:0], &r)
	if backlog := e.backlog(s); backlog != nil {
		e.kept(s, backlog.Receipt(r, e.scratch))
		return
	}
	e.loop.Write(s.handle, e.scratch)
}

// head tells a session of a conversation that it may not have heard of.
func (e *edge) head(item headItem) {
	s := e.seat(item.handle)
	if s == nil || s.State != session.Live || item.head.Ref.Group() && !s.Groups() {
		return
	}
	e.scratch = wire.AppendHead(e.scratch[:0], &item.head)
	if backlog := e.backlog(s); backlog != nil {
		e.kept(s, backlog.Message(item.head, e.scratch))
		return
	}
	e.loop.Write(s.handle, e.scratch)
}

// backlog is where pushes for a session that reads slowly go; nil if it keeps up.
func (e *edge) backlog(s *seat) *delivery.Backlog {
	// What waits already goes first, even if the kernel takes more by now: Writable comes.
	b := e.backlogs[s.handle]
	if b == nil && !e.loop.Blocked(s.handle) {
		return nil
	}
	if b == nil {
		b = &delivery.Backlog{}
		e.backlogs[s.handle] = b
	}
	return b
}

// kept ends a session whose backlog is full: it syncs anew when it is back.
func (e *edge) kept(s *seat, err error) {
	if err != nil {
		e.node.log.Info("session closed: its backlog is full", "user", s.User, "device", s.Device)
		e.close(s, wire.CodeSlow, "pushes were not read")
	}
}

// Writable implements reactor.Handler.
func (e *edge) Writable(h reactor.Handle) {
	if b := e.backlogs[h]; b != nil {
		e.catchUp(h, b)
	}
	if s := e.seat(h); s != nil {
		e.readNext(s)
	}
}

// catchUp writes what was kept for a session that reads again.
func (e *edge) catchUp(h reactor.Handle, b *delivery.Backlog) {
	delete(e.backlogs, h)
	if b.Collapsed() {
		e.node.metrics.collapsed.Inc()
	}
	if s := e.seat(h); s != nil && s.State == session.Live {
		e.scratch = b.Append(e.scratch[:0])
		e.loop.Write(h, e.scratch)
	}
}

// each calls fn for every session that has not ended.
func (e *edge) each(fn func(s *seat)) {
	for _, chunk := range e.seats {
		for i := range chunk {
			if s := &chunk[i]; s.handle != 0 && s.State != session.Closed {
				fn(s)
			}
		}
	}
}

// drain asks every session to connect elsewhere, at a random moment of the spread.
func (e *edge) drain() {
	e.draining = true
	e.each(e.goAway)
}

func (e *edge) goAway(s *seat) {
	if s.State == session.Greeting {
		return // it is told when its HELLO comes
	}
	g := wire.GoAway{Code: wire.CodeGoingAway, SpreadMS: uint64(e.node.config.DrainSpread.Milliseconds())}
	e.loop.Write(s.handle, wire.AppendGoAway(nil, &g))
}
