package client

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"parley/wire"
)

const (
	simDevice = 77
	alice     = wire.ID(1)
	bob       = wire.ID(2)
	carol     = wire.ID(3)
	stranger  = wire.ID(9) // no such user, at times
)

// A sim runs a core against a world, one small step after the other, in an order that
// the test chooses: every moment is one at which the connection may break, the process
// may die, or time may pass.
type sim struct {
	t       fataler
	world   *world
	options Options
	limits  coreLimits
	calm    int // how seldom connections break and the process dies
	random  *rand.Rand
	core    *core
	now     time.Time
	dialing *action
	peer    *peer
	up      [][]byte // messages on their way to the server
	down    [][]byte // and back

	store   *outboxIndex // what a crash leaves
	writing []OutboxChange

	queued    []*simSend
	begins    map[wire.Ref]uint64 // known by this process from where messages are events
	seen      map[wire.Ref]uint64
	receipts  map[wire.Ref]*[4]uint64
	views     map[wire.Ref]*wire.ConversationState // what a program shows that believes each event
	left      map[wire.Ref]bool                    // groups that the program was told it has left
	evictions bool                                 // outcomes may be unknown
	lives     map[wire.Ref]int                     // of the conversation, that the program was told of
	trace     []string
}

// A simSend is one message that the program has queued, and what it was told of it.
type simSend struct {
	ref     wire.Ref
	content wire.Content
	pending *Pending
	kept    bool
	sent    Sent
	err     error
	done    bool
	undone  bool // its outcome was another cluster's
	again   bool // it has come back from the store with an outcome
	lost    bool // the process died before the store had it
	common  bool // others may say the same
}

func newSim(t fataler, seed uint64, limits coreLimits) *sim {
	random := rand.New(rand.NewPCG(seed, 1))
	s := &sim{t: t, random: random, world: newWorld(random, "alice", "bob", "carol"), now: time.Unix(1_800_000_000, 0), store: newOutboxIndex()}
	s.options = Options{Name: "sim", Begin: BeginDelivered}
	s.limits, s.calm = limits, 1
	s.start()
	return s
}

func (s *sim) log(format string, args ...any) {
	s.trace = append(s.trace, fmt.Sprintf(format, args...))
}

func (s *sim) fail(format string, args ...any) {
	s.t.Helper()
	n := max(0, len(s.trace)-120)
	for _, line := range s.trace[n:] {
		fmt.Println(line)
	}
	s.t.Fatalf(format, args...)
}

// start begins a process with what the store has kept.
func (s *sim) start() {
	state := s.store.state()
	if err := state.check(); err != nil {
		s.fail("the store is wrong: %v", err)
	}
	s.core = newCore(&s.options, s.limits, rand.New(rand.NewPCG(s.random.Uint64(), 2)), state)
	s.views = map[wire.Ref]*wire.ConversationState{}
	s.left, s.lives = map[wire.Ref]bool{}, map[wire.Ref]int{}
	s.begins, s.seen, s.receipts = map[wire.Ref]uint64{}, map[wire.Ref]uint64{}, map[wire.Ref]*[4]uint64{}
	for _, p := range s.core.restored {
		q := s.restoredSend(p)
		if q == nil {
			s.fail("the store has brought back %q, which nobody queued", p.Content().Bytes)
		}
		// One with an outcome comes back when the crash came before that was stored.
		q.again = q.done
		q.pending, q.kept, q.done = p, true, false
	}
	for _, q := range s.queued {
		if !q.done && q.pending == nil {
			q.done, q.lost = true, true
			if q.kept && q.ref != wire.DirectRef(stranger) && !q.ref.Group() { // else it was refused, and nobody was left to be told
				s.fail("the store has lost %q", q.content.Bytes)
			}
		}
	}
	s.now = s.now.Add(time.Second)
	s.core.tick(s.now)
	s.perform()
}

// restoredSend finds what was queued by an earlier process and has come back from the
// store: by its content, and of several with the same content one that had no outcome.
func (s *sim) restoredSend(p *Pending) *simSend {
	for _, done := range []bool{false, true} {
		for _, q := range s.queued {
			if q.ref == p.Ref() && q.done == done && (done || q.pending == nil) && sameContent(q.content, p.Content()) {
				return q
			}
		}
	}
	return nil
}

// crash ends the process: what the store was writing is there or not.
func (s *sim) crash() {
	s.log("crash")
	s.disconnect(true)
	if s.writing != nil && s.random.IntN(2) == 0 {
		s.commit()
	}
	s.writing, s.dialing = nil, nil
	for _, q := range s.queued {
		if !q.done {
			q.pending = nil
		}
	}
	s.start()
}

