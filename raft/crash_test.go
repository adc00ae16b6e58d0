package raft

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"
)

// rounds is how often a randomized test repeats; RAFT_ROUNDS multiplies it.
func rounds(n int) int {
	if f, err := strconv.Atoi(os.Getenv("RAFT_ROUNDS")); err == nil {
		return n * f
	}
	return n
}

// TestAcknowledgedEntriesSurviveACrash applies entries while the disk is cloned as a power
// loss would leave it, with 0 to 100 % of what was not synced, and then opens the clone.
// Whatever was applied when the clone was made must be there, in order, and nothing else
// but what had been proposed.
func TestAcknowledgedEntriesSurviveACrash(t *testing.T) {
	for seed := range rounds(8) {
		r := rand.New(rand.NewPCG(uint64(seed), 3))
		fs := vfs.NewCrashableMem()
		machines := map[uint32]*testMachine{1: {}, 2: {}, 9: {}}
		proposed := make(map[uint32]int)
		for range 6 {
			size := []int{20, 500, 30 << 10}[r.IntN(3)]
			crash, applied := liveUntilCrash(t, fs, machines, proposed, r, size)
			check, err := CheckLog("log", crash)
			if err != nil || len(check.Problems) > 0 {
				t.Fatalf("seed %d: fsck after crash: %v %v", seed, err, check.Problems)
			}
			for id, m := range machines {
				if durable := m.Record().Index; durable > applied[id].index {
					t.Fatal("test: record above what was applied")
				}
			}
			fs = crash
			reviveAndCompare(t, fs, machines, proposed, applied)
		}
	}
}

type appliedSoFar struct {
	index uint64
	count int
}

// liveUntilCrash runs a node, and returns the disk as a crash at a random moment leaves it
// and what had been applied just before.
func liveUntilCrash(t *testing.T, fs *vfs.MemFS, machines map[uint32]*testMachine, proposed map[uint32]int, r *rand.Rand, size int) (*vfs.MemFS, map[uint32]appliedSoFar) {
	n := openNode(t, fs, "a", nil)
	var stop atomic.Bool
	var producers sync.WaitGroup
	var persisting sync.Mutex // no record moves between its copy and that of the disk
	counts := make(map[uint32]*atomic.Int64)
	sources := make([]*testSource, 0, len(machines))
	for id, old := range machines {
		m, s := old.restart(), &testSource{}
		machines[id] = m
		sources = append(sources, s)
		g := startGroupOf(t, n, id, m, s, "a")
		if len(m.values()) != proposed[id] {
			t.Fatalf("group %d: %d entries after restart, want %d", id, len(m.values()), proposed[id])
		}
		count := &atomic.Int64{}
		count.Store(int64(proposed[id]))
		counts[id] = count
		producers.Go(func() {
			for i := int(count.Load()); !stop.Load() && i < int(count.Load())+100_000; i++ {
				count.Store(int64(i + 1))
				s.add(padded(i, size))
				g.Kick()
				eventually(t, "applied", func() bool { return len(m.values()) > i-8 })
				if i%16 == 5 {
					persisting.Lock()
					_ = m.Persist(t.Context(), 0)
					persisting.Unlock()
					g.Compact()
				}
			}
		})
	}
	time.Sleep(time.Duration(r.IntN(15)) * time.Millisecond)
	persisting.Lock()
	applied := make(map[uint32]appliedSoFar)
	records := make(map[uint32]Record)
	for id, m := range machines {
		m.mu.Lock()
		applied[id] = appliedSoFar{m.index, len(m.entries)}
		records[id] = m.durable // the state store's crash: it holds what it had ingested
		m.mu.Unlock()
	}
	crash := fs.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: r.IntN(101), RNG: r})
	persisting.Unlock()
	stop.Store(true)
	producers.Wait()
	for _, s := range sources {
		if n := s.failures(); n > 0 {
			t.Errorf("%d entries failed before the crash", n)
		}
	}
	closeNode(t, n)
	for id, m := range machines {
		m.check(t)
		proposed[id] = int(counts[id].Load())
		m.durable = records[id]
	}
	return crash, applied
}

// reviveAndCompare opens the log that a crash left, and takes what it holds for the truth.
func reviveAndCompare(t *testing.T, fs *vfs.MemFS, machines map[uint32]*testMachine, proposed map[uint32]int, applied map[uint32]appliedSoFar) {
	t.Helper()
	n := openNode(t, fs, "a", nil)
	defer closeNode(t, n)
	for id, old := range machines {
		m := old.restart()
		startGroupOf(t, n, id, m, &testSource{})
		got := len(m.values())
		if got < applied[id].count || got > proposed[id] {
			t.Fatalf("group %d: %d entries after a crash; %d were applied, %d proposed", id, got, applied[id].count, proposed[id])
		}
		wantNumbered(t, m, got)
		machines[id], proposed[id] = m, got
	}
}

// TestFailedWritesStopTheNode injects an error into the n-th write or sync of the log, for
// many n: Fatal must be called, nothing that was not durable may be applied, and no call
// may hang.
func TestFailedWritesStopTheNode(t *testing.T) {
	for _, c := range []struct {
		kind errorfs.OpKind
		last int
	}{{errorfs.OpFileSyncData, 15}, {errorfs.OpFileWrite, 15}, {errorfs.OpFileWriteAt, 1}} {
		for nth := range c.last + 1 {
			t.Run(fmt.Sprintf("kind=%d/nth=%d", c.kind, nth), func(t *testing.T) { failNth(t, c.kind, nth) })
		}
	}
}

func failNth(t *testing.T, kind errorfs.OpKind, nth int) {
	disk := vfs.NewCrashableMem()
	var armed, tripped atomic.Bool
	var count atomic.Int64
	fs := errorfs.Wrap(disk, errorfs.InjectorFunc(func(op errorfs.Op) error {
		if armed.Load() && op.Kind == kind && (tripped.Load() || count.Add(1) > int64(nth)) {
			tripped.Store(true)
			return errorfs.ErrInjected
		}
		return nil
	}))
	fatal := make(chan error, 1)
	n, err := Open(Options{Path: "log", FS: fs, Server: "a", Logger: testLogger(), Fatal: func(err error) { fatal <- err }})
	if err != nil {
		t.Fatal(err)
	}
	m, s := &testMachine{}, &testSource{}
	g := startGroupOf(t, n, 1, m, s, "a")
	armed.Store(true)
	proposed := 0
	for ; n.Err() == nil && proposed < 2000; proposed++ {
		s.add(padded(proposed, 1000))
		g.Kick()
		eventually(t, "progress or failure", func() bool { return len(m.values()) > proposed || n.Err() != nil })
	}
	if !tripped.Load() {
		closeNode(t, n)
		t.Skip("no such operation")
	}
	if err := <-fatal; !errors.Is(err, errorfs.ErrInjected) {
		t.Errorf("Fatal got %v", err)
	}
	applied := len(m.values())
	crash := disk.CrashClone(vfs.CrashCloneCfg{})
	if err := n.Close(); !errors.Is(err, errorfs.ErrInjected) {
		t.Errorf("Close returned %v", err)
	}
	if len(m.values()) != applied {
		t.Errorf("%d entries were applied after the failure", len(m.values())-applied)
	}
	s.check(t, m)
	left, err := recovered(crash)
	if err != nil {
		t.Fatalf("after the failure: %v", err)
	}
	if len(left) < applied || len(left) > proposed {
		t.Errorf("%d entries are durable, %d were applied, %d proposed", len(left), applied, proposed)
	}
}
