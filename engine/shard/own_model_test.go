package shard

import (
	"fmt"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"parley/raft"
	"parley/storage"
	"parley/wire"
)

// An ownPair is what two people are to each other, in its simplest form.
type ownPair struct {
	sent []wire.ID // authors
	own  map[wire.ID]wire.Own
	read map[wire.ID]uint64
	told map[wire.ID]int // changes that each of them should hear of
}

// ownRun drives two replicas with batches of their own, beside a naive model of what
// conversations are to one of their members alone.
type ownRun struct {
	t                *rapid.T
	leader, follower *replica
	users            []wire.ID
	pairs            map[wire.Conversation]*ownPair
	queued           []Send
	counters         map[string]uint64
	asked            uint64
}

func TestOwnModel(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		m := &ownRun{t: rt, pairs: map[wire.Conversation]*ownPair{}, counters: map[string]uint64{}}
		m.leader, m.follower = newReplica(t, 0, 0, wire.Slots-1), newReplica(t, 0, 0, wire.Slots-1)
		defer m.leader.close()
		defer m.follower.close()
		m.leader.lead()
		for _, name := range []string{"ann", "bob", "cy"} {
			id := wire.MakeID(wire.SlotOf([]byte(name)), 1)
			m.users = append(m.users, id)
			m.leader.shard.queue.control(appendCreateUser(nil, id, name, "hash"), 1)
		}
		m.leader.run()
		rt.Repeat(map[string]func(*rapid.T){
			"send":     m.send,
			"settings": m.settings,
			"read":     m.read,
			"apply":    func(*rapid.T) { m.apply() },
			"flush":    func(*rapid.T) { m.apply(); m.leader.flush() },
			"crash":    func(*rapid.T) { m.apply(); m.leader.crash(); m.leader.lead() },
			"follow":   m.follow,
			"":         func(*rapid.T) {},
		})
		m.apply()
		m.check()
		m.follow(rt)
	})
}

// two draws a user and whom it is about; seldom the same.
func (m *ownRun) two(t *rapid.T) (user, peer wire.ID, c wire.Conversation) {
	user = m.users[rapid.SampledFrom([]int{0, 0, 1, 1, 2}).Draw(t, "user")]
	peer = m.users[rapid.SampledFrom([]int{0, 0, 1, 1, 2}).Draw(t, "peer")]
	return user, peer, wire.DirectConversation(user, peer)
}

func (m *ownRun) pair(c wire.Conversation) *ownPair {
	p := m.pairs[c]
	if p == nil {
		p = &ownPair{own: map[wire.ID]wire.Own{}, read: map[wire.ID]uint64{}, told: map[wire.ID]int{}}
		m.pairs[c] = p
	}
	return p
}

func (m *ownRun) queue(s Send) {
	m.asked++
	s.Origin, s.Device, s.PeerKnown = Origin{Session: uint64(s.Author) % 1000, Correlation: m.asked}, 1, true
	m.queued = append(m.queued, s)
	m.leader.send(&s)
}

// send says something, under the next counter or under that of the last one again.
func (m *ownRun) send(t *rapid.T) {
	user, _, c := m.two(t)
	key := fmt.Sprint(user, c)
	counter := m.counters[key] + 1
	if counter > 1 && rapid.IntRange(0, 4).Draw(t, "again") == 0 {
		counter--
	}
	m.counters[key] = counter
	m.queue(Send{Conversation: c, Author: user, Epoch: 1, Counter: counter, Content: wire.Text(fmt.Sprint(key, counter))})
}

// settings asks for some, of a version that is mostly the one that there will be.
func (m *ownRun) settings(t *rapid.T) {
	user, _, c := m.two(t)
	ask := Ask{Kind: AskSettings, Flags: rapid.Uint64Range(0, wire.OwnSettingsMask).Draw(t, "flags"), Version: m.version(t, user, c)}
	if ask.Flags&wire.OwnMuted != 0 {
		ask.MutedUntil = wire.Time(rapid.IntRange(0, 1).Draw(t, "until") * 5000)
	}
	m.queue(Send{Conversation: c, Author: user, Ask: &ask})
}

func (m *ownRun) version(t *rapid.T, user wire.ID, c wire.Conversation) uint64 {
	version := m.pair(c).own[user].Version
	for i := range m.queued {
		if q := &m.queued[i]; q.Ask != nil && q.Conversation == c && q.Author == user {
			version++
		}
	}
	return uint64(max(0, int(version)+rapid.SampledFrom([]int{0, 0, 0, 0, -1, 1}).Draw(t, "version")))
}

func (m *ownRun) read(t *rapid.T) {
	m.apply()
	user, _, c := m.two(t)
	p := m.pair(c)
	position := uint64(rapid.IntRange(0, len(p.sent)).Draw(t, "position"))
	if err := m.leader.shard.Cursor(&Cursor{Conversation: c, User: user, Kind: wire.Read, Position: position}); err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, e := range m.leader.run() {
		for _, x := range e.Receipts {
			got = append(got, fmt.Sprint(x.User, x.Kind, x.Position))
		}
	}
	var want []string
	if position > p.read[user] {
		p.read[user] = position
		want = append(want, fmt.Sprint(user, wire.Read, position))
	}
	if !slices.Equal(got, want) {
		t.Fatalf("receipts %v, want %v", got, want)
	}
}

