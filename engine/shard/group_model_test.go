package shard

import (
	"bytes"
	"fmt"
	"slices"

	"parley/wire"
)

// groupMember is a member in the naive model of a group.
type groupMember struct {
	role            wire.Role
	from, joined    uint64
	delivered, read uint64
}

// A stretch is what a user saw, or sees, of a group.
type stretch struct{ from, until uint64 }

const forEver = 1 << 60

// groupMessage is a message with who must be pushed it: who was a member before or after.
type groupMessage struct {
	author  wire.ID
	content []byte
	told    map[wire.ID]bool
}

// A naiveGroup is what groups promise, as plainly as it can be said.
type naiveGroup struct {
	id          wire.ID
	creation    [4]uint64
	flags       uint64
	texts       [3]string
	owner       wire.ID
	members     map[wire.ID]*groupMember
	banned      map[wire.ID]bool
	saw         map[wire.ID][]stretch
	boxes       map[outboxKey][]uint64 // sequences by counter
	messages    []groupMessage
	link        wire.Event
	linked      bool
	listed      map[wire.ID]bool // ever listed, and whether it is now
	memberships []MembershipEffect
}

func newNaiveGroup(id wire.ID) *naiveGroup {
	return &naiveGroup{id: id, members: map[wire.ID]*groupMember{}, banned: map[wire.ID]bool{}, saw: map[wire.ID][]stretch{},
		boxes: map[outboxKey][]uint64{}, listed: map[wire.ID]bool{}}
}

func (g *naiveGroup) head() uint64 { return uint64(len(g.messages)) }

func (g *naiveGroup) role(user wire.ID) wire.Role {
	if m := g.members[user]; m != nil {
		return m.role
	}
	return wire.RoleNone
}

// command gives the answer that a send, a change or a join must get.
func (g *naiveGroup) command(s *Send, now wire.Time) (sequence uint64, code wire.Code) {
	if len(s.Secret) > 0 {
		return g.join(s, now)
	}
	event, isEvent := s.Content.Event()
	if s.Event && event.Kind == wire.EventCreate {
		return g.create(s, &event)
	}
	key := outboxKey{s.Author, s.Device, s.Epoch}
	box := g.boxes[key]
	n := uint64(len(box))
	switch {
	case s.Counter <= n && n-s.Counter >= wire.DedupWindow:
		return 0, wire.CodeUnknownOutcome
	case s.Counter <= n && !bytes.Equal(g.messages[box[s.Counter-1]-1].content, s.Content.Bytes):
		return 0, wire.CodeReused
	case s.Counter <= n:
		return box[s.Counter-1], 0
	case n == 0 && g.role(s.Author) == wire.RoleNone:
		return 0, wire.CodeNotMember
	case s.Counter > n+1:
		return 0, wire.CodeOutOfOrder
	case g.role(s.Author) == wire.RoleNone:
		return 0, wire.CodeNotMember
	}
	if s.Event {
		code = g.permit(&event, s.Author)
	} else {
		code = g.mayWrite(s.Author, isEvent)
	}
	if code != 0 {
		return 0, code
	}
	g.append(s.Author, s.Content.Bytes)
	g.boxes[key] = append(box, g.head())
	if s.Event {
		g.change(&event, s.Author)
	}
	g.tell()
	g.moveTo(s.Author, g.head())
	return g.head(), 0
}

func (g *naiveGroup) mayWrite(user wire.ID, event bool) wire.Code {
	role := g.role(user)
	switch {
	case g.flags&wire.GroupBroadcast != 0 && role < wire.RoleModerator, role < wire.RoleMember:
		return wire.CodeForbidden
	case event:
		return wire.CodeUnsupported
	}
	return 0
}

func (g *naiveGroup) create(s *Send, e *wire.Event) (uint64, wire.Code) {
	creation := [4]uint64{uint64(s.Author), uint64(s.Device), s.Epoch, s.Counter}
	if g.head() > 0 {
		if creation != g.creation || !bytes.Equal(g.messages[0].content, s.Content.Bytes) {
			return 0, wire.CodeReused
		}
		return 1, 0
	}
	g.creation, g.flags, g.texts[0], g.owner = creation, e.Flags, e.Text, s.Author
	g.append(s.Author, s.Content.Bytes)
	g.admit(s.Author, wire.RoleOwner)
	for _, user := range e.Users {
		if user != s.Author {
			g.admit(user, wire.RoleMember)
		}
	}
	g.tell()
	g.moveTo(s.Author, 1)
	return 1, 0
}

func (g *naiveGroup) join(s *Send, now wire.Time) (uint64, wire.Code) {
	switch {
	case g.role(s.Author) != wire.RoleNone:
		return g.members[s.Author].joined, 0
	case !g.linked || g.link.Hash != wire.HashOfSecret(s.Secret) || g.link.Expires != 0 && now >= g.link.Expires:
		return 0, wire.CodeGone
	case g.banned[s.Author]:
		return 0, wire.CodeBanned
	}
	g.append(s.Author, wire.EventContent(wire.AppendEvent(nil, &wire.Event{Kind: wire.EventJoined})).Bytes)
	if g.link.Uses == 1 {
		g.linked = false
	}
	g.link.Uses -= min(1, g.link.Uses)
	g.admit(s.Author, wire.RoleMember)
	g.tell()
	g.moveTo(s.Author, g.head())
	return g.head(), 0
}

// append appends a message; tell notes its audience once it has had its effect.
func (g *naiveGroup) append(author wire.ID, content []byte) {
	m := groupMessage{author, bytes.Clone(content), map[wire.ID]bool{}}
	for user := range g.members {
		m.told[user] = true
	}
	g.messages = append(g.messages, m)
}

