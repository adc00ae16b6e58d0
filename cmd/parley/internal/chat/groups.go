package chat

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"parley/wire"
	"parley/wire/client"
)

// errNoGroup is what commands for groups say elsewhere.
var errNoGroup = errors.New("this is not a group: /group TITLE opens or makes one")

// groupCommands are listed by /help after the others.
var groupCommands = []command{
	{"group", "TITLE", "open the group of that title, or make it", (*session).group},
	{"invite", "NAME …", "add people to the group", func(s *session, names string) { s.people(names, wire.EventAdd, 0) }},
	{"remove", "NAME …", "remove people from the group", func(s *session, names string) { s.people(names, wire.EventRemove, 0) }},
	{"moderator", "NAME …", "let people remove others", func(s *session, names string) { s.people(names, wire.EventRole, wire.RoleModerator) }},
	{"title", "TEXT", "give the group another title", func(s *session, text string) { s.change(wire.Event{Kind: wire.EventTitle, Text: text}) }},
	{"who", "", "show the group's members and how far they have read", (*session).who},
	{"leave", "", "leave the group", func(s *session, _ string) { s.change(wire.Event{Kind: wire.EventLeave}) }},
}

// titleOf is a group's title as the list or an answer has told it, or its number.
func (s *session) titleOf(state *wire.ConversationState) string {
	if g, err := wire.ParseGroupItem(state.Extensions); err == nil && g.Title != "" {
		return g.Title
	}
	if title := s.titles[state.Ref]; title != "" {
		return title
	}
	return "group " + state.Ref.ID().String()
}

// withTitle does something that needs a group's title, which is asked for if the list does
// not have it: a new member is told of the group's head alone.
func (s *session) withTitle(ref wire.Ref, then func(title string)) {
	state := wire.ConversationState{Ref: ref}
	for _, known := range s.Client.Conversations() {
		if known.Ref == ref {
			state = known
		}
	}
	number := s.titleOf(&wire.ConversationState{Ref: ref})
	if title := s.titleOf(&state); title != number || s.titles[ref] != "" {
		then(title)
		return
	}
	var group wire.GroupState
	s.ask(func(ctx context.Context) (err error) {
		group, err = s.Client.Group(ctx, ref)
		return err
	}, func(err error) {
		if err != nil || group.Title == "" {
			then(number)
			return
		}
		s.titles[ref] = group.Title
		then(group.Title)
	})
}

// group opens the group of a title, or makes one.
func (s *session) group(title string) {
	if title == "" {
		s.notice("Say which: /group TITLE")
		return
	}
	var ref wire.Ref
	for _, state := range s.Client.Conversations() {
		if state.Ref.Group() && s.titleOf(&state) == title {
			ref = state.Ref
		}
	}
	s.opening = title
	var page wire.Page
	s.ask(func(ctx context.Context) (err error) {
		if ref == 0 {
			if ref, err = s.Client.CreateGroup(ctx, title, wire.GroupMembersAdd); err != nil {
				return err
			}
		}
		page, err = s.latest(ctx, ref)
		return err
	}, func(err error) {
		if err != nil {
			s.opening = ""
			s.notice("%v", err)
			s.release()
			return
		}
		s.nameAll(page.Messages, func() {
			s.opening = ""
			s.openedGroup(ref, title, page)
			s.release()
		})
	})
}

// nameAll finds the names of who wrote some messages, and of whom their events are about.
func (s *session) nameAll(messages []wire.PageMessage, then func()) {
	ids := []wire.ID{s.self}
	for i := range messages {
		ids = append(ids, messages[i].Author)
		if e, ok := messages[i].Content.Event(); ok {
			ids = append(ids, e.Users...)
		}
	}
	s.learn(ids, then)
}

// learn finds names that are not known yet; who has none is called by number.
func (s *session) learn(ids []wire.ID, then func()) {
	slices.Sort(ids)
	ids = slices.DeleteFunc(slices.Compact(ids), func(id wire.ID) bool { return id == 0 || s.names[id] != "" })
	if len(ids) == 0 {
		then()
		return
	}
	var users []wire.User
	s.ask(func(ctx context.Context) (err error) {
		users, err = s.Client.Users(ctx, ids...)
		return err
	}, func(error) {
		for _, id := range ids {
			s.names[id] = "user " + id.String()
		}
		for _, u := range users {
			s.names[u.ID] = u.Name
		}
		then()
	})
}

func (s *session) openedGroup(ref wire.Ref, title string, page wire.Page) {
	t := s.talk(ref)
	t.name, t.first, t.last = title, 0, 0
	s.current, s.isTyping = t, false
	t.open = slices.DeleteFunc(t.open, func(l *Line) bool { return l.Sequence != 0 })
	messages := page.Messages
	if s.History == 0 {
		messages = nil
	}
	s.notice("%s: the last %d of %d messages. /invite NAME adds people, /who shows them.", title, len(messages), page.Head)
	s.showPage(t, messages)
	t.last = max(t.last, page.Head)
	s.markRead(t)
	s.showStatus()
}

// change asks for a change of the current group.
func (s *session) change(event wire.Event) {
	if s.current == nil || !s.current.ref.Group() {
		s.notice("%v", errNoGroup)
		return
	}
	pending, err := s.Client.Change(s.current.ref, event)
	if err != nil {
		s.notice("Not done: %v", err)
		return
	}
	s.pending++
	go func() {
		<-pending.Done()
		_, err := pending.Result()
		select {
		case s.answers <- func() { s.changed(err) }:
		case <-s.ctx.Done():
		}
	}()
}