// answer is what the model says of a send, and what is told of one's own besides.
func (m *ownRun) answer(s *Send) (answer string, told []string) {
	p := m.pair(s.Conversation)
	if s.Ask != nil {
		return m.ask(p, s)
	}
	if n := uint64(len(p.sent)); s.Counter <= m.said(p, s.Author) {
		return fmt.Sprint("sent ", m.place(p, s.Author, s.Counter)), nil
	} else {
		p.sent = append(p.sent, s.Author)
		return fmt.Sprint("sent ", n+1), nil
	}
}

// said is how many messages of a user there are.
func (m *ownRun) said(p *ownPair, user wire.ID) (n uint64) {
	for _, author := range p.sent {
		if author == user {
			n++
		}
	}
	return n
}

// place is the sequence of a user's nth message.
func (m *ownRun) place(p *ownPair, user wire.ID, nth uint64) int {
	for i, author := range p.sent {
		if author == user {
			if nth--; nth == 0 {
				return i + 1
			}
		}
	}
	return 0
}

func (m *ownRun) ask(p *ownPair, s *Send) (answer string, told []string) {
	own := p.own[s.Author]
	switch {
	case len(p.sent) == 0:
		return wire.CodeNotMember.String(), nil
	case own.Flags == s.Ask.Flags && own.MutedUntil == s.Ask.MutedUntil:
		return fmt.Sprint("sent ", own.Version), nil
	case own.Version != s.Ask.Version:
		return wire.CodeOutdated.String(), []string{fmt.Sprint(s.Author, own, 0)}
	}
	own = wire.Own{Flags: s.Ask.Flags, Version: own.Version + 1, MutedUntil: s.Ask.MutedUntil}
	p.own[s.Author] = own
	p.told[s.Author]++
	return fmt.Sprint("sent ", own.Version), []string{fmt.Sprint(s.Author, own, s.Session)}
}

// apply applies what waits, one entry after the other, and holds the effects to the model.
func (m *ownRun) apply() {
	want, wantTold := map[uint64]string{}, []string(nil)
	for i := range m.queued {
		answer, told := m.answer(&m.queued[i])
		want[m.queued[i].Correlation] = answer
		wantTold = append(wantTold, told...)
	}
	m.queued = nil
	got, gotTold := map[uint64]string{}, []string(nil)
	for _, e := range m.leader.run() {
		for _, x := range e.Sent {
			got[x.Correlation] = fmt.Sprint("sent ", x.Sequence)
		}
		for _, x := range e.Refused {
			got[x.Correlation] = x.Code.String()
		}
		for _, x := range e.Own {
			gotTold = append(gotTold, fmt.Sprint(x.User, x.Own, x.From))
		}
	}
	if fmt.Sprint(got) != fmt.Sprint(want) || !slices.Equal(gotTold, wantTold) {
		m.t.Fatalf("answers\n%v\nwant\n%v\ntold\n%v\nwant\n%v", got, want, gotTold, wantTold)
	}
}

// check compares what everybody sees with the model.
func (m *ownRun) check() {
	for c, p := range m.pairs {
		for _, user := range []wire.ID{c.A, c.B} {
			state, ok, err := m.leader.shard.State(user, c, false)
			if err != nil || ok != (len(p.sent) > 0) {
				m.t.Fatalf("%v: %v, %v", c, ok, err)
			}
			own, err := wire.ParseOwn(state.Extensions)
			if err != nil || own != p.own[user] || state.Revision != uint64(len(p.sent)) || state.Read != p.read[user] || state.OtherRead != p.read[c.Peer(user)] {
				m.t.Fatalf("%v is %+v, %+v to %v (%v), want %+v", c, state, own, user, err, p.own[user])
			}
		}
	}
}

// follow gives the other replica what it lacks, in batches of its own, and compares.
func (m *ownRun) follow(t *rapid.T) {
	m.apply()
	f := m.follower
	var todo []raft.Entry
	for _, e := range m.leader.log {
		if e.Index > f.shard.Stats().Applied {
			todo = append(todo, e)
		}
	}
	for len(todo) > 0 {
		n := rapid.IntRange(1, len(todo)).Draw(t, "batch")
		f.log = append(f.log, todo[:n]...)
		f.apply(todo[:n]...)
		todo = todo[n:]
	}
	keys := map[wire.Conversation]*modelConversation{}
	for c := range m.pairs {
		keys[c] = nil
	}
	if l, f := digest(m.leader, keys, m.users), digest(f, keys, m.users); l != f {
		t.Fatalf("replicas differ:\n%s\n%s", l, f)
	}
}

// Whose settings change hears of it at the next sync, and nobody else does.
func TestOnlyOneselfHearsOfSettings(t *testing.T) {
	r := newReplica(t, 0, 0, wire.Slots-1)
	r.lead()
	ann, bob := wire.MakeID(1, 1), wire.MakeID(2, 2)
	c := wire.DirectConversation(ann, bob)
	r.send(&Send{Conversation: c, Author: ann, Device: 1, Epoch: 1, Counter: 1, PeerKnown: true, Content: wire.Text("hello")})
	r.run()
	before := r.shard.Stats().Applied
	r.send(&Send{Conversation: c, Author: bob, Device: 1, Ask: &Ask{Kind: AskSettings, Flags: wire.OwnPinned}})
	r.run()
	for user, want := range map[wire.ID]int{ann: 0, bob: 1} {
		n := 0
		if _, err := r.shard.Changed(t.Context(), user, before, func(Changed) { n++ }); err != nil || n != want {
			t.Errorf("%v hears of %d changes, want %d (%v)", user, n, want, err)
		}
	}
	err := r.shard.config.Store.View(func(v *storage.Reader) error {
		record, _, err := v.Conversation(c)
		if record.Changed != before || record.Revision != 1 {
			t.Errorf("the conversation itself has changed: %+v", record)
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
}
