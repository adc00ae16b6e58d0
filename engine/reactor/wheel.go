package reactor

// wheelSlots is how many seconds the wheel sees ahead: twice the longest heartbeat
// interval. Deadlines beyond go around again.
const wheelSlots = 512

// A wheel is a loop's timing wheel: lists of records by the second at which to look at
// them. A deadline that moves away stays in its list; when its time comes the record
// is put where it belongs then, so that extending costs one store.
type wheel struct {
	slab  *slab
	now   uint32             // the last second that was looked at
	heads [wheelSlots]uint32 // 1 + slot, 0: empty
}

// set gives a record a deadline so many seconds from now, 0 for none.
func (w *wheel) set(r *record, seconds int) {
	if seconds <= 0 {
		r.deadline = 0
		return
	}
	// One more, because part of the present second is over.
	r.deadline = w.now + uint32(min(seconds, 1<<30)) + 1
	if r.due == 0 || r.deadline < r.due {
		w.remove(r)
		w.insert(r)
	}
}

func (w *wheel) insert(r *record) {
	r.due = min(r.deadline, w.now+wheelSlots-1)
	head := &w.heads[r.due%wheelSlots]
	r.prev, r.next = 0, *head
	if *head != 0 {
		w.slab.at(*head - 1).prev = r.slot + 1
	}
	*head = r.slot + 1
}

func (w *wheel) remove(r *record) {
	if r.due == 0 {
		return
	}
	if r.prev != 0 {
		w.slab.at(r.prev - 1).next = r.next
	} else {
		w.heads[r.due%wheelSlots] = r.next
	}
	if r.next != 0 {
		w.slab.at(r.next - 1).prev = r.prev
	}
	r.due, r.next, r.prev = 0, 0, 0
}

// advance moves on to a second and appends those whose deadline has passed.
func (w *wheel) advance(now uint32, expired []*record) []*record {
	if now-w.now > wheelSlots { // a long stop: each list once is enough
		w.now = now - wheelSlots
	}
	for w.now < now {
		w.now++
		for slot := w.heads[w.now%wheelSlots]; slot != 0; {
			r := w.slab.at(slot - 1)
			slot = r.next
			w.remove(r)
			switch {
			case r.deadline == 0:
			case r.deadline <= w.now:
				r.deadline = 0
				expired = append(expired, r)
			default:
				w.insert(r)
			}
		}
	}
	return expired
}
