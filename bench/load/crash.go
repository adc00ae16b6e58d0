//go:build linux

package load

import (
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"parley/wire"
)

// A CrashPlan says what the job "crash" does: users who write to each other while the server is
// killed again and again, each with an outbox that it sends again after a break, and a memory of all
// that it was told. User i writes to user i+1, and the other way round, the last to the first.
//
// Its requests: connect; go; drop cuts a number of connections, as phones do (a DropPlan); counts
// gives a CrashResult; stop answers when all that was sent is acknowledged; verify reads every
// conversation as both of its members and answers with a CrashResult; mark begins to look for
// outages, and marked tells of them (a MarkResult); roam lets clients connect to other nodes.
type CrashPlan struct {
	Target Target    `json:"target"`
	Nodes  []Target  `json:"nodes,omitempty"` // of a cluster, in place of Target: user i begins at node i, counted around
	Users  []Account `json:"users"`           // at least three
	Window int       `json:"window"`
	Pause  float64   `json:"pause_ms"` // that a stream waits after an acknowledgement
	Bytes  int       `json:"bytes"`
	Seed   uint64    `json:"seed"`
}

// A DropPlan says how many connections to cut.
type DropPlan struct {
	Connections int `json:"connections"`
}

// A CrashResult is what the users have seen, and what they hold against the server.
type CrashResult struct {
	Sent       uint64     `json:"sent"`
	Acked      uint64     `json:"acked"`
	Pushed     uint64     `json:"pushed"`
	Receipts   uint64     `json:"receipts"`
	Resent     uint64     `json:"resent"`
	Welcomes   uint64     `json:"welcomes"`
	Live       int        `json:"live"`
	Verified   uint64     `json:"verified"`  // messages read in history, by one of the two members
	Lost       uint64     `json:"lost"`      // told of by SENT, MESSAGE or RECEIPT, and not there
	Doubled    uint64     `json:"doubled"`   // there more than once
	Gaps       uint64     `json:"gaps"`      // sequences that history does not have
	Backwards  uint64     `json:"backwards"` // receipts that went back
	Complaints Complaints `json:"complaints"`
}

const (
	// redialMin and redialMax bound the wait before a client connects again: short, so that a
	// killed server is loaded again at once.
	redialMin = 5 * time.Millisecond
	redialMax = 50 * time.Millisecond
	// retryDelay is the wait before a refused message is sent again.
	retryDelay = 20 * time.Millisecond
)

// crash is the job.
type crash struct {
	loop    *Loop
	plan    CrashPlan
	texts   *Texts
	clients []*client
	chats   []*chat
	running bool
	result  CrashResult
	waiting reply // connect or stop
	stops   bool
	check   *verification
	roams   bool     // who loses a connection turns to the next node
	ack     recorder // first send to SENT, since the mark
	marks   struct {
		at    time.Duration
		acked uint64
	}
}

// A client is one user with its outbox, which outlives its connections.
type client struct {
	session *session
	outs    [2]*stream // to the next user, to the one before
	node    int        // of the plan's
}

// A stream is what one user writes to another: its outbox in a conversation.
type stream struct {
	number   int // of all streams: clients' 0 and 1 in turn
	chat     *chat
	side     int // of the conversation
	author   *client
	ref      wire.Ref
	answers  []uint64 // the sequence of each acknowledged counter, from 1
	sent     uint64
	receipt  uint64 // the highest position of the other that a RECEIPT told the author
	covered  uint64 // and of a RECEIPT or CONVERSATIONS
	floor    uint64 // what covered was when the author's connection was made
	known    uint64 // how far the conversation reaches, as far as the author was told: its delivered cursor
	told     uint64 // the cursor that was last sent on this connection
	retrying bool
	pausing  bool
	moments  [wire.DedupWindow]time.Duration // when each unacknowledged message was sent first, by counter
	last     time.Duration                   // of the last acknowledgement, or the mark
	outage   time.Duration                   // the longest time without one since the mark
	recent   uint64                          // acknowledgements since the mark
}

func (s *stream) acked() uint64 { return uint64(len(s.answers)) }

