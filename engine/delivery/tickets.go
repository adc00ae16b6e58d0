package delivery

import "parley/engine/shard"

// tickets are the sends of one shard that were forwarded and have no answer yet. Each has
// a number of its own, in the order of forwarding, so that the answer to a send that was
// given up long ago is not taken for that of a later one. Answers come nearly in order:
// a ring from the oldest open one to the newest is all it takes.
type tickets struct {
	ring   []shard.Origin // at number modulo length; without a session: answered
	oldest uint64         // no open one is older
	next   uint64         // number of the next send
	open   int
}

func newTickets() tickets { return tickets{oldest: 1, next: 1} }

func (t *tickets) at(number uint64) *shard.Origin { return &t.ring[number&uint64(len(t.ring)-1)] }

// room reports whether count more sends can be forwarded.
func (t *tickets) room(count int) bool { return t.next-t.oldest+uint64(count) <= PendingMax }

// add takes up a send, for which there must be room.
func (t *tickets) add(session, correlation uint64) {
	if t.next-t.oldest == uint64(len(t.ring)) {
		old := *t
		t.ring = make([]shard.Origin, max(64, 2*len(old.ring)))
		for n := old.oldest; n < old.next; n++ {
			*t.at(n) = *old.at(n)
		}
	}
	*t.at(t.next) = shard.Origin{Session: session, Correlation: correlation}
	t.next++
	t.open++
}

// take gives the correlation of a send that is answered; false if it is not waiting.
func (t *tickets) take(number, session uint64) (correlation uint64, ok bool) {
	if number < t.oldest || number >= t.next {
		return 0, false
	}
	o := t.at(number)
	if o.Session == 0 || o.Session != session {
		return 0, false
	}
	correlation = o.Correlation
	*o = shard.Origin{}
	t.open--
	t.advance()
	return correlation, true
}

// advance moves past what was answered, and gives back the memory of a burst.
func (t *tickets) advance() {
	for t.oldest < t.next && t.at(t.oldest).Session == 0 {
		t.oldest++
	}
	if t.oldest == t.next && len(t.ring) > 4096 {
		t.ring = nil
	}
}

// withdraw takes the last sends back, which did not leave.
func (t *tickets) withdraw(count int) {
	for range count {
		t.next--
		*t.at(t.next) = shard.Origin{}
		t.open--
	}
	t.advance()
}

// drain empties the tickets and lists all that were waiting.
func (t *tickets) drain() []shard.Origin {
	waiting := make([]shard.Origin, 0, t.open)
	for ; t.oldest < t.next; t.oldest++ {
		if o := t.at(t.oldest); o.Session != 0 {
			waiting = append(waiting, *o)
			*o = shard.Origin{}
		}
	}
	t.open = 0
	t.advance()
	return waiting
}
