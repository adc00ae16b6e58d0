package shard

import (
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"parley/storage"
	"parley/wire"
)

// Two shards: sources own the slots below 2048, targets the rest.
const split = 2048

// guests is a conversation that lives in the lower shard whose members are at home in
// the upper one.
func guests(t *testing.T, n uint64) (wire.Conversation, wire.ID, wire.ID) {
	t.Helper()
	for i := uint64(1); ; i++ {
		a, b := wire.MakeID(3000, n<<20|2*i), wire.MakeID(3500, n<<20|2*i+1)
		if c := wire.DirectConversation(a, b); c.Slot() < split {
			return c, a, b
		}
	}
}

func firstMessage(c wire.Conversation, author wire.ID) *Send {
	return &Send{Origin: Origin{Session: 1, Correlation: 1}, Conversation: c, Author: author, Device: 1, Epoch: 1, Counter: 1, PeerKnown: true, Content: wire.Text("hello")}
}

// serve applies whatever waits at a replica, 50 times a virtual second, until stop.
func serve(r *replica, mu *sync.Mutex, stop chan struct{}) {
	for {
		select {
		case <-stop:
			return
		case <-time.After(20 * time.Millisecond):
			mu.Lock()
			for entries, _ := r.pack(); entries != nil; entries, _ = r.pack() {
				r.apply(entries...)
			}
			mu.Unlock()
		}
	}
}

func outgoing(r *replica) (n int) {
	err := r.shard.config.Store.View(func(v *storage.Reader) error {
		return v.Outgoing(func(storage.Outgoing) error { n++; return nil })
	})
	if err != nil {
		r.t.Fatal(err)
	}
	return n
}

// TestCourierSurvivesALeaderAtEveryStep cuts the source's leader off after every prefix
// of its life: entry applied, row delivered, delivery applied, removal applied. Whatever
// the cut, the next leader brings both users' lists to hold the conversation once.
func TestCourierSurvivesALeaderAtEveryStep(t *testing.T) {
	for _, cut := range []string{"applied", "delivering", "delivered", "removing"} {
		t.Run(cut, func(t *testing.T) {
			c, a, b := guests(t, 1)
			source, target := newReplica(t, 0, 0, split-1), newReplica(t, 1, split, wire.Slots-1)
			target.lead()
			entered := make(chan chan error, 8)
			var mu sync.Mutex // one worker for each slot
			source.deliver = func(_ wire.Slot, command []byte) <-chan error {
				mu.Lock()
				defer mu.Unlock()
				switch cut {
				case "applied": // nothing arrives
					return nil
				case "delivering": // it arrives, the source is gone before it is applied
					target.shard.Receive(command)
					answer := make(chan error, 1)
					entered <- answer
					return answer
				}
				done := target.shard.Receive(command)
				target.run()
				answer := make(chan error, 1)
				if cut == "removing" {
					answer <- <-done // applied and acknowledged; the removal is proposed, never committed
				}
				entered <- answer
				return answer
			}
			source.restart() // takes up deliver
			source.lead()
			source.send(firstMessage(c, a))
			entries, _ := source.pack()
			source.apply(entries...)
			if cut != "applied" {
				<-entered
				<-entered
			}
			source.shard.Follow()
			if n := outgoing(source); n != 2 {
				t.Fatalf("%d rows wait, want 2", n)
			}
			target.run()
			finishDelivery(t, source, target, a, b, c)
		})
	}
}

// finishDelivery starts the source's next life and lets it deliver all.
func finishDelivery(t *testing.T, source, target *replica, a, b wire.ID, c wire.Conversation) {
	t.Helper()
	delivered := make(chan struct{}, 16)
	source.deliver = func(_ wire.Slot, command []byte) <-chan error {
		done := target.shard.Receive(command)
		delivered <- struct{}{}
		return done
	}
	source.crash()
	source.lead()
	deadline := time.After(30 * time.Second)
	for outgoing(source) > 0 {
		select {
		case <-delivered:
		case <-time.After(time.Millisecond):
		case <-deadline:
			t.Fatalf("%d rows are left", outgoing(source))
		}
		target.run()
		source.run()
	}
	for _, u := range []wire.ID{a, b} {
		list, err := listOf(target.shard, u)
		if err != nil || len(list) != 1 || list[0].Conversation != c {
			t.Fatalf("list of %d is %v, %v", u, list, err)
		}
	}
}

// TestCourierTriesAgain lets the target fail in every way for a while: rows come in
// order for each slot, and each once into the list.
func TestCourierTriesAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex
		source, target := newReplica(t, 0, 0, split-1), newReplica(t, 1, split, wire.Slots-1)
		stop := make(chan struct{})
		attempts := 0
		source.deliver = func(slot wire.Slot, command []byte) <-chan error {
			mu.Lock()
			defer mu.Unlock()
			attempts++
			switch {
			case attempts%4 == 0:
				return make(chan error) // never answered
			case attempts%4 == 1:
				failed := make(chan error, 1)
				failed <- errors.New("out of reach")
				return failed
			case attempts%4 == 2: // applied, but the answer is lost
				target.shard.Receive(command)
				return make(chan error)
			}
			return target.shard.Receive(command)
		}
		source.restart()
		source.lead()
		target.lead()
		var all []wire.Conversation
		go serve(source, &mu, stop)
		go serve(target, &mu, stop)
		for n := range uint64(20) {
			c, a, _ := guests(t, n+1)
			all = append(all, c)
			mu.Lock()
			source.send(firstMessage(c, a))
			mu.Unlock()
			time.Sleep(7 * time.Millisecond)
		}
		time.Sleep(5 * time.Minute)
		close(stop)
		time.Sleep(time.Second)
		if n := outgoing(source); n != 0 {
			t.Fatalf("%d rows are left after %d attempts", n, attempts)
		}
		checkLists(t, target, all)
	})
}

func checkLists(t *testing.T, target *replica, all []wire.Conversation) {
	t.Helper()
	listed := 0
	for _, e := range target.sink.take() {
		listed += len(e.Listed)
	}
	for _, c := range all {
		for _, u := range []wire.ID{c.A, c.B} {
			list, err := listOf(target.shard, u)
			if err != nil || len(list) != 1 || list[0].Conversation != c {
				t.Fatalf("list of %d is %v, %v", u, list, err)
			}
		}
	}
	if listed != 2*len(all) {
		t.Fatalf("%d were listed, want %d, each once", listed, 2*len(all))
	}
}

// TestOutgoingRowsAreBounded shows that a shard whose courier gets nowhere refuses new
// conversations, with a code that says "again", and nothing else.
func TestOutgoingRowsAreBounded(t *testing.T) {
	r := newReplica(t, 0, 0, split-1)
	r.lead()
	c, a, _ := guests(t, 1)
	r.send(firstMessage(c, a))
	r.run()
	for i := range uint64(OutgoingMax) {
		r.shard.machine.outgoing[1<<60|i] = struct{}{}
	}
	again := firstMessage(c, a)
	again.Counter = 2
	fresh, author, _ := guests(t, 2)
	r.send(again)
	r.send(firstMessage(fresh, author))
	effects := r.run()
	if len(effects) != 1 || len(effects[0].Sent) != 1 || len(effects[0].Refused) != 1 || effects[0].Refused[0].Code != wire.CodeOverloaded {
		t.Fatalf("effects are %+v", effects)
	}
}
