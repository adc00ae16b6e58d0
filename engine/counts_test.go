package engine

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"parley/wire"
)

// told waits until a session was told last that so many members have received and read a
// message.
func (p *person) told(ref wire.Ref, position, delivered, read, of uint64) {
	p.t.Helper()
	want := wire.Counts{Ref: ref, Position: position, Delivered: delivered, Read: read, Of: of}
	p.wait(fmt.Sprintf("%+v", want), func() bool { return len(p.counts) > 0 && p.counts[len(p.counts)-1] == want })
}

// Who wrote in a group is told, on every device, how many members have received and read it.
func TestCountsOfMessages(t *testing.T) {
	countsOfMessages(scene{t: t, nodes: []*Node{start(t, Config{})}})
}

func countsOfMessages(s scene) {
	g := newTrio(s)
	s.user("dora")
	dora := s.meet(0, "dora", 1, 400)
	first := g.ada.say(g.ref, "hello")
	g.bob.cursor(g.ref, wire.Delivered, first)
	g.ada.told(g.ref, first, 1, 0, 2)
	g.tablet.told(g.ref, first, 1, 0, 2)
	g.cleo.cursor(g.ref, wire.Read, first) // which is received, too
	g.ada.told(g.ref, first, 2, 1, 2)
	added := g.ada.change(g.ref, wire.Event{Kind: wire.EventAdd, Users: []wire.ID{dora.id}})
	dora.hears(g.ref, added)
	dora.cursor(g.ref, wire.Read, added)
	g.ada.told(g.ref, added, 1, 1, 3) // the event is a message of ada's; dora is a member since it
	second := g.bob.say(g.ref, "welcome")
	for _, p := range []*person{g.ada, g.cleo, dora} {
		p.cursor(g.ref, wire.Read, second)
	}
	g.bob.told(g.ref, second, 3, 3, 3)
	g.ada.told(g.ref, added, 3, 3, 3)
	dora.change(g.ref, wire.Event{Kind: wire.EventLeave})
	g.bob.told(g.ref, second, 2, 2, 2)
	for _, p := range []*person{g.cleo} {
		p.quiet()
		if len(p.counts) > 0 {
			s.t.Errorf("%s, who wrote nothing, is told %+v", p.name, p.counts)
		}
	}
	g.ada.change(g.ref, wire.Event{Kind: wire.EventSettings, Flags: wire.GroupBroadcast})
	announced := g.ada.say(g.ref, "to all")
	g.bob.cursor(g.ref, wire.Read, announced)
	time.Sleep(2 * countsInterval) // nothing may come, so there is nothing to wait for
	g.ada.quiet()
	if slices.ContainsFunc(g.ada.counts, func(c wire.Counts) bool { return c.Position >= announced }) {
		s.t.Errorf("receipts of a broadcast are counted: %+v", g.ada.counts)
	}
}

// However many cursors move, the authors in a group are told at most four times a second.
func TestCountsAreFolded(t *testing.T) {
	s := scene{t: t, nodes: []*Node{start(t, Config{})}}
	g := newTrio(s)
	began := time.Now()
	for range 200 {
		m := g.ada.say(g.ref, "hello")
		g.bob.cursor(g.ref, wire.Delivered, m)
		g.cleo.cursor(g.ref, wire.Read, m)
	}
	last := g.ada.say(g.ref, "the end")
	g.bob.cursor(g.ref, wire.Read, last)
	g.cleo.cursor(g.ref, wire.Read, last)
	g.ada.told(g.ref, last, 2, 2, 2)
	g.ada.quiet()
	if most := 2 + int(time.Since(began)/countsInterval); len(g.ada.counts) > most {
		t.Errorf("%d times told, at most %d are allowed in %v", len(g.ada.counts), most, time.Since(began))
	}
}