func changeText(c *OutboxChange) string {
	if c.Kind == OutboxAdd {
		return fmt.Sprintf("add %v %s", c.Entry.Key, c.Entry.Content.Bytes)
	}
	return fmt.Sprintf("%d %v", c.Kind, c.Key)
}

func (s *sim) commit() {
	s.log("stored")
	for i := range s.writing {
		s.store.apply(&s.writing[i])
	}
	s.writing = nil
}

// perform does what the core asks for.
func (s *sim) perform() {
	for actions := s.core.take(); len(actions) > 0; actions = s.core.take() {
		for i := range actions {
			s.act(&actions[i])
		}
	}
}

func (s *sim) act(a *action) {
	switch a.kind {
	case actionDial:
		s.log("dial token=%v", a.token)
		s.dialing = a
	case actionDrop:
		s.log("drop %d", a.code)
		s.disconnect(s.random.IntN(2) == 0)
	case actionStore:
		if s.writing != nil {
			s.fail("two writes at once")
		}
		s.writing = a.changes
		for i := range a.changes {
			s.log("store %s", changeText(&a.changes[i]))
		}
	case actionKept:
		s.sendOf(a.pending).kept = true
	case actionFinish:
		q := s.sendOf(a.pending)
		if q.done {
			s.fail("%q has two outcomes", q.content.Bytes)
		}
		// Who is no member any more cannot look for what a group has forgotten.
		unknown := s.evictions && q.ref.Group() && errors.Is(a.err, ErrUnknownOutcome)
		if q.again && !q.undone && !q.common && q.err == nil && !unknown && (a.err != nil || a.sent.Sequence != q.sent.Sequence) {
			s.fail("%q was acknowledged at %d, and now: %+v %v", q.content.Bytes, q.sent.Sequence, a.sent, a.err)
		}
		q.done, q.sent, q.err = true, a.sent, a.err
		s.log("finish %s %+v %v", q.content.Bytes, a.sent, a.err)
	}
}

func (s *sim) sendOf(p *Pending) *simSend {
	for _, q := range s.queued {
		if q.pending == p {
			return q
		}
	}
	s.fail("nobody queued %q", p.Content().Bytes)
	return nil
}

// disconnect ends the connection; what was on its way to the server may still arrive.
func (s *sim) disconnect(arrives bool) {
	if s.peer == nil {
		return
	}
	for arrives && len(s.up) > 0 && s.peer.closing == 0 {
		s.deliverUp()
	}
	s.peer.cut()
	s.peer, s.up, s.down = nil, nil, nil
}

func (s *sim) deliverUp() {
	s.peer.message(s.up[0])
	s.up = s.up[1:]
}

// deliverDown gives the client the next message, or the end of the connection.
func (s *sim) deliverDown() {
	if len(s.down) == 0 && len(s.peer.out) > 0 {
		s.down = append(s.down, s.peer.out)
		s.peer.out = nil
	}
	if len(s.down) > 0 {
		m := s.down[0]
		s.down = s.down[1:]
		s.core.received(s.now, m)
	} else if s.peer.closing != 0 {
		code := s.peer.closing
		s.log("closed by the world %d", code)
		s.disconnect(false)
		s.core.closed(s.now, code, "", errors.New("closed"))
	}
	s.perform()
}

// output lets the client write.
func (s *sim) output() bool {
	if s.peer == nil || len(s.up) > 1 {
		return false
	}
	m := s.core.output(nil)
	if len(m) == 0 {
		return false
	}
	if len(m) > wire.MessageBytesMax {
		s.fail("a message of %d bytes", len(m))
	}
	s.up = append(s.up, m)
	return true
}

func (s *sim) connect() {
	if s.dialing == nil {
		return
	}
	a := s.dialing
	s.dialing = nil
	s.peer = s.world.connect()
	token := ""
	if a.token {
		token = s.world.token(alice, simDevice)
	}
	s.core.dialed(s.now, token)
	s.perform()
}

func (s *sim) advance(d time.Duration) {
	s.now = s.now.Add(d)
	s.core.tick(s.now)
	s.perform()
}

// wait lets the time come for which the core waits.
func (s *sim) wait() {
	if at := s.core.deadline(); at.After(s.now) {
		s.advance(at.Sub(s.now))
	} else {
		s.advance(time.Millisecond)
	}
}

func (s *sim) queue(ref wire.Ref, text string) {
	s.queueContent(&simSend{ref: ref, content: wire.Text(text)})
}

func (s *sim) queueContent(q *simSend) {
	q.pending = newPending(q.ref, q.content)
	if err := s.core.queue(q.pending); err != nil {
		return
	}
	s.log("queue %d %q", q.ref, q.content.Bytes)
	s.queued = append(s.queued, q)
	s.perform()
}

