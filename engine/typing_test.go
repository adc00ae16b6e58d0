package engine

import (
	"slices"
	"testing"
	"time"

	"parley/wire"
)

// Members are told who writes in a group, by name; neither the author's own devices are nor
// those who are no members, and nobody is told of who may not write.
func TestTypingInAGroup(t *testing.T) {
	typingInAGroup(scene{t: t, nodes: []*Node{start(t, Config{})}})
}

func typingInAGroup(s scene) {
	g := newTrio(s)
	s.user("dora")
	dora := s.meet(0, "dora", 1, 400)
	types := func(p *person) { p.send(wire.AppendTyping(nil, &wire.Typing{Ref: g.ref})) }
	knows := func(p *person, author wire.ID) bool {
		return slices.Contains(p.typing, wire.Typing{Ref: g.ref, Author: author})
	}
	for _, p := range []*person{g.bob, g.cleo} {
		// One a second is passed on, so who was not heard writes again.
		for end := time.Now().Add(patience); !s.heard(p, func() bool { return knows(p, g.ada.id) }); {
			if time.Now().After(end) {
				s.t.Fatalf("%s is not told that ada writes", p.name)
			}
			types(g.ada)
			time.Sleep(retryPause)
		}
	}
	types(dora)
	g.ada.change(g.ref, wire.Event{Kind: wire.EventRole, Role: wire.RoleReader, Users: []wire.ID{g.cleo.id}})
	types(g.cleo)
	for _, p := range []*person{g.ada, g.tablet, g.bob, dora} {
		p.quiet()
		p.mu.Lock()
		if knows(p, dora.id) || knows(p, g.cleo.id) || (p == g.tablet || p == dora) && len(p.typing) > 0 {
			s.t.Errorf("%s is told of %+v", p.name, p.typing)
		}
		p.mu.Unlock()
	}
}

// heard looks at what has come to a session.
func (s scene) heard(p *person, is func() bool) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return is()
}
