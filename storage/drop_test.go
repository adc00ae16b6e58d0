package storage

import (
	"errors"
	"math/rand/v2"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs/errorfs"
)

// TestDroppedShardIsGone drops a shard with state in buffers and tables: it begins anew,
// and the one beside it is as it was.
func TestDroppedShardIsGone(t *testing.T) {
	fs := newCrashFS()
	u := newUniverse(2)
	s, shards, models := openPair(t, fs, u, [2]int{20, 20}, 1)
	if err := s.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	for i := range shards {
		if err := shards[i].Update(models[i].step(3)); err != nil {
			t.Fatal(err)
		}
	}
	for range 2 { // the second time there is nothing to drop
		if err := s.DropShard(1); err != nil {
			t.Fatal(err)
		}
	}
	if err := shards[0].View(func(*Reader) error { return nil }); !errors.Is(err, ErrDropped) {
		t.Errorf("view: %v", err)
	}
	if err := shards[0].Update(setApplied(9999)); !errors.Is(err, ErrDropped) {
		t.Errorf("update: %v", err)
	}
	if _, err := shards[0].Export(t.Context()); err == nil {
		t.Error("it is exported")
	}
	r := machineRanges[0]
	again, err := s.Shard(1, r[0], r[1])
	if err != nil {
		t.Fatal(err)
	}
	fresh := newModel(u, r[0], r[1])
	compareAll(t, "dropped", []*Shard{again, shards[1]}, []*model{fresh, models[1]})
	if err := again.Update(fresh.step(1)); err != nil {
		t.Fatal(err)
	}
	closeTest(t, s)
	fsckTest(t, fs, testPath)
	s = openTest(t, fs, testPath, 1<<20)
	if err := s.DropShard(1); err != nil { // that nobody has opened
		t.Fatal(err)
	}
	closeTest(t, s)
	if sum := fsckTest(t, fs, testPath); sum.Shards != 1 {
		t.Errorf("%d shards are left", sum.Shards)
	}
}

// TestCrashDuringDrop leaves the shard, or nothing of it, and it can be dropped again.
func TestCrashDuringDrop(t *testing.T) {
	h := &history{fs: newCrashFS(), random: rand.New(rand.NewPCG(8, 4)), one: 1 << 30}
	u := newUniverse(2)
	s, shards, models := openPair(t, errorfs.Wrap(h.fs, errorfs.InjectorFunc(h.inject)), u, [2]int{30, 30}, 1)
	if err := s.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	h.mu.Lock()
	h.one, h.shards[1] = 1, shards[1]
	h.mu.Unlock()
	if err := s.DropShard(1); err != nil {
		t.Fatal(err)
	}
	h.mu.Lock()
	h.snapshots = append(h.snapshots, snapshot{fs: h.fs.crash(50, h.random), before: "nothing"})
	h.one = 1 << 30
	h.mu.Unlock()
	closeTest(t, s)
	for n, c := range h.snapshots {
		s := openTest(t, c.fs, testPath, 1<<20)
		r := machineRanges[0]
		shard, err := s.Shard(1, r[0], r[1])
		if err != nil {
			t.Fatal(err)
		}
		want := newModel(u, r[0], r[1])
		if shard.Record().Index > 0 {
			if want = models[0]; n == len(h.snapshots)-1 {
				t.Error("a drop that had returned is lost")
			}
		}
		compareAll(t, "before "+c.before, []*Shard{shard}, []*model{want})
		if err := s.DropShard(1); err != nil {
			t.Errorf("again, after a crash before %s: %v", c.before, err)
		}
		r = machineRanges[1]
		if shard, err = s.Shard(2, r[0], r[1]); err != nil {
			t.Fatal(err)
		}
		compareAll(t, "beside, before "+c.before, []*Shard{shard}, models[1:])
		closeTest(t, s)
		fsckTest(t, c.fs, testPath)
		if t.Failed() {
			t.FailNow()
		}
	}
	t.Logf("%d moments", len(h.snapshots))
}