// consume takes the next event and checks it.
func (s *sim) consume() bool {
	e := s.core.feed.peek()
	if e == nil {
		return false
	}
	switch e := e.(type) {
	case *MessageEvent:
		s.log("event message %d %d", e.Ref, e.Sequence)
		s.consumeMessage(e)
	case *ConversationEvent:
		s.log("event conversation %d head %d begin %d first %v left %v", e.State.Ref, e.State.Head, e.Begin, e.First, e.Left)
		view := e.State
		s.left[e.State.Ref] = e.Left
		s.views[e.State.Ref] = &view
		if e.First {
			s.seen[e.State.Ref], s.receipts[e.State.Ref] = e.Begin, &[4]uint64{}
			s.begins[e.State.Ref] = e.Begin
		}
		s.checkBegin(e)
	case *ReceiptEvent:
		s.log("event receipt %+v", *e)
		r := s.receipts[e.Ref]
		if r == nil || e.Position <= r[e.Kind] {
			s.fail("receipt %+v after %v", e, r)
		}
		r[e.Kind] = e.Position
		s.see(e)
		if e.Kind <= wire.Read && !s.former() && e.Position > s.world.logs[e.Ref.Conversation(alice)].head() {
			s.fail("receipt %+v beyond the head", e)
		}
	case *GapEvent:
		s.log("event gap %+v", *e)
		s.consumeGap(e)
	}
	s.core.handed()
	s.perform()
	return true
}

// checkBegin sees that messages go on after those that the program has, or before, when it
// is told that the cluster has lost its end.
func (s *sim) checkBegin(e *ConversationEvent) {
	ref := e.State.Ref
	life := s.life()
	regress := life > s.lives[ref]
	if seen := s.seen[ref]; e.Begin > seen && (seen > 0 || !s.unseen(ref, 0, e.Begin+1)) || e.Begin < seen && !regress {
		s.fail("conversation %d begins after %d, and the program has %d", ref, e.Begin, seen)
	}
	s.seen[ref] = e.Begin
	s.lives[ref] = life
	if regress {
		s.begins[ref], s.receipts[ref] = e.Begin, &[4]uint64{}
	}
}

// see takes a receipt as a program does that believes the last thing it was told.
func (s *sim) see(e *ReceiptEvent) {
	view := s.views[e.Ref]
	shown := [...]*uint64{wire.Delivered: &view.OtherDelivered, wire.Read: &view.OtherRead, wire.OwnDelivered: &view.Delivered, wire.OwnRead: &view.Read}
	if e.Position < *shown[e.Kind] {
		s.fail("receipt %+v after %+v", *e, *view)
	}
	*shown[e.Kind] = e.Position
	if e.Kind == wire.Read || e.Kind == wire.OwnRead {
		delivered := shown[e.Kind-1]
		*delivered = max(*delivered, e.Position)
	}
}

func (s *sim) consumeMessage(e *MessageEvent) {
	seen, known := s.seen[e.Ref]
	if !known || e.Sequence != seen+1 && (seen > 0 || !s.unseen(e.Ref, 0, e.Sequence)) {
		s.fail("conversation %d: message %d after %d (known: %v)", e.Ref, e.Sequence, seen, known)
	}
	s.seen[e.Ref] = e.Sequence
	if life := s.life(); life > s.lives[e.Ref] {
		s.fail("message %+v of a cluster that the program was not told of", e)
	}
	if s.former() {
		return
	}
	m := s.world.logs[e.Ref.Conversation(alice)].messages[e.Sequence-1]
	if !sameContent(m.Content, e.Content) || m.Author != e.Author || m.Time != e.Time {
		s.fail("message %+v is %+v at the server", e, m)
	}
}

// life is that of the conversation when the event that comes next was made.
func (s *sim) life() int { return s.core.feed.items[s.core.feed.head].life }

// former reports whether that event is of a cluster that is no more.
func (s *sim) former() bool {
	v := s.core.feed.items[s.core.feed.head].conversation
	return s.life() != v.life || s.core.clusterEpoch != s.world.clusterEpoch
}

// recover puts another cluster in the place of the one that was.
func (s *sim) recover() {
	s.log("another cluster")
	if s.peer != nil {
		s.disconnect(false)
		s.core.closed(s.now, 0, "", errors.New("cut"))
		s.perform()
	}
	s.world.recover()
	s.evictions = true
	for _, q := range s.queued {
		q.undone = q.undone || q.done || q.again
	}
}

// heal lets everything happen that can, without faults, until nothing more does.
func (s *sim) heal() {
	s.world.faults = faults{}
	quiet := 0
	for range 1_000_000 {
		if s.progress() {
			quiet = 0
			continue
		}
		// Nothing moves: let time pass, as far as it takes to see that nothing ever will.
		if quiet++; quiet > 40 {
			return
		}
		s.wait()
	}
	s.fail("it never comes to rest")
}

