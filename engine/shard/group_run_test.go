package shard

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"io"
	"maps"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"parley/raft"
	"parley/storage"
	"parley/wire"
)

// A groupRun drives a leader and a follower over the same log beside the naive groups.
type groupRun struct {
	t        *rapid.T
	leader   *replica
	follower *replica
	users    []wire.ID
	groups   map[wire.ID]*naiveGroup
	ids      []wire.ID
	queued   []Send
	cursors  []Cursor
	packed   []modelEntry
	asked    uint64
	pushed   map[[2]uint64]map[uint64]bool // group and user -> sequences
	stood    map[[2]uint64][]stretch       // what an edge knows of memberships
	changed  map[[2]uint64]uint64          // group and user -> index of the last change that concerns the user
}

// TestGroupModel plays random histories of everybody doing everything to two groups.
func TestGroupModel(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		m := &groupRun{t: rt, groups: map[wire.ID]*naiveGroup{}, pushed: map[[2]uint64]map[uint64]bool{},
			stood: map[[2]uint64][]stretch{}, changed: map[[2]uint64]uint64{}}
		m.leader, m.follower = newReplica(t, 0, 0, wire.Slots-1), newReplica(t, 0, 0, wire.Slots-1)
		defer m.leader.close()
		defer m.follower.close()
		m.leader.lead()
		m.leader.clock = 5
		for _, name := range []string{"ann", "bob", "cy", "dee", "eve"} {
			id := wire.MakeID(wire.SlotOf([]byte(name)), 1)
			m.users = append(m.users, id)
			m.leader.shard.queue.control(appendCreateUser(nil, id, name, "hash"), 1)
		}
		m.leader.run()
		m.follower.log = slices.Clone(m.leader.log)
		for i := range 2 {
			id := wire.MakeID(wire.Slot(1000*i+500), 9)
			m.ids = append(m.ids, id)
			m.groups[id] = newNaiveGroup(id)
			m.createFirst(id)
		}
		rt.Repeat(map[string]func(*rapid.T){
			"send": m.send, "events": m.events, "events2": m.events, "cursor": m.cursor, "join": m.join, "create": m.create,
			"pack": m.pack, "apply": m.settle, "apply2": m.apply, "restart": m.restart, "follow": m.follow, "read": m.read,
			"flush": func(*rapid.T) { m.leader.flush() },
			"clock": func(t *rapid.T) {
				m.leader.clock = max(m.leader.clock, wire.Time(rapid.Uint64Range(0, 1000).Draw(t, "time")))
			},
		})
		m.finish()
	})
}

func (m *groupRun) user(t *rapid.T, label string) wire.ID {
	return m.users[rapid.SampledFrom([]int{0, 0, 0, 1, 1, 2, 3, 4}).Draw(t, label)]
}

// line is a member's place in a group's lines of counters.
func (m *groupRun) line(t *rapid.T) Send {
	author := m.user(t, "author")
	group := m.ids[rapid.SampledFrom([]int{0, 0, 0, 1}).Draw(t, "group")]
	return Send{Conversation: wire.GroupRef(group).Conversation(author), Author: author, Epoch: 1,
		Device: wire.ID(rapid.SampledFrom([]int{1, 1, 1, 2}).Draw(t, "device"))}
}

// number gives a send the next counter of its line, or another one.
func (m *groupRun) number(t *rapid.T, s *Send) {
	last := len(m.groups[s.Conversation.A].boxes[outboxKey{s.Author, s.Device, s.Epoch}])
	waiting := [][]Send{m.queued}
	for i := range m.packed {
		waiting = append(waiting, m.packed[i].sends)
	}
	for _, q := range slices.Concat(waiting...) {
		if q.Conversation == s.Conversation && q.Author == s.Author && q.Device == s.Device {
			last = max(last, int(q.Counter))
		}
	}
	step := rapid.SampledFrom([]int{1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 0, -1, 2}).Draw(t, "step")
	s.Counter = uint64(max(1, last+step))
}

func (m *groupRun) queue(t *rapid.T, s *Send) {
	m.asked++
	s.Origin = Origin{Session: 1, Correlation: m.asked}
	m.queued = append(m.queued, *s)
	if err := m.leader.shard.Send(s); err != nil {
		t.Fatal(err)
	}
}

