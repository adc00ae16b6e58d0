package client

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"parley/wire"
)

// writes is the life of an outbox: each element is one Write.
func writes() [][]OutboxChange {
	key := func(epoch uint64, ref wire.Ref, counter uint64) Key { return Key{epoch, ref, counter} }
	add := func(k Key, text string) OutboxChange {
		return OutboxChange{Kind: OutboxAdd, Entry: OutboxEntry{Key: k, After: 7, Content: wire.Text(text)}}
	}
	return [][]OutboxChange{
		{{Kind: OutboxRenew, Key: key(1<<63+5, 0, 0)}},
		{{Kind: OutboxIdentity, User: 1 << 47, Device: 9, ClusterEpoch: 3}},
		{add(key(1<<63+5, 4, 1), "one"), add(key(1<<63+5, 4, 2), "two"), add(key(1<<63+5, 6, 1), "other")},
		{{Kind: OutboxRemove, Key: key(1<<63+5, 4, 1)}},
		{{Kind: OutboxCounter, Key: key(1<<63+5, 6, 9)}, {Kind: OutboxRemove, Key: key(1<<63+5, 6, 1)},
			{Kind: OutboxHole, Key: key(1<<63+5, 4, 1)}, {Kind: OutboxHole, Key: key(1<<63+5, 6, 1)}, {Kind: OutboxHole, Key: key(1<<63+5, 6, 0)}},
		{{Kind: OutboxRenew, Key: key(77, 0, 0)}, add(key(77, 4, 1), "three")},
		{{Kind: OutboxRenumber, Key: key(77, 4, 1)}, {Kind: OutboxRenumber, Key: key(77, 4, 2), From: 77}, {Kind: OutboxSwitch, Key: key(77, 0, 0)}},
		{{Kind: OutboxAdd, Entry: OutboxEntry{Key: key(77, 8, 1), Content: wire.Content{Extended: true, Bytes: []byte{0, 'x'}}}}},
	}
}

// A fataler is a *testing.T or a *rapid.T.
type fataler interface {
	Helper()
	Fatal(args ...any)
	Fatalf(format string, args ...any)
}

