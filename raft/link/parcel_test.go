package link

import (
	"math/rand/v2"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	hraft "github.com/hashicorp/raft"

	"parley/raft"
)

// A follower is a log that takes messages as hashicorp/raft's does.
type follower struct {
	mu       sync.Mutex
	last     uint64
	commit   uint64
	messages int
	refuse   bool
}

func (f *follower) answer(command any) (any, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.messages++
	a := command.(*hraft.AppendEntriesRequest)
	if f.refuse || a.PrevLogEntry > f.last {
		return &hraft.AppendEntriesResponse{Term: 3, LastLog: f.last, NoRetryBackoff: true}, nil
	}
	if n := len(a.Entries); n > 0 {
		f.last = max(f.last, a.Entries[n-1].Index)
	}
	f.commit = max(f.commit, min(a.LeaderCommitIndex, f.last))
	return &hraft.AppendEntriesResponse{Term: 3, Success: true, LastLog: f.last}, nil
}

func (f *follower) counts() (messages int, last, commit uint64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.messages, f.last, f.commit
}

// send is what hashicorp/raft does once its own write is durable.
func send(t *testing.T, p *pipeline, prev uint64, n int) {
	t.Helper()
	if _, err := p.AppendEntries(entriesOf(prev, n), &hraft.AppendEntriesResponse{}); err != nil {
		t.Fatal(err)
	}
}

// answered takes the answer of a message that ends at an index.
func answered(t *testing.T, p *pipeline, last uint64) {
	t.Helper()
	synctest.Wait()
	select {
	case f := <-p.Consumer():
		a := f.Request()
		if end := a.PrevLogEntry + uint64(len(a.Entries)); !f.Response().Success || end != last || f.Response().LastLog < last {
			t.Fatalf("an answer to %d after %d: %+v, want up to %d", len(a.Entries), a.PrevLogEntry, f.Response(), last)
		}
	default:
		t.Fatalf("the message up to %d is not answered", last)
	}
}

func TestWhatWasShippedIsNotSentAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, false)
		_, b, p := pipes(t, w)
		f := &follower{}
		defer answering(b, f.answer)()
		send(t, p, 0, 1)
		answered(t, p, 1)

		p.Ship(entriesOf(1, 2).Entries, 1)
		synctest.Wait()
		if n, last, commit := f.counts(); n != 2 || last != 3 || commit != 1 {
			t.Fatalf("shipped: %d messages, log to %d, commit %d", n, last, commit)
		}
		select {
		case <-p.Consumer():
			t.Fatal("the leader hears of entries that it has not written")
		default:
		}
		send(t, p, 1, 2) // answered before
		answered(t, p, 3)

		p.Ship(entriesOf(3, 1).Entries, 3)
		p.Ship(entriesOf(4, 1).Entries, 3)
		send(t, p, 3, 2) // two parcels, not answered yet
		answered(t, p, 5)
		if n, _, commit := f.counts(); n != 4 || commit != 3 {
			t.Fatalf("%d messages, commit %d", n, commit)
		}
		// The next one continues them.
		send(t, p, 5, 1)
		answered(t, p, 6)
		if n, last, _ := f.counts(); n != 5 || last != 6 || len(p.slots) != 0 {
			t.Fatalf("%d messages, log to %d, %d slots taken", n, last, len(p.slots))
		}
	})
}

// Whatever does not fit is sent as if nothing had been shipped.
func TestParcelsThatDoNotFitAreSentAgain(t *testing.T) {
	for name, test := range map[string]struct {
		ship []int // lengths, from 2 on
		send int
		want int // messages in all, with the first
	}{
		"the message is longer":  {[]int{1}, 2, 3},
		"the message is shorter": {[]int{3}, 2, 3},
		"between boundaries":     {[]int{1, 2}, 2, 4},
		"the first of two":       {[]int{1, 2}, 1, 3},
	} {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t, false)
			_, b, p := pipes(t, w)
			f := &follower{}
			defer answering(b, f.answer)()
			send(t, p, 0, 1)
			answered(t, p, 1)
			at := uint64(1)
			for _, n := range test.ship {
				p.Ship(entriesOf(at, n).Entries, 1)
				at += uint64(n)
			}
			send(t, p, 1, test.send)
			answered(t, p, 1+uint64(test.send))
			if n, _, _ := f.counts(); n != test.want {
				t.Errorf("%s: %d messages, want %d", name, n, test.want)
			}
		})
	}
}

