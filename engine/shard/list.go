package shard

import (
	"parley/storage"
	"parley/wire"
	"parley/wire/planted"
)

// firstVersion is the version of a list row that a direct conversation's first message
// makes: the conversation's revision at that time. A group's row has the revision of the
// event that it tells of.
const firstVersion = 1

// list adds a conversation to a user's own list, or marks a group as gone from it: at once
// if the user's home is in this shard, else by a row for the courier.
func (m *machine) list(user wire.ID, c wire.Conversation, version uint64, gone bool) error {
	slot := user.Slot()
	if m.owns(slot) {
		return m.putList(&storage.List{User: user, Conversation: c, Version: version, Gone: gone})
	}
	number := m.index<<outgoingOrdinalBits | m.ordinal
	m.ordinal++
	kind := commandListAdd
	if gone {
		kind = commandListGone
	}
	row := storage.Outgoing{Number: number, Target: slot, Command: appendList(nil, &command{kind: kind,
		user: user, conversation: c, version: version, from: m.id, number: number})}
	if planted.Active(planted.DroppedOutgoing) {
		return nil
	}
	m.outgoing[number] = struct{}{}
	m.w.PutOutgoing(&row)
	m.rows = append(m.rows, row)
	return nil
}

// roomForRows reports whether so many rows for other shards find room, both among those
// that wait and among the numbers of this entry.
func (m *machine) roomForRows(rows int) bool {
	return len(m.outgoing)+rows <= OutgoingMax && m.ordinal+uint64(rows) <= 1<<outgoingOrdinalBits
}

// listChange applies what another shard's courier delivered, maybe again. Couriers deliver
// in order for each slot, so the highest number applied tells what was applied before.
func (m *machine) listChange(c *command) (refusal, err error) {
	if !m.owns(c.user.Slot()) {
		return ErrBadCommand, nil
	}
	source := incomingSource(c.from, c.user.Slot())
	highest, err := m.w.Incoming(source)
	if err != nil || c.number <= highest {
		return nil, err
	}
	m.w.PutIncoming(source, c.number)
	return nil, m.putList(&storage.List{User: c.user, Conversation: c.conversation, Version: c.version, Gone: c.kind == commandListGone})
}

// incomingSource names a stream of rows that is in order: those from one shard for one
// slot. The slot is in it so that a slot can move to another shard with its own mark.
func incomingSource(from uint32, slot wire.Slot) uint32 { return from*wire.Slots + uint32(slot) }

// putList writes a row of a list. A group's row changes more than once, and a slot may have
// moved in between: what is older than the row does nothing.
func (m *machine) putList(l *storage.List) error {
	if l.Conversation.Kind == wire.Group {
		old, ok, err := m.w.ListRow(l.User, l.Conversation)
		if err != nil || ok && old.Version >= l.Version {
			return err
		}
	}
	l.Changed = m.index
	m.recent.note(l.User, m.index)
	m.w.PutList(l)
	if m.tell {
		m.effects.Listed = append(m.effects.Listed, ListedEffect{User: l.User, Conversation: l.Conversation, Gone: l.Gone})
	}
	return nil
}
