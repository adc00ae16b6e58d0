package storage

import (
	"bytes"
	"io"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
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
