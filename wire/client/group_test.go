package client_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"parley/wire"
	"parley/wire/client"
)

// withCarol adds a third user to a server.
func withCarol(t *testing.T, s *server) {
	t.Helper()
	id, err := s.node.CreateUser(t.Context(), "carol", nil)
	if err != nil {
		t.Fatal(err)
	}
	s.ids["carol"] = id
}

// said awaits an event of a group, of a kind.
func said(t *testing.T, c *client.Client, ref wire.Ref, kind wire.EventKind) (*client.MessageEvent, wire.Event) {
	t.Helper()
	var event wire.Event
	m := await(t, c, func(e *client.MessageEvent) bool {
		var ok bool
		event, ok = e.Content.Event()
		return ok && e.Ref == ref && event.Kind == kind
	})
	return m, event
}

// done awaits the outcome of what was queued.
func done(t *testing.T, p *client.Pending, err error) (client.Sent, error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
	select {
	case <-p.Done():
	case <-time.After(patience):
		t.Fatal("no outcome")
	}
	return p.Result()
}

func refusedWith(err error, code wire.Code) bool {
	var refused *wire.Error
	return errors.As(err, &refused) && refused.Code == code
}

// A group from its making to the day that somebody leaves it, on a real node.
func TestServerMembersOfAGroupConverse(t *testing.T) {
	s := start(t)
	withCarol(t, s)
	a, b := open(t, s.options("alice", 1)), open(t, s.options("bob", 2))
	ref, err := a.CreateGroup(t.Context(), "tea", wire.GroupMembersEdit, b.User())
	if err != nil {
		t.Fatal(err)
	}
	if m, e := said(t, b, ref, wire.EventCreate); m.Sequence != 1 || m.Author != a.User() || e.Text != "tea" {
		t.Errorf("%+v %+v", m, e)
	}
	sent, err := b.Send(t.Context(), ref, wire.Text("when?"))
	if err != nil || sent.Sequence != 2 || sent.Ref != ref {
		t.Fatal(sent, err)
	}
	if m := await(t, a, func(e *client.MessageEvent) bool { return e.Sequence == 2 }); m.Ref != ref || m.Author != b.User() {
		t.Errorf("%+v", m)
	}
	p, err := b.Change(ref, wire.Event{Kind: wire.EventTitle, Text: "tea at five"})
	if sent, err := done(t, p, err); err != nil || sent.Sequence != 3 {
		t.Error(sent, err)
	}
	said(t, a, ref, wire.EventTitle)
	if g, err := a.Group(t.Context(), ref); err != nil || g.Title != "tea at five" || g.Members != 2 || g.Role != wire.RoleOwner {
		t.Error(g, err)
	}
	list, err := a.Members(t.Context(), wire.Members{Ref: ref, Position: 2})
	if err != nil || list.Total != 2 || len(list.Members) != 2 {
		t.Error(list, err)
	}
	p, err = b.Change(ref, wire.Event{Kind: wire.EventRemove, Users: []wire.ID{a.User()}})
	if _, err := done(t, p, err); !refusedWith(err, wire.CodeForbidden) {
		t.Error("a member removed the owner:", err)
	}
	comeAndGo(t, s, a, ref)
}

// comeAndGo lets carol join a group by its link, leave it, and be refused then.
func comeAndGo(t *testing.T, s *server, owner *client.Client, ref wire.Ref) {
	t.Helper()
	secret, p, err := owner.SetLink(ref, time.Now().Add(time.Hour), 2)
	if _, err := done(t, p, err); err != nil {
		t.Fatal(err)
	}
	c := open(t, s.options("carol", 3))
	if _, err := c.Group(t.Context(), ref); !refusedWith(err, wire.CodeNotMember) {
		t.Error("a stranger read a group:", err)
	}
	joined, err := c.Join(t.Context(), ref, secret)
	if err != nil || joined.Ref != ref {
		t.Fatal(joined, err)
	}
	if again, err := c.Join(t.Context(), ref, secret); err != nil || again.Sequence != joined.Sequence {
		t.Errorf("joined again: %+v, %v, first %+v", again, err, joined)
	}
	said(t, owner, ref, wire.EventJoined)
	await(t, c, func(e *client.ConversationEvent) bool {
		item, err := wire.ParseGroupItem(e.State.Extensions)
		return err == nil && e.State.Ref == ref && item.Title == "tea at five" && item.Role == wire.RoleMember
	})
	p, err = c.Change(ref, wire.Event{Kind: wire.EventLeave})
	if _, err := done(t, p, err); err != nil {
		t.Fatal(err)
	}
	await(t, c, func(e *client.ConversationEvent) bool { return e.State.Ref == ref && e.Left })
	if _, err := c.Send(t.Context(), ref, wire.Text("bye")); !refusedWith(err, wire.CodeNotMember) {
		t.Error("said after the end:", err)
	}
	said(t, owner, ref, wire.EventLeave)
}

