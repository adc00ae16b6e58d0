package engine

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"

	"parley/wire"
)

// three people and a group of them; ada is at two devices.
type trio struct {
	ada, tablet, bob, cleo *person
	ref                    wire.Ref
}

// A scene is where people are: around some nodes, under names of its own.
type scene struct {
	t     *testing.T
	nodes []*Node
	name  string
}

func (s scene) at(i int) *Node { return s.nodes[i%len(s.nodes)] }

func (s scene) user(name string) wire.ID { s.t.Helper(); return user(s.t, s.nodes[0], s.name+name) }

func (s scene) meet(i int, name string, device wire.ID, epoch uint64) *person {
	s.t.Helper()
	p, _ := meet(s.t, s.at(i), s.name+name, device, epoch)
	return p
}

func newTrio(s scene) *trio {
	t := s.t
	t.Helper()
	for _, name := range []string{"ada", "bob", "cleo"} {
		s.user(name)
	}
	g := &trio{ada: s.meet(0, "ada", 1, 100), tablet: s.meet(1, "ada", 2, 101), bob: s.meet(1, "bob", 1, 200), cleo: s.meet(2, "cleo", 1, 300)}
	created := g.ada.found(1, "friends", g.bob.id, g.cleo.id)
	if created.Sequence != 1 || created.Time == 0 || !created.Ref.Group() {
		t.Fatalf("%+v", created)
	}
	g.ref = created.Ref
	for _, p := range g.others() {
		p.hears(g.ref, 1)
	}
	return g
}

func (g *trio) others() []*person { return []*person{g.tablet, g.bob, g.cleo} }
func (g *trio) all() []*person    { return append(g.others(), g.ada) }

// Everybody in a group hears everything once, in one order, on every device, with its
// author's name; who has sent it is not told again.
func TestThreePeopleInAGroup(t *testing.T) {
	threePeople(scene{t: t, nodes: []*Node{start(t, Config{})}})
}

func threePeople(s scene) {
	t, g := s.t, newTrio(s)
	page := must(t, wire.TypePage, g.bob.request(func(c uint64) []byte {
		return wire.AppendHistory(nil, &wire.History{Correlation: c, Ref: g.ref, Limit: 1})
	}), wire.ParsePage)
	if m := page.Messages[0]; m.Author != g.ada.id || m.Revision != 1 {
		t.Errorf("the first message: %+v", m)
	} else if e, ok := m.Content.Event(); !ok || e.Kind != wire.EventCreate || e.Text != "friends" || len(e.Users) != 2 {
		t.Errorf("the first event: %+v, %v", e, ok)
	}
	for round := range 5 {
		for _, p := range g.all() {
			p.say(g.ref, fmt.Sprint(p.name, " ", round))
		}
	}
	for _, p := range g.all() {
		p.hears(g.ref, 21)
		p.wantAll(g.ref, [2]uint64{1, 21})
	}
	// A sync says the same, and a page.
	for _, p := range g.all() {
		page := must(t, wire.TypePage, p.request(func(c uint64) []byte {
			return wire.AppendHistory(nil, &wire.History{Correlation: c, Ref: g.ref, Mode: wire.HistoryBackward})
		}), wire.ParsePage)
		if len(page.Messages) != 21 || page.Head != 21 || page.Messages[20].Author == 0 {
			t.Errorf("%s reads %d messages, head %d", p.name, len(page.Messages), page.Head)
		}
	}
	for _, p := range g.others() {
		waitUntil(t, func() bool {
			return slices.ContainsFunc(p.again(nil).Items, func(i wire.ConversationState) bool { return i.Ref == g.ref })
		})
	}
}