// progress does one thing of each kind that can be done.
func (s *sim) progress() bool {
	did := false
	if s.writing != nil {
		s.commit()
		s.core.wrote(s.now, nil)
		s.perform()
		did = true
	}
	if s.dialing != nil {
		s.connect()
		did = true
	}
	// PING and PONG alone are no progress.
	if s.output() {
		did = did || len(s.up[len(s.up)-1]) > 2
	}
	for s.peer != nil && len(s.up) > 0 {
		s.deliverUp()
	}
	for len(s.world.commands) > 0 {
		s.world.apply()
		did = true
	}
	for s.peer != nil && (len(s.peer.out) > 0 || len(s.down) > 0 || s.peer.closing != 0) {
		did = did || len(s.peer.out) > 2 || s.peer.closing != 0
		s.deliverDown()
	}
	for s.consume() {
		did = true
	}
	return did
}

// check compares what the program was told with what the server has.
func (s *sim) check() {
	if s.core.phase != phaseOnline || !s.core.synced {
		s.fail("phase %d, synced %v after healing; ended %v", s.core.phase, s.core.synced, s.core.ended)
	}
	last := map[wire.Ref]uint64{}
	for _, q := range s.queued {
		s.checkSend(q, last)
	}
	for c, log := range s.world.logs {
		if log.group != nil && !log.member(alice) {
			s.checkLeft(c.Ref(alice))
		}
		if !log.member(alice) || log.head() == 0 {
			continue
		}
		ref := c.Ref(alice)
		if _, known := s.begins[ref]; !known {
			s.fail("the program never heard of conversation %d, which has %d messages", ref, log.head())
		}
		if s.seen[ref] != log.head() {
			s.fail("conversation %d: the program has %d of %d messages", ref, s.seen[ref], log.head())
		}
		s.checkState(ref, log)
	}
}

func (s *sim) checkSend(q *simSend, last map[wire.Ref]uint64) {
	var at []uint64
	for _, log := range s.logsOf(q) {
		for _, m := range log.messages {
			if m.Author == alice && sameContent(m.Content, q.content) {
				at = append(at, m.Sequence)
			}
		}
	}
	switch {
	case q.common && q.done:
		return
	case len(at) > 1:
		s.fail("%q was accepted at %v", q.content.Bytes, at)
	case q.undone:
	case q.lost && len(at) > 0:
		s.fail("%q was sent before it was stored", q.content.Bytes)
	case q.lost:
	case !q.done:
		s.fail("%q has no outcome", q.content.Bytes)
	case q.err == nil && (len(at) != 1 || at[0] != q.sent.Sequence):
		s.fail("%q was acknowledged at %d and is at %v", q.content.Bytes, q.sent.Sequence, at)
	case errors.Is(q.err, ErrUnknownOutcome) && !s.evictions:
		s.fail("%q has an unknown outcome", q.content.Bytes)
	case q.err != nil && !errors.Is(q.err, ErrUnknownOutcome) && (len(at) > 0 || q.ref != wire.DirectRef(stranger) && !q.ref.Group()):
		s.fail("%q failed with %v and is at %v", q.content.Bytes, q.err, at)
	}
	if len(at) == 1 && q.ref != newGroup {
		if at[0] < last[q.ref] {
			s.fail("%q at %d overtook its predecessor at %d", q.content.Bytes, at[0], last[q.ref])
		}
		last[q.ref] = at[0]
	}
}

func (s *sim) checkState(ref wire.Ref, log *worldLog) {
	v, want := s.core.conversations[ref], log.state(alice)
	if v.state.Head != want.Head || v.state.Delivered != want.Delivered || v.state.Read != want.Read ||
		v.state.OtherDelivered != want.OtherDelivered || v.state.OtherRead != want.OtherRead {
		s.fail("conversation %d is %+v, want %+v", ref, v.state, want)
	}
	if log.group != nil {
		s.checkGroup(ref, log, &v.state)
	}
	lastOther := uint64(0)
	for _, m := range log.messages {
		if m.Author != alice {
			lastOther = m.Sequence
		}
	}
	if lastOther > s.begins[ref] && want.Delivered < lastOther {
		s.fail("conversation %d is delivered up to %d, the last message of the other is %d", ref, want.Delivered, lastOther)
	}
	if view := s.views[ref]; view.OtherDelivered != want.OtherDelivered || view.OtherRead != want.OtherRead {
		s.fail("conversation %d is shown as %+v, want %+v", ref, *view, want)
	}
	if r := s.receipts[ref]; r[wire.Read] > want.OtherRead || r[wire.Delivered] > want.OtherDelivered {
		s.fail("conversation %d has receipts %v, want at most %+v", ref, r, want)
	}
}