func (m *groupRun) send(t *rapid.T) {
	s := m.line(t)
	m.number(t, &s)
	s.Content = wire.Text(fmt.Sprintf("%d/%d/%d", s.Author, s.Device, s.Counter))
	switch rapid.IntRange(0, 9).Draw(t, "body") {
	case 0:
		s.Content = wire.Text("another")
	case 1:
		s.Content = wire.EventContent(wire.AppendEvent(nil, &wire.Event{Kind: wire.EventLeave}))
	}
	m.queue(t, &s)
}

// events queues changes by whoever may do most: those are not all refused.
func (m *groupRun) events(t *rapid.T) {
	for range rapid.IntRange(1, 5).Draw(t, "events") {
		m.event(t)
	}
}

// settle applies all that waits, so that the next changes are drawn by who there is now.
func (m *groupRun) settle(t *rapid.T) {
	m.pack(t)
	if len(m.packed) > 0 {
		m.applyFirst(len(m.packed))
	}
}

// author makes the owner the author of every other change, and of half of the rest some
// other admin or moderator, if there is one: who is drawn at random is refused nearly always.
func (m *groupRun) author(t *rapid.T, s *Send) {
	g := m.groups[s.Conversation.A]
	switch rapid.IntRange(0, 3).Draw(t, "by") {
	case 0, 1:
		if g.owner != 0 {
			s.Author = g.owner
		}
	case 2:
		for _, user := range m.users {
			if role := g.role(user); role > g.role(s.Author) && role < wire.RoleOwner || role == wire.RoleAdmin {
				s.Author = user
			}
		}
	}
}

func (m *groupRun) event(t *rapid.T) {
	kinds := []wire.EventKind{wire.EventAdd, wire.EventAdd, wire.EventAdd, wire.EventRemove, wire.EventBan, wire.EventUnban, wire.EventRole, wire.EventRole,
		wire.EventOwner, wire.EventLeave, wire.EventTitle, wire.EventDescription, wire.EventPicture, wire.EventSettings, wire.EventLink, wire.EventUnlink}
	e := wire.Event{Kind: rapid.SampledFrom(kinds).Draw(t, "kind"), Text: rapid.SampledFrom([]string{"", "one", "two"}).Draw(t, "text"),
		Flags: rapid.Uint64Range(0, 15).Draw(t, "flags"), Role: wire.Role(rapid.IntRange(1, 4).Draw(t, "role")),
		Hash: wire.HashOfSecret(m.secret(t)), Expires: wire.Time(rapid.SampledFrom([]int{0, 0, 400}).Draw(t, "expires")),
		Uses: rapid.Uint64Range(0, 2).Draw(t, "uses")}
	count := rapid.IntRange(1, 3).Draw(t, "users")
	if e.Kind == wire.EventOwner {
		count = 1
	}
	for range count {
		if user := m.user(t, "user"); !slices.Contains(e.Users, user) {
			e.Users = append(e.Users, user)
		}
	}
	slices.Sort(e.Users)
	s := m.line(t)
	m.author(t, &s)
	m.number(t, &s)
	s.Event, s.Content = true, wire.EventContent(wire.AppendEvent(nil, &e))
	m.queue(t, &s)
}

func (m *groupRun) secret(t *rapid.T) []byte {
	return secretOf(rapid.SampledFrom([]string{"a", "a", "b"}).Draw(t, "secret"))
}

func (m *groupRun) join(t *rapid.T) {
	s := m.line(t)
	s.Secret = m.secret(t)
	m.queue(t, &s)
}

func (m *groupRun) create(t *rapid.T) {
	s := m.line(t)
	m.creation(&s, rapid.SampledFrom([]string{"one", "one", "two"}).Draw(t, "title"))
	s.Counter = uint64(rapid.SampledFrom([]int{1, 1, 2}).Draw(t, "creation"))
	m.queue(t, &s)
}

func (m *groupRun) creation(s *Send, title string) {
	e := wire.Event{Kind: wire.EventCreate, Flags: uint64(s.Conversation.A) % 4, Text: title, Users: slices.Sorted(slices.Values(m.users[1:3]))}
	s.Event, s.Counter, s.Content = true, 1, wire.EventContent(wire.AppendEvent(nil, &e))
}

