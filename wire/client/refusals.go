package client

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"parley/wire"
)

// refusedSend takes an ERROR that answers a SEND. It reports false if the correlation is
// not one.
func (c *core) refusedSend(e *wire.Error) bool {
	f, ok := c.land(e.Correlation)
	if !ok {
		return false
	}
	s, l := f.send, f.send.lane
	if e.Code != wire.CodeTimeout {
		s.loose-- // this copy will not be accepted any more
	}
	switch {
	case e.Code.Class() == wire.ClassLogOut:
		c.do(action{kind: actionDrop})
		c.refusedCredential(e)
		return true
	case e.Code.Class() == wire.ClassReconnect:
		c.lose(e, 0)
		return true
	case s.finished:
	case s.flights > 0 && e.Code.Class() == wire.ClassPermanent:
		// Another copy is on its way, and may be taken where this one was not.
	case e.Code == wire.CodeUnknownOutcome:
		s.unknown = true
		c.poison(l)
	case e.Code == wire.CodeReused:
		c.reused(s, e)
	case e.Code.Class() == wire.ClassPermanent:
		c.refuse(s, clean(e))
	case f.attempt != l.attempt || l.hole != 0 && s.Counter > l.hole || l.search != nil:
		// It belongs to an order that was given up meanwhile.
	case e.Code == wire.CodeOutOfOrder:
		c.outOfOrder(s)
	default:
		c.rewind(l, c.delay(e, l.tries))
	}
	c.landed(l)
	return true
}

// clean is an error for the caller, who knows no correlations.
func clean(e *wire.Error) *wire.Error {
	refused := *e
	refused.Correlation = 0
	return &refused
}

// delay is how long to wait before the n-th repetition of what was refused with a code:
// what the server named is the least.
func (c *core) delay(e *wire.Error, n int) time.Duration {
	named := time.Duration(min(e.RetryAfterMS, uint64(spreadMax/time.Millisecond))) * time.Millisecond
	return max(named, c.backoff(n))
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
	case s != l.sends[0] && l.tries == 0:
		c.rewind(l, 0)
	case s != l.sends[0]:
		c.rewind(l, c.backoff(l.tries))
	default:
		// The server has lost sends that it acknowledged. Nothing here can repair the order;
		// what became of this send is uncertain.
		if l.disorder++; l.disorder >= disorderMax {
			s.unknown = true
			c.poison(l)
			return
		}
		c.rewind(l, disorderWait+c.backoff(0))
	}
}

// refuse ends a send that the server refused for good. Its counter was not used up: what
// comes behind it needs other ones.
func (c *core) refuse(s *send, err error) {
	if s.Ref == newGroup { // groups are made in no order: the others keep their counters
		c.finishRefused(s, err)
		return
	}
	l, epoch := s.lane, c.epochOf(s)
	hole := s.Counter
	if l.hole != 0 {
		hole = min(hole, l.hole)
	}
	behind := slices.ContainsFunc(l.sends, func(other *send) bool { return other != s && other.Epoch == s.Epoch && other.Counter > hole })
	l.fresh = l.fresh || s.loose > 0 // a copy of it may still take the counter
	fresh := l.fresh
	c.finishRefused(s, err)
	if behind {
		c.setHole(l, hole)
		return
	}
	c.setHole(l, 0)
	switch {
	case fresh:
		c.renew()
	case epoch == c.newest():
		c.setCounter(epoch, s.Ref, hole-1)
	}
}

// setHole remembers the counter behind which a lane's sends need other ones; 0: they do
// not any more.
func (c *core) setHole(l *lane, counter uint64) {
	if l.hole != counter {
		c.store(OutboxChange{Kind: OutboxHole, Key: Key{Epoch: c.epoch.id, Ref: l.ref, Counter: counter}})
	}
	if l.hole = counter; counter == 0 {
		l.fresh = false
	}
}

// setCounter takes back counters that no message has.
func (c *core) setCounter(e *outboxEpoch, ref wire.Ref, counter uint64) {
	e.counters[ref] = counter
	c.store(OutboxChange{Kind: OutboxCounter, Key: Key{Epoch: e.id, Ref: ref, Counter: counter}})
}

// closeHole gives the sends behind a refused one their new counters once no answer is
// awaited and nothing before them is left.
func (c *core) closeHole(l *lane) {
	if l.hole == 0 || l.flights > 0 || l.search != nil || len(l.sends) == 0 {
		return
	}
	if c.storeErr != nil {
		c.giveUp(l)
		return
	}
	epoch, fresh := c.epoch, l.fresh
	for _, s := range l.sends {
		if s.Epoch != epoch.id {
			continue
		}
		if s.Counter < l.hole {
			return
		}
		fresh = fresh || s.uncertain()
	}
	if fresh {
		c.moveLane(l)
		return
	}
	var behind []*send
	for _, s := range l.sends {
		if s.Epoch == epoch.id {
			behind = append(behind, s)
		}
	}
	first := l.hole
	c.settleLane(l)
	c.rekey(l.ref, epoch.id, behind, epoch, first)
}

// giveUp ends a lane's sends that need other keys when the store cannot keep those.
func (c *core) giveUp(l *lane) {
	for len(l.sends) > 0 {
		c.finish(l.sends[0], Sent{}, c.storeErr)
	}
}

// settleLane begins a lane anew after its sends got other keys.
func (c *core) settleLane(l *lane) {
	c.setHole(l, 0)
	l.flying, l.tries, l.disorder = 0, 0, 0
	l.attempt++
}

// rekey gives a conversation's sends of an epoch, or of all epochs if from is 0, counters
// from first on under an epoch. The server has accepted none of them, and will not.
func (c *core) rekey(ref wire.Ref, from uint64, sends []*send, to *outboxEpoch, first uint64) {
	for i, s := range sends {
		c.epochOf(s).sends--
		s.Key = Key{Epoch: to.id, Ref: ref, Counter: first + uint64(i)}
		s.loose, s.unknown = 0, false
		to.sends++
		c.awaitStore(s)
	}
	if to == c.newest() {
		to.counters[ref] = first + uint64(len(sends)) - 1
	}
	c.store(OutboxChange{Kind: OutboxRenumber, Key: Key{Epoch: to.id, Ref: ref, Counter: first}, From: from})
}

// errShared says why a message cannot be sent under any counter.
var errShared = errors.New("client: two programs use one outbox")

// reused takes the server's word that another message has taken a send's counter: the
// outbox was copied. The send itself was never accepted, and goes out under a new epoch.
func (c *core) reused(s *send, e *wire.Error) {
	s.loose, s.unknown = 0, false
	l := s.lane
	if s.moved {
		c.renew()
		c.finishRefused(s, fmt.Errorf("%w: %w", errShared, clean(e)))
	}
	s.moved = true
	if len(l.sends) > 0 {
		c.poison(l)
	}
}
