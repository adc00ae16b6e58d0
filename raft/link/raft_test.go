package link

import (
	"bytes"
	"context"
	"encoding/gob"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"parley/raft"
)

// A listMachine is a list of what was applied. All of it is durable at once.
type listMachine struct {
	mu      sync.Mutex
	record  raft.Record
	values  []string
	leading bool
	install int
	pad     int // bytes that an export is larger
	applies chan int
}

func (m *listMachine) Apply(entries []raft.Entry) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, e := range entries {
		if e.Index <= m.record.Index {
			return fmt.Errorf("entry %d after %d", e.Index, m.record.Index)
		}
		m.record.Index, m.record.Term = e.Index, e.Term
		m.values = append(m.values, string(e.Data))
	}
	if m.applies != nil && len(entries) > 0 {
		m.applies <- len(entries)
	}
	return nil
}

func (m *listMachine) Configure(index, term uint64, configuration []byte) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.record = raft.Record{Index: index, Term: term, ConfigurationIndex: index, Configuration: configuration}
	return nil
}

func (m *listMachine) Record() raft.Record {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.record
}

func (m *listMachine) Persist(context.Context, uint64) error { return nil }

func (m *listMachine) Export(context.Context) (*raft.Export, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	var b bytes.Buffer
	b.Write(make([]byte, m.pad))
	if err := gob.NewEncoder(&b).Encode(m.values); err != nil {
		return nil, err
	}
	return &raft.Export{Record: m.record, Size: int64(b.Len()), Reader: io.NopCloser(&b)}, nil
}

func (m *listMachine) Install(record raft.Record, source io.Reader) error {
	if _, err := io.CopyN(io.Discard, source, int64(m.pad)); err != nil {
		return err
	}
	var values []string
	if err := gob.NewDecoder(source).Decode(&values); err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if record.Index <= m.record.Index {
		return errors.New("an old export")
	}
	m.record, m.values = record, values
	m.install++
	return nil
}

func (m *listMachine) Lead(uint64) { m.lead(true) }
func (m *listMachine) Follow()     { m.lead(false) }

func (m *listMachine) lead(leads bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.leading = leads
}

func (m *listMachine) applied() []string {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Clone(m.values)
}

// A listSource proposes what it is given, and again what failed.
type listSource struct {
	mu    sync.Mutex
	queue [][]byte
	fails int
}

func (s *listSource) add(values ...string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, v := range values {
		s.queue = append(s.queue, []byte(v))
	}
}

func (s *listSource) Next(dst []byte) ([]byte, any, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.queue) == 0 {
		return dst, nil, false
	}
	v := s.queue[0]
	s.queue = s.queue[1:]
	return append(dst, v...), v, true
}

func (s *listSource) Failed(any, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.fails++
}

// A replica is a node with a hub and one group.
type replica struct {
	hub     *Hub
	node    *raft.Node
	group   *raft.Group
	machine *listMachine
	source  *listSource
	server  string
}

func (w *world) replica(node uint32, fs vfs.FS, m *listMachine, servers ...string) *replica {
	w.t.Helper()
	r := &replica{hub: w.hub(node), machine: m, source: &listSource{}, server: fmt.Sprintf("n%d", node)}
	r.hub.Connect([]uint32{1, 2, 3})
	var err error
	r.node, err = raft.Open(raft.Options{Path: filepath.Join(w.logs, "log"), FS: fs, Server: r.server, Network: r.hub.Network(), Logger: testLogger().With("self", node),
		Fatal: func(err error) { w.t.Errorf("node %d: %v", node, err) }})
	if err != nil {
		w.t.Fatal(err)
	}
	r.group, err = r.node.Start(w.t.Context(), raft.GroupConfig{ID: 5, Machine: m, Source: r.source, Servers: servers})
	if err != nil {
		w.t.Fatal(err)
	}
	return r
}

func (r *replica) close(t testing.TB) {
	t.Helper()
	if err := r.node.Close(); err != nil {
		t.Errorf("close: %v", err)
	}
	if err := r.hub.Close(); err != nil {
		t.Errorf("close: %v", err)
	}
}

func leaderOf(t testing.TB, replicas []*replica) *replica {
	t.Helper()
	var leader *replica
	eventually(t, "a leader", func() bool {
		for _, r := range replicas {
			if r != nil && r.group.Leading() {
				leader = r
			}
		}
		return leader != nil
	})
	return leader
}

// commit proposes values, again if the leader changes, and waits until they are the last that all
// of the replicas have applied.
func commit(t testing.TB, replicas []*replica, values ...string) {
	t.Helper()
	ended := func(r *replica) bool {
		got := r.machine.applied()
		return len(got) >= len(values) && slices.Equal(got[len(got)-len(values):], values)
	}
	var leader *replica
	eventually(t, fmt.Sprintf("%d entries at %d replicas", len(values), len(replicas)), func() bool {
		if !slices.ContainsFunc(replicas, func(r *replica) bool { return !ended(r) }) {
			return true
		}
		if leader == nil || !leader.group.Leading() {
			leader = leaderOf(t, replicas)
			leader.source.add(values...)
			leader.group.Kick()
		}
		return false
	})
}

