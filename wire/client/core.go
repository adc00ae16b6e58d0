package client

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"parley/wire"
)

// A phase is where the core stands with its connection.
type phase uint8

const (
	phaseWaiting  phase = iota // for retryAt
	phaseDialing               // the driver opens a connection
	phaseGreeting              // there is one; WELCOME has not come
	phaseOnline                // WELCOME has come
	phaseEnded                 // for good
)

// An actionKind tells what the driver has to do.
type actionKind uint8

const (
	actionDial   actionKind = iota // open a connection: Endpoint, Token
	actionDrop                     // close the connection, after what is written, with Code
	actionStore                    // write Changes to the outbox's store, then call stored
	actionKept                     // Pending is in the store
	actionFinish                   // Pending has its outcome: Sent or Err
	actionAnswer                   // Request has its answer
)

// An action is something the core cannot do itself, because it does no I/O.
type action struct {
	kind     actionKind
	endpoint string // of actionDial; empty: Options.Address
	token    bool   // actionDial needs a token
	code     wire.Code
	changes  []OutboxChange
	pending  *Pending
	sent     Sent
	err      error
	request  *request
}

// coreLimits are the bounds that tests make small.
type coreLimits struct {
	conversations int
	outbox        int
	epoch         int // conversations of one outbox epoch
	events        int // messages that wait for the consumer
	fetch         int // messages of one request for a gap; fetchesMax times it is below events
	stash         int // messages that wait for those before them, in a conversation
}

var defaultLimits = coreLimits{conversations: ConversationsMax, outbox: OutboxMessagesMax, epoch: OutboxConversationsMax,
	events: EventMessagesMax, fetch: fetchMessages, stash: StashMessagesMax}

// A core is the client as a state machine: what happens goes in by its methods, what is to
// be done comes out as actions, frames to write and events for the consumer. It does no
// I/O, reads no clock and starts no goroutine; the driver's goroutine owns it.
type core struct {
	options *Options
	limits  coreLimits
	random  *rand.Rand
	now     time.Time
	actions []action

	phase    phase
	ended    error     // why, in phaseEnded; nil after a plain close
	retryAt  time.Time // in phaseWaiting
	attempts int       // to connect, in a row, without a stable session
	endpoint string    // that the server asked to use next
	welcomed bool      // ever
	user     wire.ID
	device   wire.ID
	groups   bool // the last server to welcome us knows them
	plain    bool // a server did not, although it said so: they are left out from then on

	ticket       []byte
	ticketUntil  time.Time
	token        string // for the HELLO to come, if it is not the ticket's
	tokenRefused int    // in a row

	session      // begins anew with each connection
	clusterEpoch uint64
	syncToken    []byte
	resetting    bool // the sync that runs, over sessions perhaps, tells everything

	conversations map[wire.Ref]*conversation
	walk          uint64 // counts the syncs, walks through all pages, that ended or were given up
	truncated     bool   // some have been forgotten, or never told
	regress       bool   // heads may be lower than known: the cluster lost its end
	stashBytes    int
	behind        []*conversation // with a gap to ask for
	cursors       []*conversation // with a cursor to send
	feed          feed

	outbox
	requests // by correlation, and those that wait
}

// A session is what the core knows of one connection.
type session struct {
	connectedAt  time.Time
	onlineAt     time.Time
	greeted      bool // HELLO is written
	mayPipeline  bool // SENDs may go before WELCOME: the server is sure to know us as who we are
	synced       bool
	correlation  uint64
	syncing      *request // the SYNC that waits or flies
	interval     time.Duration
	lastSent     time.Time
	lastReceived time.Time
	pingAt       time.Time   // when the unanswered PING went
	progressAt   time.Time   // when the last answer came, or the first request went
	leaveAt      time.Time   // when to follow a GOAWAY
	leaving      bool        // that moment has come; answers are awaited until leaveAt
	cursorsAt    time.Time   // when to send the cursors again
	stale        bool        // pushes were left out: a SYNC is needed
	complaint    *wire.Error // the last frame, if it was an ERROR of the session
	typing       wire.Ref    // to be told
	typed        wire.Ref    // told last, at typedAt
	typedAt      time.Time
}

