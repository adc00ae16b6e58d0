package shard

import "parley/wire"

// cursor moves a member's cursor forward. A read cursor takes the delivered one along:
// what is read was delivered. What does not move anything has no effect.
func (m *machine) cursor(c *command) error {
	origin := m.session()
	if !c.conversation.Member(c.user) {
		m.refuse(origin, wire.CodeBadCursor)
		return nil
	}
	v, err := m.conversation(c.conversation)
	if err != nil {
		return err
	}
	if c.number > v.Head {
		m.refuse(origin, wire.CodeBadCursor)
		m.unfold()
		return nil
	}
	side := v.side(c.user)
	member := &v.members[side]
	time := max(m.time, v.Time)
	moved := false
	if c.cursorKind == wire.Read {
		moved = advance(&member.Read, c.number, time)
	}
	if advance(&member.Delivered, c.number, time) {
		moved = true
	}
	if !moved {
		return nil
	}
	v.dirtyMembers[side] = true
	m.touch(v)
	m.counters.Cursors++
	if m.tell {
		m.effects.Receipts = append(m.effects.Receipts, ReceiptEffect{Conversation: v.key, User: c.user,
			Kind: c.cursorKind, Position: c.number, Time: time, From: origin.Session, FromNode: origin.Node})
	}
	return nil
}

// unfold keeps what the cursor that was just refused was folded over on this node, to be
// queued again.
func (m *machine) unfold() {
	if m.batch == nil || m.cursors == 0 {
		return
	}
	if c := m.batch.cursors[m.cursors-1]; c.unfold() {
		m.unfolded = append(m.unfolded, c)
	}
}