// createFirst begins the first group at once, and leaves the other to chance.
func (m *groupRun) createFirst(group wire.ID) {
	if len(m.ids) > 1 {
		return
	}
	s := Send{Conversation: wire.GroupRef(group).Conversation(0), Author: m.users[0], Device: 1, Epoch: 1}
	m.creation(&s, "one")
	m.queue(m.t, &s)
}

func (m *groupRun) cursor(t *rapid.T) {
	who := m.line(t)
	c := Cursor{Session: 2, Conversation: who.Conversation, User: who.Author, Kind: wire.CursorKind(rapid.IntRange(0, 1).Draw(t, "kind")),
		Position: uint64(rapid.IntRange(0, int(m.groups[who.Conversation.A].head())+1).Draw(t, "position"))}
	for i := range m.cursors {
		if m.cursors[i].key() == c.key() {
			return // how cursors are folded is shown elsewhere
		}
	}
	if err := m.leader.shard.Cursor(&c); err != nil {
		t.Fatal(err)
	}
	m.cursors = append(m.cursors, c)
}

func (m *groupRun) pack(*rapid.T) {
	if len(m.packed) == 4 {
		return
	}
	if entries, handle := m.leader.pack(); entries != nil {
		m.packed = append(m.packed, modelEntry{entry: entries[0], handle: handle, time: m.leader.clock, sends: m.queued, cursors: m.cursors})
		m.queued, m.cursors = nil, nil
	}
}

func (m *groupRun) apply(t *rapid.T) {
	if len(m.packed) > 0 {
		m.applyFirst(rapid.IntRange(1, len(m.packed)).Draw(t, "entries"))
	}
}

// applyFirst applies entries in one batch, to the groups and to the leader.
func (m *groupRun) applyFirst(n int) {
	var entries []raft.Entry
	var expected []string
	for _, g := range m.groups {
		g.memberships = nil
	}
	heads := map[wire.ID]uint64{}
	for id, g := range m.groups {
		heads[id] = g.head()
	}
	for _, e := range m.packed[:n] {
		entries = append(entries, e.entry)
		expected = append(expected, m.expect(&e)...)
	}
	m.packed = slices.Clone(m.packed[n:])
	m.leader.apply(entries...)
	m.follower.log = append(m.follower.log, entries...)
	var got []string
	for _, e := range m.leader.sink.take() {
		for _, x := range e.Sent {
			got = append(got, fmt.Sprintf("%d: #%d 0 %d", x.Correlation, x.Sequence, x.Created))
		}
		for _, x := range e.Refused {
			got = append(got, fmt.Sprintf("%d: #0 %d 0", x.Correlation, x.Code))
		}
		for _, x := range e.Receipts {
			got = append(got, fmt.Sprintf("receipt %d %d %d %d", x.Conversation.A, x.User, x.Kind, x.Position))
		}
		m.push(e, heads)
	}
	slices.Sort(expected)
	slices.Sort(got)
	if !slices.Equal(expected, got) {
		m.t.Fatalf("answers:\n%q, want\n%q", got, expected)
	}
}

// expect applies an entry to the groups and tells what must come of it.
func (m *groupRun) expect(e *modelEntry) (expected []string) {
	for i := range e.sends {
		s := &e.sends[i]
		g := m.groups[s.Conversation.A]
		before := g.head()
		sequence, code := g.command(s, e.time)
		event, _ := s.Content.Event()
		created := wire.ID(0)
		if code == 0 && s.Event && event.Kind == wire.EventCreate {
			created = g.id
		}
		expected = append(expected, fmt.Sprintf("%d: #%d %d %d", s.Correlation, sequence, code, created))
		if g.head() > before {
			for user := range g.messages[g.head()-1].told {
				m.changed[[2]uint64{uint64(g.id), uint64(user)}] = e.entry.Index
			}
		}
	}
	for i := range e.cursors {
		c := &e.cursors[i]
		moved, code := m.groups[c.Conversation.A].cursor(c)
		if moved {
			expected = append(expected, fmt.Sprintf("receipt %d %d %d %d", c.Conversation.A, c.User, c.Kind, c.Position))
			m.changed[[2]uint64{uint64(c.Conversation.A), uint64(c.User)}] = e.entry.Index
		} else if code != 0 {
			expected = append(expected, fmt.Sprintf("0: #0 %d 0", code))
		}
	}
	return expected
}

