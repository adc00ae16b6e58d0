package delivery

import (
	"iter"
	"math"
	"slices"

	"parley/wire"
)

// An Audience knows which sessions of one event loop are members of which groups, so that
// a message of a group is encoded once and written to each of them without looking anybody
// up. A session is named by its slot. The loop owns it, and it changes only by what comes
// through the loop's inbox in the order of the group's shard, so it is exact: at each
// message it has those who are members then.
//
// It is flat tables of integers, some 50 bytes a membership, without a pointer a session or
// group. Its zero value is empty.
type Audience struct {
	rooms    []room
	roomFree uint32 // plus 1
	byGroup  lookup // rooms

	chairs    []chair
	chairFree uint32 // plus 1
	byPlace   lookup // chairs, by slot and room
	bySlot    lookup // of each slot the first of its chairs

	lists   blocks            // slots of sessions
	spans   map[uint32][]span // of rooms that have any
	touched []uint32          // rooms for Settle to look at
	left    []wire.ID         // groups whose room was closed
	others  []uint32          // of To
}

// A room is a group that the loop has sessions of.
type room struct {
	group   wire.ID // 0: free
	passed  uint64  // the last sequence that was told
	list    block   // of members who get whatever comes
	members uint32  // with those who have spans
	next    uint32  // of the free ones, plus 1
	spans   uint32  // how many
	touched bool
}

// A chair is a session's place in a room.
type chair struct {
	slot, room uint32
	at         uint32 // in the room's list
	next       uint32 // of the slot's chairs, or of the free ones, plus 1
}

// standing is the place of a session that is not in the list: it has spans.
const standing = math.MaxUint32

// A span is what a member gets who has not come yet or goes: the messages of a group from
// one sequence to another.
type span struct {
	slot        uint32
	from, until uint64
}

// open is the end of a span without one.
const open = math.MaxUint64

// Join makes a session a member who gets a group's messages from a sequence on, or from the
// earlier one of two if it is told twice.
func (a *Audience) Join(group wire.ID, slot uint32, from uint64) {
	n := a.room(group)
	c, ok := a.chairOf(slot, n)
	if !ok {
		c = a.newChair(slot, n)
		if r := &a.rooms[n]; from <= r.passed+1 {
			a.sit(c)
		} else {
			a.addSpan(n, span{slot, from, open})
		}
		return
	}
	if a.chairs[c].at != standing {
		return
	}
	// One who has left in the same batch is back. Spans that meet are one, or a message in
	// both would be told twice.
	back, spans := span{slot, from, open}, a.spans[n]
	for i := len(spans) - 1; i >= 0; i-- {
		if s := spans[i]; s.slot == slot && (s.until == open || back.from <= s.until+1) {
			back.from = min(back.from, s.from)
			spans = slices.Delete(spans, i, i+1)
		}
	}
	a.setSpans(n, spans)
	a.addSpan(n, back)
}

// Leave ends a session's membership after a sequence; Settle makes it so.
func (a *Audience) Leave(group wire.ID, slot uint32, until uint64) {
	n, ok := a.find(group)
	if !ok {
		return
	}
	c, ok := a.chairOf(slot, n)
	if !ok {
		return
	}
	if a.chairs[c].at != standing {
		a.stand(c)
		a.addSpan(n, span{slot, 0, until})
		return
	}
	spans := a.spans[n]
	for i := range spans {
		if s := &spans[i]; s.slot == slot && s.until == open {
			s.until = until
			a.touch(n)
		}
	}
}

// Drop takes a session that has ended out of all groups.
func (a *Audience) Drop(slot uint32) {
	at := a.bySlot.find(mix(wire.ID(slot)), func(c uint32) bool { return a.chairs[c].slot == slot })
	if at < 0 {
		return
	}
	for c := a.bySlot.at(at) + 1; c != 0; {
		next := a.chairs[c-1].next
		a.vacate(c - 1)
		c = next
	}
	a.bySlot.remove(at, a.hashOfSlot)
}

// To is whom a message of a group is for: two lists of slots. They are good until the
// audience changes or is asked again.
func (a *Audience) To(group wire.ID, sequence uint64) (members, others []uint32) {
	n, ok := a.find(group)
	if !ok {
		return nil, nil
	}
	r := &a.rooms[n]
	r.passed = max(r.passed, sequence)
	if r.spans > 0 {
		a.others = a.others[:0]
		for _, s := range a.spans[n] {
			if s.from <= sequence && sequence <= s.until {
				a.others = append(a.others, s.slot)
			}
		}
		a.touch(n)
		others = a.others
	}
	return a.lists.list(r.list), others
}

