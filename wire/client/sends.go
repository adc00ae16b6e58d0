package client

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"parley/wire"
)

// An outbox is the sends without an outcome, in a lane for each conversation. It is part
// of the core.
type outbox struct {
	lanes    map[wire.Ref]*lane
	epoch    *outboxEpoch // what HELLO names
	next     *outboxEpoch // where new sends go once epoch is spent; nil as a rule
	flights  map[uint64]flight
	ready    []*lane // that may have something to write, taken in turn
	sleeping []*lane // that wait for their moment to repeat
	messages int
	bytes    int

	// restored are the sends that the store had. distrusted says that the cluster has lost
	// its end, so that a send out of order may be one that it forgot.
	restored   []*Pending
	distrusted bool

	storing  uint64 // changes handed to the store so far, in batches
	stored   uint64
	unstored []*send // in order of their batch
	batch    []OutboxChange
	storeErr error
}

// An outboxEpoch is one name of the outbox with the last counters used under it.
type outboxEpoch struct {
	id       uint64
	counters map[wire.Ref]uint64
	sends    int // without an outcome
}

// A lane is the sends of one conversation, in order.
type lane struct {
	ref   wire.Ref
	sends []*send
	// flying counts those at the front that were written in this session since the last
	// rewind, and attempt the rewinds: refusals of an older attempt say nothing.
	flying  int
	attempt int
	flights int // answers that are awaited, of all attempts
	tries   int // refusals in a row
	// disorder counts OUT_OF_ORDER for the first send. hole says that a counter may be missing
	// because its send was refused for good: what comes behind it may need other counters,
	// and is asked about one by one.
	disorder int
	hole     bool
	ready    bool
	resume   time.Time // zero: now
	search   *search
	last     uint64 // sequence of the last send that was acknowledged
}

// A send is one message without an outcome.
type send struct {
	OutboxEntry
	pending   *Pending
	lane      *lane
	batch     uint64 // of changes that must be stored first
	attempted bool   // it may have reached the server
	denied    bool   // it has, and the server will never accept it under this key
	moved     int    // times that its counter was taken by another message
	finished  bool
}

// A flight is a SEND on the wire.
type flight struct {
	send    *send
	attempt int
}

// load takes what the store kept.
func (c *core) load(state OutboxState) {
	c.outbox = outbox{lanes: map[wire.Ref]*lane{}, flights: map[uint64]flight{}}
	last := &outboxEpoch{id: state.Epoch, counters: state.Counters}
	if last.counters == nil {
		last.counters = map[wire.Ref]uint64{}
	}
	if last.id == 0 {
		last.id = c.epochID()
		c.store(OutboxChange{Kind: OutboxRenew, Key: Key{Epoch: last.id}})
	}
	c.epoch = last
	for _, entry := range state.Entries {
		e := last
		if entry.Epoch != last.id {
			if c.next == nil {
				c.epoch, c.next = &outboxEpoch{id: entry.Epoch, counters: map[wire.Ref]uint64{}}, last
			}
			e = c.epoch
		}
		s := &send{OutboxEntry: entry, pending: newPending(entry.Ref, entry.Content), attempted: true}
		c.join(s, e)
		c.restored = append(c.restored, s.pending)
	}
}

// epochID draws the 64 bits that name an outbox.
func (c *core) epochID() uint64 {
	for {
		if id := c.random.Uint64(); id != 0 {
			return id
		}
	}
}

// queue puts a message into the outbox. Its Pending is kept, or finished with an error,
// once the store has answered.
func (c *core) queue(p *Pending) error {
	switch {
	case c.phase == phaseEnded:
		return c.endError()
	case c.storeErr != nil:
		return c.storeErr
	case c.messages >= c.limits.outbox, c.bytes+len(p.content.Bytes) > OutboxBytesMax:
		return ErrOutboxFull
	}
	e := c.newest()
	if _, known := e.counters[p.ref]; !known && e == c.epoch && len(e.counters) >= c.limits.epoch {
		c.renew()
		e = c.next
	}
	e.counters[p.ref]++
	s := &send{pending: p}
	s.Key = Key{Epoch: e.id, Ref: p.ref, Counter: e.counters[p.ref]}
	s.Content = p.content
	if v := c.conversations[p.ref]; v != nil {
		s.After = v.top
	}
	c.join(s, e)
	c.storeSend(s, OutboxChange{Kind: OutboxAdd, Entry: s.OutboxEntry})
	return nil
}

