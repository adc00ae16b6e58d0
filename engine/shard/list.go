package shard

import (
	"parley/storage"
	"parley/wire"
	"parley/wire/planted"
)

// firstVersion is the version of a list row that a direct conversation's first message
// makes: the conversation's revision at that time. Later changes of a row (a group left,
// a deletion) will come with later revisions.
const firstVersion = 1

// list adds a conversation to a user's own list: at once if the user's home is in this
// shard, else by a row for the courier.
func (m *machine) list(user wire.ID, c wire.Conversation) {
	slot := user.Slot()
	if m.owns(slot) {
		m.putList(user, c, firstVersion)
		return
	}
	number := m.index<<outgoingOrdinalBits | m.ordinal
	m.ordinal++
	row := storage.Outgoing{Number: number, Target: slot, Command: appendListAdd(nil, &command{
		user: user, conversation: c, version: firstVersion, from: m.id, number: number})}
	if planted.Active(planted.DroppedOutgoing) {
		return
	}
	m.outgoing[number] = struct{}{}
	m.w.PutOutgoing(&row)
	m.rows = append(m.rows, row)
}

// listAdd applies what another shard's courier delivered, maybe again. Couriers deliver
// in order for each slot, so the highest number applied tells what was applied before.
func (m *machine) listAdd(c *command) (refusal, err error) {
	if !m.owns(c.user.Slot()) {
		return ErrBadCommand, nil
	}
	source := incomingSource(c.from, c.user.Slot())
	highest, err := m.w.Incoming(source)
	if err != nil || c.number <= highest {
		return nil, err
	}
	m.w.PutIncoming(source, c.number)
	m.putList(c.user, c.conversation, c.version)
	return nil, nil
}

// incomingSource names a stream of rows that is in order: those from one shard for one
// slot. The slot is in it so that a slot can move to another shard with its own mark.
func incomingSource(from uint32, slot wire.Slot) uint32 { return from*wire.Slots + uint32(slot) }

func (m *machine) putList(user wire.ID, c wire.Conversation, version uint64) {
	m.recent.note(user, m.index)
	m.w.PutList(&storage.List{User: user, Conversation: c, Version: version, Changed: m.index})
	if m.tell {
		m.effects.Listed = append(m.effects.Listed, ListedEffect{User: user, Conversation: c})
	}
}
