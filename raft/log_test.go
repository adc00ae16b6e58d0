package raft

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
	hraft "github.com/hashicorp/raft"
)

// openTestLog opens one group's log without hashicorp/raft.
func openTestLog(t *testing.T, fs vfs.FS, record func() Record) (*groupLog, *Node) {
	t.Helper()
	n := openNode(t, fs, "a", nil)
	if record == nil {
		record = func() Record { return Record{} }
	}
	g := &groupLog{group: 3, store: n.store, committer: n.committer, fail: n.fail, record: record}
	if err := openLog(g, Record{}); err != nil {
		t.Fatal(err)
	}
	return g, n
}

func testLogs(from, to, term uint64, size int) []*hraft.Log {
	var logs []*hraft.Log
	for i := from; i <= to; i++ {
		logs = append(logs, &hraft.Log{Index: i, Term: term, Data: padded(int(i), size)})
	}
	return logs
}

func mustStore(t *testing.T, g *groupLog, logs []*hraft.Log) {
	t.Helper()
	if err := g.SetUint64([]byte(stableTerm), logs[len(logs)-1].Term); err != nil {
		t.Fatal(err)
	}
	if err := g.StoreLogs(logs); err != nil {
		t.Fatal(err)
	}
}

func wantLog(t *testing.T, g *groupLog, index, term uint64) {
	t.Helper()
	var l hraft.Log
	if err := g.GetLog(index, &l); err != nil {
		t.Fatalf("entry %d: %v", index, err)
	}
	if l.Index != index || l.Term != term || !bytes.HasPrefix(l.Data, numbered(int(index))) {
		t.Fatalf("entry %d is %d of term %d with %.10q", index, l.Index, l.Term, l.Data)
	}
}

func wantNoLog(t *testing.T, g *groupLog, index uint64) {
	t.Helper()
	var l hraft.Log
	if err := g.GetLog(index, &l); !errors.Is(err, hraft.ErrLogNotFound) {
		t.Errorf("entry %d: %v", index, err)
	}
}

func TestLogIsTheSameFromMemoryAndDisk(t *testing.T) {
	fs := vfs.NewMem()
	const count = 3 * TailEntriesMax
	for life := range 2 {
		g, n := openTestLog(t, fs, nil)
		if life == 0 {
			for i := uint64(1); i <= count; i += 16 {
				mustStore(t, g, testLogs(i, i+15, 1+i/500, 40))
			}
		}
		term := func(i uint64) uint64 { return 1 + ((i-1)/16*16+1)/500 }
		for i := uint64(1); i <= count; i++ {
			wantLog(t, g, i, term(i))
		}
		r := rand.New(rand.NewPCG(1, 1))
		for range 500 {
			i := 1 + r.Uint64N(count)
			wantLog(t, g, i, term(i))
		}
		wantNoLog(t, g, 0)
		wantNoLog(t, g, count+1)
		closeNode(t, n)
	}
}

func TestSuffixIsReplacedTogetherWithItsTruncation(t *testing.T) {
	disk := vfs.NewCrashableMem()
	g, n := openTestLog(t, disk, nil)
	mustStore(t, g, testLogs(1, 100, 1, 40))
	wantLog(t, g, 70, 1)
	if err := g.DeleteRange(61, 100); err != nil {
		t.Fatal(err)
	}
	wantNoLog(t, g, 61)
	wantLog(t, g, 60, 1)
	before := disk.CrashClone(vfs.CrashCloneCfg{})
	mustStore(t, g, testLogs(61, 70, 2, 40))
	after := disk.CrashClone(vfs.CrashCloneCfg{})
	wantLog(t, g, 61, 2)
	wantNoLog(t, g, 71)
	closeNode(t, n)
	for _, c := range []struct {
		fs         vfs.FS
		last, term uint64
	}{{before, 100, 1}, {after, 70, 2}} {
		g, n := openTestLog(t, c.fs, nil)
		if last, _ := g.LastIndex(); last != c.last {
			t.Errorf("last is %d, want %d", last, c.last)
		}
		wantLog(t, g, c.last, c.term)
		wantLog(t, g, 60, 1)
		closeNode(t, n)
	}
}

