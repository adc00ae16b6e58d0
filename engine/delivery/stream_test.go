package delivery

import (
	"maps"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"parley/engine/shard"
	"parley/wire"
)

// Whatever happens to leaders, links, replicas and edges: a session that has synced hears
// every message of its user after that, once and in order, unless it is told to start
// over; and every send is answered once.
func TestStreamsTellEverythingOnce(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := newWorld(t, true)
		w.elect(w.places[0])
		for range rapid.IntRange(100, 400).Draw(t, "steps") {
			w.step()
		}
		w.heal()
		w.check()
		w.checkNothingIsLeft()
	})
}

func (w *world) drawPlace() *place {
	return w.places[rapid.IntRange(0, len(w.places)-1).Draw(w.t, "node")]
}

func (w *world) drawReplica() *place {
	if p := w.drawPlace(); p.replica {
		return p
	}
	return w.places[0]
}

func (w *world) drawUser() wire.ID { return wire.ID(rapid.IntRange(1, worldUsers).Draw(w.t, "user")) }

func (w *world) firstSeat(p *place) *seat {
	return p.sessions[slices.Min(slices.Collect(maps.Keys(p.sessions)))]
}

func (w *world) drawSeat(p *place) *seat {
	var handles []uint64
	for handle := range p.sessions {
		handles = append(handles, handle)
	}
	if len(handles) == 0 {
		return nil
	}
	slices.Sort(handles)
	return p.sessions[handles[rapid.IntRange(0, len(handles)-1).Draw(w.t, "session")]]
}

func (w *world) step() {
	switch n := rapid.IntRange(0, 99).Draw(w.t, "step"); {
	case n < 30:
		from, to := w.drawPlace(), w.drawPlace()
		for range rapid.IntRange(1, 4).Draw(w.t, "messages") {
			w.arrive(from.number, to.number)
		}
	case n < 40:
		w.drawReplica().apply(rapid.IntRange(1, 5).Draw(w.t, "entries"))
	case n < 46:
		w.proposeInGroup()
	case n < 50:
		w.drawPlace().turn(rapid.IntRange(0, worldLoops-1).Draw(w.t, "loop"))
	case n < 52:
		w.propose(entry{conversation: wire.DirectConversation(w.drawUser(), w.drawUser()), author: w.drawUser(),
			receipt: n == 50, empty: n == 51})
	case n < 62:
		if p := w.drawPlace(); len(p.sessions) < 4 {
			p.connect(w.drawUser())
		}
	case n < 66:
		if p := w.drawPlace(); len(p.sessions) > 0 {
			p.disconnect(w.drawSeat(p))
		}
	case n < 76:
		if p := w.drawPlace(); len(p.sessions) > 0 {
			p.send(w.drawSeat(p), w.drawUser())
		}
	case n < 84:
		if len(w.answers) > 0 {
			w.answerArrives(rapid.IntRange(0, len(w.answers)-1).Draw(w.t, "answer"))
		}
	case n < 90:
		w.announce(w.drawReplica())
	default:
		w.fault(n)
	}
}

func (w *world) fault(n int) {
	switch n {
	case 90, 91:
		w.lose(w.drawPlace().number, w.drawPlace().number)
	case 92, 93:
		w.say()
	case 94, 95:
		w.elect(w.drawReplica())
	case 96:
		from, to := w.drawPlace().number, w.drawPlace().number
		if past := w.past[[2]uint32{from, to}]; len(past) > 0 {
			w.place(to).receive(from, past[rapid.IntRange(0, len(past)-1).Draw(w.t, "again")])
		}
	case 97:
		w.jump(w.drawReplica())
	case 98:
		w.restart(w.drawPlace())
	case 99:
		if p := w.drawPlace(); p.outlet != nil {
			p.outlet.Idle()
		}
	}
}

// elect makes another node lead. It knows at once; the others hear of it.
func (w *world) elect(p *place) {
	w.term++
	w.leader, p.ledTerm = p, w.term
	w.announce(p)
}