// A chat is a conversation: what both of its streams were told of each sequence.
type chat struct {
	streams [2]*stream
	seen    []item // by sequence, from 1 at index 0; the zero item: nothing
}

// An item names a message by its author and counter.
type item struct {
	side    int8
	counter uint64
}

// note takes what somebody was told of a sequence, and reports whether it agrees.
func (c *chat) note(sequence uint64, x item) bool {
	for uint64(len(c.seen)) < sequence {
		c.seen = append(c.seen, item{})
	}
	old := &c.seen[sequence-1]
	if old.counter == 0 {
		*old = x
	}
	return *old == x
}

func newCrash(l *Loop, plan json.RawMessage) (job, error) {
	j := &crash{loop: l, ack: newRecorder()}
	if err := json.Unmarshal(plan, &j.plan); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrRequest, err)
	}
	n := len(j.plan.Users)
	if n < 3 || j.plan.Window < 1 || j.plan.Window > wire.DedupWindow {
		return nil, fmt.Errorf("%w: %d users (at least 3), window %d (1 to %d)", ErrRequest, n, j.plan.Window, wire.DedupWindow)
	}
	j.texts = NewTexts(j.plan.Bytes, j.plan.Seed)
	var sessions []*session
	for i, a := range j.plan.Users {
		c := &client{session: newSession(l, j.plan.Target, a, j)}
		c.session.index, c.session.syncs = i, true
		if len(j.plan.Nodes) > 0 {
			c.node = i % len(j.plan.Nodes)
			c.session.target = j.plan.Nodes[c.node]
		}
		sessions = append(sessions, c.session)
		j.clients = append(j.clients, c)
	}
	for i, from := range j.clients {
		to := j.clients[(i+1)%n]
		c := &chat{}
		c.streams[0] = &stream{number: 2 * i, chat: c, side: 0, author: from, ref: wire.DirectRef(to.session.account.User)}
		c.streams[1] = &stream{number: 2*i + 1, chat: c, side: 1, author: to, ref: wire.DirectRef(from.session.account.User)}
		from.outs[0], to.outs[1] = c.streams[0], c.streams[1]
		j.chats = append(j.chats, c)
	}
	beat(l, sessions)
	return j, nil
}

func (j *crash) do(what string, plan json.RawMessage, answer reply) {
	switch what {
	case "connect":
		j.waiting = answer
		for _, c := range j.clients {
			j.dial(c)
		}
	case "go":
		j.running, j.stops = true, false
		j.loop.tick()
		for _, c := range j.clients {
			j.fill(c)
		}
		answer(nil, nil)
	case "drop":
		j.drop(plan, answer)
	case "counts":
		answer(j.counts(), nil)
	case "stop":
		j.stop(answer)
	case "mark":
		j.mark()
		answer(nil, nil)
	case "marked":
		answer(j.marked(), nil)
	case "roam":
		j.roams = len(j.plan.Nodes) > 1
		answer(nil, nil)
	case "verify":
		j.check = &verification{job: j, answer: answer}
		j.check.start()
	default:
		answer(nil, fmt.Errorf("%w: %s", ErrRequest, what))
	}
}

func (j *crash) counts() CrashResult {
	r := j.result
	for _, c := range j.clients {
		if c.session.alive() {
			r.Live++
		}
	}
	return r
}

func (j *crash) dial(c *client) {
	for _, out := range c.outs {
		if out.floor = out.covered; len(j.plan.Nodes) > 1 {
			out.receipt = 0 // pushes of one node may be behind those of another
		}
	}
	if err := c.session.dial(); err != nil {
		j.redial(c)
	}
}

func (j *crash) redial(c *client) {
	if j.roams {
		c.node = (c.node + 1) % len(j.plan.Nodes)
		c.session.target = j.plan.Nodes[c.node]
	}
	j.loop.After(redialMin+rand.N(redialMax-redialMin), func() { j.dial(c) })
}

// drop cuts connections in the middle of things.
func (j *crash) drop(plan json.RawMessage, answer reply) {
	var d DropPlan
	if err := json.Unmarshal(plan, &d); err != nil {
		answer(nil, fmt.Errorf("%w: %w", ErrRequest, err))
		return
	}
	for range d.Connections {
		if c := j.clients[rand.IntN(len(j.clients))]; c.session.alive() {
			c.session.conn.Abort()
			j.dial(c)
		}
	}
	answer(nil, nil)
}