func newCore(o *Options, limits coreLimits, random *rand.Rand, state OutboxState) *core {
	c := &core{
		options:       o,
		limits:        limits,
		random:        random,
		conversations: map[wire.Ref]*conversation{},
		clusterEpoch:  state.ClusterEpoch,
		user:          state.User,
		device:        state.Device,
		feed:          newFeed(limits.events),
		requests:      requests{flying: map[uint64]*request{}},
	}
	c.load(state)
	return c
}

// do asks the driver for something.
func (c *core) do(a action) { c.actions = append(c.actions, a) }

// take gives the actions since the last call. Call it after each input, before output.
func (c *core) take() []action {
	if c.leaving && c.unanswered() == 0 {
		c.leave()
	}
	c.maybeSwitch()
	c.flushStore()
	actions := c.actions
	c.actions = nil
	return actions
}

// tick does what is due at a moment; every other input begins with it.
func (c *core) tick(now time.Time) {
	c.now = now
	switch c.phase {
	case phaseWaiting:
		if !now.Before(c.retryAt) {
			c.dial()
		}
	case phaseGreeting:
		if !now.Before(c.connectedAt.Add(welcomeTimeout)) {
			c.lose(ErrUnanswered, 0)
		}
	case phaseOnline:
		c.tickOnline()
	}
}

func (c *core) tickOnline() {
	due := func(t time.Time) bool { return !t.IsZero() && !c.now.Before(t) }
	if due(c.cursorsAt) {
		c.cursorsAt = time.Time{}
		c.resendCursors()
	}
	switch {
	case due(c.leaveAt) && !c.leaving:
		c.leaving, c.leaveAt = true, c.now.Add(leaveTimeout)
	case due(c.leaveAt):
		c.leave()
	case !c.pingAt.IsZero() && !c.now.Before(c.pingAt.Add(pongTimeout)),
		c.unanswered() > 0 && !c.now.Before(c.progressAt.Add(answerTimeout)):
		c.lose(ErrUnanswered, 0)
	default:
		c.wakeLanes()
	}
}

// leave ends the session that a GOAWAY asked to end.
func (c *core) leave() {
	c.do(action{kind: actionDrop})
	c.reconnectNow(nil)
}

// resendCursors sends the cursors again that the server has not shown to know.
func (c *core) resendCursors() {
	for _, v := range c.conversations {
		v.sent = [2]uint64{}
	}
	c.checkAllCursors()
}

// deadline is when tick is due next; zero: never.
func (c *core) deadline() time.Time {
	var next time.Time
	at := func(t time.Time) {
		if !t.IsZero() && (next.IsZero() || t.Before(next)) {
			next = t
		}
	}
	// What output does waits for the connection once its moment has passed.
	later := func(t time.Time) {
		if t.After(c.now) {
			at(t)
		}
	}
	switch c.phase {
	case phaseWaiting:
		at(c.retryAt)
	case phaseGreeting:
		at(c.connectedAt.Add(welcomeTimeout))
	case phaseOnline:
		at(c.leaveAt)
		at(c.cursorsAt)
		if c.pingAt.IsZero() {
			later(c.pingDue())
		} else {
			at(c.pingAt.Add(pongTimeout))
		}
		if c.unanswered() > 0 {
			at(c.progressAt.Add(answerTimeout))
		}
		if c.synced {
			for _, v := range c.cursors {
				later(v.reportDue())
			}
		}
		for _, l := range c.sleeping {
			at(l.resume)
		}
		later(c.requestDue())
	}
	return next
}