func TestSuffixBehindTheRecordIsNeverDeleted(t *testing.T) {
	var failure error
	n, err := Open(Options{Path: "log", FS: vfs.NewMem(), Server: "a", Fatal: func(err error) { failure = err }})
	if err != nil {
		t.Fatal(err)
	}
	g := &groupLog{group: 3, store: n.store, committer: n.committer, fail: n.fail, record: func() Record { return Record{Index: 50} }}
	if err := openLog(g, Record{}); err != nil {
		t.Fatal(err)
	}
	mustStore(t, g, testLogs(1, 100, 1, 40))
	ended, returned := make(chan struct{}), false
	go func() { // the log ends the goroutine that it cannot serve
		defer close(ended)
		_ = g.DeleteRange(50, 100)
		returned = true
	}()
	<-ended
	if returned || !errors.Is(failure, ErrDamaged) {
		t.Errorf("deletion of an applied entry: returned %v, failure %v", returned, failure)
	}
	_ = n.Close()
}

func TestTruncationStopsAtTheRecord(t *testing.T) {
	for _, record := range []uint64{0, 1, 40, 99, 100, 1000} {
		t.Run(fmt.Sprint(record), func(t *testing.T) {
			fs := vfs.NewMem()
			g, n := openTestLog(t, fs, func() Record { return Record{Index: record} })
			mustStore(t, g, testLogs(1, 100, 1, 30<<10))
			o := newOperation(g.group)
			if err := g.truncate(o, record, 0); err != nil {
				t.Fatal(err)
			}
			first, _ := g.FirstIndex()
			if last, _ := g.LastIndex(); first > record+1 || first > last || last != 100 {
				t.Fatalf("log is %d to %d", first, last)
			}
			if record >= 40 && (first < 20 || record > 50 && first < 80) {
				t.Errorf("truncation stopped at %d of %d", first, record)
			}
			for i := first; i <= 100; i++ {
				wantLog(t, g, i, 1)
			}
			if first > 1 {
				wantNoLog(t, g, first-1)
			}
			closeNode(t, n)
			again, n := openTestLog(t, fs, nil)
			if f, _ := again.FirstIndex(); f != first {
				t.Errorf("first is %d after restart, was %d", f, first)
			}
			closeNode(t, n)
		})
	}
}

func TestTruncationKeepsBytes(t *testing.T) {
	g, n := openTestLog(t, vfs.NewMem(), nil)
	defer closeNode(t, n)
	mustStore(t, g, testLogs(1, 100, 1, 30<<10))
	if err := g.truncate(newOperation(g.group), 100, 1<<20); err != nil {
		t.Fatal(err)
	}
	var s Stats
	g.stats(&s)
	if s.LogBytes < 1<<20 || s.LogBytes > 1<<20+compactBytes+64<<10 {
		t.Errorf("%d bytes are left", s.LogBytes)
	}
}

func TestVotesAreDurableAndWhole(t *testing.T) {
	disk := vfs.NewCrashableMem()
	g, n := openTestLog(t, disk, nil)
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	must(g.SetUint64([]byte(stableTerm), 4))
	must(g.SetUint64([]byte(stableVoteTerm), 4))
	must(g.Set([]byte(stableCandidate), []byte("b")))
	must(g.SetUint64([]byte(stableTerm), 5))
	voted := disk.CrashClone(vfs.CrashCloneCfg{})
	must(g.SetUint64([]byte(stableVoteTerm), 5)) // and the power goes before the candidate comes
	half := disk.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: 100, RNG: rand.New(rand.NewPCG(1, 1))})
	must(g.Set([]byte(stableCandidate), []byte("c")))
	whole := disk.CrashClone(vfs.CrashCloneCfg{})
	closeNode(t, n)
	for _, c := range []struct {
		fs        vfs.FS
		vote      uint64
		candidate string
	}{{voted, 4, "b"}, {half, 4, "b"}, {whole, 5, "c"}} {
		g, n := openTestLog(t, c.fs, nil)
		term, _ := g.GetUint64([]byte(stableTerm))
		vote, _ := g.GetUint64([]byte(stableVoteTerm))
		candidate, _ := g.Get([]byte(stableCandidate))
		if term != 5 || vote != c.vote || string(candidate) != c.candidate {
			t.Errorf("term %d, voted %q in %d; want %q in %d", term, candidate, vote, c.candidate, c.vote)
		}
		closeNode(t, n)
	}
	if err := g.Set([]byte("other"), nil); err == nil {
		t.Error("an unknown key was kept")
	}
}

