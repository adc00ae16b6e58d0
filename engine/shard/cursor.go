package shard

import (
	"parley/storage"
	"parley/wire"
)

// cursor moves a member's cursor forward. A read cursor takes the delivered one along:
// what is read was delivered. What does not move anything has no effect.
func (m *machine) cursor(c *command) error {
	origin := m.session()
	if c.conversation.Kind == wire.Group {
		return m.groupCursor(c, origin)
	}
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
	time := max(m.time, v.Time)
	if !move(&v.members[side], c, time) {
		return nil
	}
	v.dirtyMembers[side] = true
	m.touch(v)
	m.tellCursor(c, time, origin)
	return nil
}

// move moves a member's cursors as a command says, and tells whether any of them moved.
func move(member *storage.Member, c *command, time wire.Time) (moved bool) {
	if c.cursorKind == wire.Read {
		moved = advance(&member.Read, c.number, time)
	}
	return advance(&member.Delivered, c.number, time) || moved
}

func (m *machine) tellCursor(c *command, time wire.Time, origin Origin) {
	m.counters.Cursors++
	if m.tell {
		m.effects.Receipts = append(m.effects.Receipts, ReceiptEffect{Conversation: c.conversation, User: c.user,
			Kind: c.cursorKind, Position: c.number, Time: time, From: origin.Session, FromNode: origin.Node})
	}
}

// groupCursor moves a cursor of a member of a group, which costs that member's record. It
// concerns that member alone: the group has not changed by it.
func (m *machine) groupCursor(c *command, origin Origin) error {
	v, err := m.conversation(c.conversation)
	if err != nil {
		return err
	}
	forgetMember(&m.author)
	if v.exists {
		if _, err := m.w.MemberInto(v.key, c.user, &m.author); err != nil {
			return err
		}
	}
	if m.author.Role == wire.RoleNone || c.number > v.Head {
		m.refuse(origin, wire.CodeBadCursor)
		if m.author.Role != wire.RoleNone {
			m.unfold()
		}
		return nil
	}
	time := max(m.time, v.Time)
	if !move(&m.author, c, time) {
		return nil
	}
	m.w.PutMember(v.key, c.user, &m.author)
	m.putIndex(&storage.UserIndex{User: c.user, Conversation: v.key})
	m.tellCursor(c, time, origin)
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