func series(from, n int) []string {
	var values []string
	for i := range n {
		values = append(values, fmt.Sprintf("value %d", from+i))
	}
	return values
}

// trio starts three replicas.
func (w *world) trio() []*replica {
	var replicas []*replica
	for i := range 3 {
		replicas = append(replicas, w.replica(uint32(i+1), vfs.NewMem(), &listMachine{}, "n1", "n2", "n3"))
	}
	return replicas
}

func TestThreeReplicasCommitOverLinks(t *testing.T) {
	everywhere(t, func(t *testing.T, w *world) {
		replicas := w.trio()
		commit(t, replicas, series(0, 500)...)
		leader := leaderOf(t, replicas)
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		if err := leader.group.Authorize(ctx); err != nil {
			t.Errorf("a read: %v", err)
		}
		for _, r := range replicas {
			r.close(t)
		}
	})
}

func TestAReadDoesNotWaitForOtherTraffic(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, false)
		replicas := w.trio()
		commit(t, replicas, "before")
		leader := leaderOf(t, replicas)
		for range 100 {
			time.Sleep(7 * time.Millisecond)
			began := time.Now()
			if err := leader.group.Authorize(t.Context()); err != nil {
				t.Fatal(err)
			}
			if end := time.Now(); !end.Equal(began) {
				t.Errorf("a read waited from %v to %v of the bubble's time", began, end)
			}
		}
		for _, r := range replicas {
			r.close(t)
		}
	})
}

// others are the replicas but one.
func others(replicas []*replica, but *replica) []*replica {
	return slices.DeleteFunc(slices.Clone(replicas), func(r *replica) bool { return r == but })
}

func TestReplicasAgreeWhileLinksAreCutOneWayAndBothWays(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, false)
		replicas := w.trio()
		random := rand.New(rand.NewPCG(1, 2))
		proposed := 0
		for range 40 {
			w.heal()
			for range random.IntN(3) {
				a, b := uint32(1+random.IntN(3)), uint32(1+random.IntN(3))
				w.cut(a, b)
				if random.IntN(2) == 0 {
					w.cut(b, a)
				}
			}
			for range 1 + random.IntN(20) {
				for _, r := range replicas {
					if r.group.Leading() {
						r.source.add(series(proposed, 1)...)
						r.group.Kick()
						proposed++
					}
				}
				time.Sleep(time.Duration(random.IntN(300)) * time.Millisecond)
			}
		}
		w.heal()
		t.Logf("%d entries were proposed", proposed)
		// Within some seconds there is one leader that all follow, and what it commits is everywhere.
		time.Sleep(5 * time.Second)
		commit(t, replicas, "the last")
		want := replicas[0].machine.applied()
		seen := make(map[string]bool)
		for _, v := range want {
			if seen[v] {
				t.Errorf("%q was applied twice", v)
			}
			seen[v] = true
		}
		if len(want) < proposed/3 {
			t.Errorf("of %d entries %d were applied", proposed, len(want))
		}
		for _, r := range replicas {
			if got := r.machine.applied(); !slices.Equal(got, want) {
				t.Errorf("%s has %d entries, %s %d", r.server, len(got), replicas[0].server, len(want))
			}
			r.close(t)
		}
	})
}

func TestAReplicaThatWasAwayForLongCatchesUpAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, false)
		replicas := w.trio()
		leader := leaderOf(t, replicas)
		commit(t, replicas, "before")
		away := others(replicas, leader)[0]
		rest := others(replicas, away)
		w.cut(leader.hub.Self(), away.hub.Self())
		w.cut(away.hub.Self(), leader.hub.Self())
		for i := range 60 { // hashicorp/raft would wait ten seconds between two attempts by then
			commit(t, rest, series(i, 1)...)
			time.Sleep(5 * time.Second)
		}
		w.heal()
		began := time.Now()
		commit(t, replicas, "after")
		// The clock is the bubble's: it moves by what is waited for, on any machine.
		t.Logf("caught up after %v", time.Since(began))
		if late := began.Add(4 * time.Second); time.Now().After(late) {
			t.Error("the replica that was away was left waiting")
		}
		for _, r := range replicas {
			r.close(t)
		}
	})
}

func TestANewLeaderIsElectedWhenALeadersLinksBreak(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, false)
		replicas := w.trio()
		commit(t, replicas, "before")
		leader := leaderOf(t, replicas)
		if err := leader.hub.Close(); err != nil {
			t.Fatal(err)
		}
		rest := others(replicas, leader)
		next := leaderOf(t, rest)
		commit(t, rest, "after")
		eventually(t, "the old leader to step down", func() bool { return !leader.group.Leading() })
		if !next.hub.Silent(leader.hub.Self()) {
			t.Error("a closed node is not silent")
		}
		if err := leader.node.Close(); err != nil {
			t.Error(err)
		}
		for _, r := range rest {
			r.close(t)
		}
	})
}
