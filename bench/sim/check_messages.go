package sim

import (
	"cmp"
	"slices"

	"parley/wire"
)

type reporter = func(c wire.Conversation, format string, args ...any)

// checkMembers: whatever anybody saw was sent by one of the two, to the other.
func checkMembers(h *History, report reporter) {
	bodies := h.bodies()
	h.sightings(func(s sighting) {
		sent := bodies[s.Body]
		switch {
		case sent == nil:
			report(s.conversation, "%s saw #%d %q, which nobody sent", s.who, s.Sequence, short(s.Body))
		case sent.Conversation != s.conversation:
			report(s.conversation, "%s saw #%d %q, which was sent in %s", s.who, s.Sequence, short(s.Body), conversationName(sent.Conversation))
		case sent.Author != s.Author:
			report(s.conversation, "%s saw #%d %q as written by %d; it was %d", s.who, s.Sequence, short(s.Body), s.Author, sent.Author)
		}
	})
}

// checkSame: a sequence names one message, whoever sees it and whenever.
func checkSame(h *History, report reporter) {
	type place struct {
		c        wire.Conversation
		sequence uint64
	}
	first := make(map[place]sighting)
	h.sightings(func(s sighting) {
		p := place{s.conversation, s.Sequence}
		f, ok := first[p]
		if !ok {
			first[p] = s
			return
		}
		if f.Entry != s.Entry {
			report(s.conversation, "#%d is %q of %d for %s and %q of %d for %s", s.Sequence, short(f.Body), f.Time, f.who, short(s.Body), s.Time, s.who)
		}
	})
	for i := range h.Sends {
		s := &h.Sends[i]
		if s.Outcome != Accepted {
			continue
		}
		if f, ok := first[place{s.Conversation, s.Sequence}]; ok && f.Body != s.Body {
			report(s.Conversation, "#%d was acknowledged to %s as %q and is %q for %s", s.Sequence, s.Device, short(s.Body), short(f.Body), f.who)
		}
	}
}

// checkGaps: sequences are 1 to head, and each life of a client is handed them without a gap.
func checkGaps(h *History, report reporter) {
	for i := range h.Finals {
		f := &h.Finals[i]
		for j, e := range f.Entries {
			if e.Sequence != uint64(j+1) {
				report(f.Conversation, "%d reads #%d in place %d %s", f.User, e.Sequence, j+1, f.Stage)
				break
			}
		}
		if uint64(len(f.Entries)) < f.State.Head {
			report(f.Conversation, "%d reads %d messages, the head is %d %s", f.User, len(f.Entries), f.State.Head, f.Stage)
		}
	}
	for i := range h.Reads {
		r := &h.Reads[i]
		for j := 1; j < len(r.Entries); j++ {
			if r.Entries[j].Sequence != r.Entries[j-1].Sequence+1 {
				report(r.Conversation, "a page of %s has #%d after #%d", r.Device, r.Entries[j].Sequence, r.Entries[j-1].Sequence)
				break
			}
		}
	}
	eachLane(h.Handed, func(before, s *Seen) {
		if s.Sequence != before.Sequence+1 {
			report(s.Conversation, "%s is handed #%d after #%d", s.Device, s.Sequence, before.Sequence)
		}
	})
	for _, gap := range h.Gaps {
		report(wire.Conversation{}, "%s", gap)
	}
}

// lane is what keeps its order: a conversation in one life of a client or connection.
type lane struct {
	device Device
	life   int
	c      wire.Conversation
}

// eachLane visits neighbours in each lane.
func eachLane(list []Seen, fn func(before, s *Seen)) {
	last := make(map[lane]*Seen)
	for i := range list {
		s := &list[i]
		l := lane{s.Device, s.Life, s.Conversation}
		if before := last[l]; before != nil {
			fn(before, s)
		}
		last[l] = s
	}
}

// checkOnce: no message is there twice.
func checkOnce(h *History, report reporter) {
	for _, f := range h.last() {
		places := make(map[string]uint64)
		for _, e := range f.Entries {
			if at := places[e.Body]; at != 0 {
				report(f.Conversation, "%q is there twice, as #%d and #%d", short(e.Body), at, e.Sequence)
			}
			places[e.Body] = e.Sequence
		}
	}
}

