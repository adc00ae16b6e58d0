package client

import (
	"cmp"
	"fmt"
	"maps"
	"math"
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

	restored  []*Pending // sends that the store had
	switching uint64     // the batch after which next is the session's; 0: none yet

	storing  uint64 // changes handed to the store so far, in batches
	stored   uint64
	unstored []*send // in order of their batch
	batch    []OutboxChange
	reports  []report // of refusals, in order of their batch
	storeErr error
}

// A report is a refusal that the program is told of once it is stored: a crash must not
// bring back, and send, what was called failed.
type report struct {
	batch   uint64
	pending *Pending
	err     error
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
	// disorder counts OUT_OF_ORDER for the first send.
	disorder int
	// hole is the counter of a send that was refused for good, 0 if there is none: what comes
	// behind it gets other counters once every answer is in; under a new epoch if fresh.
	hole   uint64
	fresh  bool
	ready  bool
	resume time.Time // zero: now
	search *search
	last   uint64 // sequence of the last send before all of sends
}

// A send is one message without an outcome.
type send struct {
	OutboxEntry
	pending  *Pending
	lane     *lane
	batch    uint64 // of changes that must be stored first
	flights  int    // copies on their way in this session
	loose    int    // those, and lost ones, that the server may still accept
	unknown  bool   // the server has said that it does not know
	moved    bool   // another message had taken its counter
	finished bool
}

// isChange reports whether a content is a change of a group, which GROUP asks for.
func isChange(content wire.Content) bool {
	_, ok := content.EventBody()
	return ok
}

// uncertain reports whether the server may have accepted the send.
func (s *send) uncertain() bool { return s.loose > 0 || s.unknown }

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
		s := &send{OutboxEntry: entry, pending: newPending(entry.Ref, entry.Content), loose: 1}
		if e == c.next {
			s.loose = 0 // an epoch is used only once the one before is gone from the store
		}
		c.join(s, e)
		c.restored = append(c.restored, s.pending)
	}
	for _, hole := range state.Holes {
		if l := c.lanes[hole.Ref]; l != nil && hole.Epoch == c.epoch.id {
			l.hole = hole.Counter
			c.landed(l)
		}
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
	case c.phase == phaseOnline && !c.groups && isChange(p.content):
		return errNoGroups
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
	c.store(OutboxChange{Kind: OutboxAdd, Entry: s.OutboxEntry})
	c.awaitStore(s)
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

// awaitStore keeps a send back until the batch that now gathers is stored.
func (c *core) awaitStore(s *send) {
	if s.batch != c.storing+1 {
		s.batch = c.storing + 1
		c.unstored = append(c.unstored, s)
	}
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
	c.report(c.stored)
}

// report tells the refusals that are stored.
func (c *core) report(stored uint64) {
	for len(c.reports) > 0 && c.reports[0].batch <= stored {
		r := c.reports[0]
		c.reports = c.reports[1:]
		c.do(action{kind: actionFinish, pending: r.pending, err: r.err})
	}
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
	c.report(math.MaxUint64)
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

// allLanes lists the lanes in a fixed order: the core does the same after the same.
func (c *core) allLanes() []*lane {
	return slices.SortedFunc(maps.Values(c.lanes), func(a, b *lane) int { return cmp.Compare(a.ref, b.ref) })
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
	if l.flying >= len(l.sends) {
		return nil
	}
	s := l.sends[l.flying]
	if first := l.sends[0]; first.Epoch == s.Epoch && s.Counter >= first.Counter+wire.DedupWindow {
		return nil // the server must still know the first one when it comes again
	}
	if s.Epoch != c.epoch.id || s.batch > c.stored || l.hole != 0 && s.Counter > l.hole {
		return nil
	}
	if !c.groups && isChange(s.Content) {
		return nil // a server that knows no groups would end the session
	}
	return s
}

// land takes a flight's answer off the wire.
func (c *core) land(correlation uint64) (flight, bool) {
	f, ok := c.flights[correlation]
	if ok {
		delete(c.flights, correlation)
		f.send.flights--
		f.send.lane.flights--
		c.progressAt = c.now
	}
	return f, ok
}

// landAll takes back everything at the end of a session.
func (c *core) landAll() {
	for _, f := range c.flights {
		f.send.flights = 0
	}
	clear(c.flights)
	for _, l := range c.allLanes() {
		l.flying, l.flights = 0, 0
		l.attempt++
		c.landed(l)
	}
}

// acknowledged takes SENT.
func (c *core) acknowledged(m *wire.Sent) {
	f, ok := c.land(m.Correlation)
	switch {
	case !ok:
		c.joined(m)
	case f.send.Ref == newGroup:
		c.lose(ErrProtocol, wire.CodeMalformed)
	default:
		c.accepted(f.send, f.send.Ref, m.Sequence, m.Time)
	}
}

// accepted takes the server's word that a send is a message of a conversation.
func (c *core) accepted(s *send, ref wire.Ref, sequence uint64, moment wire.Time) {
	if !s.finished {
		l := s.lane
		l.tries, l.disorder = 0, 0
		if s == l.sends[0] && ref == s.Ref { // what is left comes after it
			l.last = max(l.last, sequence)
		}
		c.finish(s, Sent{Ref: ref, Sequence: sequence, Time: moment}, nil)
		again := s.loose > 1
		m := MessageEvent{Ref: ref, Sequence: sequence, Author: c.user, Time: moment, Content: s.Content, Sent: true}
		switch v := c.conversation(ref); {
		case v == nil:
		case again && ref.Group() && !v.listed && !v.left:
			c.heardOf(v, &m)
		default:
			c.arrived(v, m)
		}
	}
	c.landed(s.lane)
}

// landed goes on with what waited for a lane's last answer.
func (c *core) landed(l *lane) {
	c.closeHole(l)
	c.startSearch(l)
	c.wake(l)
}

// finish gives a send its outcome.
func (c *core) finish(s *send, sent Sent, err error) {
	c.store(OutboxChange{Kind: OutboxRemove, Key: s.Key})
	c.do(action{kind: actionFinish, pending: s.pending, sent: sent, err: err})
	c.unlane(s)
}

// finishRefused gives a send the outcome that the server has refused it for good.
func (c *core) finishRefused(s *send, err error) {
	c.store(OutboxChange{Kind: OutboxRefuse, Key: s.Key})
	c.reports = append(c.reports, report{c.storing + 1, s.pending, err})
	c.unlane(s)
	if c.storeErr != nil {
		c.report(math.MaxUint64)
	}
}

// unlane takes a send with an outcome out of its lane.
func (c *core) unlane(s *send) {
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
	for _, l := range c.allLanes() {
		for _, s := range l.sends {
			s.finished = true
			c.do(action{kind: actionFinish, pending: s.pending, err: err})
		}
	}
	c.report(math.MaxUint64)
	clear(c.lanes)
	c.ready, c.sleeping, c.unstored = nil, nil, nil
	c.messages, c.bytes = 0, 0
}
