package raft

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"runtime/pprof"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// testMachine keeps all entries, and checks that they come in order and once.
type testMachine struct {
	mu         sync.Mutex
	first      uint64 // index of the record that it started from
	index      uint64
	term       uint64
	entries    []Entry
	durable    Record
	latest     Record
	leading    bool
	led        []uint64
	faults     []string
	fail       error
	hold       chan struct{} // if not nil, Apply waits for it
	autoRecord bool          // what is applied is durable at once
	onApply    func(entries []Entry)

	exports, installs atomic.Int32
	failInstall       error
	onInstall         func(entries []Entry) // with all entries
}

// restart returns a machine that remembers only what was durable.
func (m *testMachine) restart() *testMachine {
	m.mu.Lock()
	defer m.mu.Unlock()
	n := &testMachine{durable: m.durable, latest: m.durable, index: m.durable.Index, term: m.durable.Term, first: m.durable.Index, autoRecord: m.autoRecord}
	for _, e := range m.entries {
		if e.Index <= m.durable.Index {
			n.entries = append(n.entries, e)
		}
	}
	return n
}

func (m *testMachine) Apply(entries []Entry) error {
	if m.hold != nil {
		<-m.hold
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.fail != nil {
		return m.fail
	}
	for _, e := range entries {
		if e.Index <= m.index || e.Term < m.term {
			m.faults = append(m.faults, fmt.Sprintf("entry %d of term %d after %d of %d", e.Index, e.Term, m.index, m.term))
		}
		m.index, m.term = e.Index, e.Term
		m.entries = append(m.entries, Entry{e.Index, e.Term, e.Data})
	}
	m.latest.Index, m.latest.Term = m.index, m.term
	if m.autoRecord {
		m.durable = m.latest
	}
	if m.onApply != nil {
		m.onApply(entries)
	}
	return nil
}

func (m *testMachine) Configure(index, term uint64, configuration []byte) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if index <= m.index {
		m.faults = append(m.faults, fmt.Sprintf("configuration %d after %d", index, m.index))
	}
	m.index, m.term = index, term
	m.latest = Record{Index: index, Term: term, ConfigurationIndex: index, Configuration: configuration}
	return nil
}

func (m *testMachine) Record() Record {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.durable
}

func (m *testMachine) Persist(_ context.Context, index uint64) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.latest.Index < index {
		return errors.New("test: asked to persist what was not applied")
	}
	m.durable = m.latest
	return nil
}

// testExport is what Export gives: the record, and the entries up to it.
type testExport struct {
	Record  Record
	Entries []Entry
}

func (m *testMachine) Export(context.Context) (*Export, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.durable = m.latest
	m.exports.Add(1)
	b, err := json.Marshal(testExport{m.latest, m.entries})
	if err != nil {
		return nil, err
	}
	return &Export{Record: m.latest, Size: int64(len(b)), Reader: io.NopCloser(bytes.NewReader(b))}, nil
}

func (m *testMachine) Install(record Record, source io.Reader) error {
	var x testExport
	b, err := io.ReadAll(source)
	if err == nil {
		err = json.Unmarshal(b, &x)
	}
	if err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if x.Record.Index != record.Index || x.Record.Term != record.Term || !bytes.Equal(x.Record.Configuration, record.Configuration) {
		return fmt.Errorf("test: export at %d of %d, want %d of %d", x.Record.Index, x.Record.Term, record.Index, record.Term)
	}
	if record.Index <= m.index {
		m.faults = append(m.faults, fmt.Sprintf("install of %d at %d", record.Index, m.index))
	}
	if m.failInstall != nil {
		return m.failInstall
	}
	m.index, m.term, m.entries = record.Index, record.Term, x.Entries
	m.durable, m.latest = x.Record, x.Record
	m.installs.Add(1)
	if m.onInstall != nil {
		m.onInstall(m.entries)
	}
	return nil
}

func (m *testMachine) Lead(term uint64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.leading {
		m.faults = append(m.faults, "Lead without Follow")
	}
	m.leading = true
	m.led = append(m.led, term)
}

func (m *testMachine) Follow() {
	m.mu.Lock()
	defer m.mu.Unlock()
	if !m.leading {
		m.faults = append(m.faults, "Follow without Lead")
	}
	m.leading = false
}