// What was asked for twice is done once: a creation makes the same group again, and gets
// the same answer.
func TestAGroupIsMadeOnce(t *testing.T) {
	n := start(t, Config{})
	user(t, n, "ada")
	a, _ := meet(t, n, "ada", 1, 100)
	first := a.found(1, "one")
	if again := a.found(1, "one"); again.Ref != first.Ref || again.Time != first.Time || again.Sequence != 1 {
		t.Errorf("%+v, then %+v", first, again)
	}
	if other := a.found(2, "one"); other.Ref == first.Ref {
		t.Error("another creation made the same group")
	}
	event := wire.AppendEvent(nil, &wire.Event{Kind: wire.EventCreate, Text: "another"})
	f := a.request(func(c uint64) []byte {
		return wire.AppendGroupChange(nil, &wire.GroupChange{Correlation: c, Ref: 1, Counter: 1, Event: event})
	})
	if code := a.refused(f); code != wire.CodeReused {
		t.Errorf("another event under the same number: %v", code)
	}
	// Again from another session, which was not there.
	b, _ := meet(t, n, "ada", 1, 100)
	if again := b.found(1, "one"); again.Ref != first.Ref {
		t.Errorf("made %v, then %v", first.Ref, again.Ref)
	}
}

// Users who do not exist make an event UNKNOWN_USER, whatever waits behind it goes on.
func TestAnEventNeedsUsersWhoExist(t *testing.T) {
	n := start(t, Config{})
	g := newTrio(scene{t: t, nodes: []*Node{n}})
	dora := user(t, n, "dora")
	stranger := wire.MakeID(7, 12345)
	if code := g.ada.refused(g.ada.tryChange(g.ref, wire.Event{Kind: wire.EventAdd, Users: []wire.ID{stranger, dora}})); code != wire.CodeUnknownUser {
		t.Errorf("to add nobody: %v", code)
	}
	// The event waits for a look-up; what follows at once waits behind it.
	event := wire.AppendEvent(nil, &wire.Event{Kind: wire.EventAdd, Users: []wire.ID{dora}})
	next := g.ada.counters[g.ref] + 1
	frames := wire.AppendGroupChange(nil, &wire.GroupChange{Correlation: 9001, Ref: g.ref, Counter: next, Event: event})
	for i := range uint64(5) {
		frames = wire.AppendSend(frames, &wire.Send{Correlation: 9002 + i, Ref: g.ref, Counter: next + 1 + i, Content: wire.Text("behind")})
	}
	g.ada.send(frames)
	for i := range uint64(6) {
		var f wire.Frame
		g.ada.wait("SENT", func() (ok bool) { f, ok = g.ada.answers[9001+i]; return ok })
		if s := must(t, wire.TypeSent, f, wire.ParseSent); s.Sequence != 2+i {
			t.Errorf("send %d became message %d", i, s.Sequence)
		}
	}
	g.bob.hears(g.ref, 7)
	g.bob.wantAll(g.ref, [2]uint64{1, 7})
}

// Who comes hears from the event on, who goes up to it, in the middle of a stream of
// messages; who comes back begins anew.
func TestComingAndGoing(t *testing.T) {
	comingAndGoing(scene{t: t, nodes: []*Node{start(t, Config{Loops: 2})}})
}

func comingAndGoing(s scene) {
	t, g := s.t, newTrio(s)
	s.user("dora")
	dora, doraToo := s.meet(2, "dora", 1, 400), s.meet(0, "dora", 2, 401)
	var talking sync.WaitGroup
	stop := make(chan struct{})
	for i, p := range []*person{g.ada, g.bob} {
		talking.Go(func() {
			for k := 0; ; k++ {
				select {
				case <-stop:
					return
				default:
					p.say(g.ref, fmt.Sprint("message ", i, " ", k))
				}
			}
		})
	}
	admin := g.tablet
	var stretches [][2]uint64
	for range 10 {
		from := admin.change(g.ref, wire.Event{Kind: wire.EventAdd, Users: []wire.ID{dora.id}})
		for _, p := range []*person{dora, doraToo} {
			p.hears(g.ref, from)
			p.hears(g.ref, from+2)
		}
		until := admin.change(g.ref, wire.Event{Kind: wire.EventRemove, Users: []wire.ID{dora.id}})
		stretches = append(stretches, [2]uint64{from, until})
	}
	// Once more within one batch, perhaps: nobody waits for anybody.
	from := admin.change(g.ref, wire.Event{Kind: wire.EventAdd, Users: []wire.ID{dora.id}})
	until := admin.change(g.ref, wire.Event{Kind: wire.EventRemove, Users: []wire.ID{dora.id}})
	last := admin.change(g.ref, wire.Event{Kind: wire.EventAdd, Users: []wire.ID{dora.id}})
	close(stop)
	talking.Wait()
	end := g.cleo.say(g.ref, "the end")
	stretches = append(stretches, [2]uint64{from, until}, [2]uint64{last, end})
	for _, p := range append(g.all(), dora, doraToo) {
		p.hears(g.ref, end)
		if p.id == dora.id {
			p.wantAll(g.ref, stretches...)
		} else {
			p.wantAll(g.ref, [2]uint64{1, end})
		}
	}
	// Who leaves by himself hears of that, and of nothing after.
	gone := dora.change(g.ref, wire.Event{Kind: wire.EventLeave})
	more := g.bob.say(g.ref, "without dora")
	g.cleo.hears(g.ref, more)
	for _, p := range []*person{dora, doraToo} {
		p.hears(g.ref, gone)
		p.quiet()
		p.wantAll(g.ref, append(slices.Clone(stretches[:len(stretches)-1]), [2]uint64{last, gone})...)
	}
	for _, f := range []wire.Frame{dora.trySay(g.ref, "still here"), dora.tryChange(g.ref, wire.Event{Kind: wire.EventTitle, Text: "mine"}),
		dora.ask(g.ref), dora.list(g.ref)} {
		if code := dora.refused(f); code != wire.CodeNotMember {
			t.Errorf("who has left is told %v", code)
		}
	}
}

