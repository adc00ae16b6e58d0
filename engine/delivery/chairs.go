package delivery

import (
	"slices"

	"parley/wire"
)

// chairOf finds a session's place in a room.
func (a *Audience) chairOf(slot, n uint32) (c uint32, ok bool) {
	at := a.byPlace.find(hashOfPlace(slot, n), func(c uint32) bool { return a.chairs[c].slot == slot && a.chairs[c].room == n })
	if at < 0 {
		return 0, false
	}
	return a.byPlace.at(at), true
}

// newChair makes a place for a session in a room, which is not in the room's list yet.
func (a *Audience) newChair(slot, n uint32) (c uint32) {
	if a.chairFree != 0 {
		c = a.chairFree - 1
		a.chairFree = a.chairs[c].next
	} else {
		c = uint32(len(a.chairs))
		a.chairs = append(grown(a.chairs), chair{})
	}
	a.chairs[c] = chair{slot: slot, room: n, at: standing}
	a.byPlace.add(hashOfPlace(slot, n), c, a.hashOfChair)
	if at := a.bySlot.find(mix(wire.ID(slot)), func(c uint32) bool { return a.chairs[c].slot == slot }); at >= 0 {
		a.chairs[c].next = a.bySlot.at(at) + 1
		a.bySlot.set(at, c)
	} else {
		a.bySlot.add(mix(wire.ID(slot)), c, a.hashOfSlot)
	}
	a.rooms[n].members++
	return c
}

// sit puts a session into its room's list.
func (a *Audience) sit(c uint32) {
	p := &a.chairs[c]
	r := &a.rooms[p.room]
	p.at = r.list.length
	a.lists.add(&r.list, p.slot)
}

// stand takes a session out of its room's list.
func (a *Audience) stand(c uint32) {
	p := &a.chairs[c]
	moved := a.lists.remove(&a.rooms[p.room].list, p.at)
	if moved != p.slot {
		other, _ := a.chairOf(moved, p.room)
		a.chairs[other].at = p.at
	}
	p.at = standing
}

// unlink takes a place out of those of its session.
func (a *Audience) unlink(c uint32) {
	slot, next := a.chairs[c].slot, a.chairs[c].next
	at := a.bySlot.find(mix(wire.ID(slot)), func(c uint32) bool { return a.chairs[c].slot == slot })
	switch first := a.bySlot.at(at); {
	case first != c:
		before := first
		for a.chairs[before].next != c+1 {
			before = a.chairs[before].next - 1
		}
		a.chairs[before].next = next
	case next != 0:
		a.bySlot.set(at, next-1)
	default:
		a.bySlot.remove(at, a.hashOfSlot)
	}
}

// vacate gives up a place that is none of its session's any more, or all of whose
// session's places go.
func (a *Audience) vacate(c uint32) {
	p := a.chairs[c]
	if p.at != standing {
		a.stand(c)
	} else {
		a.setSpans(p.room, slices.DeleteFunc(a.spans[p.room], func(s span) bool { return s.slot == p.slot }))
	}
	at := a.byPlace.find(hashOfPlace(p.slot, p.room), func(d uint32) bool { return d == c })
	a.byPlace.remove(at, a.hashOfChair)
	a.chairs[c] = chair{slot: p.slot, next: a.chairFree}
	a.chairFree = c + 1
	r := &a.rooms[p.room]
	if r.members--; r.members == 0 {
		a.closeRoom(p.room)
	}
}

func (a *Audience) addSpan(n uint32, s span) {
	if a.spans == nil {
		a.spans = make(map[uint32][]span)
	}
	a.setSpans(n, append(a.spans[n], s))
	a.touch(n)
}

func (a *Audience) setSpans(n uint32, spans []span) {
	a.rooms[n].spans = uint32(len(spans))
	if len(spans) == 0 {
		delete(a.spans, n)
		return
	}
	a.spans[n] = spans
}

func (a *Audience) hasSpan(n, slot uint32) bool {
	return slices.ContainsFunc(a.spans[n], func(s span) bool { return s.slot == slot })
}

// grown is a list with room for one more: a quarter at a time, because append would double
// a short one, and half would stand empty.
func grown[T any](list []T) []T {
	if len(list) < cap(list) {
		return list
	}
	return append(make([]T, 0, len(list)+max(16, len(list)/4)), list...)
}
