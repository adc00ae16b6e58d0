package storage

import (
	"bytes"
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"
)

// exported reads a whole export.
func exported(t testing.TB, s *Shard) (Record, []byte) {
	t.Helper()
	e, err := s.Export(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	b, err := io.ReadAll(e)
	if err != nil || int64(len(b)) != e.Size {
		t.Fatalf("read %d bytes of %d: %v", len(b), e.Size, err)
	}
	if err := e.Close(); err != nil {
		t.Fatal(err)
	}
	return e.Record, b
}

// openPair opens two shards of a store, and models that were played for some steps.
func openPair(t testing.TB, fs vfs.FS, u *universe, steps [2]int, seed uint64) (s *Store, shards [2]*Shard, models [2]*model) {
	t.Helper()
	s = openTest(t, fs, testPath, 1<<20)
	for i, r := range machineRanges {
		var err error
		if shards[i], err = s.Shard(uint32(i+1), r[0], r[1]); err != nil {
			t.Fatal(err)
		}
		models[i] = newModel(u, r[0], r[1])
		for step := range steps[i] {
			if err := shards[i].Update(models[i].step(seed + uint64(step*2+i))); err != nil {
				t.Fatal(err)
			}
		}
	}
	return s, shards, models
}

// TestInstalledShardIsTheExportedOne moves a shard's state into another store, over an
// older state in buffers and tables, and leaves the shard beside it as it was.
func TestInstalledShardIsTheExportedOne(t *testing.T) {
	u := newUniverse(2)
	source, from, models := openPair(t, vfs.NewMem(), u, [2]int{200, 50}, 1)
	fs := vfs.NewMem()
	target, to, others := openPair(t, fs, u, [2]int{20, 60}, 1000)
	if err := target.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := to[0].Update(others[0].step(5)); err != nil { // in a buffer
		t.Fatal(err)
	}
	record, b := exported(t, from[0])
	if record.Index != models[0].record.Index {
		t.Errorf("exported at %d, %d is applied", record.Index, models[0].record.Index)
	}
	if err := to[0].Install(record, bytes.NewReader(b)); err != nil {
		t.Fatal(err)
	}
	for i, m := range []*model{models[0], others[1]} {
		if err := to[i].View(m.compare); err != nil {
			t.Errorf("shard %d: %v", i, err)
		}
	}
	sealed, err := readSeal(fs, testPath) // or the loss of the install would go unnoticed
	if err != nil || sealed.shards[0] != (sealedShard{1, machineRanges[0][0], record.Index}) {
		t.Errorf("the seal says %+v, %v", sealed, err)
	}
	if err := to[0].Update(models[0].step(7)); err != nil {
		t.Fatal(err)
	}
	for _, s := range []*Store{source, target} {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}
	fsckTest(t, fs, testPath)
	target = openTest(t, fs, testPath, 1<<20)
	for i, m := range []*model{models[0], others[1]} {
		shard, err := target.Shard(uint32(i+1), m.first, m.last)
		if err != nil {
			t.Fatal(err)
		}
		if err := shard.View(m.compare); err != nil {
			t.Errorf("shard %d after a restart: %v", i, err)
		}
	}
	if err := target.Close(); err != nil {
		t.Error(err)
	}
}

// compareAll holds shards against models.
func compareAll(t testing.TB, what string, shards []*Shard, models []*model) bool {
	t.Helper()
	for i, shard := range shards {
		if err := shard.View(models[i].compare); err != nil {
			t.Errorf("%s: shard %d: %v", what, i+1, err)
		}
	}
	return !t.Failed()
}

// installation is a snapshot of one shard, and a store on which it may be installed.
type installation struct {
	record   Record
	stream   []byte
	u        *universe
	newer    *model // what is installed
	older    *model // what is there
	besides  *model // the shard beside it
	oldSteps int
}

func newInstallation(t testing.TB) *installation {
	x := &installation{u: newUniverse(2), oldSteps: 15}
	source, shards, models := openPair(t, vfs.NewMem(), x.u, [2]int{120, 0}, 1)
	x.record, x.stream = exported(t, shards[0])
	x.newer = models[0]
	if err := source.Close(); err != nil {
		t.Fatal(err)
	}
	return x
}

// target opens a store with an older state of the shard, flushed in part.
func (x *installation) target(t testing.TB, fs vfs.FS) (*Store, []*Shard) {
	s, shards, models := openPair(t, fs, x.u, [2]int{x.oldSteps, 40}, 1000)
	if err := s.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	x.older, x.besides = models[0], models[1]
	return s, shards[:]
}

// TestDamagedSnapshotsAreRefused flips bits, cuts, repeats and swaps parts of a stream: it
// is refused, nothing is left of it, and the shard is as it was.
func TestDamagedSnapshotsAreRefused(t *testing.T) {
	x := newInstallation(t)
	fs := vfs.NewMem()
	s, shards := x.target(t, fs)
	defer closeTest(t, s)
	r := rand.New(rand.NewPCG(1, 2))
	n := len(x.stream)
	damage := map[string]func() []byte{
		"flip": func() []byte {
			b := bytes.Clone(x.stream)
			b[r.IntN(n)] ^= 1 << r.IntN(8)
			return b
		},
		"cut":    func() []byte { return x.stream[:r.IntN(n)] },
		"longer": func() []byte { return append(bytes.Clone(x.stream), byte(r.IntN(256))) },
		"repeat": func() []byte {
			at := r.IntN(n)
			return append(bytes.Clone(x.stream[:at]), x.stream[max(0, at-1-r.IntN(200)):]...)
		},
		"twice": func() []byte { return append(bytes.Clone(x.stream), x.stream...) },
		"empty": func() []byte { return nil },
		"frames without an end": func() []byte {
			var b bytes.Buffer
			w := newFrameWriter(&b)
			_ = w.frame(frameHeader, appendSnapshotHeader(nil, &snapshotHeader{first: 0, record: shardRecord{Record: x.record, ID: 1, Last: 2047}}))
			_ = w.number(frameEnd, 0)
			return b.Bytes()
		},
		"no table in a table": func() []byte {
			var b bytes.Buffer
			w := newFrameWriter(&b)
			_ = w.frame(frameHeader, appendSnapshotHeader(nil, &snapshotHeader{first: 0, record: shardRecord{Record: x.record, ID: 1, Last: 2047}}))
			_, _ = w.Write(bytes.Repeat([]byte("garbage"), 1000))
			_ = w.number(frameTable, 7000)
			_ = w.number(frameEnd, 1)
			return b.Bytes()
		},
		"a large frame": func() []byte { return append(bytes.Clone(x.stream[:5]), 0xff, 0xff, 0xff, 0x7f) },
	}
	for name, make := range damage {
		for range 60 {
			if err := shards[0].Install(x.record, bytes.NewReader(make())); !errors.Is(err, ErrSnapshot) {
				t.Fatalf("%s: %v", name, err)
			}
		}
		compareAll(t, name, shards, []*model{x.older, x.besides})
	}
	if names, err := fs.List(s.staged("")); err != nil || len(names) != 0 {
		t.Errorf("left behind: %v %v", names, err)
	}
	if err := shards[0].Install(x.record, bytes.NewReader(x.stream)); err != nil {
		t.Error(err)
	}
	compareAll(t, "whole", shards, []*model{x.newer, x.besides})
}

// TestSnapshotsOfOthersAreRefused installs what belongs elsewhere or is too old.
func TestSnapshotsOfOthersAreRefused(t *testing.T) {
	x := newInstallation(t)
	s, shards := x.target(t, vfs.NewMem())
	defer closeTest(t, s)
	try := func(name string, shard *Shard, record Record, want error) {
		t.Helper()
		if err := shard.Install(record, bytes.NewReader(x.stream)); !errors.Is(err, want) {
			t.Errorf("%s: %v", name, err)
		}
		compareAll(t, name, shards, []*model{x.older, x.besides})
	}
	other := x.record
	other.Term++
	try("another term", shards[0], other, ErrSnapshot)
	other = x.record
	other.Configuration = []byte("another one")
	try("another configuration", shards[0], other, ErrSnapshot)
	try("another shard", shards[1], x.record, ErrSnapshot)
	other = x.record
	other.Index = x.older.record.Index
	try("what is applied", shards[0], other, ErrStaleSnapshot)
	if err := shards[0].Install(x.record, bytes.NewReader(x.stream)); err != nil {
		t.Fatal(err)
	}
	x.older = x.newer
	try("the same again", shards[0], x.record, ErrStaleSnapshot)
}

// TestCrashDuringInstall takes what a power failure would leave before each operation of
// an install: all of the old state or all of the new one, and the shard beside it whole.
func TestCrashDuringInstall(t *testing.T) {
	x := newInstallation(t)
	moments := 0
	for seed := range uint64(6) {
		h := &history{fs: newCrashFS(), random: rand.New(rand.NewPCG(seed, 4)), one: 1 << 30}
		s, shards := x.target(t, errorfs.Wrap(h.fs, errorfs.InjectorFunc(h.inject)))
		h.mu.Lock()
		h.one = 1
		h.mu.Unlock()
		if err := shards[0].Install(x.record, bytes.NewReader(x.stream)); err != nil {
			t.Fatal(err)
		}
		h.mu.Lock()
		h.snapshots = append(h.snapshots, snapshot{fs: h.fs.crash(int(seed)*20, h.random), before: "nothing"})
		h.one = 1 << 30
		h.mu.Unlock()
		closeTest(t, s)
		var seen [2]int
		for n, c := range h.snapshots {
			last := n == len(h.snapshots)-1
			if installed := x.verify(t, c); installed {
				seen[1]++
			} else if seen[0]++; last {
				t.Error("an install that had returned is lost")
			}
			if t.Failed() {
				t.Fatalf("seed %d: crash before %s", seed, c.before)
			}
		}
		if seen[0] == 0 || seen[1] == 0 {
			t.Errorf("%d crashes before and %d after", seen[0], seen[1])
		}
		moments += len(h.snapshots)
	}
	t.Logf("%d moments", moments)
}

// verify opens what a crash left and tells whether the snapshot was installed.
func (x *installation) verify(t testing.TB, c snapshot) (installed bool) {
	s := openTest(t, c.fs, testPath, 1<<20)
	var shards []*Shard
	for i, r := range machineRanges {
		shard, err := s.Shard(uint32(i+1), r[0], r[1])
		if err != nil {
			t.Fatal(err)
		}
		shards = append(shards, shard)
	}
	want := x.older
	if installed = shards[0].Record().Index == x.record.Index; installed {
		want = x.newer
	}
	compareAll(t, "after a crash", shards, []*model{want, x.besides})
	closeTest(t, s)
	fsckTest(t, c.fs, testPath)
	return installed
}

// blockFS lets nobody create a flush's tables while it is closed.
type blockFS struct {
	vfs.FS
	gate atomic.Pointer[chan struct{}]
}

func (fs *blockFS) Create(name string, category vfs.DiskWriteCategory) (vfs.File, error) {
	if gate := fs.gate.Load(); gate != nil && category == categoryFlush {
		<-*gate
	}
	return fs.FS.Create(name, category)
}

// TestInstallDropsWhatWaitsToBeFlushed freezes buffers, holds up their flush, and installs
// in between: what was frozen must not come back over the new state.
func TestInstallDropsWhatWaitsToBeFlushed(t *testing.T) {
	x := newInstallation(t)
	synctest.Test(t, func(t *testing.T) {
		fs := &blockFS{FS: vfs.NewMem()}
		s, shards := x.target(t, fs)
		gate := make(chan struct{})
		fs.gate.Store(&gate)
		done := make(chan error, 3)
		for range 2 { // the first is being written, the second waits
			for i, m := range []*model{x.older, x.besides} {
				if err := shards[i].Update(m.step(7)); err != nil {
					t.Fatal(err)
				}
			}
			go func() { done <- s.Flush(context.Background()) }()
			synctest.Wait()
		}
		if n := len(shards[0].frozen); n != 2 {
			t.Errorf("%d buffers are frozen", n)
		}
		if err := shards[0].Update(x.older.step(8)); err != nil { // and one is active
			t.Fatal(err)
		}
		go func() { done <- shards[0].Install(x.record, bytes.NewReader(x.stream)) }()
		synctest.Wait()
		close(gate)
		for range 3 {
			if err := <-done; err != nil {
				t.Error(err)
			}
		}
		compareAll(t, "installed", shards, []*model{x.newer, x.besides})
		if err := s.Flush(t.Context()); err != nil {
			t.Error(err)
		}
		if m := s.Metrics(); m.ActiveBytes != 0 || m.FrozenBytes != 0 {
			t.Errorf("buffers hold %d and %d bytes", m.ActiveBytes, m.FrozenBytes)
		}
		compareAll(t, "flushed", shards, []*model{x.newer, x.besides})
		if shards[0].Record().Index != x.record.Index {
			t.Errorf("durable up to %d", shards[0].Record().Index)
		}
		closeTest(t, s)
		fs.gate.Store(nil)
		fsckTest(t, fs.FS, testPath)
	})
}

// TestExportIsOneMoment exports while the shard is updated and flushed all the time: each
// copy is exactly the state at its record.
func TestExportIsOneMoment(t *testing.T) {
	u := newUniverse(2)
	s, shards, models := openPair(t, vfs.NewMem(), u, [2]int{5, 5}, 1)
	stop, writer := make(chan struct{}), sync.WaitGroup{}
	var seeds []uint64
	writer.Go(func() {
		for seed := uint64(50_000); ; seed++ {
			select {
			case <-stop:
				return
			default:
			}
			seeds = append(seeds, seed)
			if err := shards[0].Update(models[0].step(seed)); err != nil {
				t.Error(err)
				return
			}
		}
	})
	type copy struct {
		record Record
		stream []byte
	}
	var copies []copy
	for range 8 {
		record, b := exported(t, shards[0])
		copies = append(copies, copy{record, b})
	}
	close(stop)
	writer.Wait()
	closeTest(t, s)
	for _, c := range copies {
		target, to, _ := openPair(t, vfs.NewMem(), u, [2]int{0, 0}, 0)
		if err := to[0].Install(c.record, bytes.NewReader(c.stream)); err != nil {
			t.Fatal(err)
		}
		m := newModel(u, machineRanges[0][0], machineRanges[0][1])
		for step := range 5 {
			m.step(1 + uint64(step*2))
		}
		for _, seed := range seeds {
			if m.record.Index < c.record.Index {
				m.step(seed)
			}
		}
		compareAll(t, "copy", to[:1], []*model{m})
		closeTest(t, target)
	}
}

// TestExportsAreBounded holds exports open: the next one waits, and comes when one closes.
func TestExportsAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, shards, _ := openPair(t, vfs.NewMem(), newUniverse(2), [2]int{5, 5}, 1)
		var open []*Export
		for range ExportsMax {
			e, err := shards[0].Export(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			open = append(open, e)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := shards[1].Export(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("one more: %v", err)
		}
		done := make(chan error, 1)
		go func() {
			e, err := shards[1].Export(t.Context())
			if err == nil {
				err = e.Close()
			}
			done <- err
		}()
		synctest.Wait()
		for _, e := range open {
			if err := e.Close(); err != nil {
				t.Error(err)
			}
		}
		if err := <-done; err != nil {
			t.Error(err)
		}
		closeTest(t, s)
		if _, err := shards[0].Export(t.Context()); !errors.Is(err, ErrClosed) {
			t.Errorf("export of a closed store: %v", err)
		}
	})
}
