package engine

import (
	"context"
	"log/slog"
	"testing"

	"parley/engine/delivery"
	"parley/engine/shard"
	"parley/wire"
)

// A busyLoop has too much to do until it was looked at some times.
type busyLoop struct {
	Loop
	t      *testing.T
	looks  int // at which it still has
	posted int
	looked func()
	// waiting is what Backlog says when it is not zero.
	waiting int
}

func (l *busyLoop) Backlog() int {
	if l.looked != nil {
		l.looked()
	}
	switch {
	case l.waiting > 0:
		return l.waiting
	case l.looks > 0:
		l.looks--
		return LoopBacklogMax + 1
	}
	return LoopBacklogMax
}

func (l *busyLoop) Post(any) {
	if l.looks > 0 {
		l.t.Error("something was posted to a loop that has too much to do")
	}
	l.posted++
}

// pacedRoute is a shard's route on a node with one loop, and effects for a session there.
func pacedRoute(t *testing.T, l *busyLoop) (r *route, e *shard.Effects, cancel func()) {
	n := &Node{sessions: delivery.NewDirectory()}
	n.life, cancel = context.WithCancel(t.Context())
	n.loops.Store(&[]Loop{l})
	n.sessions.Put(2, 1, 1<<32)
	return &route{node: n}, &shard.Effects{Messages: []shard.MessageEffect{{Conversation: wire.DirectConversation(1, 2), Author: 1}}}, cancel
}

// A shard waits with its effects for a loop that has too much to do, and goes on when the
// loop has caught up.
func TestAShardWaitsForALoopWithTooMuchToDo(t *testing.T) {
	l := &busyLoop{t: t, looks: 5}
	r, e, cancel := pacedRoute(t, l)
	defer cancel()
	r.Effects(e)
	if l.posted != 1 || l.looks != 0 || r.node.counters.loopWaits.Load() != 1 {
		t.Fatalf("%d items posted, %d looks left, %d waits", l.posted, l.looks, r.node.counters.loopWaits.Load())
	}
	r.Effects(e)
	if l.posted != 2 || r.node.counters.loopWaits.Load() != 1 {
		t.Fatal("a shard waited for a loop that has room")
	}
}

// A node that closes does not wait for a loop that never catches up.
func TestAClosingNodeDoesNotWaitForALoop(t *testing.T) {
	l := &busyLoop{t: t, looks: 1 << 30}
	r, e, cancel := pacedRoute(t, l)
	looks := 0
	l.looked = func() {
		if looks++; looks == 3 {
			cancel()
			l.t = &testing.T{} // what is posted now goes nowhere
		}
	}
	r.Effects(e)
}

// A stream of another node is left while a loop has far too much to do, and goes on later.
func TestAStreamIsLeftWhileALoopIsFarBehind(t *testing.T) {
	l := &busyLoop{t: t}
	r, e, cancel := pacedRoute(t, l)
	defer cancel()
	r.inlet = delivery.NewInlet(0, 1, 1, &r.groups)
	n := r.node
	n.routes = []*route{r}
	n.log = slog.New(slog.DiscardHandler)
	var asked []delivery.Action
	announce := func(index uint64) {
		r.event(func(dst []delivery.Action) []delivery.Action {
			asked = r.inlet.Announced(dst, 2, 1, index)
			return nil
		})
	}
	announce(0)
	if !r.inlet.Stats().Open || len(asked) == 0 {
		t.Fatal("no stream was opened")
	}
	outlet := delivery.NewOutlet(0, delivery.NewRecent(0, 1<<20), func(_ uint32, frame []byte) error {
		n.streamFrame(2, frame)
		return nil
	})
	open := func() {
		for _, a := range asked {
			var q delivery.Request
			if err := q.Parse(a.Request, 1); err != nil {
				t.Fatal(err)
			}
			outlet.Request(1, &q)
		}
	}
	r.event(func(dst []delivery.Action) []delivery.Action {
		asked = append(asked, r.inlet.Attach(dst, 2)...)
		return nil
	})
	open()
	e.Index = 1
	e.Messages[0].Sequence = 1
	l.waiting = StreamBacklogMax + 1
	outlet.Effects(e)
	if l.posted != 0 || r.inlet.Stats().Open || n.counters.streamsLeft.Load() != 1 {
		t.Fatalf("%d items posted, open %v", l.posted, r.inlet.Stats().Open)
	}
	l.waiting = StreamBacklogMax
	announce(1)
	open()
	if l.posted != 1 || r.inlet.Stats().Index != 1 {
		t.Fatalf("%d items posted, stream at %d", l.posted, r.inlet.Stats().Index)
	}
}