func (g *naiveGroup) tell() {
	for user := range g.members {
		g.messages[len(g.messages)-1].told[user] = true
	}
}

func (g *naiveGroup) moveTo(user wire.ID, position uint64) {
	if m := g.members[user]; m != nil {
		m.delivered, m.read = max(m.delivered, position), max(m.read, position)
	}
}

func (g *naiveGroup) admit(user wire.ID, role wire.Role) {
	m := &groupMember{role: role, from: g.head(), joined: g.head(), delivered: g.head() - 1, read: g.head() - 1}
	if g.flags&wire.GroupHistory != 0 {
		m.from = 1
	}
	g.members[user], g.listed[user] = m, true
	g.saw[user] = append(g.saw[user], stretch{m.from, forEver})
	g.memberships = append(g.memberships, MembershipEffect{g.id, user, role, m.from, 0})
}

func (g *naiveGroup) dismiss(user wire.ID) {
	m := g.members[user]
	delete(g.members, user)
	g.listed[user] = false
	saw := g.saw[user]
	saw[len(saw)-1].until = g.head()
	if user == g.owner {
		g.owner, g.linked = 0, false
	}
	g.memberships = append(g.memberships, MembershipEffect{g.id, user, wire.RoleNone, m.from, g.head()})
}

func (g *naiveGroup) setRole(user wire.ID, role wire.Role) {
	m := g.members[user]
	m.role = role
	g.memberships = append(g.memberships, MembershipEffect{g.id, user, role, m.from, 0})
}

func (g *naiveGroup) permit(e *wire.Event, author wire.ID) wire.Code {
	role := g.role(author)
	least := map[wire.EventKind]wire.Role{wire.EventTitle: wire.RoleAdmin, wire.EventDescription: wire.RoleAdmin, wire.EventPicture: wire.RoleAdmin,
		wire.EventSettings: wire.RoleAdmin, wire.EventLink: wire.RoleAdmin, wire.EventUnlink: wire.RoleAdmin, wire.EventAdd: wire.RoleModerator,
		wire.EventRemove: wire.RoleModerator, wire.EventBan: wire.RoleModerator, wire.EventUnban: wire.RoleModerator, wire.EventRole: wire.RoleAdmin,
		wire.EventOwner: wire.RoleOwner, wire.EventLeave: wire.RoleReader}[e.Kind]
	if e.Kind == wire.EventAdd && g.flags&wire.GroupMembersAdd != 0 ||
		e.Kind >= wire.EventTitle && e.Kind <= wire.EventPicture && g.flags&wire.GroupMembersEdit != 0 {
		least = wire.RoleMember
	}
	if role < least || e.Kind == wire.EventRole && e.Role >= role || e.Kind == wire.EventOwner && g.role(e.Users[0]) == wire.RoleNone {
		return wire.CodeForbidden
	}
	if e.Kind == wire.EventLeave && author == g.owner && len(g.members) > 1 {
		return wire.CodeLastOwner
	}
	for _, user := range e.Users {
		switch {
		case e.Kind == wire.EventAdd && g.banned[user]:
			return wire.CodeBanned
		case (e.Kind == wire.EventRemove || e.Kind == wire.EventBan || e.Kind == wire.EventRole) && g.role(user) >= role:
			return wire.CodeForbidden
		}
	}
	return 0
}

func (g *naiveGroup) change(e *wire.Event, author wire.ID) {
	switch e.Kind {
	case wire.EventTitle, wire.EventDescription, wire.EventPicture:
		g.texts[e.Kind-wire.EventTitle] = e.Text
	case wire.EventSettings:
		g.flags = e.Flags
	case wire.EventLink:
		g.link, g.linked = *e, true
	case wire.EventUnlink:
		g.linked = false
	case wire.EventLeave:
		g.dismiss(author)
	case wire.EventOwner:
		if e.Users[0] != author {
			g.setRole(e.Users[0], wire.RoleOwner)
			g.setRole(author, wire.RoleAdmin)
			g.owner = e.Users[0]
		}
	}
	for _, user := range e.Users {
		is := g.members[user] != nil
		switch {
		case e.Kind == wire.EventAdd && !is:
			g.admit(user, wire.RoleMember)
		case e.Kind == wire.EventRemove && is:
			g.dismiss(user)
		case e.Kind == wire.EventBan:
			if is {
				g.dismiss(user)
			}
			g.banned[user] = true
		case e.Kind == wire.EventUnban:
			delete(g.banned, user)
		case e.Kind == wire.EventRole && is && g.role(user) != e.Role:
			g.setRole(user, e.Role)
		}
	}
}

// cursor tells whether a cursor moves something.
func (g *naiveGroup) cursor(c *Cursor) (moved bool, code wire.Code) {
	m := g.members[c.User]
	if m == nil || c.Position > g.head() {
		return false, wire.CodeBadCursor
	}
	was := *m
	m.delivered = max(m.delivered, c.Position)
	if c.Kind == wire.Read {
		m.read = max(m.read, c.Position)
	}
	return *m != was, 0
}

// sees reports whether a user has ever been shown a sequence.
func (g *naiveGroup) sees(user wire.ID, sequence uint64) bool {
	return slices.ContainsFunc(g.saw[user], func(s stretch) bool { return s.from <= sequence && sequence <= s.until })
}

func (g *naiveGroup) String() string {
	return fmt.Sprintf("group %d: %d messages, %d members", g.id, g.head(), len(g.members))
}