func (p *person) ask(ref wire.Ref) wire.Frame {
	return p.request(func(c uint64) []byte { return wire.AppendGroupInfo(nil, &wire.GroupInfo{Correlation: c, Ref: ref}) })
}

func (p *person) list(ref wire.Ref) wire.Frame {
	return p.request(func(c uint64) []byte { return wire.AppendMembers(nil, &wire.Members{Correlation: c, Ref: ref}) })
}

// Members and state are for members; cursors of a group are told to one's own other devices.
func TestMembersStateAndCursors(t *testing.T) {
	membersAndCursors(scene{t: t, nodes: []*Node{start(t, Config{})}})
}

func membersAndCursors(s scene) {
	t, g := s.t, newTrio(s)
	s.user("dora")
	dora := s.meet(0, "dora", 1, 400)
	last := uint64(0)
	for range 3 {
		last = g.bob.say(g.ref, "hello")
	}
	state := must(t, wire.TypeGroupState, g.cleo.ask(g.ref), wire.ParseGroupState)
	if state.Title != "friends" || state.Members != 3 || state.Role != wire.RoleMember || state.From != 1 || state.Ref != g.ref {
		t.Errorf("%+v", state)
	}
	g.ada.cursor(g.ref, wire.Read, last)
	g.tablet.wait("one's own receipt", func() bool {
		return slices.ContainsFunc(g.tablet.receipts, func(r wire.Receipt) bool {
			return r.Ref == g.ref && r.Position == last && r.Kind == wire.OwnRead
		})
	})
	list := must(t, wire.TypeMemberList, g.bob.list(g.ref), wire.ParseMemberList)
	if list.Total != 3 || len(list.Members) != 3 {
		t.Fatalf("%+v", list)
	}
	for _, m := range list.Members {
		switch m.User {
		case g.ada.id:
			if m.Role != wire.RoleOwner || m.Read != last || m.ReadTime == 0 {
				t.Errorf("ada: %+v", m)
			}
		case g.bob.id:
			if m.Role != wire.RoleMember || m.Read != last {
				t.Errorf("bob, who wrote: %+v", m)
			}
		default:
			if m.User != g.cleo.id || m.Read != 0 {
				t.Errorf("cleo: %+v", m)
			}
		}
	}
	for _, p := range []*person{g.bob, g.cleo} {
		p.quiet()
		if len(p.receipts) > 0 {
			t.Errorf("%s was told of ada's cursors", p.name)
		}
	}
	for _, f := range []wire.Frame{dora.ask(g.ref), dora.list(g.ref), dora.trySay(g.ref, "me too"), dora.ask(wire.GroupRef(12345))} {
		if code := dora.refused(f); code != wire.CodeNotMember {
			t.Errorf("who is no member is told %v", code)
		}
	}
}

