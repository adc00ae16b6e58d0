package client

import (
	"maps"
	"slices"

	"parley/wire"
)

// A worldGroup is what the world knows of a group beside its messages.
type worldGroup struct {
	title string
	flags uint64
	roles map[wire.ID]wire.Role
	stays map[wire.ID][]stay
}

// A stay is what a member sees: to is 0 as long as it lasts.
type stay struct {
	from, to uint64
	index    uint64 // of the world, at its end
}

// A worldCreation names what made a group.
type worldCreation struct {
	user, device wire.ID
	epoch        uint64
	counter      uint64
}

// firstGroup is where the identifiers of groups begin, beyond those of users.
const firstGroup = 100_000

func (w *world) newGroupLog() *worldLog {
	w.applied++
	log := w.log(wire.Conversation{Kind: wire.Group, A: wire.ID(firstGroup + w.applied)})
	log.group = &worldGroup{roles: map[wire.ID]wire.Role{}, stays: map[wire.ID][]stay{}}
	clear(log.cursors)
	return log
}

// groups are those that there are, in a fixed order.
func (w *world) groups() []*worldLog {
	return slices.DeleteFunc(w.allLogs(), func(l *worldLog) bool { return l.group == nil })
}

// make makes a group, once for each number of an outbox.
func (w *world) make(p *peer, epoch uint64, s *wire.Send) {
	name := worldCreation{p.user, p.device, epoch, s.Counter}
	log := w.creations[name]
	event, _ := s.Content.Event()
	switch {
	case log == nil && slices.ContainsFunc(event.Users, func(id wire.ID) bool { return w.users[id] == "" }):
		p.fail(s.Correlation, wire.CodeUnknownUser, 0)
		return
	case log == nil:
		log = w.newGroupLog()
		w.creations[name] = log
		w.append(log, p.user, s.Content, p)
	case !sameContent(log.messages[0].Content, s.Content):
		p.fail(s.Correlation, wire.CodeReused, 0)
		return
	}
	if w.chance(w.faults.timeoutSend) {
		p.fail(s.Correlation, wire.CodeTimeout, 0)
		return
	}
	p.out = wire.AppendCreated(p.out, &wire.Created{Correlation: s.Correlation, Ref: log.conversation.Ref(p.user), Sequence: 1, Time: log.messages[0].Time})
}

// refuses decides whether a user may say something, 0 if so.
func (w *world) refuses(log *worldLog, user wire.ID, content wire.Content) wire.Code {
	if log.group == nil {
		if w.users[log.conversation.Peer(user)] == "" {
			return wire.CodeUnknownUser
		}
		return 0
	}
	role := log.group.roles[user]
	e, ok := content.Event()
	lower := !slices.ContainsFunc(e.Users, func(id wire.ID) bool { return log.group.roles[id] >= role })
	known := !slices.ContainsFunc(e.Users, func(id wire.ID) bool { return w.users[id] == "" })
	permitted := true
	switch e.Kind {
	case wire.EventRemove, wire.EventBan:
		permitted = role >= wire.RoleModerator && lower
	case wire.EventRole:
		permitted = role >= wire.RoleAdmin && lower && e.Role < role
	case wire.EventTitle:
		permitted = role >= wire.RoleAdmin
	}
	switch {
	case role == wire.RoleNone:
		return wire.CodeNotMember
	case !permitted || !ok && role < wire.RoleMember:
		return wire.CodeForbidden
	case !known:
		return wire.CodeUnknownUser
	case e.Kind == wire.EventLeave && role == wire.RoleOwner && len(log.group.roles) > 1:
		return wire.CodeLastOwner
	}
	return 0
}

// change does what a message does beside being one: it moves its author's cursors, and if
// it is an event, it changes the group.
func (w *world) change(log *worldLog, m *wire.PageMessage) {
	if log.group == nil {
		return
	}
	before := log.members()
	log.group.apply(m, w.index)
	for _, user := range log.members() {
		if !slices.Contains(before, user) || log.cursors[user] == nil {
			log.cursors[user] = &[2]uint64{m.Sequence - 1, m.Sequence - 1}
		}
	}
	if c := log.cursors[m.Author]; c != nil {
		*c = [2]uint64{m.Sequence, m.Sequence}
	}
}

// replay makes a group of the messages that are left of it; false if none are.
func (w *world) replay(log *worldLog) bool {
	log.group.roles, log.group.stays = map[wire.ID]wire.Role{}, map[wire.ID][]stay{}
	for i := range log.messages {
		log.group.apply(&log.messages[i], w.index)
	}
	if log.head() > 0 {
		return true
	}
	delete(w.logs, log.conversation)
	maps.DeleteFunc(w.creations, func(_ worldCreation, other *worldLog) bool { return other == log })
	return false
}

