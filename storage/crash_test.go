package storage

import (
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs/errorfs"
)

// A snapshot is what a power failure at some moment leaves, and what was durable then.
type snapshot struct {
	fs      *crashFS
	durable [2]uint64
	before  string // the operation that was to come
}

// history is a run of a store of two shards with a clone taken before one of every few
// operations on its files.
type history struct {
	mu        sync.Mutex
	fs        *crashFS
	random    *rand.Rand
	shards    [2]*Shard
	snapshots []snapshot
	one       int // of how many operations
}

func (h *history) inject(op errorfs.Op) error {
	if op.Kind.ReadOrWrite() == errorfs.OpIsRead {
		return nil
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.random.IntN(h.one) != 0 {
		return nil
	}
	s := snapshot{before: fmt.Sprintf("operation %d on %s", op.Kind, op.Path)}
	for i, shard := range h.shards {
		if shard != nil {
			s.durable[i] = shard.Record().Index
		}
	}
	s.fs = h.fs.crash(h.random.IntN(101), h.random)
	h.snapshots = append(h.snapshots, s)
	return nil
}

// play runs steps with a flush after every second, and gives the seeds of each shard.
func (h *history) play(t *testing.T, steps int) (u *universe, seeds [2][]uint64) {
	u = newUniverse(2)
	s := openTest(t, errorfs.Wrap(h.fs, errorfs.InjectorFunc(h.inject)), testPath, 1<<20)
	var models [2]*model
	for i, r := range machineRanges {
		models[i] = newModel(u, r[0], r[1])
		shard, err := s.Shard(uint32(i+1), r[0], r[1])
		if err != nil {
			t.Fatal(err)
		}
		h.mu.Lock()
		h.shards[i] = shard
		h.mu.Unlock()
	}
	for step := range steps {
		for i, shard := range h.shards {
			seed := uint64(step*2 + i)
			seeds[i] = append(seeds[i], seed)
			if err := shard.Update(models[i].step(seed)); err != nil {
				t.Fatal(err)
			}
		}
		if step%2 == 1 {
			if err := s.Flush(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	return u, seeds
}

// TestCrashAtAnyMoment takes what a power failure would leave before operations all over a
// run with flushes and compactions: it must open, be at no less than what was durable, be
// exactly the state at its own index, and pass the check.
func TestCrashAtAnyMoment(t *testing.T) {
	h := &history{fs: newCrashFS(), random: rand.New(rand.NewPCG(3, 4)), one: 2}
	u, seeds := h.play(t, 70)
	t.Logf("%d moments", len(h.snapshots))
	if len(h.snapshots) < 100 {
		t.Fatalf("only %d moments", len(h.snapshots))
	}
	for _, s := range h.snapshots {
		if !verifyCrash(t, s, u, seeds) {
			t.Fatalf("crash before %s", s.before)
		}
	}
}

func verifyCrash(t *testing.T, s snapshot, u *universe, seeds [2][]uint64) bool {
	store := openTest(t, s.fs, testPath, 1<<20)
	sawRecord := false
	for i, r := range machineRanges {
		shard, err := store.Shard(uint32(i+1), r[0], r[1])
		if err != nil {
			t.Fatal(err)
		}
		index := shard.Record().Index
		sawRecord = sawRecord || index > 0
		if index < s.durable[i] {
			t.Errorf("shard %d is at %d, %d was durable", i, index, s.durable[i])
		}
		m := newModel(u, r[0], r[1])
		for _, seed := range seeds[i] {
			if m.record.Index < index {
				m.step(seed)
			}
		}
		if err := shard.View(m.compare); err != nil {
			t.Errorf("shard %d at index %d: %v", i, index, err)
		}
	}
	if err := store.Close(); err != nil {
		t.Error(err)
	}
	if sawRecord {
		fsckTest(t, s.fs, testPath)
	}
	return !t.Failed()
}
