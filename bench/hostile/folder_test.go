//go:build linux

package hostile

import (
	"bytes"
	"fmt"
	"io/fs"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"parley/wire"
)

func TestAFolderThatIsNotForThisServerIsRefusedAndLeftAlone(t *testing.T) {
	t.Parallel()
	s := serve(t, t.TempDir())
	w := s.witness(t)
	newer, foreign := t.TempDir(), t.TempDir()
	serve(t, newer).stop(t)
	format := filepath.Join(newer, "FORMAT")
	b, err := os.ReadFile(format)
	if err != nil {
		t.Fatal(err)
	}
	write(t, format, []byte(regexp.MustCompile(`\d+`).ReplaceAllString(string(b), "999")))
	write(t, filepath.Join(foreign, "thesis.tex"), []byte("mine"))
	file := filepath.Join(t.TempDir(), "file")
	write(t, file, []byte("no folder"))
	w.during(t, func() {
		for _, test := range []struct {
			dir  string
			code int
			want string
		}{
			{s.dir, exitInUse, "in use by another process"},
			{newer, exitData, "newer version of Parley"},
			{foreign, exitData, "not a data directory of Parley"},
			{file, 1, "file"},
		} {
			before := contents(t, test.dir)
			launch(t, test.dir, nil).refused(t, test.code, test.want, test.dir)
			if test.dir != s.dir && contents(t, test.dir) != before {
				t.Errorf("%s was changed", test.dir)
			}
		}
	})
}

func write(t *testing.T, path string, b []byte) {
	t.Helper()
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
}

// contents are the names and bytes below a path, but for the lock.
func contents(t *testing.T, path string) string {
	t.Helper()
	var b strings.Builder
	for _, name := range files(t, path) {
		content, err := os.ReadFile(filepath.Join(path, name))
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(&b, "%s\n%x\n", name, content)
	}
	return b.String()
}

