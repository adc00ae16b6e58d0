package shard

import (
	"encoding/binary"
	"fmt"

	"parley/storage"
	"parley/wire"
)

// An AskKind is what a user asks for in a conversation that is nobody else's business.
type AskKind uint8

// The kinds of what is asked for. They are part of the log.
const (
	// AskSettings sets the settings of one's own for a conversation.
	AskSettings AskKind = 1
	askKindsEnd AskKind = 2
)

// An Ask is what a user asks for of a conversation alone: it has no counter and makes no
// message. It is a change of a version, so that a copy that comes late undoes nothing.
type Ask struct {
	Kind       AskKind
	Version    uint64
	Flags      uint64    // settings
	MutedUntil wire.Time // settings
}

// askBytesMax bounds an encoded one: its kind and three numbers.
const askBytesMax = 1 + 3*binary.MaxVarintLen64

// Check tells whether an Ask is one that there is.
func (a *Ask) Check() error {
	if a.Kind == 0 || a.Kind >= askKindsEnd || a.Version > wire.NumberMax || a.Flags > wire.OwnSettingsMask || a.MutedUntil > wire.NumberMax ||
		a.MutedUntil != 0 && a.Flags&wire.OwnMuted == 0 {
		return fmt.Errorf("%w: %+v", ErrBadCommand, *a)
	}
	return nil
}

// AppendAsk appends an Ask as it is in the log and between nodes.
func AppendAsk(dst []byte, a *Ask) []byte {
	dst = append(dst, byte(a.Kind))
	dst = binary.AppendUvarint(dst, a.Version)
	dst = binary.AppendUvarint(dst, a.Flags)
	return binary.AppendUvarint(dst, uint64(a.MutedUntil))
}

// ParseAsk reads what AppendAsk wrote, and nothing else.
func ParseAsk(src []byte) (a Ask, err error) {
	d := decoder{src: src}
	if a = *d.ask(); len(d.src) > 0 {
		d.fail("ask")
	}
	return a, d.err
}

func (d *decoder) ask() *Ask {
	a := &Ask{Kind: AskKind(d.byte()), Version: d.uint(), Flags: d.uint(), MutedUntil: wire.Time(d.uint())}
	if d.err == nil && a.Check() != nil {
		d.fail("ask")
	}
	return a
}

// appendOwn appends the command of a user who asks for something of its own.
func appendOwn(dst []byte, m *Send) []byte {
	dst = append(dst, byte(commandOwn))
	dst = wire.AppendConversation(dst, m.Conversation)
	dst = wire.AppendID(dst, m.Author)
	return AppendAsk(dst, m.Ask)
}

// own applies what a user asks for of a conversation alone. Nobody else hears of it.
func (m *machine) own(c *command) error {
	origin, _ := m.origin()
	v, err := m.conversation(c.conversation)
	if err != nil {
		return err
	}
	if !m.owns(v.key.Slot()) {
		m.refuse(origin, wire.CodeNotLeader)
		return nil
	}
	if v.key.Kind == wire.Group {
		return m.ownOfGroup(v, c, origin)
	}
	if !v.exists || !v.key.Member(c.user) {
		m.refuse(origin, wire.CodeNotMember)
		return nil
	}
	side := v.side(c.user)
	if m.set(v, &v.members[side].Own, c, origin) {
		v.dirtyMembers[side] = true
		m.touchSide(v, side)
	}
	return nil
}

func (m *machine) ownOfGroup(v *conversation, c *command, origin Origin) error {
	forgetMember(&m.author)
	if v.exists {
		if _, err := m.w.MemberInto(v.key, c.user, &m.author); err != nil {
			return err
		}
	}
	if m.author.Role == wire.RoleNone {
		m.refuse(origin, wire.CodeNotMember)
		return nil
	}
	if m.set(v, &m.author.Own, c, origin) {
		m.w.PutMember(v.key, c.user, &m.author)
		m.putIndex(&storage.UserIndex{User: c.user, Conversation: v.key})
	}
	return nil
}

// set sets a member's settings, and tells whether they have changed. What is so already is
// done, whatever version was named: that makes a retry like the first one.
func (m *machine) set(v *conversation, own *storage.Own, c *command, origin Origin) (changed bool) {
	same := own.Flags&wire.OwnSettingsMask == c.ask.Flags && own.MutedUntil == c.ask.MutedUntil
	switch {
	case same:
		m.counters.Duplicates++
	case c.ask.Version != own.Version:
		m.refuse(origin, wire.CodeOutdated)
		m.tellOwn(v, c.user, own, Origin{})
		return false
	default:
		own.Flags = own.Flags&^wire.OwnSettingsMask | c.ask.Flags
		own.MutedUntil = c.ask.MutedUntil
		own.Version++
		m.tellOwn(v, c.user, own, origin)
	}
	if origin.Session != 0 {
		m.effects.Sent = append(m.effects.Sent, SentEffect{Origin: origin, Sequence: own.Version, Time: max(m.time, v.Time)})
	}
	return !same
}

// tellOwn tells a user's sessions, but for the one that it came from, what a conversation is
// to the user now.
func (m *machine) tellOwn(v *conversation, user wire.ID, own *storage.Own, from Origin) {
	if m.tell {
		m.effects.Own = append(m.effects.Own, OwnEffect{Conversation: v.key, User: user, Own: ownOf(own), From: from.Session, FromNode: from.Node})
	}
}

// ownOf is what a member is told of a conversation.
func ownOf(o *storage.Own) wire.Own {
	return wire.Own{Flags: o.Flags, Version: o.Version, MutedUntil: o.MutedUntil}
}
