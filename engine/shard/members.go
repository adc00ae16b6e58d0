package shard

import (
	"parley/storage"
	"parley/wire"
)

// Groups are the memberships of users in this shard's groups, as of a Raft index: what an
// edge must know of a user before it can fan a group's messages out. It costs one seek
// for a user without groups, and nothing the next time.
func (s *Shard) Groups(users []wire.ID) (memberships []MembershipEffect, index uint64, err error) {
	err = s.config.Store.View(func(r *storage.Reader) error {
		index = r.Applied().Index
		var m storage.Member
		for _, user := range users {
			err := s.userGroups(r, user, index, func(u storage.UserIndex) error {
				if u.Gone {
					return nil
				}
				_, err := r.MemberInto(u.Conversation, user, &m)
				memberships = append(memberships, MembershipEffect{Group: u.Conversation.A, User: user, Role: m.Role, From: m.From})
				return err
			})
			if err != nil {
				return err
			}
		}
		return nil
	})
	return memberships, index, err
}

// userGroups calls fn for the groups of a user, as a reader at an index sees them.
func (s *Shard) userGroups(r *storage.Reader, user wire.ID, index uint64, fn func(storage.UserIndex) error) error {
	m := &s.machine
	if m.groupless.has(user) {
		return nil
	}
	found := false
	err := r.UserGroups(user, func(u storage.UserIndex) error {
		found = true
		return fn(u)
	})
	if err == nil && !found {
		m.groupless.note(user, index, m.recent)
	}
	return err
}

// groupState reads a group as a member's list shows it: unread is all after the read cursor,
// which one's own messages take along. Of a group that the user has left it says that alone.
func groupState(r *storage.Reader, user wire.ID, c wire.Conversation) (v wire.ConversationState, ok bool, err error) {
	var item wire.GroupItem
	v.Ref = c.Ref(user)
	m, _, err := r.Member(c, user)
	if err != nil {
		return v, false, err
	}
	if m.Role == wire.RoleNone {
		u, ok, err := r.IndexRow(user, c)
		v.Time, v.Extensions = u.Time, item.Block()
		return v, ok, err
	}
	record, _, err := r.Conversation(c)
	if err != nil {
		return v, false, err
	}
	group, _, err := r.Group(c)
	v.Head, v.Revision, v.Time = record.Head, record.Revision, record.Time
	v.Delivered, v.Read = m.Delivered.Position, m.Read.Position
	v.Unread = record.Head - min(record.Head, max(m.Read.Position, m.From-1))
	item = wire.GroupItem{Own: ownOf(&m.Own), Members: group.Members, Role: m.Role, From: m.From, Title: group.Title}
	v.Extensions = item.Block()
	return v, true, err
}

// notMember is the answer to who has no business with a group, whether there is one or not.
func notMember(correlation uint64) error {
	return &wire.Error{Correlation: correlation, Code: wire.CodeNotMember}
}

// viewGroup reads a group for one of its members; anybody else learns NOT_MEMBER. What
// decides and what is read are of one moment.
func (s *Shard) viewGroup(user wire.ID, ref wire.Ref, correlation uint64, fn func(r *storage.Reader, c wire.Conversation, m *storage.Member) error) error {
	if !ref.Group() {
		return notMember(correlation)
	}
	c := ref.Conversation(user)
	return s.view(c.Slot(), func(r *storage.Reader) error {
		m, _, err := r.Member(c, user)
		if err == nil && m.Role == wire.RoleNone {
			err = notMember(correlation)
		}
		if err != nil {
			return err
		}
		return fn(r, c, &m)
	})
}

// GroupState answers GROUP_INFO.
func (s *Shard) GroupState(user wire.ID, q wire.GroupInfo) (v wire.GroupState, err error) {
	err = s.viewGroup(user, q.Ref, q.Correlation, func(r *storage.Reader, c wire.Conversation, m *storage.Member) error {
		g, _, err := r.Group(c)
		v = wire.GroupState{Correlation: q.Correlation, Ref: q.Ref, Flags: g.Flags, Members: g.Members, Role: m.Role, From: m.From,
			Version: g.Version, Created: g.Created, Title: g.Title, Description: g.Description, Picture: g.Picture}
		return err
	})
	return v, err
}

// Members answers MEMBERS: a page costs the same in a group of any size. In a broadcast
// group nobody's cursors are told but one's own.
func (s *Shard) Members(user wire.ID, q wire.Members) (list wire.MemberList, err error) {
	limit := int(q.Limit)
	if limit == 0 || limit > wire.MembersMax {
		limit = wire.MembersMax
	}
	list.Correlation = q.Correlation
	err = s.viewGroup(user, q.Ref, q.Correlation, func(r *storage.Reader, c wire.Conversation, _ *storage.Member) error {
		g, _, err := r.Group(c)
		if err != nil {
			return err
		}
		list.Total = g.Members
		return r.Members(c, q.After, func(member wire.ID, m *storage.Member) (bool, error) {
			switch {
			case m.Role == wire.RoleNone:
				return true, nil
			case len(list.Members) == limit:
				list.Flags |= wire.MembersMore
				return false, nil
			}
			item := wire.Member{User: member, Role: m.Role, From: m.From}
			if g.Flags&wire.GroupBroadcast == 0 || member == user {
				item.Delivered, item.DeliveredTime, item.DeliveredBy = passed(&m.Delivered, m.Joined, q.Position)
				item.Read, item.ReadTime, item.ReadBy = passed(&m.Read, m.Joined, q.Position)
			}
			list.Members = append(list.Members, item)
			return true, nil
		})
	})
	return list, err
}

// passed is where a member's cursor is and when it got there, or when it passed a position
// if that is not 0; by says that it was no later than that, since the steps of that time are
// forgotten. Below the joining it never was: what came before is nobody's receipt.
func passed(c *storage.Cursor, joined, position uint64) (at uint64, time wire.Time, by bool) {
	if c.Position < joined {
		return 0, 0, false
	}
	if position == 0 {
		position = c.Position
	}
	if position < joined || position > c.Position {
		return c.Position, 0, false
	}
	for i, step := range c.Steps {
		if step.Position >= position {
			by = i == 0 && len(c.Steps) == storage.StepsMax && step.Position > position
			return c.Position, step.Time, by
		}
	}
	return c.Position, 0, false
}
