package sim

import (
	"time"

	"parley/wire"
)

// A cursorOf names a cursor: whose, of which kind.
type cursorOf struct {
	c      wire.Conversation
	member wire.ID
	kind   wire.CursorKind // Delivered or Read
}

// cursor finds whose cursor a receipt moves.
func (m *Moved) cursor() cursorOf {
	switch m.Kind {
	case wire.OwnDelivered:
		return cursorOf{m.Conversation, m.User, wire.Delivered}
	case wire.OwnRead:
		return cursorOf{m.Conversation, m.User, wire.Read}
	}
	return cursorOf{m.Conversation, m.Conversation.Peer(m.User), m.Kind}
}

// cursors gives the four cursors of a state, as a member sees it.
func cursors(user wire.ID, c wire.Conversation, s *wire.ConversationState) map[cursorOf]uint64 {
	peer := c.Peer(user)
	values := map[cursorOf]uint64{{c, user, wire.Delivered}: s.Delivered, {c, user, wire.Read}: s.Read}
	if peer != user {
		values[cursorOf{c, peer, wire.Delivered}] = s.OtherDelivered
		values[cursorOf{c, peer, wire.Read}] = s.OtherRead
	}
	return values
}

// checkReceipts: positions only grow, are never beyond what was sent, and what anybody was
// told of is there in the end.
func checkReceipts(h *History, report reporter) {
	var told []position
	told = checkMoved(h.Moved, "client", told, report)
	told = checkMoved(h.Receipts, "connection", told, report)
	told = checkLists(h, told, report)
	checkFinalCursors(h, told, report)
}

// A position is where somebody was told a cursor is.
type position struct {
	cursor cursorOf
	at     time.Duration
	value  uint64
}

// checkLists: syncs tell each device of positions that do not go back.
func checkLists(h *History, positions []position, report reporter) []position {
	type view struct {
		device Device
		cursor cursorOf
	}
	told := make(map[view]uint64)
	heads := make(map[view]uint64)
	for i := range h.Listed {
		l := &h.Listed[i]
		for cursor, value := range cursors(l.User, l.Conversation, &l.State) {
			v := view{l.Device, cursor}
			if value < told[v] {
				report(l.Conversation, "a sync tells %s that cursor %d of %d is at %d; it was told %d", l.Device, cursor.kind, cursor.member, value, told[v])
			}
			told[v] = value
			positions = append(positions, position{cursor, l.At, value})
			if value > l.State.Head {
				report(l.Conversation, "a sync tells %s that cursor %d of %d is at %d, the head is %d", l.Device, cursor.kind, cursor.member, value, l.State.Head)
			}
		}
		v := view{l.Device, cursorOf{c: l.Conversation}}
		if l.State.Head < heads[v] {
			report(l.Conversation, "a sync tells %s that the head is %d; it was told %d", l.Device, l.State.Head, heads[v])
		}
		heads[v] = l.State.Head
	}
	return positions
}

// checkFinalCursors: in the end a cursor is where anybody was told it is, or beyond, and
// not beyond the head.
func checkFinalCursors(h *History, told []position, report reporter) {
	for i := range h.Finals {
		f := &h.Finals[i]
		highest := make(map[cursorOf]uint64)
		for _, p := range told {
			if p.cursor.c == f.Conversation && p.at <= f.At {
				highest[p.cursor] = max(highest[p.cursor], p.value)
			}
		}
		for cursor, value := range cursors(f.User, f.Conversation, &f.State) {
			if value < highest[cursor] {
				report(f.Conversation, "cursor %d of %d is at %d %s; somebody was told %d", cursor.kind, cursor.member, value, f.Stage, highest[cursor])
			}
			if value > f.State.Head {
				report(f.Conversation, "cursor %d of %d is at %d %s, the head is %d", cursor.kind, cursor.member, value, f.Stage, f.State.Head)
			}
		}
	}
}

// checkMoved: each life of a client, and each connection, hears of positions that grow, and
// of none beyond what was sent by then.
func checkMoved(list []Moved, what string, positions []position, report reporter) []position {
	type view struct {
		lane
		kind wire.CursorKind
	}
	last := make(map[view]uint64)
	for i := range list {
		m := &list[i]
		v := view{lane{m.Device, m.Life, m.Conversation}, m.Kind}
		if m.Position <= last[v] {
			report(m.Conversation, "%s %d of %s hears of cursor %d at %d after %d", what, m.Life, m.Device, m.Kind, m.Position, last[v])
		}
		last[v] = m.Position
		positions = append(positions, position{m.cursor(), m.At, m.Position})
	}
	return positions
}