// checkDurable: what was acknowledged is in every later reading, where it was acknowledged,
// and what one reading had the next one has.
func checkDurable(h *History, report reporter) {
	type key struct {
		user wire.ID
		c    wire.Conversation
	}
	readers := make(map[wire.ID]bool)
	longest := make(map[key]int)
	for i := range h.Finals {
		f := &h.Finals[i]
		readers[f.User] = true
		k := key{f.User, f.Conversation}
		if len(f.Entries) < longest[k] {
			report(f.Conversation, "%d read %d messages before, and %d %s", f.User, longest[k], len(f.Entries), f.Stage)
		}
		longest[k] = max(longest[k], len(f.Entries))
	}
	lasts := make(map[key]*Final)
	for _, f := range h.last() {
		lasts[key{f.User, f.Conversation}] = f
	}
	for i := range h.Sends {
		s := &h.Sends[i]
		if s.Outcome != Accepted {
			continue
		}
		for _, user := range []wire.ID{s.Conversation.A, s.Conversation.B} {
			if !readers[user] {
				continue // the run ended before
			}
			f := lasts[key{user, s.Conversation}]
			switch {
			case f == nil:
				report(s.Conversation, "%q was acknowledged as #%d to %s, and %d has no such conversation", short(s.Body), s.Sequence, s.Device, user)
			case s.Sequence == 0 || s.Sequence > uint64(len(f.Entries)):
				report(s.Conversation, "%q was acknowledged as #%d to %s, and %d reads %d messages", short(s.Body), s.Sequence, s.Device, user, len(f.Entries))
			case f.Entries[s.Sequence-1].Body != s.Body:
				report(s.Conversation, "%q was acknowledged as #%d to %s, and %d reads %q", short(s.Body), s.Sequence, s.Device, user, short(f.Entries[s.Sequence-1].Body))
			}
		}
	}
}

// checkRefused: what was refused for good is nowhere.
func checkRefused(h *History, report reporter) {
	bodies := h.bodies()
	h.sightings(func(s sighting) {
		if sent := bodies[s.Body]; sent != nil && sent.Outcome == Refused {
			report(s.conversation, "%q was refused (%s), and %s saw it as #%d", short(s.Body), sent.Error, s.who, s.Sequence)
		}
	})
}

// checkKnown: outboxes here send so little that the server must know the fate of all of it.
func checkKnown(h *History, report reporter) {
	for i := range h.Sends {
		if s := &h.Sends[i]; s.Outcome == Forgotten {
			report(s.Conversation, "%q of %s has an unknown outcome", short(s.Body), s.Device)
		}
	}
}

// checkTimes: a conversation's times ascend with its sequences, whatever clocks do.
func checkTimes(h *History, report reporter) {
	for _, f := range h.last() {
		for i := 1; i < len(f.Entries); i++ {
			if e, before := &f.Entries[i], &f.Entries[i-1]; e.Time < before.Time {
				report(f.Conversation, "#%d is of %d, #%d of %d", before.Sequence, before.Time, e.Sequence, e.Time)
				break
			}
		}
	}
}

// checkOrder: what went through one outbox is in the order in which it was sent.
func checkOrder(h *History, report reporter) {
	type sent struct {
		order    int
		sequence uint64
	}
	bodies := h.bodies()
	lanes := make(map[lane][]sent)
	for _, f := range h.last() {
		if f.User != f.Conversation.A {
			continue // both read the same, says another check
		}
		for _, e := range f.Entries {
			if s := bodies[e.Body]; s != nil {
				l := lane{s.Device, s.Life, s.Conversation}
				lanes[l] = append(lanes[l], sent{s.Order, e.Sequence})
			}
		}
	}
	for l, list := range lanes {
		slices.SortFunc(list, func(a, b sent) int { return cmp.Compare(a.order, b.order) })
		for i := 1; i < len(list); i++ {
			if list[i].sequence < list[i-1].sequence {
				report(l.c, "%s sent its %d. message after its %d., and they are #%d and #%d", l.device, list[i].order, list[i-1].order, list[i].sequence, list[i-1].sequence)
			}
		}
	}
}

// checkPushes: a connection is pushed each message at most once, in order. Some may be
// left out, for a HEAD that tells of them.
func checkPushes(h *History, report reporter) {
	eachLane(h.Pushed, func(before, s *Seen) {
		if s.Sequence <= before.Sequence {
			report(s.Conversation, "connection %d of %s is pushed #%d after #%d", s.Life, s.Device, s.Sequence, before.Sequence)
		}
	})
}

// checkServed: in the end every device that is online has everything.
func checkServed(h *History, report reporter) {
	for _, o := range h.Online {
		for _, problem := range o.Problems {
			report(wire.Conversation{}, "%s: %s", o.Device, problem)
		}
	}
}

// checkLive: every shard commits soon after the last fault, and every send has an outcome.
func checkLive(h *History, report reporter) {
	for _, late := range h.Late {
		report(wire.Conversation{}, "%s", late)
	}
	if len(h.Online) == 0 {
		return
	}
	for i := range h.Sends {
		if s := &h.Sends[i]; s.Returned == 0 {
			report(s.Conversation, "%q of %s has no outcome", short(s.Body), s.Device)
		}
	}
}

// checkReplicas: at one index all replicas of a shard are the same.
func checkReplicas(h *History, report reporter) {
	type key struct {
		shard int
		index uint64
	}
	first := make(map[key]Replica)
	for _, r := range h.Replicas {
		k := key{r.Shard, r.Index}
		f, ok := first[k]
		if !ok {
			first[k] = r
			continue
		}
		if f.Hash != r.Hash {
			report(wire.Conversation{}, "shard %d at %d is %x on %s and %x on %s", r.Shard, r.Index, f.Hash[:4], f.Node, r.Hash[:4], r.Node)
		}
	}
}