// pingDue is when the link has been silent for the interval in either direction.
func (c *core) pingDue() time.Time {
	if c.lastSent.Before(c.lastReceived) {
		return c.lastSent.Add(c.interval)
	}
	return c.lastReceived.Add(c.interval)
}

// unanswered counts the requests on the wire.
func (c *core) unanswered() int { return len(c.flights) + len(c.flying) }

// jitter is a random time below a bound.
func (c *core) jitter(bound time.Duration) time.Duration {
	return time.Duration(c.random.Int64N(int64(bound) + 1))
}

// backoff is a random wait before attempt n (0, 1, 2, …): full jitter.
func (c *core) backoff(n int) time.Duration {
	return c.jitter(min(reconnectMin<<min(n, 16), reconnectMax))
}

// dial asks for a connection, by the ticket if there is a good one.
func (c *core) dial() {
	c.phase = phaseDialing
	if !c.now.Before(c.ticketUntil) {
		c.ticket = nil
	}
	c.do(action{kind: actionDial, endpoint: c.endpoint, token: c.ticket == nil})
	c.feed.connection(&ConnectionEvent{State: Connecting})
}

// dialed takes the news of a connection, with a token if dial asked for one.
func (c *core) dialed(now time.Time, token string) {
	c.now = now
	c.phase = phaseGreeting
	c.token = token
	c.session = session{connectedAt: now, lastSent: now, lastReceived: now, progressAt: now}
	c.syncing = &request{kind: requestSync}
	c.walk++
	c.mayPipeline = c.welcomed && c.ticket != nil
	if user, device := identityOf(token); c.ticket == nil && c.user != 0 && user != 0 {
		if user != c.user || device != c.device {
			c.end(ErrIdentity)
			return
		}
		c.mayPipeline = true
	}
}

// failed takes the news that an attempt to connect failed.
func (c *core) failed(now time.Time, err error) {
	c.now = now
	switch {
	case permanent(err), !c.welcomed && errors.Is(err, ErrRefused):
		c.end(err)
	default:
		c.reconnect(err)
	}
}

// lose gives the connection up.
func (c *core) lose(err error, code wire.Code) {
	c.do(action{kind: actionDrop, code: code})
	c.reconnect(err)
}

// reconnect waits before the next attempt: at random within a bound that doubles.
func (c *core) reconnect(err error) {
	c.settle()
	c.reconnectAt(err, c.backoff(c.attempts))
}

// reconnectNow tries again at once, unless the last sessions were too short for that.
func (c *core) reconnectNow(err error) {
	c.settle()
	if c.attempts < 2 {
		c.reconnectAt(err, 0)
		return
	}
	c.reconnect(err)
}

// settle begins the count of attempts anew if the session that ends was a good one.
func (c *core) settle() {
	if c.phase == phaseOnline && c.now.Sub(c.onlineAt) >= stableTime {
		c.attempts = 0
	}
}

func (c *core) reconnectAt(err error, wait time.Duration) {
	c.settle()
	if c.phase == phaseDialing {
		c.endpoint = "" // where the server sent us may be gone; the address is not
	}
	c.attempts++
	c.disconnected()
	c.phase = phaseWaiting
	c.retryAt = c.now.Add(wait)
	c.feed.connection(&ConnectionEvent{State: Offline, Err: err, Retry: c.retryAt})
	if wait <= 0 {
		c.dial()
	}
}

// disconnected takes back what was on the wire.
func (c *core) disconnected() {
	c.session = session{}
	c.landAll()
	c.requeue()
	for _, v := range c.conversations {
		v.sent = [2]uint64{}
		v.dirty = false
	}
	c.cursors = c.cursors[:0]
}

// closeUnsupportedData is what a server says to a text message: this client sends none.
const closeUnsupportedData = 1003