func (m *testMachine) values() []string {
	m.mu.Lock()
	defer m.mu.Unlock()
	values := make([]string, len(m.entries))
	for i, e := range m.entries {
		values[i] = string(e.Data)
	}
	return values
}

func (m *testMachine) count() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return len(m.entries)
}

func (m *testMachine) check(t testing.TB) {
	t.Helper()
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, f := range m.faults {
		t.Error(f)
	}
}

// testSource is a queue of entries, one command each, with the fate of each.
type testSource struct {
	mu     sync.Mutex
	queue  [][]byte
	failed map[string]error
	twice  []string
	late   []string
	isDone func(entry string) bool // whether the machine beside it has applied an entry
}

func (s *testSource) add(entries ...[]byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.queue = append(s.queue, entries...)
}

func (s *testSource) Next(dst []byte) ([]byte, any, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.queue) == 0 {
		return dst, nil, false
	}
	e := s.queue[0]
	s.queue = s.queue[1:]
	return append(dst, e...), string(e), true
}

func (s *testSource) Failed(handle any, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.failed == nil {
		s.failed = make(map[string]error)
	}
	if _, ok := s.failed[handle.(string)]; ok {
		s.twice = append(s.twice, handle.(string))
	}
	s.failed[handle.(string)] = err
	if s.isDone != nil && s.isDone(handle.(string)) {
		s.late = append(s.late, handle.(string))
	}
}

func (s *testSource) failures() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.failed)
}

// failure returns what an entry failed with.
func (s *testSource) failure(entry []byte) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.failed[string(entry)]
}

// check wants no entry to have failed twice, or failed after it was applied here.
func (s *testSource) check(t testing.TB, m *testMachine) {
	t.Helper()
	m.mu.Lock()
	defer m.mu.Unlock()
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, handle := range s.twice {
		t.Errorf("entry %q failed twice", handle)
	}
	for _, handle := range s.late {
		t.Errorf("entry %q failed after it was applied", handle)
	}
}

func testLogger() *slog.Logger {
	if os.Getenv("RAFT_LOG") == "" {
		return slog.New(slog.DiscardHandler)
	}
	return slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelDebug}))
}

func openNode(t testing.TB, fs vfs.FS, server string, network Network) *Node {
	t.Helper()
	n, err := Open(Options{Path: "log", FS: fs, Server: server, Network: network, Logger: testLogger(), Fatal: func(err error) {
		t.Errorf("unexpected failure: %v", err)
	}})
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func startGroupOf(t testing.TB, n *Node, id uint32, m Machine, s Source, servers ...string) *Group {
	t.Helper()
	g, err := n.Start(context.Background(), GroupConfig{ID: id, Machine: m, Source: s, Servers: servers})
	if err != nil {
		t.Fatal(err)
	}
	return g
}

func closeNode(t testing.TB, n *Node) {
	t.Helper()
	if err := n.Close(); err != nil {
		t.Errorf("close: %v", err)
	}
}

// eventually polls; it is for what happens soon but not at once.
func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	deadline := time.Now().Add(30 * time.Second)
	for !ok() {
		if time.Now().After(deadline) {
			if os.Getenv("RAFT_DUMP") != "" {
				_ = pprof.Lookup("goroutine").WriteTo(os.Stderr, 2)
			}
			t.Fatalf("did not happen: %s", what)
		}
		time.Sleep(time.Millisecond)
	}
}

func numbered(i int) []byte {
	return binary.BigEndian.AppendUint32([]byte("entry "), uint32(i))
}

func padded(i, size int) []byte {
	e := numbered(i)
	return append(e, bytes.Repeat([]byte{byte(i)}, max(0, size-len(e)))...)
}

func wantNumbered(t testing.TB, m *testMachine, n int) {
	t.Helper()
	m.check(t)
	m.mu.Lock()
	defer m.mu.Unlock()
	if len(m.entries) != n {
		t.Fatalf("machine has %d entries, want %d", len(m.entries), n)
	}
	for i, e := range m.entries {
		if !bytes.HasPrefix(e.Data, numbered(i)) {
			for _, e := range m.entries[max(0, i-3):min(len(m.entries), i+4)] {
				t.Errorf("index %d term %d: %.10q", e.Index, e.Term, e.Data)
			}
			t.Fatalf("entry %d of %d is %.10q; record %d of term %d", i, n, e.Data, m.durable.Index, m.durable.Term)
		}
	}
}