func (c *core) join(s *send, e *outboxEpoch) {
	l := c.lanes[s.Ref]
	if l == nil {
		l = &lane{ref: s.Ref}
		c.lanes[s.Ref] = l
	}
	s.lane = l
	l.sends = append(l.sends, s)
	e.sends++
	c.messages++
	c.bytes += len(s.Content.Bytes)
	c.wake(l)
}

// store adds changes to the batch that the driver writes next.
func (c *core) store(changes ...OutboxChange) {
	if c.storeErr == nil {
		c.batch = append(c.batch, changes...)
	}
}

func (c *core) storeSend(s *send, change OutboxChange) {
	c.store(change)
	s.batch = c.storing + 1
	c.unstored = append(c.unstored, s)
}

// flushStore hands the batch to the driver, one at a time: what gathers while one is
// written goes into the next.
func (c *core) flushStore() {
	if len(c.batch) == 0 || c.storing > c.stored || c.storeErr != nil {
		return
	}
	c.storing++
	c.do(action{kind: actionStore, changes: c.batch})
	c.batch = nil
}

// lastBatch gives what has not been handed to the driver, at the end.
func (c *core) lastBatch() []OutboxChange {
	batch := c.batch
	c.batch = nil
	return batch
}

// wrote takes the store's answer to the last batch.
func (c *core) wrote(now time.Time, err error) {
	c.now = now
	c.stored = c.storing
	if err != nil {
		c.storeFailed(err)
		return
	}
	n := 0
	for ; n < len(c.unstored) && c.unstored[n].batch <= c.stored; n++ {
		s := c.unstored[n]
		if !s.finished {
			c.do(action{kind: actionKept, pending: s.pending})
			c.wake(s.lane)
		}
	}
	c.unstored = append(c.unstored[:0:0], c.unstored[n:]...)
}

// storeFailed gives up what is not stored; what is, is sent.
func (c *core) storeFailed(err error) {
	c.storeErr = fmt.Errorf("%w: %w", ErrOutboxWrite, err)
	c.batch = nil
	for _, s := range c.unstored {
		if !s.finished {
			c.finish(s, Sent{}, c.storeErr)
		}
	}
	c.unstored = nil
}

// waitingSends are the sends without an outcome.
func (c *core) waitingSends() []*Pending {
	pending := make([]*Pending, 0, c.messages)
	for _, l := range c.lanes {
		for _, s := range l.sends {
			pending = append(pending, s.pending)
		}
	}
	return pending
}

// wake puts a lane into the queue of those that may write.
func (c *core) wake(l *lane) {
	if !l.ready && len(l.sends) > 0 {
		l.ready = true
		c.ready = append(c.ready, l)
	}
}

// wakeLanes wakes those whose moment has come.
func (c *core) wakeLanes() {
	rest := c.sleeping[:0]
	for _, l := range c.sleeping {
		switch {
		case l.resume.IsZero():
		case c.now.Before(l.resume):
			rest = append(rest, l)
		default:
			l.resume = time.Time{}
			c.wake(l)
		}
	}
	clear(c.sleeping[len(rest):])
	c.sleeping = rest
}