// Members are the slots of those who are members of a group now, each once.
func (a *Audience) Members(group wire.ID) iter.Seq[uint32] {
	return func(yield func(slot uint32) bool) {
		n, ok := a.find(group)
		if !ok {
			return
		}
		for _, slot := range a.lists.list(a.rooms[n].list) {
			if !yield(slot) {
				return
			}
		}
		for _, s := range a.spans[n] {
			if s.until == open && !yield(s.slot) {
				return
			}
		}
	}
}

// Settle is called when all messages of a batch have been told: who has left is no member
// any more, and who has come is one like any other.
func (a *Audience) Settle() {
	for i := 0; i < len(a.touched); i++ {
		n := a.touched[i]
		a.rooms[n].touched = false
		if a.rooms[n].spans > 0 {
			a.settle(n)
		}
	}
	a.touched = a.touched[:0]
}

func (a *Audience) settle(n uint32) {
	spans := a.spans[n]
	kept := spans[:0]
	var gone []uint32
	for _, s := range spans {
		switch {
		case s.until != open:
			gone = append(gone, s.slot)
		case s.from <= a.rooms[n].passed+1:
			c, _ := a.chairOf(s.slot, n)
			a.sit(c)
		default:
			kept = append(kept, s)
		}
	}
	a.setSpans(n, kept)
	for _, slot := range gone {
		c, ok := a.chairOf(slot, n)
		if !ok || a.chairs[c].at != standing || a.hasSpan(n, slot) {
			continue // came back
		}
		a.unlink(c)
		a.vacate(c)
	}
}

// Has reports whether any session is a member of a group.
func (a *Audience) Has(group wire.ID) bool {
	_, ok := a.find(group)
	return ok
}

// Left appends the groups that lost their last member since it was last asked. One of
// them may have members again.
func (a *Audience) Left(dst []wire.ID) []wire.ID {
	dst = append(dst, a.left...)
	if a.left = a.left[:0]; cap(a.left) > 1<<10 {
		a.left = nil
	}
	return dst
}

// Memberships is how many there are: sessions, counted once for each group.
func (a *Audience) Memberships() int { return a.byPlace.used }

func (a *Audience) find(group wire.ID) (n uint32, ok bool) {
	at := a.byGroup.find(mix(group), func(n uint32) bool { return a.rooms[n].group == group })
	if at < 0 {
		return 0, false
	}
	return a.byGroup.at(at), true
}

// room finds or opens a group's room.
func (a *Audience) room(group wire.ID) uint32 {
	n, ok := a.find(group)
	if ok {
		return n
	}
	if a.roomFree != 0 {
		n = a.roomFree - 1
		a.roomFree = a.rooms[n].next
	} else {
		n = uint32(len(a.rooms))
		a.rooms = append(grown(a.rooms), room{})
	}
	a.rooms[n] = room{group: group, touched: a.rooms[n].touched}
	a.byGroup.add(mix(group), n, a.hashOfRoom)
	return n
}

// closeRoom gives up a room without members.
func (a *Audience) closeRoom(n uint32) {
	r := &a.rooms[n]
	at := a.byGroup.find(mix(r.group), func(m uint32) bool { return m == n })
	a.byGroup.remove(at, a.hashOfRoom)
	a.left = append(a.left, r.group)
	*r = room{next: a.roomFree, touched: r.touched}
	a.roomFree = n + 1
}

func (a *Audience) touch(n uint32) {
	if r := &a.rooms[n]; !r.touched {
		r.touched = true
		a.touched = append(a.touched, n)
	}
}

func (a *Audience) hashOfRoom(n uint32) uint64 { return mix(a.rooms[n].group) }
func (a *Audience) hashOfSlot(c uint32) uint64 { return mix(wire.ID(a.chairs[c].slot)) }
func (a *Audience) hashOfChair(c uint32) uint64 {
	return hashOfPlace(a.chairs[c].slot, a.chairs[c].room)
}

func hashOfPlace(slot, n uint32) uint64 { return mix(wire.ID(slot)<<32 | wire.ID(n)) }