// TestTailHoldsTheNewest compares a tail with a plain list.
func TestTailHoldsTheNewest(t *testing.T) {
	r := rand.New(rand.NewPCG(7, 7))
	var ring tail
	var list []hraft.Log
	next := uint64(1)
	for range 20_000 {
		switch r.IntN(20) {
		case 0:
			at := next - min(next-1, r.Uint64N(40))
			ring.cut(at)
			list = list[:max(0, len(list)-int(next-at))]
			next = at
		case 1:
			to := next - min(next, 1+r.Uint64N(60))
			ring.trim(to)
			for len(list) > 0 && list[0].Index <= to {
				list = list[1:]
			}
		default:
			l := hraft.Log{Index: next, Data: make([]byte, r.IntN(EntryBytesMax)/(1+r.IntN(100)))}
			ring.append(&l)
			list = append(list, l)
			next++
		}
		if len(list) > TailEntriesMax {
			list = list[len(list)-TailEntriesMax:]
		}
		bytes := 0
		for i := len(list) - 1; i >= len(list)-ring.len(); i-- {
			var l hraft.Log
			if !ring.get(list[i].Index, &l) || len(l.Data) != len(list[i].Data) {
				t.Fatalf("entry %d is missing or another", list[i].Index)
			}
			bytes += len(l.Data)
		}
		if bytes != ring.bytes || ring.bytes > TailBytesMax && ring.len() > 1 {
			t.Fatalf("tail says %d bytes, has %d", ring.bytes, bytes)
		}
		if ring.len() > len(list) || len(list) > 0 && ring.len() == 0 {
			t.Fatalf("tail has %d entries of %d", ring.len(), len(list))
		}
	}
}

func FuzzParseEntry(f *testing.F) {
	key := entryKey(1, 2)
	l := hraft.Log{Index: 2, Term: 300, Type: hraft.LogCommand, Data: []byte("data"), Extensions: []byte("x")}
	value := make([]byte, entrySize(&l))
	putEntry(value, key, &l)
	f.Add(value)
	f.Fuzz(func(t *testing.T, value []byte) {
		var l hraft.Log
		if len(value) >= checksumSize { // look behind the checksum too
			fixed := slices.Clone(value)
			sum := checksum(key, fixed[checksumSize:])
			fixed[0], fixed[1], fixed[2], fixed[3] = byte(sum), byte(sum>>8), byte(sum>>16), byte(sum>>24)
			value = fixed
		}
		if parseEntry(key, value, 2, &l) != nil {
			return
		}
		again := make([]byte, entrySize(&l))
		putEntry(again, key, &l)
		var second hraft.Log
		if err := parseEntry(key, again, 2, &second); err != nil || second.Term != l.Term || !bytes.Equal(second.Data, l.Data) {
			t.Fatalf("parse(put(x)) differs: %v", err)
		}
	})
}

