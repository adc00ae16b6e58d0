package client

import (
	"cmp"
	"slices"
	"time"

	"parley/wire"
)

// A requestKind tells what a request asks and who waits for it.
type requestKind uint8

const (
	requestSync    requestKind = iota
	requestHistory             // of a caller
	requestUsers               // of a caller
	requestResolve             // of a caller
	requestMembers             // of a caller
	requestGroup               // of a caller
	requestJoin                // of a caller
	requestFetch               // messages of a gap
	requestSearch              // sends of unknown outcome
)

// A request is a frame that the server answers under its correlation. Requests survive
// connections: they change nothing, or as JOIN nothing more the second time, so they are
// simply asked again.
type request struct {
	kind         requestKind
	history      wire.History
	queries      []wire.UserQuery
	names        []string
	members      wire.Members  // of requestMembers; its Ref also of the other two about groups
	secret       []byte        // of requestJoin
	conversation *conversation // of requestFetch
	lane         *lane         // of requestSearch

	correlation uint64    // in this session; 0: not on the wire
	resume      time.Time // not before
	tries       int
	cancelled   bool

	done  chan struct{} // the caller's, closed by the driver
	page  wire.Page
	users []wire.User
	list  wire.MemberList
	group wire.GroupState
	sent  Sent
	err   error
}

// requests are those without an answer. They are part of the core.
type requests struct {
	flying  map[uint64]*request
	waiting []*request // in order, without SYNC
	fetches int        // requestFetch among them
}

// enqueue adds a request that is written when there is room on the wire.
func (c *core) enqueue(r *request) { c.waiting = append(c.waiting, r) }

// ask adds a caller's request.
func (c *core) ask(r *request) {
	switch {
	case c.phase == phaseEnded:
		r.err = c.endError()
		c.do(action{kind: actionAnswer, request: r})
	case r.aboutGroup() && c.phase == phaseOnline && !c.groups:
		r.err = errNoGroups
		c.do(action{kind: actionAnswer, request: r})
	default:
		c.enqueue(r)
	}
}

// cancel forgets a caller's request.
func (c *core) cancel(r *request) {
	r.cancelled = true
	c.waiting = slices.DeleteFunc(c.waiting, func(other *request) bool { return other == r })
}

// requeue takes back what was on the wire at the end of a session.
func (c *core) requeue() {
	var back []*request
	for _, r := range c.flying {
		if r.kind != requestSync && !r.cancelled {
			back = append(back, r)
		}
	}
	clear(c.flying)
	slices.SortFunc(back, func(a, b *request) int { return cmp.Compare(a.correlation, b.correlation) })
	for _, r := range back {
		r.correlation = 0
	}
	c.waiting = append(back, c.waiting...)
	for _, r := range c.waiting {
		r.resume = time.Time{}
	}
}

// requestDue is when the next request that was put off may be written; zero: none was.
func (c *core) requestDue() time.Time {
	var due time.Time
	for _, r := range append(c.waiting[:len(c.waiting):len(c.waiting)], c.syncing) {
		if r != nil && r.correlation == 0 && r.resume.After(c.now) && (due.IsZero() || r.resume.Before(due)) {
			due = r.resume
		}
	}
	return due
}

// nextRequest takes the next request to write, nil if there is none or no room for it.
func (c *core) nextRequest() *request {
	c.resync()
	if s := c.syncing; s != nil && s.correlation == 0 && !c.now.Before(s.resume) {
		return s
	}
	reads := len(c.flying)
	if c.syncing != nil && c.syncing.correlation == 0 {
		reads++ // its place is kept
	}
	if reads >= wire.RequestsMax {
		return nil
	}
	c.planFetches()
	for i, r := range c.waiting {
		if !c.now.Before(r.resume) && (c.groups || !r.aboutGroup()) {
			c.waiting = slices.Delete(c.waiting, i, i+1)
			return r
		}
	}
	return nil
}

// resync asks again for what changed, when pushes were left out and what they said of
// messages has been caught up with.
func (c *core) resync() {
	if c.stale && c.synced && c.syncing == nil && len(c.behind) == 0 && c.fetches == 0 {
		c.stale = false
		c.syncing = &request{kind: requestSync}
	}
}

// planFetches makes requests for the gaps of conversations, as far as the consumer has
// room for what they bring.
func (c *core) planFetches() {
	for c.fetches < fetchesMax && len(c.behind) > 0 {
		v := c.behind[0]
		if until := v.reach(); v.based && v.known < until {
			n := min(until-v.known, uint64(c.limits.fetch))
			if !c.feed.room(int(n)+c.fetches*c.limits.fetch, (c.fetches+1)*fetchBytes) {
				return
			}
			v.fetching = true
			c.fetches++
			c.enqueue(&request{kind: requestFetch, conversation: v,
				history: wire.History{Ref: v.ref, Mode: wire.HistoryForward, Sequence: v.known, Limit: n}})
		} else if v.based {
			c.unstash(v) // the consumer had no room for what is here already
			if v.known < v.top && len(v.stash) > 0 && v.stash[0].Sequence == v.known+1 {
				return
			}
		}
		v.behind = false
		c.behind = slices.Delete(c.behind, 0, 1)
		c.checkBehind(v)
	}
}