func mustOpen(t fataler, path string) OutboxStore {
	t.Helper()
	s, err := OpenFileOutbox(path)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func load(t fataler, s OutboxStore) OutboxState {
	t.Helper()
	state, err := s.Load()
	if err != nil {
		t.Fatal(err)
	}
	if err := state.check(); err != nil {
		t.Fatal(err)
	}
	return state
}

// record writes the life and returns the file's content, and the state after each Write
// with the file's size then.
func record(t *testing.T) (content []byte, states map[int64]OutboxState) {
	path := filepath.Join(t.TempDir(), "outbox")
	s := mustOpen(t, path)
	states = map[int64]OutboxState{int64(outboxHeaderBytes): load(t, s), s.(*fileOutbox).size: load(t, s)}
	for _, changes := range writes() {
		if err := s.Write(changes); err != nil {
			t.Fatal(err)
		}
		states[s.(*fileOutbox).size] = load(t, s)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return content, states
}

func TestFileOutboxIsTheSameAfterReopening(t *testing.T) {
	content, states := record(t)
	path := filepath.Join(t.TempDir(), "outbox")
	if err := os.WriteFile(path, content, 0o600); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		s := mustOpen(t, path)
		if diff := cmp.Diff(states[int64(len(content))], load(t, s)); diff != "" {
			t.Fatal(diff)
		}
		if err := s.(*fileOutbox).rewrite(); err != nil { // the second time round reads this
			t.Fatal(err)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

func TestFileOutboxCutAnywhereIsTheStateBeforeTheCutWrite(t *testing.T) {
	content, states := record(t)
	path := filepath.Join(t.TempDir(), "outbox")
	for n := outboxHeaderBytes; n <= len(content); n++ {
		tails := [][]byte{nil}
		if _, boundary := states[int64(n)]; boundary || n%sectorBytes == 0 {
			tails = append(tails, make([]byte, 2*sectorBytes))
		}
		for _, tail := range tails {
			// A write that was cut short leaves a shorter file, or unwritten sectors.
			if err := os.WriteFile(path, append(bytes.Clone(content[:n]), tail...), 0o600); err != nil {
				t.Fatal(err)
			}
			s := mustOpen(t, path)
			whole := int64(n)
			for _, ok := states[whole]; !ok; _, ok = states[whole] {
				whole--
			}
			if diff := cmp.Diff(states[whole], load(t, s)); diff != "" {
				t.Fatalf("cut at %d: %s", n, diff)
			}
			// And it goes on from there.
			if err := s.Write([]OutboxChange{{Kind: OutboxRenew, Key: Key{Epoch: 99}}}); err != nil {
				t.Fatal(err)
			}
			s.Close()
			s = mustOpen(t, path)
			if got := s.(*fileOutbox).index.epoch; got != 99 {
				t.Fatalf("cut at %d: epoch %d after a further write", n, got)
			}
			s.Close()
		}
	}
}

func TestFileOutboxFindsEveryFlippedBit(t *testing.T) {
	content, _ := record(t)
	path := filepath.Join(t.TempDir(), "outbox")
	for bit := range 8 * len(content) {
		damaged := bytes.Clone(content)
		damaged[bit/8] ^= 1 << (bit % 8)
		if err := os.WriteFile(path, damaged, 0o600); err != nil {
			t.Fatal(err)
		}
		if s, err := OpenFileOutbox(path); !errors.Is(err, ErrOutboxDamaged) {
			s.Close()
			t.Fatalf("bit %d of byte %d: %v", bit%8, bit/8, err)
		}
	}
}

func TestFileOutboxTellsALostWriteInTheMiddleFromDamage(t *testing.T) {
	content, states := record(t)
	// The fourth and fifth writes were not forced to disk before the sixth was under way.
	sizes := slices.Sorted(maps.Keys(states))
	zeroed := func(from, to int64) error {
		lost := bytes.Clone(content)
		clear(lost[from:to])
		path := filepath.Join(t.TempDir(), "outbox")
		if err := os.WriteFile(path, lost, 0o600); err != nil {
			t.Fatal(err)
		}
		s, err := OpenFileOutbox(path)
		if err == nil {
			if diff := cmp.Diff(states[from], load(t, s)); diff != "" {
				t.Error(diff)
			}
			s.Close()
		}
		return err
	}
	// 0 header, 1 the empty start, 2 renew, 3 identity, 4 adds, 5 remove, 6 counter, 7 renew
	// and add, 8 move, 9 add.
	if err := zeroed(sizes[4], sizes[6]); !errors.Is(err, ErrOutboxDamaged) {
		t.Errorf("writes that a later one had forced to disk are gone: %v", err)
	}
	if err := zeroed(sizes[3], sizes[4]); !errors.Is(err, ErrOutboxDamaged) {
		t.Errorf("a write that was on disk is gone: %v", err)
	}
}

func TestFileOutboxIsUsedByOneClientAtATime(t *testing.T) {
	path := filepath.Join(t.TempDir(), "outbox")
	s := mustOpen(t, path)
	if _, err := OpenFileOutbox(path); !errors.Is(err, ErrOutboxInUse) {
		t.Fatalf("a second one: %v", err)
	}
	s.Close()
	mustOpen(t, path).Close()
}

func TestFileOutboxRefusesWhatIsNone(t *testing.T) {
	path := filepath.Join(t.TempDir(), "outbox")
	for _, content := range []string{"", "something else entirely", outboxMagic + "\x02"} {
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := OpenFileOutbox(path); !errors.Is(err, ErrOutboxDamaged) {
			t.Errorf("%q: %v", content, err)
		}
	}
}

// A failingFile fails from a given call of Write or Sync on.
type failingFile struct {
	outboxFile
	calls, failFrom int
}

var errDisk = errors.New("client: disk failure of the test")

func (f *failingFile) fail() error {
	if f.calls++; f.calls >= f.failFrom {
		return errDisk
	}
	return nil
}

func (f *failingFile) Write(p []byte) (int, error) {
	if err := f.fail(); err != nil {
		return 0, err
	}
	return f.outboxFile.Write(p)
}

func (f *failingFile) Sync() error {
	if err := f.fail(); err != nil {
		return err
	}
	return f.outboxFile.Sync()
}

func TestFileOutboxThatFailedOnceStaysFailed(t *testing.T) {
	for failFrom := 1; failFrom < 8; failFrom++ {
		s := mustOpen(t, filepath.Join(t.TempDir(), "outbox")).(*fileOutbox)
		s.file = &failingFile{outboxFile: s.file, failFrom: failFrom}
		failed := false
		for i, changes := range writes() {
			err := s.Write(changes)
			if failed && err == nil {
				t.Fatalf("failing from call %d: write %d succeeded after one had failed", failFrom, i)
			}
			failed = failed || err != nil
		}
		if !failed {
			t.Fatalf("failing from call %d: no write failed", failFrom)
		}
		s.Close()
	}
}

// Random lives: whatever the file's size and rewrites, reopening gives what was written.
func TestFileOutboxKeepsRandomLives(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		folder, err := os.MkdirTemp("", "outbox")
		if err != nil {
			t.Fatal(err)
		}
		defer os.RemoveAll(folder)
		path := filepath.Join(folder, "outbox")
		open := func() OutboxStore {
			s := mustOpen(t, path)
			s.(*fileOutbox).rewriteBytes = 4096
			return s
		}
		s := open()
		model := newOutboxIndex()
		for i := range rapid.IntRange(1, 12).Draw(t, "writes") {
			var changes []OutboxChange
			for range rapid.IntRange(1, 3).Draw(t, "changes") {
				change := randomChange(t, model, i)
				model.apply(&change)
				changes = append(changes, change)
			}
			if err := s.Write(changes); err != nil {
				t.Fatal(err)
			}
			if rapid.IntRange(0, 9).Draw(t, "reopen") < 2 {
				s.Close()
				s = open()
				if diff := cmp.Diff(model.state(), load(t, s)); diff != "" {
					t.Fatal(diff)
				}
			}
		}
		s.Close()
	})
}

func randomChange(t *rapid.T, model *outboxIndex, i int) OutboxChange {
	state := model.state()
	kind := rapid.IntRange(0, 9).Draw(t, "kind")
	switch {
	case state.Epoch == 0 || kind == 0 && (len(state.Entries) == 0 || state.Entries[0].Epoch == state.Epoch):
		return OutboxChange{Kind: OutboxRenew, Key: Key{Epoch: state.Epoch + 1}}
	case kind < 6 || len(state.Entries) == 0:
		ref := wire.Ref(rapid.IntRange(2, 5).Draw(t, "ref"))
		size := rapid.SampledFrom([]int{1, 20, 3000}).Draw(t, "size")
		return OutboxChange{Kind: OutboxAdd, Entry: OutboxEntry{Key: Key{state.Epoch, ref, state.Counters[ref] + 1}, After: uint64(i),
			Content: wire.Text(fmt.Sprintf("%0*d", size, i))}}
	default:
		entry := rapid.SampledFrom(state.Entries).Draw(t, "entry")
		return OutboxChange{Kind: OutboxRemove, Key: entry.Key}
	}
}