func TestCheckLogFindsWhatIsWrong(t *testing.T) {
	put := func(t *testing.T, s *pebbleStore, l *hraft.Log) {
		o := newOperation(3)
		o.logs = []*hraft.Log{l}
		if err := s.write([]*operation{o}); err != nil {
			t.Fatal(err)
		}
	}
	for _, c := range []struct {
		name, want string
		damage     func(t *testing.T, s *pebbleStore)
	}{
		{"nothing", "", func(*testing.T, *pebbleStore) {}},
		{"gap", "follows", func(t *testing.T, s *pebbleStore) { put(t, s, &hraft.Log{Index: 12, Term: 1}) }},
		{"term goes down", "is of term", func(t *testing.T, s *pebbleStore) { put(t, s, &hraft.Log{Index: 11, Term: 0}) }},
		{"term above the vote", "the vote of", func(t *testing.T, s *pebbleStore) { put(t, s, &hraft.Log{Index: 11, Term: 9}) }},
		{"value", "checksum", func(t *testing.T, s *pebbleStore) {
			if err := s.db.Set(entryKey(3, 5), []byte("damaged value"), pebble.Sync); err != nil {
				t.Fatal(err)
			}
		}},
		{"vote", "checksum", func(t *testing.T, s *pebbleStore) {
			if err := s.db.Set(plainKey(3, kindBallot), []byte("damaged"), pebble.Sync); err != nil {
				t.Fatal(err)
			}
		}},
		{"key", "damaged: key", func(t *testing.T, s *pebbleStore) {
			if err := s.db.Set(append(entryKey(3, 5), 1), nil, pebble.Sync); err != nil {
				t.Fatal(err)
			}
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			fs := vfs.NewMem()
			g, n := openTestLog(t, fs, nil)
			mustStore(t, g, testLogs(1, 10, 1, 40))
			c.damage(t, n.store.(*pebbleStore))
			closeNode(t, n)
			check, err := CheckLog("log", fs)
			if err != nil {
				t.Fatal(err)
			}
			found := strings.Join(check.Problems, "\n")
			if (c.want == "") != (found == "") || !strings.Contains(found, c.want) {
				t.Errorf("found %q, want %q", found, c.want)
			}
			if c.want == "" && (check.Entries != 10 || len(check.Groups) != 1 || check.Groups[0].Last != 10) {
				t.Errorf("%+v", check)
			}
		})
	}
	if _, err := CheckLog("nothing", vfs.NewMem()); err == nil {
		t.Error("a directory without log is sound")
	}
}

func TestOpenRefusesWhatItCannotRead(t *testing.T) {
	fs := vfs.NewMem()
	n := openNode(t, fs, "a", nil)
	if err := n.store.(*pebbleStore).db.Set(plainKey(nodeGroup, kindFormat), []byte{recordVersion + 1}, pebble.Sync); err != nil {
		t.Fatal(err)
	}
	closeNode(t, n)
	if _, err := Open(Options{Path: "log", FS: fs, Server: "a", Fatal: func(error) {}}); !errors.Is(err, ErrNewerFormat) {
		t.Errorf("newer format: %v", err)
	}
	if _, err := CheckLog("log", fs); !errors.Is(err, ErrNewerFormat) {
		t.Errorf("newer format: %v", err)
	}
	if _, err := Open(Options{Path: "log", FS: vfs.NewMem()}); !errors.Is(err, errOptions) {
		t.Errorf("no server: %v", err)
	}
}

// TestOldFormatIsRaised opens a store that an older version left: its format must be
// raised before the first write.
func TestOldFormatIsRaised(t *testing.T) {
	fs := vfs.NewMem()
	db, err := pebble.Open("log", &pebble.Options{FS: fs, FormatMajorVersion: pebble.FormatMinSupported, Logger: &pebbleLogger{testLogger(), func(error) {}}})
	if err != nil {
		t.Fatal(err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	g, n := openTestLog(t, fs, nil)
	mustStore(t, g, testLogs(1, 200, 1, 100))
	closeNode(t, n)
	names, err := fs.List("log")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range names {
		if data := readFile(t, fs, "log/"+name); strings.HasSuffix(name, ".log") && len(data) > 7 && (data[6] < walFull || data[6] > walLast) {
			t.Errorf("%s begins with a chunk of kind %d", name, data[6])
		}
	}
}
