//go:build linux

package load

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"time"

	"parley/wire"
)

// syncRetryDelay is the wait before a refused SYNC is sent again: a shard has a new leader about a second
// after it lost one, and thousands of sessions may wait for that.
const syncRetryDelay = 100 * time.Millisecond

// ClientName is what the sessions call themselves in HELLO.
const ClientName = "parley-bench"

// An Account is a user's device with the token that proves it.
type Account struct {
	User  wire.ID `json:"user"`
	Token string  `json:"token"`
}

// A driver is what a job does with a session's events.
type driver interface {
	live(s *session)                                        // WELCOME and, if asked for, every page of CONVERSATIONS have come
	frame(s *session, f wire.Frame)                         // any other frame
	done(s *session)                                        // all that was there has been handled
	closed(s *session, err error)                           // the connection is gone
	conversation(s *session, state *wire.ConversationState) // an item of CONVERSATIONS
}

// A pager is a driver that asks for SYNC itself once the session is live, and takes the answers.
type pager interface{ page(c *wire.Conversations) }

// A session is one device's connection: HELLO, SYNC, heartbeats and the credentials for
// the next time.
type session struct {
	conn    *Conn
	loop    *Loop
	target  Target
	driver  driver
	account Account
	index   int    // the job's own
	epoch   uint64 // of the outbox

	features  uint64 // of HELLO
	syncs     bool   // SYNC goes with HELLO
	single    bool   // each frame in a message of its own
	welcomed  bool
	synced    bool
	ticket    []byte
	token     []byte // of SYNC
	heartbeat time.Duration
	dialed    time.Duration
	sent      time.Duration // when the last frame went out
	pongs     uint64
}

func newSession(l *Loop, t Target, a Account, d driver) *session {
	return &session{loop: l, target: t, account: a, driver: d, epoch: rand.Uint64() | 1}
}

// dial connects with a ticket if there is one.
func (s *session) dial() error {
	s.welcomed, s.synced = false, false
	s.dialed = s.loop.tick()
	var err error
	if s.conn, err = s.loop.Dial(s.target, s); err == nil {
		s.conn.Single = s.single
	}
	return err
}

// alive reports whether the session may send.
func (s *session) alive() bool {
	return s.conn != nil && s.conn.Alive() && s.welcomed && (s.synced || !s.syncs)
}

// Opened sends HELLO and SYNC in one message.
func (s *session) Opened(c *Conn) {
	s.conn = c
	h := wire.Hello{Version: wire.Version, Flags: wire.HelloForeground, Features: s.features, OutboxEpoch: s.epoch, Client: ClientName,
		Kind: wire.CredentialToken, Credential: []byte(s.account.Token)}
	if len(s.ticket) > 0 {
		h.Kind, h.Credential = wire.CredentialTicket, s.ticket
	}
	out := s.output()
	*out = wire.AppendHello(*out, &h)
	if s.syncs {
		s.sync()
	}
}

func (s *session) sync() {
	out := s.output()
	*out = wire.AppendSync(*out, &wire.Sync{Token: s.token})
}

// output is Frames that remembers when it was asked for: what is sent spares a heartbeat.
func (s *session) output() *[]byte {
	s.sent = s.loop.now
	return s.conn.Frames()
}

// Frame handles what belongs to the session and passes on the rest.
func (s *session) Frame(_ *Conn, f wire.Frame) {
	var err error
	switch f.Type {
	case wire.TypeWelcome:
		err = s.welcome(f)
	case wire.TypeConversations:
		err = s.conversations(f)
	case wire.TypePong:
		s.pongs++
	case wire.TypeError:
		if !s.syncAgain(f) {
			s.driver.frame(s, f)
		}
	default:
		s.driver.frame(s, f)
	}
	if err != nil {
		s.conn.fail(fmt.Errorf("load: %v: %w", f.Type, err))
	}
}

func (s *session) welcome(f wire.Frame) error {
	w, err := wire.ParseWelcome(f)
	if err != nil {
		return err
	}
	if w.User != s.account.User {
		return fmt.Errorf("%w: welcome for user %v, not %v", ErrMalformed, w.User, s.account.User)
	}
	s.heartbeat = time.Duration(w.HeartbeatSeconds) * time.Second
	if len(w.Ticket) > 0 {
		s.ticket = bytes.Clone(w.Ticket)
	}
	s.welcomed = true
	if !s.syncs {
		s.driver.live(s)
	}
	return nil
}

func (s *session) conversations(f wire.Frame) error {
	c, err := wire.ParseConversations(f)
	if err != nil {
		return err
	}
	if j, ok := s.driver.(pager); ok && s.synced {
		j.page(&c)
		return nil
	}
	s.token = bytes.Clone(c.Token)
	for i := range c.Items {
		s.driver.conversation(s, &c.Items[i])
	}
	if c.Flags&wire.SyncMore != 0 {
		s.sync()
		return nil
	}
	if !s.synced {
		s.synced = true
		s.driver.live(s)
	}
	return nil
}

// syncAgain repeats a SYNC that was answered with an ERROR that says so: a node of a cluster may not
// know yet who leads a shard.
func (s *session) syncAgain(f wire.Frame) bool {
	e, err := wire.ParseError(f)
	if err != nil || e.Correlation != 0 || !s.syncs || s.synced {
		return false
	}
	if c := e.Code.Class(); c != wire.ClassRetry && c != wire.ClassRetryAfter {
		return false
	}
	connection := s.conn
	s.loop.After(syncRetryDelay, func() {
		if s.conn == connection && connection.Alive() {
			s.sync()
		}
	})
	return true
}

// Done passes the end of a read on.
func (s *session) Done(*Conn) { s.driver.done(s) }

// Closed passes the end of the connection on.
func (s *session) Closed(_ *Conn, err error) { s.driver.closed(s, err) }

// beat sends PING to the sessions that have been silent for their interval, now and every
// second from here on.
func beat(l *Loop, sessions []*session) {
	for _, s := range sessions {
		if s.alive() && s.heartbeat > 0 && l.now-s.sent >= s.heartbeat-time.Second {
			out := s.output()
			*out = wire.AppendPing(*out)
		}
	}
	l.After(time.Second, func() { beat(l, sessions) })
}