// push follows effects as an edge does: memberships that begin, then messages, then ends. Each
// message must go to all who have it coming and to nobody who may not see it.
func (m *groupRun) push(e *Effects, heads map[wire.ID]uint64) {
	byGroup := map[wire.ID][]MembershipEffect{}
	for _, x := range e.Memberships {
		byGroup[x.Group] = append(byGroup[x.Group], x)
		key := [2]uint64{uint64(x.Group), uint64(x.User)}
		stood := m.stood[key]
		open := len(stood) > 0 && stood[len(stood)-1].until == forEver
		switch {
		case x.Role == wire.RoleNone && open:
			stood[len(stood)-1].until = x.Until
		case x.Role != wire.RoleNone && !open:
			m.stood[key] = append(stood, stretch{x.From, forEver})
		case x.Role == wire.RoleNone || stood[len(stood)-1].from != x.From:
			m.t.Fatalf("%+v after %+v", x, stood)
		}
	}
	for id, g := range m.groups {
		if !slices.Equal(byGroup[id], g.memberships) {
			m.t.Fatalf("memberships of %v: %+v, want %+v", g, byGroup[id], g.memberships)
		}
	}
	for _, x := range e.Messages {
		g := m.groups[x.Conversation.A]
		heads[g.id]++
		want := &g.messages[x.Sequence-1]
		if x.Sequence != heads[g.id] || x.Author != want.author || !bytes.Equal(x.Content.Bytes, want.content) {
			m.t.Fatalf("message %+v after %d", x, heads[g.id]-1)
		}
		for _, user := range m.users {
			told := slices.ContainsFunc(m.stood[[2]uint64{uint64(g.id), uint64(user)}], func(s stretch) bool { return s.from <= x.Sequence && x.Sequence <= s.until })
			if told && !g.sees(user, x.Sequence) || !told && want.told[user] {
				m.t.Fatalf("%v: message %d told to %d: %t", g, x.Sequence, user, told)
			}
		}
	}
	for id, g := range m.groups {
		if heads[id] != g.head() {
			m.t.Fatalf("%v: messages up to %d were told", g, heads[id])
		}
	}
}

func (m *groupRun) restart(t *rapid.T) {
	for _, e := range m.packed {
		m.leader.log = slices.DeleteFunc(m.leader.log, func(x raft.Entry) bool { return x.Index == e.entry.Index })
	}
	m.packed, m.queued, m.cursors = nil, nil, nil
	before := m.digest(m.leader)
	if rapid.Bool().Draw(t, "crash") {
		m.leader.crash()
	} else {
		m.leader.restart()
	}
	if after := m.digest(m.leader); before != after {
		t.Fatalf("state differs after a restart:\n%s\n%s", before, after)
	}
	m.leader.lead()
}

// follow lets the other replica catch up in batches of its own, and compares.
func (m *groupRun) follow(t *rapid.T) {
	f := m.follower
	var todo []raft.Entry
	for _, e := range f.log {
		if e.Index > f.shard.Stats().Applied {
			todo = append(todo, e)
		}
	}
	for len(todo) > 0 {
		n := rapid.IntRange(1, len(todo)).Draw(t, "batch")
		f.apply(todo[:n]...)
		todo = todo[n:]
		if rapid.IntRange(0, 3).Draw(t, "flush") == 0 {
			f.flush()
		}
	}
	if m.leader.shard.Stats().Applied == f.shard.Stats().Applied && m.digest(m.leader) != m.digest(f) {
		t.Fatalf("replicas differ:\n%s\n%s", m.digest(m.leader), m.digest(f))
	}
}

func (m *groupRun) finish() {
	for m.pack(m.t); len(m.packed) > 0; m.pack(m.t) {
		m.applyFirst(len(m.packed))
	}
	m.follow(m.t)
	m.read(m.t)
	m.leader.close()
	_, err := storage.Fsck(context.Background(), "state", m.leader.fs, func(f storage.Finding) { m.t.Errorf("fsck: %+v", f) })
	if err != nil {
		m.t.Fatal(err)
	}
}

