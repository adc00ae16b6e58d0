package shard

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strings"

	"parley/storage"
	"parley/wire"
)

// group names a group: group NAME slot=N random=N.
func (p *player) group(s *step) {
	id := wire.MakeID(wire.Slot(number(p.t, s.options, "slot", 1000)), number(p.t, s.options, "random", 7))
	p.groups[s.words[1]] = id
	p.names[id] = s.words[1]
}

var eventKinds = map[string]wire.EventKind{
	"create": wire.EventCreate, "title": wire.EventTitle, "description": wire.EventDescription, "picture": wire.EventPicture,
	"settings": wire.EventSettings, "add": wire.EventAdd, "remove": wire.EventRemove, "ban": wire.EventBan, "unban": wire.EventUnban,
	"leave": wire.EventLeave, "role": wire.EventRole, "owner": wire.EventOwner, "joined": wire.EventJoined, "link": wire.EventLink, "unlink": wire.EventUnlink,
}

var roles = map[string]wire.Role{"reader": wire.RoleReader, "member": wire.RoleMember, "moderator": wire.RoleModerator, "admin": wire.RoleAdmin, "owner": wire.RoleOwner}

// secretOf is a link's secret in a transcript.
func secretOf(text string) []byte {
	return append([]byte(text), make([]byte, wire.LinkSecretBytesMax-len(text))...)
}

// groupSend makes an event of a line "KIND AUTHOR GROUP COUNTER", or a join by secret=TEXT.
func (p *player) groupSend(m *Send, word string, options map[string]string) {
	if word == "join" {
		m.Secret, m.Content = secretOf(options["secret"]), wire.Content{}
		return
	}
	e := wire.Event{Kind: eventKinds[word], Flags: number(p.t, options, "flags", 0), Role: roles[options["role"]], Text: options["text"],
		Expires: wire.Time(number(p.t, options, "expires", 0)), Uses: number(p.t, options, "uses", 0)}
	if secret, ok := options["secret"]; ok {
		e.Hash = wire.HashOfSecret(secretOf(secret))
	}
	if names, ok := options["users"]; ok {
		for _, name := range strings.Split(names, ",") {
			e.Users = append(e.Users, p.id(name))
		}
		slices.Sort(e.Users)
	}
	if word == "event" { // as it comes
		m.Content = wire.EventContent([]byte(options["body"]))
	} else {
		m.Content = wire.EventContent(wire.AppendEvent(nil, &e))
	}
	m.Event = options["plain"] == ""
}

// text shows a content, or the event that it says.
func (p *player) text(c wire.Content) []byte {
	e, ok := c.Event()
	if !ok {
		return c.Bytes
	}
	for name, kind := range eventKinds {
		if kind == e.Kind {
			return fmt.Appendf(nil, "(%s)", name)
		}
	}
	return []byte("(event)")
}

func gone(b bool) string {
	if b {
		return " gone"
	}
	return ""
}

func (p *player) made(group wire.ID) string {
	if group == 0 {
		return ""
	}
	return " created " + p.names[group]
}

func (p *player) groupRef(name string) wire.Ref {
	id, ok := p.groups[name]
	if !ok {
		p.t.Fatalf("no group %q", name)
	}
	return wire.GroupRef(id)
}

// refusal prints the code of an error that has one.
func (p *player) refusal(err error) bool {
	var refusal *wire.Error
	if errors.As(err, &refusal) {
		p.printf("%v\n", refusal.Code)
		return true
	}
	if err != nil {
		p.printf("%v\n", err)
	}
	return err != nil
}

// members reads: members USER GROUP after=USER limit=N position=N.
func (p *player) members(s *step) {
	q := wire.Members{Correlation: 4, Ref: p.groupRef(s.words[2]), Limit: number(p.t, s.options, "limit", 0), Position: number(p.t, s.options, "position", 0)}
	if after, ok := s.options["after"]; ok {
		q.After = p.id(after)
	}
	list, err := p.r.shard.Members(p.id(s.words[1]), q)
	if p.refusal(err) {
		return
	}
	moment := func(t wire.Time, by bool) string {
		if by {
			return fmt.Sprintf("by %d", t)
		}
		return fmt.Sprint(t)
	}
	for _, m := range list.Members {
		p.printf("%s %v from %d delivered %d at %s read %d at %s\n", p.names[m.User], m.Role, m.From, m.Delivered, moment(m.DeliveredTime, m.DeliveredBy),
			m.Read, moment(m.ReadTime, m.ReadBy))
	}
	p.printf("%d of %d, more %t\n", len(list.Members), list.Total, list.Flags&wire.MembersMore != 0)
}

// info reads: info USER GROUP.
func (p *player) info(s *step) {
	v, err := p.r.shard.GroupState(p.id(s.words[1]), wire.GroupInfo{Correlation: 5, Ref: p.groupRef(s.words[2])})
	if p.refusal(err) {
		return
	}
	p.printf("flags %d, %d members, %v from %d, version %d, created %d: %q %q %q\n", v.Flags, v.Members, v.Role, v.From, v.Version, v.Created,
		v.Title, v.Description, v.Picture)
}

// memberships reads: groups USER ….
func (p *player) memberships(s *step) {
	var users []wire.ID
	for _, name := range s.words[1:] {
		users = append(users, p.id(name))
	}
	list, index, err := p.r.shard.Groups(users)
	for _, x := range list {
		p.printf("%s %s %v from %d\n", p.names[x.Group], p.names[x.User], x.Role, x.From)
	}
	p.printf("index %d %v\n", index, err)
}

// recordOf shows a group's records and those of one user: recordof GROUP USER.
func (p *player) recordOf(s *step) {
	c := p.groupRef(s.words[1]).Conversation(0)
	err := p.r.shard.config.Store.View(func(r *storage.Reader) error {
		v, _, err := r.Conversation(c)
		g, _, groupErr := r.Group(c)
		user := p.id(s.words[2])
		m, ok, memberErr := r.Member(c, user)
		var boxes storage.Memory
		if err := errors.Join(err, groupErr, memberErr, r.Outboxes(c, user, &boxes)); err != nil {
			return err
		}
		p.printf("head %d r%d at %d changed %d, %d outboxes; version %d, %d members, owner %q, link %t left %d\n", v.Head, v.Revision, v.Time, v.Changed,
			len(v.Outboxes), g.Version, g.Members, p.names[g.Owner], !bytes.Equal(g.Link.Hash[:], make([]byte, 32)), g.Link.Left)
		p.printf("%s %t: %v banned %t from %d joined %d at %d delivered %d %v read %d %v\n", s.words[2], ok, m.Role, m.Banned, m.From, m.Joined, m.Since,
			m.Delivered.Position, m.Delivered.Steps, m.Read.Position, m.Read.Steps)
		for _, o := range boxes.Outboxes {
			p.printf("outbox %d/%d at %d is #%d\n", o.Device, o.Epoch, o.Counter, o.Sequence)
		}
		u, ok, err := r.IndexRow(user, c)
		p.printf("index %t: changed %d at %d%s\n", ok, u.Changed, u.Time, gone(u.Gone))
		return err
	})
	if err != nil {
		p.t.Fatal(err)
	}
}
