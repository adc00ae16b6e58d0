package chat

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"parley/wire"
)

// A command is what a line that begins with a slash does.
type command struct {
	name, argument, doc string
	run                 func(s *session, argument string)
}

// commands are listed by /help in this order. They are filled in by init, because help
// reads them.
var commands []command

func init() {
	commands = []command{
		{"help", "", "show the commands", (*session).help},
		{"with", "NAME", "talk to somebody else", func(s *session, name string) { s.with(name, false) }},
		{"list", "", "show your conversations, the latest first", (*session).list},
		{"history", "[N]", "show N older messages", (*session).history},
		{"status", "", "show who you are and how you are connected", (*session).showState},
		{"quit", "", "end the chat", func(s *session, _ string) { s.leave() }},
	}
	commands = append(commands, groupCommands...)
}

// entered does what a finished line says.
func (s *session) entered(line string) {
	switch {
	case s.opening != "":
		s.backlog = append(s.backlog, line)
	case strings.TrimSpace(line) == "":
	case strings.HasPrefix(line, "//"):
		s.say(line[1:])
	case strings.HasPrefix(line, "/"):
		name, argument, _ := strings.Cut(line[1:], " ")
		s.command(name, strings.TrimSpace(argument))
	default:
		s.say(line)
	}
}

func (s *session) say(text string) {
	if s.current == nil {
		s.failed = true
		s.notice("Not sent: choose whom to talk to first, with /with NAME.")
		return
	}
	s.send(text)
}

func (s *session) command(name, argument string) {
	for _, c := range commands {
		if c.name == name {
			c.run(s, argument)
			return
		}
	}
	s.notice("There is no command /%s; /help shows them. To send a message that begins with a slash, write two.", name)
}

func (s *session) help(string) {
	var b strings.Builder
	for _, c := range commands {
		fmt.Fprintf(&b, "%-14s %s\n", strings.TrimSpace("/"+c.name+" "+c.argument), c.doc)
	}
	b.WriteString("//text         send a message that begins with a slash\n")
	b.WriteString("✓ sent   ✓✓ delivered   ✓✓ in colour, or ✓R without colours: read")
	s.notice("%s", b.String())
}

func (s *session) showState(string) {
	state := "connected"
	if s.away != "" {
		state = s.away
	}
	s.notice("%s, user %s; %s; %d messages on their way", s.names[s.self], s.self, state, s.pending)
}

// with opens the conversation with a user; the chat ends if the first cannot be found.
func (s *session) with(name string, first bool) {
	if name == "" {
		s.notice("Say with whom: /with NAME")
		return
	}
	s.opening = name
	var users []wire.User
	var page wire.Page
	s.ask(func(ctx context.Context) error {
		found, err := s.Client.Resolve(ctx, name)
		if err != nil {
			return err
		}
		if len(found) == 0 {
			return fmt.Errorf("%w: %q", ErrUnknownUser, name)
		}
		users = found[:1]
		if found[0].ID == s.self {
			return ErrSelf
		}
		// One's own name, as the server has it.
		if self, err := s.Client.Users(ctx, s.self); err == nil {
			users = append(users, self...)
		}
		page, err = s.latest(ctx, wire.DirectRef(found[0].ID))
		return err
	}, func(err error) {
		s.opening = ""
		switch {
		case err != nil && first:
			s.end(err)
		case err != nil:
			s.notice("%v", err)
		default:
			s.opened(users, page)
		}
		if !s.done {
			s.release()
		}
	})
}

// release does what waited for a conversation to be opened.
func (s *session) release() {
	lines, messages := s.backlog, s.held
	s.backlog, s.held = nil, nil
	for _, e := range messages {
		s.message(e)
	}
	for _, line := range lines {
		s.entered(line)
	}
}

// latest reads the last messages of a conversation; one that does not exist yet has none.
func (s *session) latest(ctx context.Context, ref wire.Ref) (wire.Page, error) {
	page, err := s.Client.History(ctx, wire.History{Ref: ref, Mode: wire.HistoryBackward, Limit: uint64(max(s.History, 1))})
	var refused *wire.Error
	if errors.As(err, &refused) && refused.Code == wire.CodeNotMember {
		return wire.Page{}, nil
	}
	return page, err
}