// raise moves the cursors of members to what they wrote, and to where they came in.
func (l *worldLog) raise() {
	if l.group == nil {
		return
	}
	for user, stays := range l.group.stays {
		least := stays[len(stays)-1].from - 1
		for _, m := range l.messages {
			if m.Author == user {
				least = max(least, m.Sequence)
			}
		}
		for kind := range l.cursors[user] {
			l.cursors[user][kind] = max(l.cursors[user][kind], least)
		}
	}
}

func (g *worldGroup) apply(m *wire.PageMessage, index uint64) {
	e, ok := m.Content.Event()
	if !ok {
		return
	}
	switch e.Kind {
	case wire.EventCreate:
		g.title, g.flags = e.Text, e.Flags
		g.enter(m.Author, wire.RoleOwner, m.Sequence)
		g.enterAll(e.Users, m.Sequence)
	case wire.EventTitle:
		g.title = e.Text
	case wire.EventAdd:
		g.enterAll(e.Users, m.Sequence)
	case wire.EventRemove, wire.EventBan:
		for _, user := range e.Users {
			g.end(user, m.Sequence, index)
		}
	case wire.EventLeave:
		g.end(m.Author, m.Sequence, index)
	case wire.EventRole:
		for _, user := range e.Users {
			if g.roles[user] > 0 {
				g.roles[user] = e.Role
			}
		}
	}
}

func (g *worldGroup) enterAll(users []wire.ID, sequence uint64) {
	for _, user := range users {
		if g.roles[user] == 0 {
			g.enter(user, wire.RoleMember, sequence)
		}
	}
}

func (g *worldGroup) enter(user wire.ID, role wire.Role, sequence uint64) {
	g.roles[user] = role
	if g.flags&wire.GroupHistory != 0 {
		sequence = 1
	}
	g.stays[user] = append(g.stays[user], stay{from: sequence})
}

func (g *worldGroup) end(user wire.ID, sequence, index uint64) {
	if stays := g.stays[user]; g.roles[user] > 0 {
		delete(g.roles, user)
		stays[len(stays)-1].to, stays[len(stays)-1].index = sequence, index
	}
}

// members are who sees what is said now.
func (l *worldLog) members() []wire.ID {
	if l.group == nil {
		return []wire.ID{l.conversation.A, l.conversation.B}
	}
	return slices.Sorted(maps.Keys(l.group.roles))
}

func (l *worldLog) member(user wire.ID) bool {
	if l.group == nil {
		return l.conversation.Member(user)
	}
	return l.group.roles[user] > 0
}

// from is the first message that a member sees.
func (l *worldLog) from(user wire.ID) uint64 {
	if l.group == nil {
		return 1
	}
	stays := l.group.stays[user]
	return stays[len(stays)-1].from
}

// visible reports whether a member sees a message now.
func (l *worldLog) visible(user wire.ID, sequence uint64) bool {
	return l.member(user) && sequence >= l.from(user) && sequence <= l.head()
}

// told are those who learn that a user's cursor has moved.
func (l *worldLog) told(user wire.ID) []wire.ID {
	if l.group == nil {
		return l.members()
	}
	return []wire.ID{user}
}

// listed reports whether a sync tells a user of the conversation: of a group that was left
// since then, too.
func (l *worldLog) listed(user wire.ID, since uint64) bool {
	if l.member(user) {
		return true
	}
	if l.group == nil || len(l.group.stays[user]) == 0 {
		return false
	}
	stays := l.group.stays[user]
	return since > 0 && stays[len(stays)-1].index > since
}

// groupState is what a sync says of a group.
func (l *worldLog) groupState(user wire.ID) wire.ConversationState {
	if !l.member(user) {
		stays := l.group.stays[user]
		head := min(stays[len(stays)-1].to, l.head())
		item := wire.GroupItem{From: stays[len(stays)-1].from}
		return wire.ConversationState{Ref: l.conversation.Ref(user), Head: head, Revision: head, Extensions: item.Block()}
	}
	own := l.cursors[user]
	s := wire.ConversationState{Ref: l.conversation.Ref(user), Head: l.head(), Revision: l.head(), Time: l.messages[l.head()-1].Time,
		Delivered: own[wire.Delivered], Read: own[wire.Read]}
	for _, m := range l.messages[max(s.Read, l.from(user)-1):] {
		if m.Author != user {
			s.Unread++
		}
	}
	item := wire.GroupItem{Members: uint64(len(l.group.roles)), Role: l.group.roles[user], From: l.from(user), Title: l.group.title}
	s.Extensions = item.Block()
	return s
}
