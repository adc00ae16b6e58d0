package reactor

import (
	"math/rand/v2"
	"testing"
)

func TestWheelExpiresEachDeadlineInItsSecond(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	s := slab{}
	w := wheel{slab: &s, now: 1}
	var records []*record
	for range 200 {
		records = append(records, s.take())
	}
	want := map[*record]uint32{} // the second in which it falls due
	for range 20_000 {
		switch r := records[rng.IntN(len(records))]; rng.IntN(8) {
		case 0:
			now := w.now + uint32(rng.IntN(3))
			if rng.IntN(100) == 0 {
				now += uint32(rng.IntN(3000)) // the loop was stopped for long
			}
			checkExpired(t, &w, want, now)
		case 1:
			w.set(r, 0)
			delete(want, r)
		case 2:
			w.remove(r)
			r.deadline = 0
			delete(want, r)
		default:
			seconds := 1 + rng.IntN(1200)
			w.set(r, seconds)
			want[r] = w.now + uint32(seconds) + 1
		}
	}
	checkExpired(t, &w, want, w.now+2000)
	if len(want) > 0 {
		t.Errorf("%d deadlines never fell due", len(want))
	}
	for i, head := range w.heads {
		if head != 0 {
			t.Errorf("list %d is not empty", i)
		}
	}
}

func checkExpired(t *testing.T, w *wheel, want map[*record]uint32, now uint32) {
	t.Helper()
	for _, r := range w.advance(now, nil) {
		if due, ok := want[r]; !ok || due > now {
			t.Fatalf("second %d: slot %d expired, due %d (%v)", now, r.slot, due, ok)
		}
		if r.deadline != 0 {
			t.Fatalf("slot %d keeps its deadline", r.slot)
		}
		delete(want, r)
	}
	if w.now != now {
		t.Fatalf("now %d, want %d", w.now, now)
	}
	for r, due := range want {
		if due <= now {
			t.Fatalf("second %d: slot %d was due at %d", now, r.slot, due)
		}
	}
}

func TestExtendingADeadlineMovesNothing(t *testing.T) {
	s := slab{}
	w := wheel{slab: &s, now: 1}
	r := s.take()
	w.set(r, 60)
	due := r.due
	for range 50 {
		w.advance(w.now+1, nil)
		w.set(r, 60)
		if r.due != due {
			t.Fatal("the record was moved")
		}
	}
	if n := testing.AllocsPerRun(100, func() { w.set(r, 60) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func TestSlabReusesSlotsUnderNewHandles(t *testing.T) {
	s := slab{loop: 3}
	r := s.take()
	r.state = stateOpen
	old := r.handle()
	if old.Loop() != 3 || old.Slot() != 0 || s.find(old) != r {
		t.Fatalf("handle %x", old)
	}
	s.give(r)
	if s.find(old) != nil {
		t.Error("found after it was given back")
	}
	if r = s.take(); r.slot != 0 {
		t.Fatalf("slot %d", r.slot)
	}
	r.state = stateOpen
	if s.find(old) != nil || s.find(r.handle()) != r {
		t.Error("the old handle names the new session")
	}
	for _, h := range []Handle{0, makeHandle(2, r.generation, 0), makeHandle(3, r.generation, 1), makeHandle(3, r.generation, 1<<20)} {
		if s.find(h) != nil {
			t.Errorf("%x names a session", h)
		}
	}
}

func TestSlabGenerationsNeverMakeAZeroHandle(t *testing.T) {
	s := slab{}
	r := s.take()
	r.generation = generationMax
	s.give(r)
	if r = s.take(); r.generation != 1 || r.handle() == 0 {
		t.Errorf("generation %d, handle %x", r.generation, r.handle())
	}
}

func TestSlabGrowsWithoutMoving(t *testing.T) {
	s := slab{}
	var records []*record
	for i := range 3*chunkRecords + 1 {
		r := s.take()
		if r.slot != uint32(i) {
			t.Fatalf("slot %d, want %d", r.slot, i)
		}
		records = append(records, r)
	}
	for _, r := range records {
		if s.at(r.slot) != r {
			t.Fatalf("slot %d moved", r.slot)
		}
		s.give(r)
	}
	for range records {
		s.take()
	}
	if len(s.chunks) != 4 {
		t.Errorf("%d chunks", len(s.chunks))
	}
}