// closed takes the end of the connection: by a WebSocket close with a code and reason, or
// by err.
func (c *core) closed(now time.Time, closeCode uint16, reason string, err error) {
	c.now = now
	if c.phase != phaseGreeting && c.phase != phaseOnline {
		return
	}
	if closeCode == closeUnsupportedData {
		c.end(fmt.Errorf("%w: close code %d", ErrProtocol, closeCode))
		return
	}
	code := wire.CodeOfClose(closeCode)
	refusal := &wire.Error{Code: code, Reason: reason}
	switch {
	case c.complaint != nil && (code == 0 || code == c.complaint.Code):
		refusal = c.complaint
	case code == 0:
		c.reconnectFollowing(err)
		return
	}
	if code == 0 && refusal.Code.Class() == wire.ClassPermanent {
		c.reconnectFollowing(refusal) // it may have concerned one frame, not the session
		return
	}
	c.obey(refusal)
}

// reconnectFollowing reconnects, at the moment that a GOAWAY left to us if there was one.
func (c *core) reconnectFollowing(err error) {
	if c.leaveAt.IsZero() {
		c.reconnect(err)
		return
	}
	c.reconnectAt(err, max(0, c.leaveAt.Sub(c.now)))
}

// obey does what a code of the session asks for. The connection is gone or about to be.
func (c *core) obey(e *wire.Error) {
	switch e.Code.Class() {
	case wire.ClassPermanent:
		if e.Code == wire.CodeUnknownFrame && c.groups {
			c.groups, c.plain = false, true // the one feature that there is to leave out
			c.reconnect(e)
			return
		}
		c.end(e)
	case wire.ClassRetryAfter:
		c.settle()
		c.reconnectAt(e, c.delay(e, c.attempts))
	case wire.ClassLogOut:
		c.refusedCredential(e)
	default:
		c.reconnectFollowing(e)
	}
}

// refusedCredential falls back from a ticket to a token, and from an expired token to a
// fresh one, a few times.
func (c *core) refusedCredential(e *wire.Error) {
	if c.ticket != nil {
		c.ticket = nil
		c.reconnectNow(e)
		return
	}
	c.tokenRefused++
	if e.Code != wire.CodeTokenExpired || c.tokenRefused >= tokenTries {
		c.end(e)
		return
	}
	c.reconnect(e)
}

// close ends the client for no reason but the caller's wish.
func (c *core) close(now time.Time) {
	c.now = now
	c.end(nil)
}

// end ends the client for good.
func (c *core) end(err error) {
	if c.phase == phaseEnded {
		return
	}
	if c.phase == phaseGreeting || c.phase == phaseOnline {
		c.do(action{kind: actionDrop})
	}
	c.disconnected()
	c.phase, c.ended = phaseEnded, err
	closed := c.endError()
	c.abandon(closed)
	c.answerAll(closed)
	c.feed.connection(&ConnectionEvent{State: Closed, Err: err})
}

// endError is what callers get after the end.
func (c *core) endError() error {
	if c.ended == nil {
		return ErrClosed
	}
	return fmt.Errorf("%w: %w", ErrClosed, c.ended)
}

// handed takes the news that the consumer has the event that peek showed.
func (c *core) handed() {
	item := c.feed.pop()
	v := item.conversation
	if v == nil {
		return
	}
	c.checkBehind(v)
	if item.life != v.life {
		return // its number means another message now
	}
	switch e := item.event.(type) {
	case *MessageEvent:
		if e.Author != c.user {
			v.handed = e.Sequence
		}
		c.deliver(v)
	case *ConversationEvent:
		if e.First && !c.options.ManualDelivered && e.Begin > v.handed {
			v.handed = e.Begin
			c.deliver(v)
		}
	}
}

// deliver moves the delivered cursor to what the consumer has, each time it has all that
// waits, and once in a while before.
func (c *core) deliver(v *conversation) {
	if c.options.ManualDelivered {
		return
	}
	if v.waiting == 0 || v.handed >= v.want[wire.Delivered]+deliveredEvery {
		c.setCursor(v, wire.Delivered, v.handed)
	}
}
