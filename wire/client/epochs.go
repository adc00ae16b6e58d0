package client

import (
	"bytes"
	"slices"
	"time"

	"parley/wire"
)

// A search looks through a conversation's history for sends whose outcome the server no
// longer knows.
type search struct {
	request *request // nil: not begun, or done
	begun   bool
	after   uint64  // the sends come later than this
	before  uint64  // what is left to look at; 0: from the head
	scanned int     // messages
	found   []match // the latest first
}

// A match is an own message that a send may have become.
type match struct {
	sequence uint64
	time     wire.Time
	content  wire.Content
}

// newest is the epoch that new sends go to.
func (c *core) newest() *outboxEpoch {
	if c.next != nil {
		return c.next
	}
	return c.epoch
}

// renew begins a new epoch: new sends go there, and the session's HELLO names it as soon
// as the old one's have their outcomes.
func (c *core) renew() {
	if c.next != nil {
		return
	}
	c.next = &outboxEpoch{id: c.epochID(), counters: map[wire.Ref]uint64{}}
	c.store(OutboxChange{Kind: OutboxRenew, Key: Key{Epoch: c.next.id}})
}

// maybeSwitch makes the next epoch the session's once the old one is spent. A session
// that has named the old one ends for it.
func (c *core) maybeSwitch() {
	if c.next == nil || c.epoch.sends > 0 || c.phase == phaseEnded || c.storeErr != nil {
		return
	}
	if c.switching == 0 {
		// What the store brings back under the next epoch must not have been sent if it brings
		// back something of this one too: else it could not be numbered anew.
		c.store(OutboxChange{Kind: OutboxSwitch, Key: Key{Epoch: c.next.id}})
		c.switching = c.storing + 1
	}
	if c.stored < c.switching {
		return
	}
	c.epoch, c.next, c.switching = c.next, nil, 0
	for _, l := range c.allLanes() {
		c.wake(l)
	}
	if (c.phase == phaseGreeting || c.phase == phaseOnline) && c.greeted {
		c.do(action{kind: actionDrop})
		c.reconnectNow(nil)
	}
}

// distrust is for a cluster that is not the one it was: a restored backup, or a recovered
// one that has lost its end. No counter of the outbox means anything to it.
func (c *core) distrust() {
	if c.epoch.sends > 0 || len(c.epoch.counters) > 0 {
		c.renew()
	}
	for _, l := range c.allLanes() {
		if l.search != nil && l.search.request != nil {
			c.cancel(l.search.request) // what it has found was another cluster's
		}
		l.search, l.last = nil, 0
		for _, s := range l.sends {
			s.After = 0
		}
		c.poison(l)
		c.landed(l)
	}
}

// moveLane gives a lane's sends keys of the next epoch, in order. None of them may be one
// that the server has accepted, or will.
func (c *core) moveLane(l *lane) {
	if c.storeErr != nil {
		c.giveUp(l)
		return
	}
	c.renew()
	c.settleLane(l)
	c.rekey(l.ref, 0, l.sends, c.next, 1)
}

// poison gives up the order of a lane: the server no longer knows what became of its
// sends. Those that may have reached it are looked for in the history.
func (c *core) poison(l *lane) {
	if l.search == nil {
		l.search = &search{}
		l.flying = 0
		l.attempt++
		c.renew()
	}
}

// startSearch begins a poisoned lane's search once no answer is awaited any more.
func (c *core) startSearch(l *lane) {
	s := l.search
	if s == nil || s.begun || l.flights > 0 {
		return
	}
	s.begun = true
	s.after = l.last
	i := slices.IndexFunc(l.sends, (*send).uncertain)
	if i < 0 || l.ref == newGroup { // groups that were made are found in no history
		c.conclude(l)
		return
	}
	s.after = max(s.after, l.sends[i].After)
	c.searchOn(l)
}

func (c *core) searchOn(l *lane) {
	l.search.request = &request{kind: requestSearch, lane: l,
		history: wire.History{Ref: l.ref, Mode: wire.HistoryBackward, Sequence: l.search.before, Limit: fetchMessages}}
	c.enqueue(l.search.request)
}

// searched takes a page of the history, or an error that stands for one.
func (c *core) searched(r *request, page *wire.Page, err error) {
	l := r.lane
	s := l.search
	if s == nil || s.request != r {
		return
	}
	if err != nil || len(page.Messages) == 0 {
		c.conclude(l)
		return
	}
	for i := len(page.Messages) - 1; i >= 0; i-- {
		m := &page.Messages[i]
		s.scanned++
		if m.Sequence > s.after && m.Author == c.user && l.sending(m.Content) {
			content := wire.Content{Extended: m.Content.Extended, Bytes: bytes.Clone(m.Content.Bytes)}
			s.found = append(s.found, match{m.Sequence, m.Time, content})
		}
	}
	s.before = page.Messages[0].Sequence
	if s.before <= s.after+1 || s.scanned >= SearchMessagesMax || page.Flags&wire.PageMoreBefore == 0 {
		c.conclude(l)
		return
	}
	c.searchOn(l)
}

// sending reports whether a send of uncertain outcome has this content.
func (l *lane) sending(content wire.Content) bool {
	for _, s := range l.sends {
		if s.uncertain() && sameContent(s.Content, content) {
			return true
		}
	}
	return false
}

func sameContent(a, b wire.Content) bool {
	return a.Extended == b.Extended && bytes.Equal(a.Bytes, b.Bytes)
}

// conclude gives the lane's uncertain sends their outcomes: the server accepted them in
// order, so each is the first of its content after the one before. The others, which never
// reached the server, move to the next epoch.
func (c *core) conclude(l *lane) {
	found := l.search.found
	l.search.request = nil
	var uncertain []*send
	for _, s := range l.sends {
		if s.uncertain() {
			uncertain = append(uncertain, s)
		}
	}
	for _, s := range uncertain {
		i := len(found) - 1
		for i >= 0 && !sameContent(found[i].content, s.Content) {
			i--
		}
		if i < 0 {
			c.finish(s, Sent{}, ErrUnknownOutcome)
			continue
		}
		c.finish(s, Sent{Ref: l.ref, Sequence: found[i].sequence, Time: found[i].time, Found: true}, nil)
		if v := c.conversation(l.ref); v != nil {
			c.reaches(v, found[i].sequence, found[i].sequence)
		}
		found = found[:i]
	}
	l.search = nil
	l.resume = time.Time{}
	if len(l.sends) == 0 {
		delete(c.lanes, l.ref)
		return
	}
	c.moveLane(l)
	c.wake(l)
}