// answered takes the request that an answer belongs to off the wire; nil: it is not asked
// any more, or never was.
func (c *core) answered(correlation uint64) *request {
	r := c.flying[correlation]
	if r != nil {
		delete(c.flying, correlation)
		r.correlation = 0
		c.progressAt = c.now
	}
	return r
}

// pageArrived takes PAGE.
func (c *core) pageArrived(p *wire.Page) {
	r := c.answered(p.Correlation)
	if r == nil {
		return
	}
	switch r.kind {
	case requestHistory:
		p.Correlation = 0
		r.page = *p
		c.do(action{kind: actionAnswer, request: r})
	case requestFetch:
		c.fetched(r, p)
	case requestSearch:
		c.searched(r, p, nil)
	default:
		c.lose(ErrProtocol, wire.CodeMalformed)
	}
}

// usersArrived takes USER_LIST.
func (c *core) usersArrived(l *wire.UserList) {
	r := c.answered(l.Correlation)
	switch {
	case r == nil:
	case r.kind == requestUsers, r.kind == requestResolve:
		r.users = l.Users
		c.do(action{kind: actionAnswer, request: r})
	default:
		c.lose(ErrProtocol, wire.CodeMalformed)
	}
}

// conversationsArrived takes CONVERSATIONS.
func (c *core) conversationsArrived(l *wire.Conversations) {
	r := c.answered(l.Correlation)
	switch {
	case r == nil || r.kind == requestSync && r != c.syncing:
	case r.kind == requestSync:
		c.syncPage(l)
	default:
		c.lose(ErrProtocol, wire.CodeMalformed)
	}
}

// refusedRequest takes an ERROR that answers a request. It reports false if the
// correlation is not one.
func (c *core) refusedRequest(e *wire.Error) bool {
	r := c.answered(e.Correlation)
	if r == nil {
		return false
	}
	switch e.Code.Class() {
	case wire.ClassLogOut:
		c.flying[e.Correlation] = r // it is asked again, or ends with the client
		c.do(action{kind: actionDrop})
		c.refusedCredential(e)
	case wire.ClassReconnect:
		c.flying[e.Correlation] = r
		c.lose(e, 0)
	case wire.ClassPermanent:
		c.denied(r, clean(e))
	default:
		r.tries++
		r.resume = c.now.Add(c.delay(e, r.tries-1))
		if r.kind != requestSync && !r.cancelled {
			c.enqueue(r)
		}
	}
	return true
}

// denied ends a request that the server refused for good.
func (c *core) denied(r *request, e *wire.Error) {
	switch r.kind {
	case requestSync:
		switch {
		case r != c.syncing:
		case len(c.syncToken) > 0:
			c.syncToken = nil
			c.syncing = &request{kind: requestSync}
		default:
			c.end(e)
		}
	case requestFetch:
		v := r.conversation
		v.fetching = false
		c.fetches--
		if until := v.reach(); v.based && v.known < until {
			c.gap(v, until, e)
		}
		c.checkBehind(v)
		if v.ref.Group() && e.Code == wire.CodeNotMember && !v.left {
			c.leftGroup(v)
			c.stale = true // a membership that began meanwhile is told again
		}
	case requestSearch:
		c.searched(r, nil, e)
	default:
		r.err = e
		c.do(action{kind: actionAnswer, request: r})
	}
}

// answerAll ends the callers' requests with the client.
func (c *core) answerAll(err error) {
	for _, r := range c.waiting {
		switch r.kind {
		case requestHistory, requestUsers, requestResolve, requestMembers, requestGroup, requestJoin:
			r.err = err
			c.do(action{kind: actionAnswer, request: r})
		}
	}
	c.waiting, c.fetches = nil, 0
}

// fetched takes the messages of a gap.
func (c *core) fetched(r *request, p *wire.Page) {
	v := r.conversation
	v.fetching = false
	c.fetches--
	if !v.based || r.history.Sequence > v.known {
		c.checkBehind(v) // the cluster has lost its end meanwhile
		return
	}
	before, room := v.known, true
	for i := range p.Messages {
		m := c.messageOf(v.ref, &p.Messages[i])
		c.note(v, &m)
		c.ensureListed(v, v.known)
		if m.Sequence <= v.known {
			continue
		}
		if room = room && c.feed.room(1, len(m.Content.Bytes)); !room {
			break
		}
		switch {
		case v.ref.Group() && v.known == 0 && p.Flags&wire.PageMoreBefore == 0:
			v.known = m.Sequence - 1 // what was said before this user came is not missing
		case m.Sequence > v.known+1:
			c.gap(v, m.Sequence-1, nil)
		}
		if m.Sequence > v.known { // a gap may have brought it from the stash
			room = c.emit(v, m)
		}
	}
	c.unstash(v)
	if v.left && v.listed {
		c.leftGroup(v)
	}
	switch {
	case v.known > before || !room:
		v.tries = 0
	case v.known < v.top:
		if v.tries++; v.tries >= fetchTries {
			v.tries = 0
			c.gap(v, v.top, nil)
		}
	}
	c.reaches(v, p.Head, p.Head)
}

// messageOf makes an event of a page's message.
func (c *core) messageOf(ref wire.Ref, m *wire.PageMessage) MessageEvent {
	author := m.Author
	if author == 0 {
		author = ref.ID()
	}
	return MessageEvent{Ref: ref, Sequence: m.Sequence, Author: author, Revision: m.Revision, Time: m.Time, Content: m.Content}
}
