package chat

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"parley/wire"
	"parley/wire/client"
)

// event does what follows from something that the server or the connection did.
func (s *session) event(e client.Event) {
	switch e := e.(type) {
	case *client.MessageEvent:
		s.message(e)
	case *client.ReceiptEvent:
		s.receipt(e)
	case *client.CountsEvent:
		s.counts(e)
	case *client.TypingEvent:
		if s.current != nil && e.Ref == s.current.ref && e.Author != s.self {
			s.typist = ""
			if e.Ref.Group() {
				s.typist = s.names[e.Author]
			}
			s.setTyping(true)
		}
	case *client.ConversationEvent:
		s.cursors(e.State)
	case *client.GapEvent:
		s.notice("Messages %d to %d cannot be had from the server: %v", e.From, e.To, e.Err)
	case *client.ConnectionEvent:
		s.connection(e)
	}
}

// talk finds or begins the record of a conversation.
func (s *session) talk(ref wire.Ref) *talk {
	t := s.talks[ref]
	if t == nil {
		t = &talk{ref: ref}
		s.talks[ref] = t
	}
	return t
}

// cursors takes the other's cursors from the state of a conversation.
func (s *session) cursors(state wire.ConversationState) {
	t := s.talk(state.Ref)
	t.delivered, t.read = max(t.delivered, state.OtherDelivered), max(t.read, state.OtherRead)
	s.advance(t)
}

func (s *session) receipt(e *client.ReceiptEvent) {
	t := s.talk(e.Ref)
	switch e.Kind {
	case wire.Delivered:
		t.delivered = max(t.delivered, e.Position)
	case wire.Read:
		t.read = max(t.read, e.Position)
	}
	s.advance(t)
}

func (s *session) message(e *client.MessageEvent) {
	t := s.talk(e.Ref)
	switch {
	case s.opening != "":
		s.held = append(s.held, e) // the history that is being read may have it, too
	case t != s.current:
		if e.Author != s.self {
			s.elsewhere(e)
		}
	case t.ref.Group():
		s.groupMessage(t, e)
	default:
		s.showMessage(t, e)
	}
}

// showMessage shows a message of the current conversation, once.
func (s *session) showMessage(t *talk, e *client.MessageEvent) {
	if e.Sequence <= t.last {
		return
	}
	t.last = e.Sequence
	if t.first == 0 {
		t.first = e.Sequence
	}
	if event, ok := e.Content.Event(); ok {
		s.showEvent(t, e.Author, &event)
		s.markRead(t)
		return
	}
	if e.Sent {
		return // on the screen since it was written
	}
	s.showLine(t, e.Sequence, e.Author, e.Time, e.Content, false)
	if e.Author != s.self {
		s.setTyping(false)
		s.markRead(t)
	}
}

// showLine shows a message and follows its ticks if it is ours.
func (s *session) showLine(t *talk, sequence uint64, author wire.ID, at wire.Time, c wire.Content, old bool) {
	if _, ok := c.Event(); ok {
		return // shown as what it did
	}
	l := &Line{Sequence: sequence, Time: at.Time().Local(), Author: t.name, Text: contentText(c), Old: old}
	if t.ref.Group() {
		l.Author = s.names[author]
	}
	if author == s.self {
		l.Author, l.Status = s.names[s.self], Sent
		switch {
		case sequence <= t.read:
			l.Status = Read
		case sequence <= t.delivered:
			l.Status = Delivered
		}
		if l.Status != Read {
			t.open = append(t.open, l)
		}
	}
	s.View.Show(l)
}

// markRead says that what is on the screen was read.
func (s *session) markRead(t *talk) {
	if t.last > 0 {
		// The client keeps the cursor and sends it again until the server has it.
		_ = s.Client.Read(t.ref, t.last)
	}
}

// contentText is what a person sees of a message. What has an extension that this
// program must understand and does not is not shown in part.
func contentText(c wire.Content) string {
	extensions, body, err := c.Body()
	if err == nil {
		err = wire.Extensions(extensions, func(tag wire.Tag, _ []byte) error {
			if tag%2 == 1 {
				return errors.New("must be understood")
			}
			return nil
		})
	}
	if err != nil {
		return "(a message that this program cannot show)"
	}
	return string(body)
}

// elsewhere tells of a message in another conversation.
func (s *session) elsewhere(e *client.MessageEvent) {
	if e.Ref.Group() {
		s.elsewhereGroup(e)
		return
	}
	s.name(e.Author, func(name string) {
		s.notice("%s writes to you; /with %s answers", name, name)
	})
}

// name finds a user's name, here or at the server.
func (s *session) name(id wire.ID, then func(name string)) {
	if name, ok := s.names[id]; ok {
		then(name)
		return
	}
	var users []wire.User
	s.ask(func(ctx context.Context) (err error) {
		users, err = s.Client.Users(ctx, id)
		return err
	}, func(error) {
		name := "user " + id.String()
		for _, u := range users {
			name = u.Name
			s.names[u.ID] = u.Name
		}
		then(name)
	})
}

func (s *session) connection(e *client.ConnectionEvent) {
	switch e.State {
	case client.Offline:
		s.away = "offline" + cause(e.Err)
		if wait := time.Until(e.Retry).Round(time.Second); wait > 0 {
			s.away += fmt.Sprintf(", next attempt in %v", wait)
		}
		s.away += "; what you write is kept"
		s.isTyping = false
	case client.Live:
		s.away = ""
	}
	s.showStatus()
}

// cause is the innermost reason for a lost connection: there is one row for it.
func cause(err error) string {
	if err == nil {
		return ""
	}
	text := err.Error()
	return " (" + strings.TrimSpace(text[strings.LastIndex(text, ": ")+1:]) + ")"
}

func (s *session) setTyping(on bool) {
	if on {
		s.writing.Reset(wire.TypingSeconds * time.Second)
	}
	s.isTyping = on
	s.showStatus()
}

func (s *session) showStatus() {
	switch {
	case s.leaving:
		s.View.Status(fmt.Sprintf("not yet on the server: %d of your messages. Leave again to lose them.", s.pending))
	case s.away != "":
		s.View.Status(s.away)
	case s.isTyping && s.current != nil:
		s.View.Status(cmp.Or(s.typist, s.current.name) + " is writing …")
	default:
		s.View.Status("")
	}
}
