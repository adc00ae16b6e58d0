package storage

import (
	"errors"
	"math/rand/v2"
	"path"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"parley/wire"
)

// A damageTest is a closed store on files that can be copied and spoiled.
type damageTest struct {
	fs     *crashFS
	models [2]*model
}

func newDamageTest(t *testing.T, steps int) *damageTest {
	h := &history{fs: newCrashFS(), random: rand.New(rand.NewPCG(5, 6)), one: 1 << 30}
	u, seeds := h.play(t, steps)
	d := &damageTest{fs: h.fs}
	for i, r := range machineRanges {
		d.models[i] = newModel(u, r[0], r[1])
		for _, seed := range seeds[i] {
			d.models[i].step(seed)
		}
	}
	return d
}

// copy is a file system of its own with the same files.
func (d *damageTest) copy() *crashFS {
	return d.fs.crash(100, rand.New(rand.NewPCG(1, 1)))
}

// files are the files of the store whose names begin or end so.
func (d *damageTest) files(t *testing.T, pattern string) (names []string) {
	list, err := d.fs.List(testPath)
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range list {
		if ok, _ := path.Match(pattern, name); ok {
			names = append(names, testPath+"/"+name)
		}
	}
	return names
}

func fileSize(t *testing.T, fs vfs.FS, name string) int64 {
	info, err := fs.Stat(name)
	if err != nil {
		t.Fatal(err)
	}
	return info.Size()
}

// flip changes one bit of a file.
func flip(t *testing.T, fs vfs.FS, name string, bit int64) {
	f, err := fs.OpenReadWrite(name, vfs.WriteCategoryUnspecified)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	b := []byte{0}
	if _, err := f.ReadAt(b, bit/8); err != nil {
		t.Fatal(err)
	}
	b[0] ^= 1 << (bit % 8)
	if _, err := f.WriteAt(b, bit/8); err != nil {
		t.Fatal(err)
	}
}

// noticed opens a spoiled store and reads everything. It reports whether anything was said,
// and fails if nothing was and the state is not what was written.
func (d *damageTest) noticed(t *testing.T, fs vfs.FS) bool {
	var fatal atomic.Bool
	s, err := Open(Options{Path: testPath, FS: fs, Logger: quiet(), Fatal: func(error) { fatal.Store(true) }})
	if err != nil {
		return true
	}
	defer func() { _ = s.Close() }() // it may be failing
	for i, r := range machineRanges {
		shard, err := s.Shard(uint32(i+1), r[0], r[1])
		if err != nil {
			return true
		}
		if err = shard.View(d.models[i].compare); err != nil {
			if errors.Is(err, ErrDamaged) || fatal.Load() || strings.Contains(err.Error(), "corruption") {
				return true
			}
			t.Errorf("silently different: %v", err)
		}
	}
	return fatal.Load()
}

func (d *damageTest) findings(t *testing.T, fs vfs.FS) (list []Finding) {
	_, err := Fsck(t.Context(), testPath, fs, func(f Finding) { list = append(list, f) })
	if err != nil {
		list = append(list, Finding{Problem: err.Error()})
	}
	return list
}

// TestFlippedBitsAreFound flips bits all over every kind of file. The check must find each
// in a table, the manifest and the seal; and no flip anywhere may change what is read
// without a word.
func TestFlippedBitsAreFound(t *testing.T) {
	d := newDamageTest(t, 12)
	if list := d.findings(t, d.copy()); len(list) > 0 {
		t.Fatal("findings in a whole store: ", list)
	}
	for _, test := range []struct {
		pattern string
		flips   int
		found   bool // by the check
	}{
		{"*.sst", 300, true},
		{"MANIFEST-*", 200, true},
		{sealName, 60, true},
		{"OPTIONS-*", 60, false}, // settings without a checksum, which are not read back
	} {
		t.Run(test.pattern, func(t *testing.T) {
			names := d.files(t, test.pattern)
			if len(names) == 0 {
				t.Fatal("no such file")
			}
			random := rand.New(rand.NewPCG(8, 9))
			opened := 0
			for range test.flips {
				name := names[random.IntN(len(names))]
				bit := random.Int64N(8 * fileSize(t, d.fs, name))
				fs := d.copy()
				flip(t, fs, name, bit)
				if len(d.findings(t, fs)) == 0 && test.found && d.live(t, name) {
					t.Errorf("%s, bit %d of byte %d of %d: not found", name, bit%8, bit/8, fileSize(t, d.fs, name))
				}
				if d.noticed(t, fs) {
					opened++
				}
			}
			t.Logf("%d of %d flips noticed by opening and reading", opened, test.flips)
		})
	}
}

// live reports whether the store uses a file: an old manifest may lie beside.
func (d *damageTest) live(t *testing.T, name string) bool {
	list, err := d.fs.List(testPath)
	if err != nil {
		t.Fatal(err)
	}
	base := path.Base(name)
	if !strings.HasPrefix(base, "MANIFEST") {
		return true
	}
	for _, other := range list {
		if strings.HasPrefix(other, "marker.manifest") && strings.HasSuffix(other, base) {
			return true
		}
	}
	return false
}

// TestLostIngestIsRefused cuts the manifest's last records off, as a flipped bit in them has
// Pebble do in silence.
func TestLostIngestIsRefused(t *testing.T) {
	h := &history{fs: newCrashFS(), random: rand.New(rand.NewPCG(5, 6)), one: 1 << 30}
	s := openTest(t, h.fs, testPath, 1<<20)
	m := newModel(newUniverse(2), 0, wire.Slots-1)
	shard, err := s.Shard(1, 0, wire.Slots-1)
	if err != nil {
		t.Fatal(err)
	}
	var sizes []int64
	d := &damageTest{fs: h.fs}
	for seed := range uint64(3) {
		if err := shard.Update(m.step(seed)); err != nil {
			t.Fatal(err)
		}
		if err := s.Flush(t.Context()); err != nil {
			t.Fatal(err)
		}
		sizes = append(sizes, fileSize(t, h.fs, d.files(t, "MANIFEST-*")[0]))
	}
	for _, bit := range []int64{8 * (sizes[1] + 1), 8 * (sizes[1] + 12)} {
		fs := d.copy()
		name := ""
		for _, n := range d.files(t, "MANIFEST-*") {
			if d.live(t, n) {
				name = n
			}
		}
		flip(t, fs, name, bit)
		if _, err := Open(Options{Path: testPath, FS: fs, Logger: quiet(), Fatal: func(error) {}}); !errors.Is(err, ErrDamaged) {
			t.Errorf("a lost ingest: %v, want ErrDamaged", err)
		}
		if len(d.findings(t, fs)) == 0 {
			t.Error("the check does not find it")
		}
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
}
