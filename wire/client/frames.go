package client

import (
	"fmt"
	"time"

	"parley/wire"
)

// received takes one WebSocket message. Its bytes may be used again afterwards, unless a
// caller's History waits for them.
func (c *core) received(now time.Time, message []byte) {
	c.now = now
	c.lastReceived, c.pingAt = now, time.Time{}
	for len(message) > 0 && (c.phase == phaseGreeting || c.phase == phaseOnline) {
		f, rest, err := wire.NextFrame(message)
		if err == nil {
			c.complaint = nil
			err = c.frame(f)
		}
		if err != nil {
			c.lose(fmt.Errorf("%w: %v: %w", ErrProtocol, f.Type, err), wire.CodeOf(err))
			return
		}
		message = rest
	}
}

// frame takes one frame. An error means that it could not be read.
func (c *core) frame(f wire.Frame) error {
	if c.phase == phaseGreeting {
		return c.greetingFrame(f)
	}
	switch f.Type {
	case wire.TypeMessage:
		m, err := wire.ParseMessage(f)
		if err == nil {
			c.push(&m)
		}
		return err
	case wire.TypeSent:
		s, err := wire.ParseSent(f)
		if err == nil && s.Sequence == 0 {
			err = wire.ErrMalformed // there is no such message
		}
		if err == nil {
			c.acknowledged(&s)
		}
		return err
	case wire.TypeReceipt:
		r, err := wire.ParseReceipt(f)
		if err == nil {
			c.receiptArrived(&r)
		}
		return err
	case wire.TypeTyping:
		t, err := wire.ParseTyping(f)
		if err == nil {
			c.typingArrived(&t)
		}
		return err
	case wire.TypeHead:
		h, err := wire.ParseHead(f)
		if err == nil {
			c.headArrived(&h)
		}
		return err
	case wire.TypePong:
		return wire.ParseEmpty(f)
	}
	return c.answerFrame(f)
}

// answerFrame takes a frame that answers a request, or concerns the session.
func (c *core) answerFrame(f wire.Frame) error {
	switch f.Type {
	case wire.TypeConversations:
		l, err := wire.ParseConversations(f)
		if err == nil {
			c.conversationsArrived(&l)
		}
		return err
	case wire.TypePage:
		p, err := wire.ParsePage(f)
		if err == nil {
			c.pageArrived(&p)
		}
		return err
	case wire.TypeUserList:
		l, err := wire.ParseUserList(f)
		if err == nil {
			c.usersArrived(&l)
		}
		return err
	case wire.TypeCreated, wire.TypeMemberList, wire.TypeGroupState, wire.TypeCounts:
		return c.groupFrame(f)
	case wire.TypeError:
		e, err := wire.ParseError(f)
		if err == nil {
			c.refused(e)
		}
		return err
	case wire.TypeGoAway:
		g, err := wire.ParseGoAway(f)
		if err == nil {
			c.goAway(&g)
		}
		return err
	}
	return c.strangeFrame(f)
}

// strangeFrame takes a frame that has no meaning here.
func (c *core) strangeFrame(f wire.Frame) error {
	switch {
	case f.Type.Known():
		return wire.ErrMalformed
	case f.Type.Critical():
		c.do(action{kind: actionDrop, code: wire.CodeUnknownFrame})
		c.end(fmt.Errorf("%w: %v", ErrOutdated, f.Type))
	}
	return nil
}

// greetingFrame takes a frame before WELCOME.
func (c *core) greetingFrame(f wire.Frame) error {
	switch f.Type {
	case wire.TypeWelcome:
		w, err := wire.ParseWelcome(f)
		if err == nil {
			c.welcome(&w)
		}
		return err
	case wire.TypeError, wire.TypeGoAway:
		return c.answerFrame(f)
	}
	return c.strangeFrame(f)
}

// push takes MESSAGE.
func (c *core) push(m *wire.Message) {
	v := c.conversation(m.Ref)
	if v == nil {
		return
	}
	page := wire.PageMessage{Sequence: m.Sequence, Author: m.Author, Revision: m.Revision, Time: m.Time, Content: m.Content}
	c.arrived(v, c.messageOf(m.Ref, &page))
}

// headArrived takes HEAD.
func (c *core) headArrived(h *wire.Head) {
	if v := c.conversation(h.Ref); v != nil {
		c.stale = true // receipts may have been left out too
		c.reaches(v, h.Sequence, h.Revision)
	}
}

// receiptArrived takes RECEIPT.
func (c *core) receiptArrived(r *wire.Receipt) {
	if v := c.conversation(r.Ref); v != nil {
		c.receipt(v, r)
	}
}

// typingArrived takes TYPING.
func (c *core) typingArrived(t *wire.Typing) {
	v := c.conversations[t.Ref]
	if v == nil || !v.based {
		return
	}
	author := t.Author
	if author == 0 {
		author = t.Ref.ID()
	}
	c.feed.typing(v, &TypingEvent{Ref: t.Ref, Author: author})
}

// refused takes ERROR.
func (c *core) refused(e *wire.Error) {
	if e.Correlation == 0 {
		c.complained(e)
		return
	}
	if !c.refusedSend(e) {
		c.refusedRequest(e)
	}
}

// complained takes an ERROR that answers no request. Either a close follows, or it was a
// cursor that was refused.
func (c *core) complained(e *wire.Error) {
	c.complaint = e
	switch {
	case e.Code == wire.CodeBadCursor:
		c.stale = true
	case e.Code.Class() == wire.ClassRetry, e.Code.Class() == wire.ClassRetryAfter:
		c.cursorsAt = c.now.Add(c.delay(e, 0))
	}
}