// opened makes a conversation the current one and shows its last messages.
func (s *session) opened(users []wire.User, page wire.Page) {
	for _, u := range users {
		s.names[u.ID] = u.Name
	}
	t := s.talk(wire.DirectRef(users[0].ID))
	t.name, t.first, t.last = users[0].Name, 0, 0
	s.current = t
	s.isTyping = false
	// What stands further up belongs to the past; what has no sequence is still on its way.
	t.open = slices.DeleteFunc(t.open, func(l *Line) bool { return l.Sequence != 0 })
	for _, state := range s.Client.Conversations() {
		s.cursors(state)
	}
	if s.names[s.self] == "" {
		s.names[s.self] = "you"
	}
	messages := page.Messages
	if s.History == 0 {
		messages = nil
	}
	if len(messages) == 0 {
		s.notice("%s and %s. /help shows what else there is.", s.names[s.self], t.name)
	} else {
		s.notice("%s and %s: the last %d of %d messages", s.names[s.self], t.name, len(messages), page.Head)
	}
	s.showPage(t, messages)
	t.last = max(t.last, page.Head)
	s.markRead(t)
	s.showStatus()
}

func (s *session) showPage(t *talk, messages []wire.PageMessage) {
	for i := range messages {
		m := &messages[i]
		author := m.Author
		if author == 0 {
			author = t.ref.ID()
		}
		if e, ok := m.Content.Event(); ok {
			s.showEvent(t, author, &e)
		}
		if t.first == 0 || m.Sequence < t.first {
			t.first = m.Sequence
		}
		t.last = max(t.last, m.Sequence)
		s.showLine(t, m.Sequence, author, m.Time, m.Content, true)
	}
}

// history shows messages that are older than those shown.
func (s *session) history(argument string) {
	t := s.current
	n := uint64(historyDefault)
	if argument != "" {
		var err error
		if n, err = strconv.ParseUint(argument, 10, 64); err != nil || n < 1 || n > wire.HistoryMessagesMax {
			s.notice("/history takes a number from 1 to %d.", wire.HistoryMessagesMax)
			return
		}
	}
	if t == nil {
		s.notice("Choose whom to talk to first, with /with NAME.")
		return
	}
	before := t.first
	if before <= 1 && before == t.last || before == 1 {
		s.notice("That is all there is.")
		return
	}
	var page wire.Page
	s.ask(func(ctx context.Context) (err error) {
		page, err = s.Client.History(ctx, wire.History{Ref: t.ref, Mode: wire.HistoryBackward, Sequence: before, Limit: n})
		return err
	}, func(err error) {
		switch {
		case err != nil:
			s.notice("The history cannot be read: %v", err)
		case len(page.Messages) == 0:
			s.notice("That is all there is.")
		default:
			s.notice("older: %d messages", len(page.Messages))
			s.showPage(t, page.Messages)
			s.notice("now")
		}
	})
}

// list shows the conversations, with the names of the others.
func (s *session) list(string) {
	states := s.Client.Conversations()
	if len(states) == 0 {
		s.notice("No conversation yet; /with NAME begins one.")
		return
	}
	states = states[:min(len(states), wire.UsersMax)]
	var ids []wire.ID
	for i := range states {
		if !states[i].Ref.Group() {
			ids = append(ids, states[i].Ref.ID())
		}
	}
	var users []wire.User
	s.ask(func(ctx context.Context) (err error) {
		users, err = s.Client.Users(ctx, ids...)
		return err
	}, func(err error) {
		if err != nil {
			s.notice("The names cannot be had: %v", err)
		}
		for _, u := range users {
			s.names[u.ID] = u.Name
		}
		var b strings.Builder
		for _, state := range states {
			name := s.names[state.Ref.ID()]
			switch {
			case state.Ref.Group():
				name = s.titleOf(&state)
			case name == "":
				name = "user " + state.Ref.ID().String()
			}
			fmt.Fprintf(&b, "%-20s %d messages, %d unread, last %s\n", name, state.Head, state.Unread,
				state.Time.Time().Local().Format(time.DateTime))
		}
		s.notice("%s", strings.TrimSuffix(b.String(), "\n"))
	})
}
