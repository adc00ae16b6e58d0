package link

import (
	"errors"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// events notes what Watch tells.
type events struct {
	mu   sync.Mutex
	list []bool
}

func (e *events) note(_ uint32, up bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.list = append(e.list, up)
}

func (e *events) want(t *testing.T, what string, want ...bool) {
	t.Helper()
	e.mu.Lock()
	defer e.mu.Unlock()
	if !slices.Equal(e.list, want) {
		t.Errorf("%s: %v, want %v", what, e.list, want)
	}
}

func TestAPeerThatCannotBeHeardIsSilentThenDownThenUpAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, false)
		hubs := w.mesh(2)
		var links, arrivals events
		hubs[0].Watch(links.note)
		hubs[0].WatchArrivals(arrivals.note)
		time.Sleep(10 * time.Second)
		if hubs[0].Silent(2) || hubs[0].RTT(2) <= 0 {
			t.Errorf("an idle peer: silent %v, round trip %v", hubs[0].Silent(2), hubs[0].RTT(2))
		}
		w.cut(2, 1)
		w.cut(1, 2)
		time.Sleep(SilentAfter - 2*pingInterval)
		if hubs[0].Silent(2) {
			t.Error("silent too early")
		}
		time.Sleep(2 * pingInterval)
		if !hubs[0].Silent(2) || !hubs[0].Up(2) {
			t.Errorf("after %v: silent %v, up %v", SilentAfter, hubs[0].Silent(2), hubs[0].Up(2))
		}
		time.Sleep(deadAfter)
		links.want(t, "after the cut", true, false)
		w.heal()
		time.Sleep(2 * backoffMax)
		links.want(t, "after it is healed", true, false, true)
		arrivals.want(t, "of the peer's connection", true, false, true)
		if hubs[0].Silent(2) {
			t.Error("still silent")
		}
	})
}

func TestAOneWayCutMakesBothSidesGiveTheLinkUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, false)
		hubs := w.mesh(2)
		w.cut(1, 2)
		time.Sleep(deadAfter + 2*pingInterval)
		if hubs[0].Up(2) || hubs[1].Up(1) {
			t.Errorf("up: %v, %v", hubs[0].Up(2), hubs[1].Up(1))
		}
		if !hubs[1].Silent(1) {
			t.Error("who is not heard is not silent")
		}
		w.heal()
		w.up(hubs[0], 2)
		w.up(hubs[1], 1)
	})
}

func TestADeadProcessIsSilentAtOnceAndBackWhenItIsStartedAgain(t *testing.T) {
	everywhere(t, func(t *testing.T, w *world) {
		hubs := w.mesh(2)
		if err := hubs[1].Close(); err != nil {
			t.Fatal(err)
		}
		eventually(t, "silence", func() bool { return hubs[0].Silent(2) })
		again := w.hub(2)
		again.Connect([]uint32{1})
		w.up(hubs[0], 2)
		w.up(again, 1)
		if hubs[0].Silent(2) || again.Silent(1) {
			t.Error("silent after the start")
		}
	})
}

func TestARefusedConnectionIsSilenceAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, false)
		hubs := w.mesh(2)
		if err := hubs[1].Close(); err != nil {
			t.Fatal(err)
		}
		synctest.Wait() // no time goes by
		if !hubs[0].Silent(2) {
			t.Error("a process that is gone is not silent")
		}
	})
}

func TestSilenceOfOthersIsKnownFromTheStart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, false)
		h := w.hub(1)
		if h.Silent(1) || !h.Silent(9) {
			t.Errorf("itself %v, one never heard of %v", h.Silent(1), h.Silent(9))
		}
		w.cut(1, 2)
		two := w.hub(2)
		h.Connect([]uint32{1, 2})
		if h.Silent(2) {
			t.Error("a peer gets a moment to appear")
		}
		time.Sleep(SilentAfter)
		if !h.Silent(2) {
			t.Error("it did not appear")
		}
		h.Connect(nil)
		synctest.Wait()
		two.Connect([]uint32{1})
		w.heal()
		w.up(two, 1)
		if h.Silent(2) {
			t.Error("it is heard, though no link to it is wanted")
		}
	})
}

func TestAProcessThatWasPausedBlamesNobody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, false)
		var pause atomic.Int64
		o := w.options(1)
		o.Epoch = func() uint64 { // called for each ping, among others
			time.Sleep(time.Duration(pause.Swap(0)))
			return 0
		}
		one, two := w.open(o), w.hub(2)
		one.Connect([]uint32{2})
		w.up(one, 2)
		var links events
		one.Watch(links.note)
		// Longer than a peer may be still, shorter than the peer takes for the end of this one.
		pause.Store(int64(deadAfter + pingInterval/2))
		time.Sleep(deadAfter + 3*pingInterval)
		links.want(t, "after a pause", true)
		if one.Silent(2) {
			t.Error("the peer is silent")
		}
		if err := two.Close(); err != nil {
			t.Error(err)
		}
	})
}