// announce is what a node that has led does each second, whether it still leads or not.
func (w *world) announce(p *place) {
	if p.ledTerm == 0 {
		return
	}
	index := p.outlet.Idle()
	p.do(p.inlet.Announced(nil, p.number, p.ledTerm, index))
	for _, other := range w.places {
		if other != p {
			_ = p.post(other.number, message{announced: true, term: p.ledTerm, index: index}) // the next one will do
		}
	}
}

// lose loses what is on its way from one node to another, which both learn later, or one
// of the messages in the middle of it.
func (w *world) lose(from, to uint32) {
	key := [2]uint32{from, to}
	if len(w.links[key]) == 0 {
		return
	}
	n := rapid.IntRange(1, len(w.links[key])).Draw(w.t, "lost")
	w.drop(key, n)
}

// drop loses the first messages of a link; who waits for a read hears that it failed.
func (w *world) drop(key [2]uint32, count int) {
	for _, m := range w.links[key][:count] {
		if m.read != nil {
			w.answers = append(w.answers, readAnswer{*m.read, 0, 0, false})
		}
	}
	w.links[key] = w.links[key][count:]
	w.unheard = append(w.unheard, key)
}

// say tells a sender that something was lost.
func (w *world) say() {
	if len(w.unheard) == 0 {
		return
	}
	key := w.unheard[0]
	w.unheard = w.unheard[1:]
	p := w.place(key[0])
	if p.outlet != nil {
		p.outlet.LinkDown(key[1])
	}
	p.do(p.inlet.LinkDown(nil, key[1]))
}

// jump gives a replica that is behind a snapshot. What it had proposed has failed: it does
// not lead any more.
func (w *world) jump(p *place) {
	if p != w.leader && int(p.applied) < len(w.log) {
		e := &shard.Effects{Shard: 9}
		for range rapid.IntRange(1, len(w.log)-int(p.applied)).Draw(w.t, "entries") {
			p.applied++
			if o := p.origin(&w.log[p.applied-1]); o.Session != 0 {
				e.Refused = append(e.Refused, shard.RefusedEffect{Origin: o, Code: wire.CodeTimeout})
			}
		}
		p.told = p.applied
		p.tell(e)
		p.tell(&shard.Effects{Shard: 9, Previous: p.told, Index: p.told})
	}
}

// restart ends a node and begins it anew. If it led, another one does now.
func (w *world) restart(p *place) {
	for _, other := range w.places {
		for _, key := range [][2]uint32{{p.number, other.number}, {other.number, p.number}} {
			w.drop(key, len(w.links[key]))
		}
	}
	for o, s := range w.sends {
		if o.Node == p.number {
			s.answered = true // nobody waits any more
			delete(w.sends, o)
		}
	}
	w.answers = slices.DeleteFunc(w.answers, func(a readAnswer) bool { return a.node == p.number })
	p.ledTerm = 0
	p.start()
	if p == w.leader {
		w.elect(w.places[p.number%2])
	}
}

// heal lets the cluster come to rest.
func (w *world) heal() {
	w.lossy = false
	for len(w.unheard) > 0 {
		w.say()
	}
	for range 3 * silentMax {
		w.rest()
		w.announce(w.leader)
	}
	w.rest()
}

// rest lets everything arrive and be applied.
func (w *world) rest() {
	for busy := true; busy; {
		busy = false
		for _, key := range w.pairs() {
			for len(w.links[key]) > 0 {
				w.arrive(key[0], key[1])
				busy = true
			}
		}
		for _, p := range w.places {
			p.apply(len(w.log))
			for loop := range p.loops {
				p.turn(loop)
			}
		}
		for len(w.answers) > 0 {
			w.answerArrives(0)
			busy = true
		}
	}
}

