package engine

import (
	"fmt"
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"
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

// However many cursors move, a group is counted at most four times a second, and the last
// time after the last of them; one that takes long to count less often.
func TestCountingIsFolded(t *testing.T) {
	for _, test := range []struct {
		takes    time.Duration
		from, to int64 // counts in ten seconds, and one more
	}{{0, 30, 41}, {40 * time.Millisecond, 11, 14}} {
		synctest.Test(t, func(t *testing.T) {
			var moved, counts, seen atomic.Int64
			var y tally
			y.count = func(group wire.ID) {
				now := time.Now()
				counts.Add(1)
				seen.Store(moved.Load())
				y.begin(group)
				time.Sleep(test.takes)
				y.end(group, now.Add(max(countsInterval, countsShare*test.takes)), nil)
			}
			for range 10_000 {
				moved.Add(1)
				y.want(7, true)
				time.Sleep(time.Millisecond)
			}
			time.Sleep(time.Minute)
			if n := counts.Load(); n < test.from || n > test.to || seen.Load() != moved.Load() {
				t.Errorf("counted %d times, want %d to %d; the last time after %d of %d cursors", n, test.from, test.to, seen.Load(), moved.Load())
			}
		})
	}
}

// No more groups are remembered than may be, and one that is to be counted is not forgotten.
func TestTalliesAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var counted atomic.Int64
		y := tally{count: func(wire.ID) { counted.Add(1) }} // never ends: all of them stay busy
		for group := range wire.ID(TalliesMax + 1) {
			y.want(group+1, true)
		}
		time.Sleep(time.Second)
		if len(y.groups) != TalliesMax || counted.Load() != TalliesMax {
			t.Errorf("%d groups, %d of them counted, want %d", len(y.groups), counted.Load(), TalliesMax)
		}
		y.begin(1)
		y.end(1, time.Now(), nil)
		if y.want(1<<40, true); y.groups[1<<40] == nil || y.groups[1] != nil || len(y.groups) != TalliesMax {
			t.Errorf("a group at rest keeps another one out")
		}
		time.Sleep(time.Second)
	})
}