// nextSend is the lane's next send to write, nil if it must wait.
func (c *core) nextSend(l *lane) *send {
	if l.search != nil || !l.resume.IsZero() {
		return nil
	}
	if l.hole {
		if i := slices.IndexFunc(l.sends, (*send).uncertain); i >= 0 && l.flights == 0 && l.sends[i].Epoch == c.epoch.id {
			return l.sends[i]
		}
		return nil
	}
	if l.flying >= len(l.sends) || l.flying >= wire.DedupWindow {
		return nil
	}
	s := l.sends[l.flying]
	if s.Epoch != c.epoch.id || s.batch > c.stored {
		return nil
	}
	return s
}

// uncertain reports whether the server may have accepted the send.
func (s *send) uncertain() bool { return s.attempted && !s.denied }

// land takes a flight's answer off the wire.
func (c *core) land(correlation uint64) (flight, bool) {
	f, ok := c.flights[correlation]
	if ok {
		delete(c.flights, correlation)
		f.send.lane.flights--
		c.progressAt = c.now
	}
	return f, ok
}

// landAll takes back everything at the end of a session.
func (c *core) landAll() {
	clear(c.flights)
	for _, l := range c.lanes {
		l.flying, l.flights = 0, 0
		l.attempt++
		c.wake(l)
		c.startSearch(l)
	}
}

// acknowledged takes SENT.
func (c *core) acknowledged(m *wire.Sent) {
	f, ok := c.land(m.Correlation)
	if !ok {
		return
	}
	s := f.send
	if !s.finished {
		l := s.lane
		l.tries, l.disorder = 0, 0
		l.hole = slices.ContainsFunc(l.sends, func(s *send) bool { return s.denied })
		l.last = max(l.last, m.Sequence)
		c.finish(s, Sent{Sequence: m.Sequence, Time: m.Time}, nil)
		if v := c.conversation(s.Ref); v != nil {
			c.arrived(v, MessageEvent{Ref: s.Ref, Sequence: m.Sequence, Author: c.user, Time: m.Time, Content: s.Content, Sent: true})
		}
	}
	c.landed(s.lane)
}

// landed goes on with what waited for a lane's last answer.
func (c *core) landed(l *lane) {
	if l.hole && l.search == nil && l.flights == 0 {
		switch i := slices.IndexFunc(l.sends, (*send).uncertain); {
		case i < 0:
			c.moveLane(l)
		case l.sends[i].Epoch != c.epoch.id:
			c.poison(l) // a crash has brought the old epoch back beside the new one
		}
	}
	c.startSearch(l)
	c.wake(l)
}

// finish gives a send its outcome.
func (c *core) finish(s *send, sent Sent, err error) {
	l := s.lane
	i := slices.Index(l.sends, s)
	l.sends = slices.Delete(l.sends, i, i+1)
	if i < l.flying {
		l.flying--
	}
	s.finished = true
	c.messages--
	c.bytes -= len(s.Content.Bytes)
	c.epochOf(s).sends--
	c.store(OutboxChange{Kind: OutboxRemove, Key: s.Key})
	c.do(action{kind: actionFinish, pending: s.pending, sent: sent, err: err})
	if len(l.sends) == 0 && l.search == nil {
		delete(c.lanes, l.ref)
		l.resume = time.Time{}
	}
}

func (c *core) epochOf(s *send) *outboxEpoch {
	if s.Epoch == c.epoch.id {
		return c.epoch
	}
	return c.next
}

// abandon ends all sends with the client. The store keeps them.
func (c *core) abandon(err error) {
	for _, l := range c.lanes {
		for _, s := range l.sends {
			s.finished = true
			c.do(action{kind: actionFinish, pending: s.pending, err: err})
		}
	}
	clear(c.lanes)
	c.ready, c.sleeping, c.unstored = nil, nil, nil
	c.messages, c.bytes = 0, 0
}

