package engine

import (
	"testing"

	"parley/wire"
)

// wants asks for settings, and gives the version that holds then, or the refusal.
func (p *person) wants(ref wire.Ref, own wire.Own) (version uint64, code wire.Code) {
	p.t.Helper()
	f := p.request(func(c uint64) []byte {
		return wire.AppendOwnSettings(nil, &wire.OwnSettings{Correlation: c, Ref: ref, Version: own.Version, Flags: own.Flags, MutedUntil: own.MutedUntil})
	})
	if f.Type == wire.TypeError {
		return 0, p.refused(f)
	}
	return must(p.t, wire.TypeSent, f, wire.ParseSent).Sequence, 0
}

// knows waits until the session was told of a version of what is its user's own.
func (p *person) knows(ref wire.Ref, own wire.Own) {
	p.t.Helper()
	p.wait("what is its own", func() bool { return p.owned[ref].Version >= own.Version })
	p.mu.Lock()
	defer p.mu.Unlock()
	if got := p.owned[ref]; got != (wire.OwnState{Ref: ref, Version: own.Version, Flags: own.Flags, MutedUntil: own.MutedUntil}) {
		p.t.Errorf("%s was told %+v, want %+v", p.name, got, own)
	}
}

// finds syncs, and gives what is the user's own of a conversation.
func (p *person) finds(token []byte, ref wire.Ref) (own wire.Own, item wire.ConversationState, ok bool) {
	p.t.Helper()
	for _, item := range p.again(token).Items {
		if item.Ref == ref {
			own, err := wire.ParseOwn(item.Extensions)
			if err != nil {
				p.t.Error(err)
			}
			return own, item, true
		}
	}
	return own, item, false
}

func ownSettings(s scene) {
	t := s.t
	g := newTrio(s)
	g.ada.say(wire.DirectRef(g.bob.id), "hello")
	waitUntil(t, func() bool { _, _, ok := g.bob.finds(nil, wire.DirectRef(g.ada.id)); return ok })
	for _, ref := range []wire.Ref{wire.DirectRef(g.bob.id), g.ref} {
		before, bobs := g.cleo.again(nil).Token, g.bob.again(nil).Token
		muted := wire.Own{Flags: wire.OwnMuted | wire.OwnPinned, Version: 1, MutedUntil: 5000}
		if version, code := g.ada.wants(ref, wire.Own{Flags: muted.Flags, MutedUntil: muted.MutedUntil}); version != 1 || code != 0 {
			t.Fatalf("version %d, %v", version, code)
		}
		g.tablet.knows(ref, muted)
		// The other device knows it, and changes it; a late copy undoes nothing, and is told what holds.
		archived := wire.Own{Flags: wire.OwnArchived, Version: 2}
		if version, code := g.tablet.wants(ref, wire.Own{Flags: archived.Flags, Version: 1}); version != 2 || code != 0 {
			t.Fatalf("version %d, %v", version, code)
		}
		g.ada.knows(ref, archived)
		if version, code := g.ada.wants(ref, wire.Own{Flags: muted.Flags, MutedUntil: muted.MutedUntil}); code != wire.CodeOutdated {
			t.Errorf("a late copy: version %d, %v", version, code)
		}
		if version, code := g.ada.wants(ref, wire.Own{Flags: archived.Flags}); version != 2 || code != 0 {
			t.Errorf("what is so already: version %d, %v", version, code)
		}
		// A sync says it, of nothing that changed for others.
		if own, item, ok := g.ada.finds(nil, ref); !ok || own != archived {
			t.Errorf("a sync has %+v, %+v", own, item)
		}
		if _, item, ok := g.cleo.finds(before, ref); ok {
			t.Errorf("cleo is told %+v", item)
		}
		other := ref
		if !ref.Group() {
			other = wire.DirectRef(g.ada.id)
		}
		if own, item, ok := g.bob.finds(bobs, other); ok {
			t.Errorf("bob is told %+v, %+v", own, item)
		}
	}
	if _, code := g.cleo.wants(wire.DirectRef(g.ada.id), wire.Own{Flags: wire.OwnMuted}); code != wire.CodeNotMember {
		t.Errorf("nothing was said: %v", code)
	}
	g.bob.change(g.ref, wire.Event{Kind: wire.EventLeave})
	if _, code := g.bob.wants(g.ref, wire.Own{Flags: wire.OwnMuted}); code != wire.CodeNotMember {
		t.Errorf("who has left: %v", code)
	}
}

// One's own settings come to one's own devices, and to nobody else; a new message changes
// none of them.
func TestOwnSettings(t *testing.T) {
	ownSettings(scene{t: t, nodes: []*Node{start(t, Config{})}})
}

func TestNewMessagesLeaveSettingsAlone(t *testing.T) {
	n := start(t, Config{})
	s := scene{t: t, nodes: []*Node{n}}
	s.user("ada")
	s.user("bob")
	ada, bob := s.meet(0, "ada", 1, 100), s.meet(0, "bob", 1, 200)
	ada.say(wire.DirectRef(bob.id), "hello")
	ref, own := wire.DirectRef(ada.id), wire.Own{Flags: wire.OwnArchived | wire.OwnUnread, Version: 1}
	if version, code := bob.wants(ref, wire.Own{Flags: own.Flags}); version != 1 {
		t.Fatal(code)
	}
	ada.say(wire.DirectRef(bob.id), "again")
	bob.say(ref, "yes")
	if got, item, ok := bob.finds(nil, ref); !ok || got != own || item.Head != 3 || item.Unread != 2 {
		t.Errorf("%+v, %+v", got, item)
	}
}

func TestOwnOnThreeNodes(t *testing.T) {
	nodes, _ := startCabled(t, 3)
	for name, test := range map[string]func(scene){"settings": ownSettings} {
		t.Run(name, func(t *testing.T) { test(scene{t: t, nodes: nodes, name: name}) })
	}
}

// Who did not say that it knows what is its own is not told, and cannot ask.
func TestASessionWithoutTheFeatureIsToldNothingOfItsOwn(t *testing.T) {
	n := start(t, Config{})
	s := scene{t: t, nodes: []*Node{n}}
	s.user("ada")
	bob := s.user("bob")
	ada := s.meet(0, "ada", 1, 100)
	ada.say(wire.DirectRef(bob), "hello")
	old := dial(t, n)
	old.send(wire.AppendHello(nil, &wire.Hello{Version: wire.Version, OutboxEpoch: 7, Credential: token(t, n, "ada", 2)}))
	old.want(wire.TypeWelcome)
	old.send(wire.AppendSync(nil, &wire.Sync{Correlation: 1}))
	old.want(wire.TypeConversations)
	old.send(wire.AppendOwnSettings(nil, &wire.OwnSettings{Correlation: 2, Ref: wire.DirectRef(bob), Flags: wire.OwnMuted}))
	if e, err := wire.ParseError(old.want(wire.TypeError)); err != nil || e.Code != wire.CodeUnsupported || e.Correlation != 2 {
		t.Errorf("%+v, %v", e, err)
	}
	if _, code := ada.wants(wire.DirectRef(bob), wire.Own{Flags: wire.OwnMuted}); code != 0 {
		t.Error(code)
	}
	ada.say(wire.DirectRef(bob), "one more") // the next that the old device hears is this
	if m, err := wire.ParseMessage(old.want(wire.TypeMessage)); err != nil || m.Sequence != 2 {
		t.Errorf("%+v, %v", m, err)
	}
}