// pairs are the links in an order that repeats.
func (w *world) pairs() (keys [][2]uint32) {
	for _, from := range w.places {
		for _, to := range w.places {
			keys = append(keys, [2]uint32{from.number, to.number})
		}
	}
	return keys
}

func (w *world) check() {
	for o, s := range w.sends {
		if !s.answered {
			w.t.Errorf("%+v has no answer; its entry is %d", o, s.index)
		}
	}
	for _, p := range w.places {
		if stats := p.inlet.Stats(); !stats.Open || stats.Index != uint64(len(w.log)) {
			w.t.Errorf("node %d stands at %+v of %d", p.number, p.inlet.Stats(), len(w.log))
		}
		for _, s := range p.sessions {
			w.checkSeat(p, s)
		}
	}
}

func (w *world) checkSeat(p *place, s *seat) {
	if !s.synced {
		w.t.Errorf("session %d of node %d never synced, although all answers are there", s.handle, p.number)
	}
	var want [3][]uint64
	for i := s.since; i < uint64(len(w.log)); i++ {
		switch e := &w.log[i]; {
		case e.empty:
		case e.conversation.Kind == wire.Group:
			if w.isFor(s.user, i+1) {
				want[2] = append(want[2], i+1)
			}
		case e.conversation.Member(s.user):
			kind := 0
			if e.receipt {
				kind = 1
			}
			want[kind] = append(want[kind], i+1)
		}
	}
	for kind := range want {
		heard := slices.DeleteFunc(slices.Clone(s.heard[kind]), func(index uint64) bool { return index <= s.since })
		if !slices.Equal(heard, want[kind]) {
			w.t.Errorf("session %d of user %d at node %d heard %v after %d, want %v", s.handle, s.user, p.number, heard, s.since, want[kind])
		}
	}
}

// A stream tells of nobody who is not attached, and no more of who has been detached.
func TestStreamsTellOfNobodyElse(t *testing.T) {
	var frames [][]byte
	recent := NewRecent(0, RecentBytesMax)
	o := NewOutlet(9, recent, func(_ uint32, frame []byte) error {
		frames = append(frames, slices.Clone(frame))
		return nil
	})
	index := uint64(0)
	tell := func(a, b wire.ID) {
		index++
		o.Effects(&shard.Effects{Shard: 9, Previous: index - 1, Index: index,
			Messages: []shard.MessageEffect{{Conversation: wire.DirectConversation(a, b), Author: a, Sequence: index, Revision: index, Content: wire.Text("x")}},
			Receipts: []shard.ReceiptEffect{{Conversation: wire.DirectConversation(a, b), User: b, Position: index}},
			Listed:   []shard.ListedEffect{{User: a, Conversation: wire.DirectConversation(a, b)}},
			Own:      []shard.OwnEffect{{User: b, Conversation: wire.DirectConversation(a, b), Own: wire.Own{Version: index}}}})
	}
	tell(1, 2)
	tell(3, 4)
	o.Request(7, &Request{Kind: RequestOpen, Generation: 1, Users: []wire.ID{2}}) // everything since 0
	tell(5, 6)
	tell(2, 3)
	o.Request(7, &Request{Kind: RequestDetach, Generation: 1, Number: 1, Users: []wire.ID{2}})
	tell(1, 2)
	var got, own []uint64
	for _, src := range frames {
		f, err := ParseFrame(src)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range f.Effects.Messages {
			got = append(got, m.Sequence)
		}
		if len(f.Effects.Messages) != len(f.Effects.Receipts) || len(f.Effects.Listed) > len(f.Effects.Messages) {
			t.Errorf("%+v", f.Effects)
		}
		for _, x := range f.Effects.Own {
			own = append(own, x.Own.Version)
		}
	}
	if want := []uint64{1}; !slices.Equal(own, want) {
		t.Errorf("versions %v of one's own were told, want %v", own, want)
	}
	if want := []uint64{1, 4}; !slices.Equal(got, want) {
		t.Errorf("messages %v were told, want %v", got, want)
	}
}