// closed is expected here. What is not is a server that wants a client to stop.
func (j *crash) closed(s *session, err error) {
	var e *CloseError
	if errors.As(err, &e) {
		if class := wire.CodeOfClose(e.Code).Class(); class != wire.ClassReconnect && e.Code > 4000 {
			j.complain(s, err)
		}
	}
	if errors.Is(err, ErrMalformed) || errors.Is(err, ErrFrame) {
		j.complain(s, err)
	}
	if j.check != nil {
		j.check.broken(err)
	}
	j.redial(j.clients[s.index])
}

func (j *crash) complain(s *session, err error) {
	j.result.Complaints.add(fmt.Sprintf("user %v: %v", s.account.User, err))
}

// live sends again what was not acknowledged, and the cursors.
func (j *crash) live(s *session) {
	j.result.Welcomes++
	c := j.clients[s.index]
	for _, out := range c.outs {
		out.told, out.retrying = 0, false
		j.resend(out)
	}
	j.fill(c)
	j.cursors(c)
	if j.waiting != nil && !j.stops && j.counts().Live == len(j.clients) {
		j.settle()
	}
}

// stop lets what was sent be acknowledged. A server that has lost some will never do so: after a while
// that is an error like others, so that what it has can still be read.
func (j *crash) stop(answer reply) {
	j.running, j.stops, j.waiting = false, true, answer
	j.loop.After(drainTimeout, func() {
		if j.waiting == nil {
			return
		}
		j.result.Complaints.add(fmt.Sprintf("%d of %d messages were not acknowledged within %v", j.result.Sent-j.result.Acked, j.result.Sent, drainTimeout))
		j.waiting = nil
		answer(j.counts(), nil)
	})
	j.settle()
}

// settle answers connect when all are live, and stop when nothing is unacknowledged.
func (j *crash) settle() {
	if j.waiting == nil {
		return
	}
	if j.stops {
		for _, c := range j.chats {
			if c.streams[0].acked() < c.streams[0].sent || c.streams[1].acked() < c.streams[1].sent {
				return
			}
		}
	}
	answer := j.waiting
	j.waiting = nil
	answer(j.counts(), nil)
}

func (j *crash) fill(c *client) {
	for _, out := range c.outs {
		for j.running && c.session.alive() && !out.retrying && !out.pausing && out.sent-out.acked() < uint64(j.plan.Window) {
			out.sent++
			j.result.Sent++
			out.moments[out.sent%wire.DedupWindow] = j.loop.now
			j.send(out, out.sent)
		}
	}
}

// send appends a SEND. The correlation says which stream and counter it is, so that an answer needs no table.
func (j *crash) send(s *stream, counter uint64) {
	text := j.texts.Append(nil, uint64(s.number), counter)
	out := s.author.session.output()
	*out = wire.AppendSend(*out, &wire.Send{Correlation: counter<<1 | uint64(s.side), Ref: s.ref, Counter: counter, Content: wire.Content{Bytes: text}})
}

func (j *crash) resend(s *stream) {
	for counter := s.acked() + 1; counter <= s.sent; counter++ {
		j.result.Resent++
		j.send(s, counter)
	}
}

// retry sends all that is unacknowledged again after a while, once for all refusals of a burst.
func (j *crash) retry(s *stream) {
	if s.retrying {
		return
	}
	s.retrying = true
	connection := s.author.session.conn
	j.loop.After(retryDelay, func() {
		if connection == s.author.session.conn && s.author.session.alive() {
			s.retrying = false
			j.resend(s)
			j.fill(s.author)
		}
	})
}

// cursors tells how far each conversation is known.
func (j *crash) cursors(c *client) {
	for _, out := range c.outs {
		if out.known > out.told {
			out.told = out.known
			frames := c.session.output()
			*frames = wire.AppendCursor(*frames, &wire.Cursor{Ref: out.ref, Position: out.known, Kind: wire.Delivered})
		}
	}
}