// goAway takes GOAWAY: the client comes back at a moment of its own choice within the
// spread, and serves the session until then.
func (c *core) goAway(g *wire.GoAway) {
	spread := time.Duration(min(g.SpreadMS, uint64(spreadMax/time.Millisecond))) * time.Millisecond
	c.leaveAt = c.now.Add(c.jitter(spread))
	if endpoint, err := parseAddress(g.Endpoint); err == nil && (endpoint.secure || !c.options.secure()) {
		c.endpoint = g.Endpoint
	}
}

// output appends frames to write: at most one WebSocket message of them. Call it when the
// connection can take one, until it appends nothing.
func (c *core) output(dst []byte) []byte {
	if c.phase != phaseGreeting && c.phase != phaseOnline || c.leaving {
		return dst
	}
	start := len(dst)
	if !c.greeted {
		dst = c.appendHello(dst)
	} else if c.phase == phaseGreeting {
		return dst // one message may go before WELCOME
	}
	idle := c.unanswered() == 0
	dst = c.appendRequests(dst, start)
	if c.phase == phaseOnline || c.mayPipeline {
		dst = c.appendSends(dst, start)
	}
	if c.phase == phaseOnline {
		dst = c.appendSmall(dst, start)
	}
	if len(dst) > start {
		c.lastSent = c.now
		if idle {
			c.progressAt = c.now
		}
	}
	return dst
}

func (c *core) appendHello(dst []byte) []byte {
	c.greeted = true
	h := wire.Hello{Version: wire.Version, HeartbeatSeconds: c.options.HeartbeatSeconds, OutboxEpoch: c.epoch.id,
		Kind: wire.CredentialToken, Credential: []byte(c.token), Client: c.options.Name}
	if !c.plain {
		h.Features = wire.FeatureGroups
	}
	if c.options.Foreground {
		h.Flags |= wire.HelloForeground
	}
	if c.ticket != nil {
		h.Kind, h.Credential = wire.CredentialTicket, c.ticket
	}
	c.token = ""
	return wire.AppendHello(dst, &h)
}

// nextCorrelation numbers the requests of a session.
func (c *core) nextCorrelation() uint64 {
	c.correlation++
	return c.correlation
}

func (c *core) appendRequests(dst []byte, start int) []byte {
	for len(dst)-start+requestFrameBytes <= wire.MessageBytesMax {
		r := c.nextRequest()
		if r == nil {
			break
		}
		r.correlation = c.nextCorrelation()
		c.flying[r.correlation] = r
		switch r.kind {
		case requestSync:
			dst = wire.AppendSync(dst, &wire.Sync{Correlation: r.correlation, Limit: SyncItemsMax,
				Previews: uint64(c.options.Previews), Token: c.syncToken})
		case requestUsers:
			dst = wire.AppendUsers(dst, &wire.Users{Correlation: r.correlation, Queries: r.queries})
		case requestResolve:
			dst = wire.AppendResolve(dst, &wire.Resolve{Correlation: r.correlation, Names: r.names})
		case requestMembers, requestGroup, requestJoin:
			dst = appendGroupRequest(dst, r)
		default:
			h := r.history
			h.Correlation = r.correlation
			dst = wire.AppendHistory(dst, &h)
		}
	}
	return dst
}

func (c *core) appendSends(dst []byte, start int) []byte {
	for len(c.ready) > 0 && len(c.flights) < FlyingMax {
		l := c.ready[0]
		s := c.nextSend(l)
		if s != nil && len(dst)-start+sendFrameBytes+len(s.Content.Bytes) > wire.MessageBytesMax {
			break
		}
		c.ready = c.ready[1:]
		l.ready = false
		if s == nil {
			continue
		}
		correlation := c.nextCorrelation()
		dst = appendSend(dst, correlation, s)
		c.flights[correlation] = flight{s, l.attempt}
		s.flights++
		s.loose++
		l.flying++
		l.flights++
		c.wake(l)
	}
	if len(c.ready) == 0 {
		c.ready = nil
	}
	return dst
}

// appendSmall appends cursors, TYPING and PING.
func (c *core) appendSmall(dst []byte, start int) []byte {
	room := func() bool { return len(dst)-start+2*smallFrameBytes <= wire.MessageBytesMax }
	var later []*conversation
	for c.synced && len(c.cursors) > 0 && room() {
		v := c.cursors[0]
		c.cursors = c.cursors[1:]
		if c.now.Before(v.reportDue()) {
			later = append(later, v)
			continue
		}
		v.dirty, v.reported = false, c.now
		// Read first: it covers delivered.
		for _, kind := range [...]wire.CursorKind{wire.Read, wire.Delivered} {
			if v.want[kind] <= max(v.sent[kind], v.done[kind]) || v.want[kind] > max(v.top, v.state.Head) {
				continue
			}
			v.sent[kind] = v.want[kind]
			if kind == wire.Read {
				v.sent[wire.Delivered] = max(v.sent[wire.Delivered], v.want[kind])
			}
			dst = wire.AppendCursor(dst, &wire.Cursor{Ref: v.ref, Position: v.want[kind], Kind: kind})
		}
	}
	c.cursors = append(later, c.cursors...)
	if c.typing != 0 && room() {
		dst = wire.AppendTyping(dst, &wire.Typing{Ref: c.typing})
		c.typed, c.typedAt, c.typing = c.typing, c.now, 0
	}
	if len(dst) == start && c.pingAt.IsZero() && !c.now.Before(c.pingDue()) {
		dst = wire.AppendPing(dst)
		c.pingAt = c.now
	}
	return dst
}

// tellTyping tells a conversation that this user is writing, seldom.
func (c *core) tellTyping(now time.Time, ref wire.Ref) {
	c.now = now
	if c.phase == phaseOnline && (ref != c.typed || !now.Before(c.typedAt.Add(typingInterval))) {
		c.typing = ref
	}
}
