package link

import (
	"bytes"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	hraft "github.com/hashicorp/raft"
)

func TestAPeerThatTakesNothingFillsItsQueueAndNoMore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, false)
		hubs := w.mesh(3)
		w.cut(1, 2)
		payload := make([]byte, 1<<20)
		sent := 0
		var err error
		for err == nil {
			if err = hubs[0].Send(2, 1, payload); err == nil {
				sent += len(payload)
			}
		}
		if !errors.Is(err, ErrQueueFull) || sent < MessageQueueBytesMax || sent > MessageQueueBytesMax+2*len(payload) {
			t.Errorf("after %d bytes: %v", sent, err)
		}
		if s := hubs[0].Stats(); s.Drops != 1 || s.QueueBytes < MessageQueueBytesMax {
			t.Errorf("stats: %+v", s)
		}
		// Raft's part of the queue is still there, and other peers do not notice.
		if _, err := hubs[0].peer(2).link.out.begin(QueueBytesMax); err != nil {
			t.Errorf("a message of Raft: %v", err)
		}
		hubs[0].peer(2).link.out.abort()
		if err := hubs[0].Send(3, 1, payload); err != nil {
			t.Errorf("another peer: %v", err)
		}
		time.Sleep(deadAfter + 2*pingInterval)
		if err := hubs[0].Send(2, 1, nil); !errors.Is(err, ErrUnreachable) {
			t.Errorf("after the link was given up: %v", err)
		}
		if s := hubs[0].Stats(); s.QueueBytes > 0 {
			t.Errorf("bytes are still queued: %+v", s)
		}
	})
}

func TestCallsEndWhenTheLinkBreaks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, false)
		hubs := w.mesh(2)
		hubs[1].HandleCall(1, hold)
		var calls sync.WaitGroup
		for range 10 {
			calls.Go(func() {
				if _, err := hubs[0].Call(t.Context(), 2, 1, nil); !errors.Is(err, ErrUnreachable) {
					t.Errorf("a call: %v", err)
				}
			})
		}
		synctest.Wait()
		if err := hubs[1].Close(); err != nil {
			t.Error(err)
		}
		calls.Wait()
		if _, err := hubs[0].Call(t.Context(), 2, 1, nil); !errors.Is(err, ErrUnreachable) {
			t.Errorf("a call without a link: %v", err)
		}
	})
}

func TestOnlySoManyCallsAreUnderWay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, false)
		hubs := w.mesh(2)
		hubs[1].HandleCall(1, hold)
		var calls sync.WaitGroup
		for range CallsMax {
			calls.Go(func() { _, _ = hubs[0].Call(t.Context(), 2, 1, nil) })
		}
		synctest.Wait()
		if _, err := hubs[0].Call(t.Context(), 2, 1, nil); !errors.Is(err, ErrQueueFull) {
			t.Errorf("one too many here: %v", err)
		}
		// A peer that has counted otherwise is told.
		l, _ := hubs[0].peer(2).current()
		l.mu.Lock()
		l.calls = 0
		l.mu.Unlock()
		if _, err := hubs[0].Call(t.Context(), 2, 1, nil); !hasCode(err, CodeBusy) {
			t.Errorf("one too many there: %v", err)
		}
		if err := hubs[0].Close(); err != nil {
			t.Error(err)
		}
		calls.Wait()
	})
}

func TestWhatIsTooLargeIsRefusedAndTheLinkStays(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, false)
		hubs := w.mesh(2)
		hubs[1].HandleCall(1, echo)
		huge := make([]byte, MessageBytesMax+1)
		if err := hubs[0].Send(2, 1, huge); !errors.Is(err, ErrFrameTooLarge) {
			t.Errorf("a message: %v", err)
		}
		if _, err := hubs[0].Call(t.Context(), 2, 1, huge); !errors.Is(err, ErrFrameTooLarge) {
			t.Errorf("a call: %v", err)
		}
		transport, err := hubs[0].Network().Transport(5, "n1")
		if err != nil {
			t.Fatal(err)
		}
		defer transport.Close()
		request := &hraft.AppendEntriesRequest{Term: 1, Entries: []*hraft.Log{{Index: 1, Data: make([]byte, FrameBytesMax)}}}
		if err := transport.AppendEntries("n2", "n2", request, &hraft.AppendEntriesResponse{}); !errors.Is(err, ErrFrameTooLarge) {
			t.Errorf("an AppendEntries: %v", err)
		}
		largest := bytes.Repeat([]byte("x"), MessageBytesMax)
		if b, err := hubs[0].Call(t.Context(), 2, 1, largest); err != nil || !bytes.Equal(b, largest) {
			t.Errorf("the largest: %d bytes, %v", len(b), err)
		}
	})
}

func TestLazyFramesWaitForOthersButNotForLong(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, false)
		s := newStream(w.discard(), &counters{})
		o := newOutbox(s, &counters{})
		var writing sync.WaitGroup
		writing.Go(func() { _ = o.run() })
		put := func(prompt bool) {
			b, err := o.begin(QueueBytesMax)
			if err != nil {
				t.Fatal(err)
			}
			start := len(b)
			if err := o.commit(append(openFrame(b, framePing), 1), start, 1, prompt); err != nil {
				t.Fatal(err)
			}
		}
		want := func(what string, writes, frames uint64) {
			t.Helper()
			synctest.Wait()
			if n, m := s.bottom.count.writes.Load(), o.count.framesOut.Load(); n != writes || m != frames {
				t.Errorf("%s: %d writes of %d frames, want %d of %d", what, n, m, writes, frames)
			}
		}
		for range 100 {
			put(false)
		}
		want("lazy frames", 0, 0)
		time.Sleep(beatInterval)
		want("after the delay", 1, 100)
		put(false)
		put(true)
		want("with a prompt one", 2, 102)
		put(false)
		time.Sleep(beatInterval / 2)
		want("half the delay after a prompt one", 2, 102)
		time.Sleep(beatInterval / 2)
		want("all of it", 3, 103)
		time.Sleep(time.Second)
		want("nothing more", 3, 103)
		o.fail(ErrClosed)
		writing.Wait()
	})
}

func TestWhatComesDuringAWriteLeavesInTheNext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, false)
		hubs := w.mesh(2)
		w.cut(1, 2)
		if err := hubs[0].Send(2, 1, nil); err != nil {
			t.Fatal(err)
		}
		synctest.Wait() // the writer hangs
		before := hubs[0].Stats()
		for range 1000 {
			if err := hubs[0].Send(2, 1, []byte("later")); err != nil {
				t.Fatal(err)
			}
		}
		w.heal()
		synctest.Wait()
		after := hubs[0].Stats()
		if n := after.Writes - before.Writes; n != 2 {
			t.Errorf("%d writes for the one that hung and a thousand, want 2", n)
		}
	})
}