// changed tells of a change that was refused; one that was made comes as a message.
func (s *session) changed(err error) {
	s.pending--
	if err != nil {
		s.failed = true
		s.notice("Not done: %v", err)
	}
}

// people asks for a change that is about people.
func (s *session) people(names string, kind wire.EventKind, role wire.Role) {
	list := strings.Fields(names)
	switch {
	case s.current == nil || !s.current.ref.Group():
		s.notice("%v", errNoGroup)
		return
	case len(list) == 0:
		s.notice("Say whom, by name.")
		return
	}
	var users []wire.User
	s.ask(func(ctx context.Context) (err error) {
		users, err = s.Client.Resolve(ctx, list...)
		if err == nil && len(users) < len(list) {
			err = fmt.Errorf("%w among %s", ErrUnknownUser, names)
		}
		return err
	}, func(err error) {
		if err != nil {
			s.failed = true
			s.notice("Not done: %v", err)
			return
		}
		event := wire.Event{Kind: kind, Role: role}
		for _, u := range users {
			s.names[u.ID] = u.Name
			event.Users = append(event.Users, u.ID)
		}
		s.change(event)
	})
}

// who shows the members of the current group.
func (s *session) who(string) {
	t := s.current
	if t == nil || !t.ref.Group() {
		s.notice("%v", errNoGroup)
		return
	}
	var list wire.MemberList
	s.ask(func(ctx context.Context) (err error) {
		list, err = s.Client.Members(ctx, wire.Members{Ref: t.ref})
		return err
	}, func(err error) {
		if err != nil {
			s.notice("The members cannot be had: %v", err)
			return
		}
		ids := make([]wire.ID, len(list.Members))
		for i := range list.Members {
			ids[i] = list.Members[i].User
		}
		s.learn(ids, func() { s.showMembers(t, &list) })
	})
}

func (s *session) showMembers(t *talk, list *wire.MemberList) {
	var b strings.Builder
	fmt.Fprintf(&b, "%s: %d members", t.name, list.Total)
	for _, m := range list.Members {
		fmt.Fprintf(&b, "\n%-20s %-10s", s.names[m.User], m.Role)
		switch {
		case m.Read > 0:
			fmt.Fprintf(&b, " has read up to %d", m.Read)
		case m.Delivered > 0:
			fmt.Fprintf(&b, " has received up to %d", m.Delivered)
		}
	}
	if list.Flags&wire.MembersMore != 0 {
		b.WriteString("\n…")
	}
	s.notice("%s", b.String())
}

// groupMessage shows a message of the current group, once the names in it are known.
// Those that come meanwhile wait their turn.
func (s *session) groupMessage(t *talk, e *client.MessageEvent) {
	t.waiting = append(t.waiting, e)
	if !t.loading {
		s.groupMessages(t)
	}
}

func (s *session) groupMessages(t *talk) {
	if len(t.waiting) == 0 {
		t.loading = false
		return
	}
	e := t.waiting[0]
	ids := []wire.ID{e.Author}
	if event, ok := e.Content.Event(); ok {
		ids = append(ids, event.Users...)
	}
	t.loading = true
	s.learn(ids, func() {
		t.waiting = t.waiting[1:]
		s.showMessage(t, e)
		s.groupMessages(t)
	})
}

// elsewhereGroup tells of a message in a group that is not on the screen.
func (s *session) elsewhereGroup(e *client.MessageEvent) {
	s.withTitle(e.Ref, func(title string) {
		s.name(e.Author, func(name string) {
			s.notice("%s writes in %s; /group %s opens it", name, title, title)
		})
	})
}

// showEvent shows a change of a group.
func (s *session) showEvent(t *talk, author wire.ID, e *wire.Event) {
	who := s.names[author]
	var names []string
	for _, user := range e.Users {
		names = append(names, s.names[user])
	}
	people := strings.Join(names, ", ")
	switch e.Kind {
	case wire.EventCreate:
		s.notice("%s made the group %q", who, e.Text)
	case wire.EventTitle:
		t.name, s.titles[t.ref] = e.Text, e.Text
		s.notice("%s called the group %q", who, e.Text)
	case wire.EventAdd:
		s.notice("%s added %s", who, people)
	case wire.EventRemove, wire.EventBan:
		s.notice("%s removed %s", who, people)
	case wire.EventLeave:
		s.notice("%s left", who)
	case wire.EventJoined:
		s.notice("%s came by the link", who)
	case wire.EventRole:
		s.notice("%s made %s %s", who, people, e.Role)
	case wire.EventOwner:
		s.notice("%s gave the group to %s", who, people)
	default:
		s.notice("%s changed the group", who)
	}
}

// counts moves the ticks of what all members have received or read.
func (s *session) counts(e *client.CountsEvent) {
	t := s.talk(e.Ref)
	if e.Of == 0 {
		return
	}
	if e.Delivered >= e.Of {
		t.delivered = max(t.delivered, e.Position)
	}
	if e.Read >= e.Of {
		t.read = max(t.read, e.Position)
	}
	s.advance(t)
}