// files are the plain files below a path, but for the lock.
func files(t *testing.T, path string) (names []string) {
	t.Helper()
	err := filepath.WalkDir(path, func(name string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() || d.Name() == "LOCK" {
			return err
		}
		name, err = filepath.Rel(path, name)
		names = append(names, name)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return names
}

// shards is how many a server of these tests has.
const shards = 4

// A ledger is what was acknowledged before a data folder was damaged, and what else is known of it.
type ledger struct {
	dir   string
	names []string            // of users
	ids   map[string]wire.ID  //
	epoch uint64              // of the cluster
	said  map[string][]string // by two names: the texts that were acknowledged, in order
	keys  map[string][]byte   // tokens, by name
}

// talk has every pair of neighbours say some more, all of it acknowledged.
func (l *ledger) talk(t *testing.T, s *server, count, bytes int) {
	t.Helper()
	for i := range l.names {
		from, to := l.names[i], l.names[(i+1)%len(l.names)]
		c := s.hello(t, from)
		for n := range count {
			text := fmt.Sprintf("%s to %s %d ", from, to, len(l.said[from+" "+to])) + strings.Repeat(string(rune('a'+n%26)), bytes)
			c.say(t, wire.DirectRef(l.ids[to]), uint64(n+1), text)
			l.said[from+" "+to] = append(l.said[from+" "+to], text)
		}
		c.Close()
	}
}

// newLedger makes a data folder with every kind of file, and leaves it as SIGKILL does: state in
// tables of several flushes, and a log with tables and with entries that no flush has covered.
func newLedger(t *testing.T) *ledger {
	t.Helper()
	l := &ledger{dir: filepath.Join(t.TempDir(), "data"), names: []string{"ann", "ben", "cid", "dora", "emil"},
		ids: map[string]wire.ID{}, said: map[string][]string{}, keys: map[string][]byte{}}
	for round := range 3 {
		interval := []string{"1s", "1s", "1h"}[round]
		s := serve(t, l.dir, "--flush-interval", interval)
		if round == 0 {
			for _, name := range l.names {
				l.ids[name] = s.user(t, name)
				l.keys[name] = s.token(t, name, 1, time.Hour)
			}
			l.epoch = s.dial(t).greet(t, &wire.Hello{Version: wire.Version, Credential: l.keys["ann"]}).ClusterEpoch
		}
		tables := l.tables(t)
		l.talk(t, s, 20, 200)
		if round < 2 {
			eventually(t, "a flush has written a table", func() bool { return l.tables(t) > tables })
			l.talk(t, s, 3, 40)
		}
		s.kill(t)
	}
	return l
}

// tables counts those of the state.
func (l *ledger) tables(t *testing.T) int {
	t.Helper()
	names, err := filepath.Glob(filepath.Join(l.dir, "state", "*.sst"))
	if err != nil {
		t.Fatal(err)
	}
	return len(names)
}

// An outcome is what became of a damaged folder.
type outcome string

const (
	harmless outcome = "harmless" // everything is there
	refused  outcome = "refused"  // the server did not start, and said why
	loud     outcome = "loud"     // a read, or the server, failed: nobody is told less without knowing
	stopped  outcome = "stopped"  // the server stopped by itself
	unclear  outcome = "UNCLEAR"  // the server did not start, and its code or text does not say that data is damaged
	silent   outcome = "SILENT"   // something is missing, and nobody is told
)

// judge starts a server on a folder and reads everything that was acknowledged.
func (l *ledger) judge(t *testing.T, dir string) (o outcome, detail string) {
	t.Helper()
	s := launch(t, dir, nil)
	if s.stuck {
		return unclear, "the server neither serves nor ends"
	}
	if s.address == "" {
		last := lastLine(s.text())
		if code := s.wait(t); code != exitData || !strings.HasPrefix(last, "parley: ") || len(last) > sentenceMax {
			return unclear, fmt.Sprintf("code %d: %s", code, last)
		}
		return refused, last
	}
	o, detail = l.read(t, s)
	if s.ended() {
		if code := s.wait(t); code != exitFatal {
			return unclear, fmt.Sprintf("the server ends with code %d: %s", code, lastLine(s.text()))
		}
		return stopped, lastLine(s.text())
	}
	s.kill(t) // its last flush may meet the damage, which is not what is asked here
	return o, detail
}

// sentenceMax is what an operator can be asked to read of an error: a name, a place, and a cause or two.
const sentenceMax = 1000

func lastLine(text string) string {
	text = strings.TrimSpace(text)
	return text[strings.LastIndex("\n"+text, "\n"):]
}

// read reads all of the ledger: what users see, and what lists and conversations say.
func (l *ledger) read(t *testing.T, s *server) (outcome, string) {
	t.Helper()
	for i, name := range l.names {
		c := s.dial(t)
		defer c.Close()
		c.send(wire.AppendHello(nil, &wire.Hello{Version: wire.Version, Credential: l.keys[name]}))
		f, err := c.await(wire.TypeWelcome)
		if err != nil {
			return loud, err.Error()
		}
		w, err := wire.ParseWelcome(f)
		if err != nil || w.User != l.ids[name] {
			return silent, fmt.Sprintf("%s is welcome as %+v, %v", name, w, err)
		}
		if w.ClusterEpoch != l.epoch {
			return silent, fmt.Sprintf("the cluster epoch was %d and is %d: clients forget what they have not sent", l.epoch, w.ClusterEpoch)
		}
		next := l.names[(i+1)%len(l.names)]
		texts, err := c.history(wire.DirectRef(l.ids[next]), 0)
		if err != nil {
			return failedRead(err)
		}
		if !slices.Equal(texts, l.said[name+" "+next]) {
			return silent, fmt.Sprintf("%s and %s have %d messages, not the %d that were acknowledged", name, next, len(texts), len(l.said[name+" "+next]))
		}
		if o, detail := l.listed(c); o != harmless {
			return o, detail
		}
	}
	return harmless, ""
}

// listed looks for both conversations of a user in the list, and at the users themselves.
func (l *ledger) listed(c *client) (outcome, string) {
	var state wire.Conversations
	for end := time.Now().Add(patience); ; time.Sleep(20 * time.Millisecond) { // a courier may be on its way
		c.send(wire.AppendSync(nil, &wire.Sync{Correlation: 1, Previews: 5}))
		f, err := c.await(wire.TypeConversations)
		if err == nil {
			state, err = wire.ParseConversations(f)
		}
		if err != nil {
			return failedRead(err)
		}
		if len(state.Items) == 2 || !time.Now().Before(end) {
			break
		}
	}
	if len(state.Items) != 2 {
		return silent, fmt.Sprintf("%d conversations in a list of 2", len(state.Items))
	}
	c.send(wire.AppendResolve(nil, &wire.Resolve{Correlation: 1, Names: l.names}))
	f, err := c.await(wire.TypeUserList)
	if err != nil {
		return failedRead(err)
	}
	list, err := wire.ParseUserList(f)
	if err != nil || len(list.Users) != len(l.names) {
		return silent, fmt.Sprintf("%d users of %d, %v", len(list.Users), len(l.names), err)
	}
	for _, u := range list.Users {
		if l.ids[u.Name] != u.ID {
			return silent, fmt.Sprintf("%q is %v, not %v", u.Name, u.ID, l.ids[u.Name])
		}
	}
	return harmless, ""
}

// failedRead tells an answer that says nothing is there from one that says it cannot be read.
func failedRead(err error) (outcome, string) {
	if strings.Contains(err.Error(), "sequence ") || strings.Contains(err.Error(), "the head is ") {
		return silent, err.Error()
	}
	return loud, err.Error()
}

// kind is the kind of file of a name in a data folder.
func kind(name string) string {
	name = regexp.MustCompile(`\d{6}`).ReplaceAllString(name, "N")
	return regexp.MustCompile(`(marker\.[a-z-]+)\..*`).ReplaceAllString(name, "$1")
}

// TestAFlippedBitIsNeverServedInSilence flips a bit in every file of a data folder, and more in every kind of file.
func TestAFlippedBitIsNeverServedInSilence(t *testing.T) {
	l := newLedger(t)
	if o, detail := l.judge(t, copied(t, l.dir)); o != harmless {
		t.Fatalf("without any damage: %s %s", o, detail)
	}
	flips := 4
	if testing.Short() {
		flips = 1
	}
	kinds := map[string][]string{}
	for _, name := range files(t, l.dir) {
		if info, err := os.Stat(filepath.Join(l.dir, name)); err != nil || info.Size() == 0 {
			continue // a marker is all in its name
		}
		kinds[kind(name)] = append(kinds[kind(name)], name)
	}
	for _, want := range []string{"FORMAT", "keys.json", "node.json", "state/N.sst", "state/MANIFEST-N", "state/OPTIONS-N", "log/N.log", "log/N.sst", "log/MANIFEST-N", "log/OPTIONS-N"} {
		if len(kinds[want]) == 0 {
			t.Errorf("no %s in the folder: %v", want, files(t, l.dir))
		}
	}
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 0))
	var tries []flip
	for _, names := range kinds {
		for _, name := range names {
			if !testing.Short() {
				tries = append(tries, pick(t, r, l.dir, []string{name}))
			}
		}
		for range flips {
			tries = append(tries, pick(t, r, l.dir, names))
		}
	}
	l.flips(t, tries)
}

