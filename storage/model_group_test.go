package storage

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"

	"parley/wire"
)

// written notes what the messages just appended to a group did: its author's outboxes, and
// for the first ones its record.
func (m *model) written(c wire.Conversation, v *Conversation) {
	memory, author := v.Memory, v.Outboxes[0].Author
	v.Memory = Memory{}
	if m.memories[c] == nil {
		m.memories[c] = map[wire.ID]Memory{}
	}
	m.memories[c][author] = memory
	if _, ok := m.groups[c]; !ok {
		m.putGroup(c, Group{Version: 1, Flags: 3, Creation: Creation{author, 9, v.Head, 4}, Created: v.Time, Title: "a title"})
	}
	record := *v
	m.conversations[c] = record
	m.do(func(w *Writer) { w.PutConversation(c, &record); w.PutOutboxes(c, author, &memory) })
}

func (m *model) putGroup(c wire.Conversation, g Group) {
	m.groups[c] = g
	m.do(func(w *Writer) { w.PutGroup(c, &g) })
}

// stepGroup lets a user join a group, leave it, be banned from it or change its role.
func (m *model) stepGroup(r *rand.Rand) {
	own := m.ownConversations()
	c := own[r.IntN(len(own))]
	g, ok := m.groups[c]
	if !ok {
		return
	}
	v, user := m.conversations[c], m.author(r, c)
	n := m.members[c][user]
	if n.Role != wire.RoleNone {
		g.Members--
	}
	if g.Owner == user {
		g.Owner = 0
	}
	role := wire.Role(r.IntN(int(wire.RoleOwner) + 1))
	if role == wire.RoleOwner && g.Owner != 0 {
		role--
	}
	n.Membership = Membership{Role: role, Banned: role == wire.RoleNone, From: 1 + r.Uint64N(v.Head), Joined: v.Head, Since: v.Time}
	n.Own = someOwn(r)
	if role != wire.RoleNone {
		g.Members++
	}
	if role == wire.RoleOwner {
		g.Owner = user
	}
	g.Version, g.Description, g.Picture = v.Revision, fmt.Sprint("at ", v.Revision), "p"
	g.Link = Link{}
	if r.IntN(2) == 0 {
		g.Link = Link{Hash: LinkHash{1, byte(r.IntN(256))}, Expires: v.Time, Left: r.Uint64N(3)}
	}
	m.putGroup(c, g)
	m.putMember(c, user, n, n.Banned && r.IntN(2) == 0)
	u := UserIndex{User: user, Conversation: c, Changed: m.record.Index + 1, Gone: n.Role == wire.RoleNone}
	if u.Gone {
		u.Time = v.Time
	}
	if m.index[user] == nil {
		m.index[user] = map[wire.Conversation]UserIndex{}
	}
	m.index[user][c] = u
	m.do(func(w *Writer) { w.PutUserIndex(&u) })
}

// someOwn draws what a conversation is to a member alone: nothing, half of the time.
func someOwn(r *rand.Rand) (o Own) {
	if r.IntN(2) == 0 {
		return o
	}
	if o = (Own{Flags: r.Uint64N(wire.OwnSettingsMask + 1), Version: r.Uint64N(3)}); o.Flags&wire.OwnMuted != 0 {
		o.MutedUntil = wire.Time(r.Uint64N(2) * 1000)
	}
	return o
}

func (m *model) putMember(c wire.Conversation, user wire.ID, n Member, leaves bool) {
	if leaves {
		if delete(m.members[c], user); len(m.members[c]) == 0 {
			delete(m.members, c)
		}
		m.do(func(w *Writer) { w.DeleteMember(c, user) })
		return
	}
	if m.members[c] == nil {
		m.members[c] = map[wire.ID]Member{}
	}
	m.members[c][user] = n
	m.do(func(w *Writer) { w.PutMember(c, user, &n) })
}

// readGroup reads what a group has beside a conversation.
func (m *model) readGroup(r *Reader, got *model, c wire.Conversation) error {
	if c.Kind != wire.Group {
		return nil
	}
	g, ok, err := r.Group(c)
	if err != nil {
		return err
	}
	if ok {
		got.groups[c] = g
	}
	for user := range m.memories[c] {
		var memory Memory
		if err := r.Outboxes(c, user, &memory); err != nil {
			return err
		}
		if diff := differ(m.memories[c][user], memory); diff != "" {
			return fmt.Errorf("outboxes of %v in %v: %s", user, c, diff)
		}
	}
	got.memories = m.memories
	users := slices.Sorted(maps.Keys(m.members[c]))
	random := rand.New(rand.NewPCG(m.record.Index, uint64(c.A)))
	for first := range len(users) + 1 {
		after := wire.ID(0)
		if first > 0 {
			after = users[first-1] - wire.ID(random.IntN(2)) // before it or behind it
		}
		want := slices.DeleteFunc(slices.Clone(users), func(u wire.ID) bool { return u <= after })
		if limit := 1 + random.IntN(4); limit < len(want) {
			want = want[:limit]
		}
		var list []wire.ID
		err := r.Members(c, after, func(user wire.ID, n *Member) (bool, error) {
			if list = append(list, user); differ(m.members[c][user], *n) != "" {
				return false, fmt.Errorf("member %v: %s", user, differ(m.members[c][user], *n))
			}
			return len(list) < len(want), nil
		})
		if err != nil || len(want) > 0 && !slices.Equal(list, want) {
			return fmt.Errorf("members of %v after %v: %v, want %v (%w)", c, after, list, want, err)
		}
	}
	return nil
}

// readRows reads rows one by one that were read together.
func readRows(r *Reader, lists []List, index []UserIndex) error {
	for _, l := range lists {
		if got, ok, err := r.ListRow(l.User, l.Conversation); err != nil || !ok || got != l {
			return fmt.Errorf("list row %+v, want %+v (%v, %w)", got, l, ok, err)
		}
	}
	for _, u := range index {
		if got, ok, err := r.IndexRow(u.User, u.Conversation); err != nil || !ok || got != u {
			return fmt.Errorf("index row %+v, want %+v (%v, %w)", got, u, ok, err)
		}
		if _, ok, err := r.IndexRow(u.User+1, u.Conversation); err != nil || ok {
			return fmt.Errorf("an index row of a stranger (%w)", err)
		}
	}
	return nil
}
