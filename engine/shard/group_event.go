package shard

import (
	"parley/storage"
	"parley/wire"
)

// target is the record of one of the users that an event is about.
func (m *machine) target(i int) *storage.Member {
	for len(m.targets) <= i {
		m.targets = append(m.targets, storage.Member{})
	}
	return &m.targets[i]
}

// loadTargets reads the records of the users that an event is about.
func (m *machine) loadTargets(v *conversation, users []wire.ID) error {
	for i, user := range users {
		t := m.target(i)
		if ok, err := m.w.MemberInto(v.key, user, t); err != nil {
			return err
		} else if !ok {
			forgetMember(t)
		}
	}
	return nil
}

// permit decides whether the author of an event may do it, to everybody that it is about:
// an event is done whole or not at all. The targets are loaded for change.
func (m *machine) permit(v *conversation, e *wire.Event, author wire.ID) (wire.Code, error) {
	if err := m.loadTargets(v, e.Users); err != nil {
		return 0, err
	}
	g, role := v.group, m.author.Role
	switch e.Kind {
	case wire.EventTitle, wire.EventDescription, wire.EventPicture:
		return need(role, wire.RoleAdmin, g.Flags&wire.GroupMembersEdit), nil
	case wire.EventSettings, wire.EventLink, wire.EventUnlink:
		return need(role, wire.RoleAdmin, 0), nil
	case wire.EventAdd:
		if code := need(role, wire.RoleModerator, g.Flags&wire.GroupMembersAdd); code != 0 {
			return code, nil
		}
		return m.permitAdd(v, len(e.Users)), nil
	case wire.EventRemove, wire.EventBan:
		if code := need(role, wire.RoleModerator, 0); code != 0 {
			return code, nil
		}
		return m.permitBelow(len(e.Users), role), nil
	case wire.EventUnban:
		return need(role, wire.RoleModerator, 0), nil
	case wire.EventRole:
		if need(role, wire.RoleAdmin, 0) != 0 || e.Role >= role {
			return wire.CodeForbidden, nil
		}
		return m.permitBelow(len(e.Users), role), nil
	case wire.EventOwner:
		if role != wire.RoleOwner || m.targets[0].Role == wire.RoleNone {
			return wire.CodeForbidden, nil
		}
		return 0, nil
	case wire.EventLeave:
		return m.permitLeave(v), nil
	}
	return wire.CodeMalformed, nil
}

// need refuses who has not the role, unless a flag of the group lets every member.
func need(role, least wire.Role, flag uint64) wire.Code {
	if flag != 0 {
		least = wire.RoleMember
	}
	if role < least {
		return wire.CodeForbidden
	}
	return 0
}

// permitAdd decides over the first targets as new members.
func (m *machine) permitAdd(v *conversation, users int) wire.Code {
	added := 0
	for i := range m.targets[:users] {
		if m.targets[i].Banned {
			return wire.CodeBanned
		}
		if m.targets[i].Role == wire.RoleNone {
			added++
		}
	}
	switch {
	case v.group.Members+uint64(added) > wire.GroupMembersMax:
		return wire.CodeGroupFull
	case !m.roomForRows(added):
		return wire.CodeOverloaded
	}
	return 0
}

// permitBelow decides whether the first targets are below a role.
func (m *machine) permitBelow(users int, role wire.Role) wire.Code {
	for i := range m.targets[:users] {
		if m.targets[i].Role >= role {
			return wire.CodeForbidden
		}
	}
	if !m.roomForRows(users) {
		return wire.CodeOverloaded
	}
	return 0
}

func (m *machine) permitLeave(v *conversation) wire.Code {
	switch {
	case m.author.Role == wire.RoleOwner && v.group.Members > 1:
		return wire.CodeLastOwner
	case !m.roomForRows(1):
		return wire.CodeOverloaded
	}
	return 0
}

// change does what a permitted event says, whose message is the conversation's head. Of the
// author only the record in memory is changed; who called writes it.
func (m *machine) change(v *conversation, e *wire.Event, author wire.ID) error {
	g := v.group
	switch e.Kind {
	case wire.EventTitle:
		g.Title = e.Text
	case wire.EventDescription:
		g.Description = e.Text
	case wire.EventPicture:
		g.Picture = e.Text
	case wire.EventSettings:
		g.Flags = e.Flags
	case wire.EventLink, wire.EventUnlink:
		g.Link = storage.Link{Hash: storage.LinkHash(e.Hash), Expires: e.Expires, Left: e.Uses}
		v.dirtyGroup = true
		return nil
	case wire.EventOwner:
		m.handOver(v, e.Users[0], author)
		return nil
	case wire.EventLeave:
		return m.end(v, author, &m.author, false)
	default:
		return m.changeMembers(v, e)
	}
	g.Version, v.dirtyGroup = v.Revision, true
	return nil
}