// A member who was away finds what was said, and one who was removed meanwhile, the end.
func TestServerAGroupGoesOnWhileAMemberIsAway(t *testing.T) {
	s := start(t)
	withCarol(t, s)
	a := open(t, s.options("alice", 1))
	ref, err := a.CreateGroup(t.Context(), "", 0, s.ids["bob"], s.ids["carol"])
	if err != nil {
		t.Fatal(err)
	}
	if _, err := a.Send(t.Context(), ref, wire.Text("who is here?")); err != nil {
		t.Fatal(err)
	}
	p, err := a.Change(ref, wire.Event{Kind: wire.EventRemove, Users: []wire.ID{s.ids["carol"]}})
	if _, err := done(t, p, err); err != nil {
		t.Fatal(err)
	}
	b := open(t, s.options("bob", 2))
	e := await(t, b, func(e *client.ConversationEvent) bool { return e.State.Ref == ref })
	if e.State.Head != 3 || e.State.Unread != 3 || e.Left {
		t.Errorf("%+v", e)
	}
	page, err := b.History(t.Context(), wire.History{Ref: ref})
	if err != nil || len(page.Messages) != 3 {
		t.Error(page, err)
	}
	c := open(t, s.options("carol", 3))
	await(t, c, live)
	for _, state := range c.Conversations() {
		if state.Ref == ref {
			t.Errorf("carol was removed, and has it in her list: %+v", state)
		}
	}
}

// What no server can answer, or would end the session for, is refused at once.
func TestCallsAboutGroupsThatMeanNothingAreRefused(t *testing.T) {
	s := start(t)
	a := open(t, s.options("alice", 1))
	group, bob := wire.GroupRef(7), wire.DirectRef(s.ids["bob"])
	change := func(ref wire.Ref, e wire.Event) error { _, err := a.Change(ref, e); return err }
	read := func(q wire.Members) error { _, err := a.Members(t.Context(), q); return err }
	create := func(title string) error { _, err := a.CreateGroup(t.Context(), title, 0); return err }
	join := func(ref wire.Ref, secret string) error {
		_, err := a.Join(t.Context(), ref, []byte(secret))
		return err
	}
	_, notAGroup := a.Group(t.Context(), bob)
	for name, err := range map[string]error{
		"a title that is too long":    create(string(make([]byte, wire.TitleBytesMax+1))),
		"a change of a person":        change(bob, wire.Event{Kind: wire.EventTitle, Text: "x"}),
		"a change of no kind":         change(group, wire.Event{}),
		"creation of what is there":   change(group, wire.Event{Kind: wire.EventCreate}),
		"what only servers say":       change(group, wire.Event{Kind: wire.EventJoined}),
		"nobody added":                change(group, wire.Event{Kind: wire.EventAdd}),
		"the members of a person":     read(wire.Members{Ref: bob}),
		"a page of too many":          read(wire.Members{Ref: group, Limit: wire.MembersMax + 1}),
		"the state of a person":       notAGroup,
		"joining a person":            join(bob, "0123456789abcdef"),
		"a secret that is too short":  join(group, "0123"),
		"the members of no group":     read(wire.Members{}),
		"a member beyond identifiers": read(wire.Members{Ref: group, After: 1 << wire.IDBits}),
	} {
		if !errors.Is(err, client.ErrRequest) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := a.Join(t.Context(), group, []byte("0123456789abcdef")); !refusedWith(err, wire.CodeGone) {
		t.Error("a link of no group:", err)
	}
}

// A creation whose caller does not wait is made all the same.
func TestServerACreationOutlivesItsContext(t *testing.T) {
	s := start(t)
	a := open(t, s.options("alice", 1))
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := a.CreateGroup(ctx, "later", 0); err != nil && !errors.Is(err, client.ErrUnfinished) {
		t.Fatal(err)
	}
	await(t, a, func(e *client.MessageEvent) bool {
		event, ok := e.Content.Event()
		return ok && event.Kind == wire.EventCreate && event.Text == "later"
	})
}