// Small files that decide about all others: every digit and letter of them counts.
func TestFlippedBitsOfTheIdentityAreFound(t *testing.T) {
	if testing.Short() {
		t.Skip("heavy: left out with -short")
	}
	l := newLedger(t)
	var tries []flip
	for _, name := range []string{"node.json", "FORMAT"} {
		b, err := os.ReadFile(filepath.Join(l.dir, name))
		if err != nil {
			t.Fatal(err)
		}
		for i := range b {
			if b[i] >= '0' && b[i] <= '9' || name == "FORMAT" {
				tries = append(tries, flip{name, i*8 + i%2})
			}
		}
	}
	l.flips(t, tries)
}

// A flip is a bit of a file.
type flip struct {
	name string
	bit  int
}

// pick draws a bit of one of the files, in what has been written: a log is longer than its entries.
func pick(t *testing.T, r *rand.Rand, dir string, names []string) flip {
	t.Helper()
	name := names[r.IntN(len(names))]
	b, err := os.ReadFile(filepath.Join(dir, name))
	if err != nil {
		t.Fatal(err)
	}
	return flip{name, r.IntN(len(bytes.TrimRight(b, "\x00")) * 8)}
}

// flips judges a copy of the folder for each flip, a few at a time.
func (l *ledger) flips(t *testing.T, tries []flip) {
	t.Helper()
	var mu sync.Mutex
	counts := map[string]int{}
	t.Run("flips", func(t *testing.T) {
		for _, f := range tries {
			t.Run(fmt.Sprintf("%s bit %d", f.name, f.bit), func(t *testing.T) {
				t.Parallel()
				dir := copied(t, l.dir)
				f.apply(t, dir)
				checked, _ := parley(t, "fsck", dir)
				o, detail := l.judge(t, dir)
				mu.Lock()
				counts[kind(f.name)+" "+string(o)+", fsck "+strconv.Itoa(checked)]++
				mu.Unlock()
				if o == silent || o == unclear {
					t.Errorf("%s (fsck: code %d)", detail, checked)
				}
				if o != harmless && checked != exitData {
					t.Errorf("%s, but fsck ends with code %d: %s", o, checked, detail)
				}
			})
		}
	})
	for _, line := range slices.Sorted(maps.Keys(counts)) {
		t.Logf("%s: %d", line, counts[line])
	}
}

func (f flip) apply(t *testing.T, dir string) {
	t.Helper()
	path := filepath.Join(dir, f.name)
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	b[f.bit/8] ^= 1 << (f.bit % 8)
	write(t, path, b)
}

// copied is a copy of a data folder, with the modes that it must have.
func copied(t *testing.T, dir string) string {
	t.Helper()
	to := filepath.Join(t.TempDir(), "data")
	for _, name := range files(t, dir) {
		b, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		if err := os.MkdirAll(filepath.Dir(filepath.Join(to, name)), 0o700); err != nil {
			t.Fatal(err)
		}
		write(t, filepath.Join(to, name), b)
	}
	return to
}