// read compares what members and others are shown with the groups.
func (m *groupRun) read(t *rapid.T) {
	since := rapid.Uint64Range(0, m.leader.shard.Stats().Applied).Draw(t, "since")
	for _, user := range m.users {
		m.readUser(user, since)
		for _, id := range m.ids {
			g := m.groups[id]
			m.readPage(g, user)
			m.readState(g, user)
			m.readMembers(t, g, user)
			m.readCounts(g, user)
		}
	}
}

// readUser compares the user's groups, list and changes.
func (m *groupRun) readUser(user wire.ID, since uint64) {
	var want []MembershipEffect
	listed := map[wire.ID]bool{}
	for _, id := range m.ids {
		g := m.groups[id]
		if n := g.members[user]; n != nil {
			want = append(want, MembershipEffect{Group: id, User: user, Role: n.role, From: n.from})
		}
		if now, ever := g.listed[user]; ever {
			listed[id] = now
		}
	}
	got, _, err := m.leader.shard.Groups([]wire.ID{user})
	if err != nil || !slices.Equal(got, want) {
		m.t.Fatalf("groups of %d: %+v, want %+v (%v)", user, got, want, err)
	}
	list, err := listOf(m.leader.shard, user)
	if err != nil || len(list) != len(listed) {
		m.t.Fatalf("list of %d: %+v, want %v (%v)", user, list, listed, err)
	}
	for _, l := range list {
		if now, ok := listed[l.Conversation.A]; !ok || l.Gone == now {
			m.t.Fatalf("list of %d: %+v, want %v", user, list, listed)
		}
	}
	changed := map[wire.ID]bool{}
	_, err = m.leader.shard.Changed(context.Background(), user, since, func(c Changed) {
		g := m.groups[c.Conversation.A]
		if changed[g.id] = true; c.Gone == (g.members[user] != nil) {
			m.t.Fatalf("%+v of %d", c, user)
		}
	})
	for _, id := range m.ids {
		gone := m.groups[id].members[user] == nil
		want := m.changed[[2]uint64{uint64(id), uint64(user)}] > since && (!gone || since > 0)
		if err != nil || changed[id] != want {
			m.t.Fatalf("%v changed for %d since %d: %t, want %t (%v)", m.groups[id], user, since, changed[id], want, err)
		}
	}
}

// refusedAs reports whether an error says NOT_MEMBER.
func refusedAs(err error, code wire.Code) bool {
	var refusal *wire.Error
	return errors.As(err, &refusal) && refusal.Code == code
}

func (m *groupRun) readPage(g *naiveGroup, user wire.ID) {
	page, err := m.leader.shard.Page(user, wire.History{Ref: wire.GroupRef(g.id), Mode: wire.HistoryForward})
	n := g.members[user]
	if n == nil {
		if !refusedAs(err, wire.CodeNotMember) {
			m.t.Fatalf("%v shows %d messages to %d (%v)", g, len(page.Messages), user, err)
		}
		return
	}
	if err != nil || uint64(len(page.Messages)) != g.head()-n.from+1 || page.Flags != 0 {
		m.t.Fatalf("%v shows %d messages to %d, who sees it from %d, flags %d (%v)", g, len(page.Messages), user, n.from, page.Flags, err)
	}
	for i, x := range page.Messages {
		want := g.messages[n.from-1+uint64(i)]
		if x.Sequence != n.from+uint64(i) || x.Author != want.author || !bytes.Equal(x.Content.Bytes, want.content) {
			m.t.Fatalf("%v: message %+v is %+v", g, want, x)
		}
	}
}

func (m *groupRun) readState(g *naiveGroup, user wire.ID) {
	state, ok, err := m.leader.shard.State(user, wire.GroupRef(g.id).Conversation(user), true)
	item, itemErr := wire.ParseGroupItem(state.Extensions)
	info, infoErr := m.leader.shard.GroupState(user, wire.GroupInfo{Ref: wire.GroupRef(g.id)})
	n := g.members[user]
	if n == nil {
		_, ever := g.listed[user]
		if err != nil || ok != ever || ok && item != (wire.GroupItem{}) || state.Head != 0 || state.Preview != nil || !refusedAs(infoErr, wire.CodeNotMember) {
			m.t.Fatalf("%v: %d, who is no member, is shown %+v (%v, %v)", g, user, state, err, infoErr)
		}
		return
	}
	want := wire.GroupItem{Members: uint64(len(g.members)), Role: n.role, From: n.from, Title: g.texts[0]}
	unread := g.head() - max(n.read, n.from-1)
	if err := errors.Join(err, itemErr, infoErr); err != nil || !ok || item != want || state.Head != g.head() || state.Unread != unread ||
		state.Delivered != n.delivered || state.Read != n.read {
		m.t.Fatalf("%v: %d is shown %+v, %+v (%v), want %+v of %+v", g, user, state, item, err, want, n)
	}
	if info.Flags != g.flags || info.Members != uint64(len(g.members)) || info.Role != n.role || info.From != n.from ||
		[3]string{info.Title, info.Description, info.Picture} != g.texts || info.Version == 0 || info.Version > g.head() {
		m.t.Fatalf("%v is %+v", g, info)
	}
}

