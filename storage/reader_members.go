package storage

import (
	"errors"
	"math"

	"parley/wire"
)

// errEnough ends a walk whose caller wants no more.
var errEnough = errors.New("storage: enough")

// Members calls fn for the members of a group, and those banned from it, behind a user in
// the order of identifiers, until it says that it wants no more. It reads about as much as
// fn takes, whatever the size of the group. m is good until fn returns.
func (r *Reader) Members(c wire.Conversation, after wire.ID, fn func(user wire.ID, m *Member) (more bool, err error)) error {
	prefix := appendMemberPrefix(nil, r.conversationSlot(c), c)
	if err := r.owns(c.Slot()); err != nil {
		return err
	}
	var m Member
	each := func(key parsedKey, value []byte) error {
		if err := parseMember(value, &m); err != nil {
			return err
		}
		more, err := fn(key.User, &m)
		if err == nil && !more {
			err = errEnough
		}
		return err
	}
	rows := r.rows[:0]
	r.rows = nil // a scan inside this one has its own
	for last := after; last < lastID; {
		var horizon wire.ID
		rows, horizon = r.gatherAfter(rows[:0], prefix, last)
		upper := prefixEnd(prefix)
		if horizon < lastID {
			upper = wire.AppendID(append([]byte(nil), prefix...), horizon+1)
		}
		err := r.mergeBetween(wire.AppendID(append([]byte(nil), prefix...), last+1), upper, rows, each)
		if err != nil || horizon == noHorizon {
			r.rows = rows[:0]
			if errors.Is(err, errEnough) {
				err = nil
			}
			return err
		}
		last = horizon
	}
	r.rows = rows[:0]
	return nil
}

// lastID is the greatest identifier.
const lastID wire.ID = 1<<wire.IDBits - 1

// noHorizon says that all buffered rows were gathered.
const noHorizon wire.ID = math.MaxUint64

// gatherAfter collects the buffered members behind a user, some of each buffer, up to the
// first one behind which a buffer may have more.
func (r *Reader) gatherAfter(rows []row, prefix []byte, after wire.ID) (_ []row, horizon wire.ID) {
	horizon = noHorizon
	for i := range r.buffers {
		var last wire.ID
		if rows, last = r.gatherOrdered(rows, i, prefix, after); last < horizon {
			horizon = last
		}
	}
	rows = newestRows(rows)
	for len(rows) > 0 && rowUser(&rows[len(rows)-1]) > horizon {
		rows = rows[:len(rows)-1]
	}
	return rows, horizon
}

// gatherOrdered collects some members of one buffer; last is the one that it stopped at.
func (r *Reader) gatherOrdered(rows []row, number int, prefix []byte, after wire.ID) (_ []row, last wire.ID) {
	b := r.buffers[number]
	version := r.lock(number)
	defer r.unlock(number)
	group := b.orderOf(prefix)
	if group == nil {
		return rows, noHorizon
	}
	last = noHorizon
	visited := 0
	group.after(uint64(after), func(o orderedEntry) bool {
		e := &b.entries[o.number]
		if s := b.at(e, version); s != nil {
			rows = append(rows, row{b.records.keys[o.number], b.value(s), int32(number), e.keySize, s.deleted})
		}
		if visited++; visited == gatheredRows {
			last = wire.ID(o.key)
			return false
		}
		return true
	})
	return rows, last
}

// rowUser is the member that a row's key ends with: slot, kind and the group's key form,
// 10 bytes, come before it.
func rowUser(x *row) wire.ID { return wire.ID(x.key.b & (1<<wire.IDBits - 1)) }