// changeMembers does what an event says to those whom it concerns, and passes over others.
func (m *machine) changeMembers(v *conversation, e *wire.Event) (err error) {
	for i, user := range e.Users {
		t := &m.targets[i]
		member := t.Role != wire.RoleNone
		switch {
		case err != nil:
			return err
		case e.Kind == wire.EventAdd && !member:
			err = m.join(v, user, wire.RoleMember, t)
		case e.Kind == wire.EventRemove && member:
			err = m.end(v, user, t, false)
		case e.Kind == wire.EventBan && member:
			err = m.end(v, user, t, true)
		case e.Kind == wire.EventBan && !t.Banned:
			m.ban(v, user, t)
		case e.Kind == wire.EventUnban && t.Banned:
			m.w.DeleteMember(v.key, user)
		case e.Kind == wire.EventRole && member && t.Role != e.Role:
			m.setRole(v, user, t, e.Role)
			m.w.PutMember(v.key, user, t)
		}
	}
	return err
}

// join makes a user a member, by the message at the head, and writes the new record.
func (m *machine) join(v *conversation, user wire.ID, role wire.Role, t *storage.Member) error {
	forgetMember(t)
	t.Membership = storage.Membership{Role: role, From: v.Head, Joined: v.Head, Since: v.Time}
	if v.group.Flags&wire.GroupHistory != 0 {
		t.From = 1
	}
	// What came before counts neither as unread nor, without a time, as read.
	t.Delivered.Position, t.Read.Position = v.Head-1, v.Head-1
	v.group.Members++
	v.dirtyGroup = true
	m.w.PutMember(v.key, user, t)
	m.putIndex(&storage.UserIndex{User: user, Conversation: v.key})
	m.member(v, user, t, 0)
	return m.list(user, v.key, v.Revision, false)
}

// end ends a membership, by the message at the head.
func (m *machine) end(v *conversation, user wire.ID, t *storage.Member, banned bool) error {
	owner := t.Role == wire.RoleOwner
	t.Role = wire.RoleNone
	v.group.Members--
	v.dirtyGroup = true
	if owner { // who was alone: nobody is left
		v.group.Owner, v.group.Link = 0, storage.Link{}
	}
	m.member(v, user, t, v.Head)
	if banned {
		m.ban(v, user, t)
	} else {
		m.w.DeleteMember(v.key, user)
	}
	m.putIndex(&storage.UserIndex{User: user, Conversation: v.key, Gone: true, Time: v.Time})
	return m.list(user, v.key, v.Revision, true)
}

func (m *machine) ban(v *conversation, user wire.ID, t *storage.Member) {
	forgetMember(t)
	t.Membership = storage.Membership{Banned: true, Joined: v.Head, Since: v.Time}
	m.w.PutMember(v.key, user, t)
}

// handOver makes another member the owner, and the owner an admin.
func (m *machine) handOver(v *conversation, user, author wire.ID) {
	if user == author {
		return
	}
	t := &m.targets[0]
	m.setRole(v, user, t, wire.RoleOwner)
	m.w.PutMember(v.key, user, t)
	m.setRole(v, author, &m.author, wire.RoleAdmin)
	v.group.Owner, v.dirtyGroup = user, true
}

// setRole changes a member's role in memory, and tells it.
func (m *machine) setRole(v *conversation, user wire.ID, t *storage.Member, role wire.Role) {
	t.Role = role
	m.member(v, user, t, 0)
}

// member tells of a membership as it is now; until is not 0 if it has ended.
func (m *machine) member(v *conversation, user wire.ID, t *storage.Member, until uint64) {
	if m.tell {
		m.effects.Memberships = append(m.effects.Memberships, MembershipEffect{Group: v.key.A, User: user, Role: t.Role, From: t.From, Until: until})
	}
}

// putIndex writes a user's row of a group: something has changed that concerns this user alone.
func (m *machine) putIndex(u *storage.UserIndex) {
	u.Changed = m.index
	m.recent.note(u.User, m.index)
	m.groupless.forget(u.User)
	m.w.PutUserIndex(u)
}