func TestEpochsAreToldOnConnectionAndByPings(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, false)
		var epochs [2]atomic.Uint64
		var seen [2]atomic.Uint64
		var hubs []*Hub
		for i := range 2 {
			o := w.options(uint32(i + 1))
			o.Epoch = epochs[i].Load
			o.OnEpoch = func(from uint32, epoch uint64) {
				if from != uint32(2-i) {
					t.Errorf("from %d", from)
				}
				seen[i].Store(epoch)
			}
			hubs = append(hubs, w.open(o))
		}
		epochs[0].Store(3)
		hubs[1].Connect([]uint32{1}) // one connection is enough for both to learn
		w.up(hubs[1], 1)
		synctest.Wait()
		if seen[1].Load() != 3 || seen[0].Load() != 0 {
			t.Errorf("on connection: %d of 0, %d of 3", seen[0].Load(), seen[1].Load())
		}
		epochs[1].Store(9)
		time.Sleep(2 * pingInterval)
		if seen[0].Load() != 9 {
			t.Errorf("by a ping: %d of 9", seen[0].Load())
		}
		seen[1].Store(0)
		time.Sleep(2 * pingInterval)
		if seen[1].Load() != 3 {
			t.Errorf("by a pong: %d of 3", seen[1].Load())
		}
		epochs[0].Store(9)
		time.Sleep(2 * pingInterval)
		seen[0].Store(0)
		seen[1].Store(0)
		time.Sleep(10 * time.Second)
		if seen[0].Load() != 0 || seen[1].Load() != 0 {
			t.Error("the same epoch was told")
		}
	})
}

func TestAnIdleLinkCostsAPingAndItsAnswerEachInterval(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, false)
		hubs := w.mesh(2)
		time.Sleep(10 * time.Second)
		before := hubs[0].Stats()
		time.Sleep(10 * time.Second)
		after := hubs[0].Stats()
		want := uint64(2 * 10 * time.Second / pingInterval) // its own pings, and answers
		if n := after.FramesOut - before.FramesOut; n > want || n < want/2 {
			t.Errorf("%d frames in 10 s, want %d", n, want)
		}
		if n := after.Writes - before.Writes; n > want {
			t.Errorf("%d writes in 10 s", n)
		}
	})
}

func TestConnectSaysWhichLinksThereAre(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, false)
		hubs := w.mesh(3)
		var links events
		hubs[0].Watch(links.note)
		hubs[0].Connect([]uint32{3, 1})
		synctest.Wait()
		links.want(t, "two links, one of them ended", true, true, false)
		if hubs[0].Up(2) || !hubs[0].Up(3) || len(hubs[0].Peers()) != 1 {
			t.Errorf("peers: %+v", hubs[0].Peers())
		}
		if err := hubs[0].Send(2, 1, nil); err == nil {
			t.Error("sent to a node that there is no link to")
		}
		if s := hubs[0].Stats(); s.Links != 1 || s.Arrivals != 2 || s.Connects != 2 || s.BytesOut == 0 {
			t.Errorf("stats: %+v", s)
		}
	})
}

func TestANodeWithoutANumberDialsWhenItHasOne(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, false)
		w.hub(1)
		o := w.options(2)
		o.Self, o.Cluster = 0, 0
		h := w.open(o)
		h.Connect([]uint32{1})
		time.Sleep(time.Second)
		if h.Up(1) {
			t.Error("linked without a number")
		}
		h.SetSelf(2, 7)
		w.up(h, 1)
	})
}

func TestALargeFrameOnASlowWayIsASignOfLife(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, false)
		hubs := w.mesh(2)
		var links events
		hubs[0].Watch(links.note)
		arrived := make(chan struct{})
		hubs[1].Handle(1, func(uint32, []byte) { close(arrived) })
		w.slow.Store(int64(time.Second)) // for each writeBytesMax and each read buffer
		if err := hubs[0].Send(2, 1, make([]byte, MessageBytesMax)); err != nil {
			t.Fatal(err)
		}
		for range 8 {
			time.Sleep(SilentAfter)
			if hubs[1].Silent(1) {
				t.Error("silent while bytes come")
			}
		}
		w.slow.Store(0)
		<-arrived
		links.want(t, "the link", true)
	})
}

func TestAConnectionFromAMachineThatDiedEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, false)
		h := w.hub(1)
		var arrivals events
		h.WatchArrivals(arrivals.note)
		if _, _, err := w.greeted(1, goodHello()); err != nil {
			t.Fatal(err)
		}
		time.Sleep(2 * deadAfter)
		arrivals.want(t, "a peer that never pings", true, false)
	})
}

func TestANodeThatIsRemovedIsShutOut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, false)
		var removed atomic.Bool
		o := w.options(1)
		o.Admit = func(node uint32) error {
			if removed.Load() {
				return errors.New("node 2 was removed")
			}
			return nil
		}
		one, two := w.open(o), w.hub(2)
		two.Connect([]uint32{1})
		w.up(two, 1)
		removed.Store(true)
		one.Connect(nil)
		synctest.Wait()
		if two.Up(1) || one.Stats().Arrivals != 0 {
			t.Error("the removed node's connection stays")
		}
		time.Sleep(10 * time.Second)
		if two.Up(1) {
			t.Error("the removed node is back")
		}
	})
}
