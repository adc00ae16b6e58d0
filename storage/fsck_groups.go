package storage

import (
	"errors"

	"github.com/cockroachdb/pebble/v2"

	"parley/wire"
)

// read calls fn with the value of a key, which dies when fn returns.
func (c *checker) read(key []byte, fn func(value []byte) error) (bool, error) {
	value, closer, err := c.db.Get(key)
	if errors.Is(err, pebble.ErrNotFound) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	return true, errors.Join(fn(value), closer.Close())
}

// groupIndex holds a user's row of a group against the group's members.
func (s *slotChecker) groupIndex(u *UserIndex, slot wire.Slot) error {
	var m Member
	_, err := s.checker.read(appendMemberKey(nil, slot, u.Conversation, u.User), func(value []byte) error { return parseMember(value, &m) })
	if err == nil && u.Gone == (m.Role != wire.RoleNone) {
		err = damaged("gone is %t, the role is %d", u.Gone, m.Role)
	}
	return err
}

// membership checks a member's place in a group, and that none has one elsewhere.
func (s *slotChecker) membership(p parsedKey, c *checkedConversation, g *Membership) error {
	switch {
	case p.Conversation.Kind == wire.Direct && *g != (Membership{}):
		return damaged("has a role in a direct conversation")
	case p.Conversation.Kind == wire.Direct || g.Banned:
		return nil
	case g.Role == wire.RoleNone:
		return damaged("has no role in a group")
	case g.From == 0 || g.From > c.Head || g.Joined == 0 || g.Joined > c.Head:
		return damaged("sees a group from %d, joined at %d of %d", g.From, g.Joined, c.Head)
	}
	c.members++
	if g.Role == wire.RoleOwner {
		c.owner += p.User
	}
	listed, gone := false, false
	_, err := s.checker.read(appendUserIndexKey(nil, s.first, p.User, p.Conversation), func(value []byte) error {
		u, err := parseUserIndex(p.User, p.Conversation, value)
		listed, gone = true, u.Gone
		return err
	})
	if err == nil && (!listed || gone) {
		err = damaged("the user index does not have the group")
	}
	return err
}

// group holds a group's record against its members, which come before it.
func (s *slotChecker) group(p parsedKey, g *Group) error {
	c, ok := s.conversations[p.Conversation]
	if !ok {
		return damaged("there is no such conversation")
	}
	c.group = true
	if g.Members != c.members || g.Owner != c.owner {
		return damaged("says that it has %d members of which %v is the owner, it has %d and %v", g.Members, g.Owner, c.members, c.owner)
	}
	if g.Version == 0 || g.Version > c.Revision {
		return damaged("version %d at revision %d", g.Version, c.Revision)
	}
	return nil
}

func (s *slotChecker) outboxes(p parsedKey, m *Memory) error {
	c, ok := s.conversations[p.Conversation]
	if !ok {
		return damaged("there is no such conversation")
	}
	return checkMemory(m, c.Head)
}