func TestOnlyWhatContinuesIsShipped(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, false)
		_, b, p := pipes(t, w)
		f := &follower{}
		defer answering(b, f.answer)()
		p.Ship(entriesOf(0, 1).Entries, 0) // what the peer has is not known yet
		send(t, p, 0, 1)
		answered(t, p, 1)
		p.Ship(entriesOf(2, 1).Entries, 1) // a gap
		p.Ship(entriesOf(0, 1).Entries, 1) // again
		other := entriesOf(1, 1)
		other.Entries[0].Term = 4 // another leadership
		p.Ship(other.Entries, 1)
		synctest.Wait()
		if n, last, _ := f.counts(); n != 1 || last != 1 {
			t.Fatalf("%d messages, log to %d", n, last)
		}
		for i := range uint64(2 * AppendsInFlightMax) { // as many as may be unanswered, and no more
			p.Ship(entriesOf(1+i, 1).Entries, 1)
		}
		synctest.Wait()
		if n, last, _ := f.counts(); n != 1+AppendsInFlightMax || last != 1+AppendsInFlightMax {
			t.Fatalf("%d messages, log to %d", n, last)
		}
	})
}

func TestARefusedParcelIsSentAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, false)
		_, b, p := pipes(t, w)
		f := &follower{}
		defer answering(b, f.answer)()
		send(t, p, 0, 1)
		answered(t, p, 1)
		f.refuse = true
		p.Ship(entriesOf(1, 1).Entries, 1)
		synctest.Wait()
		f.refuse = false
		send(t, p, 1, 1)
		answered(t, p, 2)
		if n, _, _ := f.counts(); n != 3 {
			t.Errorf("%d messages", n)
		}
		// One that is refused after its message was sent is that message's refusal.
		f.refuse = true
		p.Ship(entriesOf(2, 1).Entries, 1)
		send(t, p, 2, 1)
		synctest.Wait()
		if f := <-p.Consumer(); f.Response().Success || p.failure() == nil {
			t.Error("a refusal does not end the pipeline")
		}
	})
}

func TestAParcelEndsWithItsLink(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, false)
		hubs, b, p := pipes(t, w)
		f := &follower{}
		stop := answering(b, f.answer)
		send(t, p, 0, 1)
		answered(t, p, 1)
		stop()
		p.Ship(entriesOf(1, 1).Entries, 1)
		send(t, p, 1, 1)
		if err := hubs[1].Close(); err != nil {
			t.Error(err)
		}
		<-p.ended
		select {
		case f := <-p.Consumer():
			t.Errorf("delivered: %+v", f.Response())
		default:
		}
		p.Ship(entriesOf(2, 1).Entries, 1) // goes nowhere
	})
}

// However a leader's writes and hashicorp/raft's messages fall, each message is answered
// once and in order, and the follower has all that was sent.
func TestShippingInAnyOrder(t *testing.T) {
	for seed := range uint64(200) {
		synctest.Test(t, func(t *testing.T) {
			r := rand.New(rand.NewPCG(seed, 1))
			w := newWorld(t, false)
			_, b, p := pipes(t, w)
			f := &follower{}
			defer answering(b, f.answer)()
			send(t, p, 0, 1)
			answered(t, p, 1)
			written, sent := uint64(1), uint64(1)
			var waiting []uint64
			for range 100 {
				switch r.IntN(4) {
				case 0, 1:
					n := 1 + r.IntN(3)
					if r.IntN(8) > 0 {
						p.Ship(entriesOf(written, n).Entries, sent)
					}
					written += uint64(n)
				case 2:
					if n := min(int(written-sent), 1+r.IntN(raft.EntriesAppendMax-1)); n > 0 {
						send(t, p, sent, n)
						sent += uint64(n)
						waiting = append(waiting, sent)
					}
				case 3:
					time.Sleep(time.Duration(r.IntN(2)) * time.Millisecond)
					for ; len(waiting) > 0; waiting = waiting[1:] {
						answered(t, p, waiting[0])
					}
				}
			}
			for ; len(waiting) > 0; waiting = waiting[1:] {
				answered(t, p, waiting[0])
			}
			synctest.Wait() // parcels may be under way
			if _, last, _ := f.counts(); last < sent || len(p.slots) != 0 {
				t.Errorf("seed %d: the follower has %d of %d, %d slots are taken", seed, last, sent, len(p.slots))
			}
		})
	}
}