// refusedSend takes an ERROR that answers a SEND. It reports false if the correlation is
// not one.
func (c *core) refusedSend(e *wire.Error) bool {
	f, ok := c.land(e.Correlation)
	if !ok {
		return false
	}
	s, l := f.send, f.send.lane
	if s.finished {
		c.landed(l)
		return true
	}
	stale := f.attempt != l.attempt
	switch {
	case e.Code.Class() == wire.ClassLogOut:
		c.do(action{kind: actionDrop})
		c.refusedCredential(e)
		return true
	case e.Code.Class() == wire.ClassReconnect:
		c.lose(e, 0)
		return true
	case e.Code == wire.CodeUnknownOutcome:
		c.poison(l)
	case e.Code == wire.CodeReused:
		c.reused(s, e)
	case e.Code.Class() == wire.ClassPermanent:
		c.refuse(s, e)
	case e.Code == wire.CodeOutOfOrder && (!stale || l.hole):
		c.outOfOrder(s)
	case stale:
	case e.Code.Class() == wire.ClassRetryAfter, e.RetryAfterMS > 0:
		wait := time.Duration(min(e.RetryAfterMS, uint64(spreadMax/time.Millisecond))) * time.Millisecond
		c.rewind(l, wait+c.backoff(l.tries))
	default:
		c.rewind(l, c.backoff(l.tries))
	}
	c.landed(l)
	return true
}

// rewind sends again from the lane's first send, after a while.
func (c *core) rewind(l *lane, wait time.Duration) {
	l.flying = 0
	l.attempt++
	l.tries++
	if wait <= 0 {
		return
	}
	if l.resume.IsZero() {
		c.sleeping = append(c.sleeping, l)
	}
	l.resume = c.now.Add(wait)
}

// outOfOrder takes the server's word that a send came before its predecessors.
func (c *core) outOfOrder(s *send) {
	l := s.lane
	switch {
	case l.hole:
		s.denied = true // its predecessor was refused for good, and took no counter
	case s != l.sends[0] && l.tries == 0:
		c.rewind(l, 0)
	case s != l.sends[0]:
		c.rewind(l, c.backoff(l.tries))
	default:
		// The server has forgotten sends that it acknowledged. Nothing here can repair the
		// order; what became of this send is uncertain.
		if l.disorder++; l.disorder >= disorderMax || c.distrusted {
			c.poison(l)
			return
		}
		c.rewind(l, c.backoff(l.tries))
	}
}

// refuse ends a send that the server refused for good. Its counter was not used up: the
// sends behind it need other ones.
func (c *core) refuse(s *send, e *wire.Error) {
	l, epoch := s.lane, c.epochOf(s)
	var behind []*send
	attempted := false
	for _, other := range l.sends {
		if other.Epoch == s.Epoch && other.Counter > s.Counter {
			behind = append(behind, other)
			attempted = attempted || other.attempted
		}
	}
	key := s.Key
	refused := *e
	refused.Correlation = 0
	c.finish(s, Sent{}, &refused)
	if attempted {
		l.hole = true
		return
	}
	for _, other := range behind {
		to := key
		key.Counter++
		c.rekey(other, to)
	}
	if epoch == c.newest() {
		epoch.counters[key.Ref] = key.Counter - 1
		c.store(OutboxChange{Kind: OutboxCounter, Key: Key{Epoch: epoch.id, Ref: key.Ref, Counter: key.Counter - 1}})
	}
}

// rekey gives a send that never reached the server another key.
func (c *core) rekey(s *send, to Key) {
	c.epochOf(s).sends--
	from := s.Key
	s.Key, s.attempted = to, false
	c.epochOf(s).sends++
	c.storeSend(s, OutboxChange{Kind: OutboxMove, Key: from, To: to})
}

// errShared says why a message cannot be sent under any counter.
var errShared = errors.New("client: two programs use one outbox")

// reused takes the server's word that another message has taken a send's counter: the
// send itself was never accepted, and gets another one.
func (c *core) reused(s *send, e *wire.Error) {
	if s.moved++; s.moved > 1 {
		refused := *e
		refused.Correlation = 0
		c.finish(s, Sent{}, fmt.Errorf("%w: %w", errShared, &refused))
		return
	}
	s.denied, s.lane.hole = true, true
}