// readMembers pages through the members.
func (m *groupRun) readMembers(t *rapid.T, g *naiveGroup, user wire.ID) {
	q := wire.Members{Ref: wire.GroupRef(g.id), Limit: uint64(rapid.IntRange(1, 6).Draw(t, "limit"))}
	var got []wire.ID
	for more := true; more; {
		list, err := m.leader.shard.Members(user, q)
		if g.members[user] == nil {
			if !refusedAs(err, wire.CodeNotMember) || len(list.Members) > 0 {
				t.Fatalf("%v: members for %d: %+v (%v)", g, user, list, err)
			}
			return
		}
		if err != nil || list.Total != uint64(len(g.members)) || len(list.Members) == 0 {
			t.Fatalf("%v: members for %d: %+v (%v)", g, user, list, err)
		}
		for _, x := range list.Members {
			got = append(got, x.User)
			n := *g.members[x.User]
			if n.delivered < n.joined || g.flags&wire.GroupBroadcast != 0 && x.User != user {
				n.delivered = 0
			}
			if n.read < n.joined || g.flags&wire.GroupBroadcast != 0 && x.User != user {
				n.read = 0
			}
			if x.Role != n.role || x.From != n.from || x.Delivered != n.delivered || x.Read != n.read ||
				(x.ReadTime == 0) != (x.Read == 0) || (x.DeliveredTime == 0) != (x.Delivered == 0) {
				t.Fatalf("%v: member %+v, want %+v", g, x, n)
			}
		}
		more = list.Flags&wire.MembersMore != 0
		q.After = got[len(got)-1]
	}
	if want := slices.Sorted(maps.Keys(g.members)); !slices.Equal(got, want) {
		t.Fatalf("%v: members %v, want %v", g, got, want)
	}
}

// digest hashes all that a shard holds of the groups.
func (m *groupRun) digest(r *replica) string {
	h := fnv.New64a()
	err := r.shard.config.Store.View(func(v *storage.Reader) error {
		for _, id := range m.ids {
			if err := m.digestGroup(h, v, wire.GroupRef(id).Conversation(0)); err != nil {
				return err
			}
		}
		for _, u := range m.users {
			if err := v.List(u, 0, func(l storage.List) error { _, err := fmt.Fprintln(h, l); return err }); err != nil {
				return err
			}
			if err := v.UserIndex(u, 0, func(x storage.UserIndex) error { _, err := fmt.Fprintln(h, x); return err }); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		m.t.Fatal(err)
	}
	return fmt.Sprintf("%d: %x", r.shard.Stats().Applied, h.Sum64())
}

func (m *groupRun) digestGroup(h io.Writer, v *storage.Reader, c wire.Conversation) error {
	record, _, err := v.Conversation(c)
	group, _, groupErr := v.Group(c)
	fmt.Fprintln(h, record, group)
	if err := errors.Join(err, groupErr); err != nil {
		return err
	}
	err = v.Members(c, 0, func(user wire.ID, n *storage.Member) (bool, error) {
		_, err := fmt.Fprintln(h, user, *n)
		return true, err
	})
	for _, u := range m.users {
		var boxes storage.Memory
		err = errors.Join(err, v.Outboxes(c, u, &boxes))
		fmt.Fprintln(h, boxes)
	}
	return errors.Join(err, v.Messages(c, 1, 1<<40, func(x storage.Message) (bool, error) {
		_, err := fmt.Fprintln(h, x)
		return true, err
	}))
}