// A session that does not know groups is told nothing of them, at whatever moment, and one
// that learns of them starts its sync over.
func TestASessionWithoutGroups(t *testing.T) {
	n := start(t, Config{})
	bob, ada := user(t, n, "bob"), user(t, n, "ada")
	old, first := live(t, n, "bob", 2, 9)
	a, _ := meet(t, n, "ada", 1, 100)
	ref := a.found(1, "friends", bob).Ref
	a.say(ref, "hello")
	a.say(wire.DirectRef(bob), "and directly")
	listed(t, n, bob, 2)
	for {
		f := old.until(wire.TypeMessage, wire.TypeHead)
		if f.Type == wire.TypeHead {
			if h, err := wire.ParseHead(f); err != nil || h.Ref.Group() {
				t.Fatalf("%+v, %v", h, err)
			}
			continue
		}
		m, err := wire.ParseMessage(f)
		if err != nil || m.Ref != wire.DirectRef(ada) {
			t.Fatalf("%+v, %v", m, err)
		}
		break
	}
	c := old.sync(first.Token)
	if len(c.Items) != 1 || c.Items[0].Ref != wire.DirectRef(ada) {
		t.Fatalf("%+v", c)
	}
	b, _ := meet(t, n, "bob", 2, 9)
	if c := b.again(c.Token); c.Flags&wire.SyncReset == 0 || len(c.Items) != 2 {
		t.Errorf("a device that knows groups now: flags %d, %d items", c.Flags, len(c.Items))
	}
	if c := b.again(nil); len(c.Items) != 2 || c.Flags != 0 {
		t.Errorf("%+v", c)
	} else if c = b.again(c.Token); len(c.Items) != 0 || c.Flags != 0 {
		t.Errorf("nothing has changed: %+v", c)
	}
}

// Who does not read gets one HEAD for many messages of a group, and delays nobody.
func TestASlowReaderInAGroup(t *testing.T) {
	n := start(t, Config{})
	g := newTrio(scene{t: t, nodes: []*Node{n}})
	g.cleo.pause(true)
	body := strings.Repeat("x", 8<<10)
	const messages = 1_500 // 12 MB: more than the kernel takes for a reader that sleeps
	last := uint64(0)
	for range messages {
		last = g.ada.say(g.ref, body)
	}
	g.bob.hears(g.ref, last)
	g.bob.wantAll(g.ref, [2]uint64{1, last})
	g.cleo.pause(false)
	g.cleo.wait("the last message, or a HEAD", func() bool {
		heard := g.cleo.heard[g.ref] // wait holds the mutex
		return max(g.cleo.heads[g.ref], heard[len(heard)-1].Sequence) >= last
	})
	if n := len(g.cleo.sequences(g.ref)); uint64(n) == last {
		t.Errorf("all %d messages were pushed to who did not read", n)
	}
}

// A device that comes later hears what comes after its sync, and one that has gone leaves
// nothing behind.
func TestDevicesComeAndGo(t *testing.T) {
	n := start(t, Config{})
	devicesComeAndGo(scene{t: t, nodes: []*Node{n}})
	waitUntil(t, func() bool { return !n.wantsGroups() })
}

// devicesComeAndGo ends with all sessions ended.
func devicesComeAndGo(s scene) {
	t, g := s.t, newTrio(s)
	for i := range 8 {
		before := g.ada.say(g.ref, "before")
		phone, c := meet(t, s.at(i), s.name+"bob", 7, uint64(900+i)) // each in place of the one before
		after := g.ada.say(g.ref, "after")
		phone.hears(g.ref, after)
		head := uint64(0)
		for _, item := range c.Items {
			if item.Ref == g.ref {
				head = item.Head
			}
		}
		known := phone.sequences(g.ref)
		if first := known[0]; head < before || first > head+1 {
			t.Errorf("device %d was told up to %d by its sync, and from %d on by pushes", i, head, first)
		}
		phone.wantAll(g.ref, [2]uint64{known[0], after})
		if i%2 == 0 {
			phone.hangUp()
		}
	}
	end := g.bob.say(g.ref, "the end")
	for _, p := range g.all() {
		p.hears(g.ref, end)
		p.wantAll(g.ref, [2]uint64{1, end})
		p.hangUp()
	}
	s.meet(0, "bob", 7, 999).hangUp()
}
