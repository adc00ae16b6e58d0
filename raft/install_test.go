package raft

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"
)

// A moment is what a power failure leaves of a replica: its log, and what its machine had
// made durable.
type moment struct {
	disk    *vfs.MemFS
	durable Record
	entries []Entry
	before  string
}

// momentFS takes a moment before each operation that writes, while it is on.
type momentFS struct {
	mu      sync.Mutex
	on      bool
	disk    *vfs.MemFS
	machine *testMachine
	r       *rand.Rand
	moments []moment
}

func (f *momentFS) inject(op errorfs.Op) error {
	if op.Kind.ReadOrWrite() == errorfs.OpIsRead {
		return nil
	}
	f.take(fmt.Sprintf("operation %d on %s", op.Kind, op.Path))
	return nil
}

func (f *momentFS) take(before string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if !f.on {
		return
	}
	m := f.machine
	m.mu.Lock()
	defer m.mu.Unlock()
	f.moments = append(f.moments, moment{
		disk:    f.disk.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: f.r.IntN(101), RNG: f.r}),
		durable: m.durable, entries: slices.Clone(m.entries[:min(len(m.entries), countUpTo(m.entries, m.durable.Index))]), before: before,
	})
}

func countUpTo(entries []Entry, index uint64) (n int) {
	for _, e := range entries {
		if e.Index <= index {
			n++
		}
	}
	return n
}

func (f *momentFS) set(on bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.on = on
}

// TestCrashDuringAnInstallOfASnapshot crashes a laggard with a log of its own before every
// write while it receives and installs a snapshot, and as it goes on behind it: whatever
// is left starts again, continues its state, and catches up.
func TestCrashDuringAnInstallOfASnapshot(t *testing.T) {
	for _, lagging := range []bool{false, true} {
		var disk *momentFS
		var history []string
		synctest.Test(t, func(t *testing.T) { disk, history = recordInstall(t, lagging) })
		counts := make(map[bool]int)
		for _, m := range disk.moments {
			synctest.Test(t, func(t *testing.T) { counts[reviveMoment(t, m, history)]++ })
			if t.Failed() {
				t.Fatalf("lagging %v: crash before %s", lagging, m.before)
			}
		}
		t.Logf("lagging %v: %d moments before the install, %d after", lagging, counts[false], counts[true])
		if counts[false] == 0 || counts[true] == 0 {
			t.Error("the install was missed")
		}
	}
}

// recordInstall brings a replica to install a snapshot, and returns the moments of that and
// all entries. lagging says whether it had entries of its own before.
func recordInstall(t *testing.T, lagging bool) (*momentFS, []string) {
	c := newClusterOf(t, 1, 1)
	defer c.close()
	l := c.awaitLeader()
	m := c.join("laggard")
	f := &momentFS{disk: m.disk, machine: m.machine, r: rand.New(rand.NewPCG(1, 7))}
	again := func() {
		closeNode(t, m.node)
		m.machine = m.machine.restart()
		f.machine = m.machine
		m.node = openNode(t, errorfs.Wrap(m.disk, errorfs.InjectorFunc(f.inject)), m.server, c.network.Network(m.server))
		m.source = &testSource{}
		m.group = startGroupOf(t, m.node, 1, m.machine, m.source)
		m.machine.onApply, m.machine.onInstall = m.observe()
	}
	if lagging {
		must(t, l.group.AddLearner(t.Context(), m.server))
		l.fill(3, 100)
		m.awaitApplied(l.group.Applied())
		must(t, m.machine.Persist(t.Context(), 0))
		must(t, l.group.Remove(t.Context(), m.server)) // or the log would be kept for it
	}
	again()
	l.fill(20, 60<<10)
	l.truncate(10)
	f.set(true)
	must(t, l.group.AddLearner(t.Context(), m.server))
	l.fill(2, 100)
	m.awaitApplied(l.group.Applied())
	f.take("nothing")
	f.set(false)
	if m.machine.installs.Load() != 1 {
		t.Errorf("%d installs", m.machine.installs.Load())
	}
	return f, l.machine.values()
}

// reviveMoment starts what a crash left, alone, and tells whether the snapshot was
// installed.
func reviveMoment(t *testing.T, m moment, history []string) (installed bool) {
	check, err := CheckLog("log", m.disk)
	if err != nil || len(check.Problems) > 0 {
		t.Errorf("fsck: %v %v", err, check.Problems)
	}
	machine := &testMachine{durable: m.durable, latest: m.durable, index: m.durable.Index, term: m.durable.Term, entries: m.entries}
	n := openNode(t, m.disk, "laggard", nil)
	defer closeNode(t, n)
	g := startGroupOf(t, n, 1, machine, &testSource{})
	time.Sleep(time.Second)
	if values := machine.values(); !slices.Equal(values, history[:len(values)]) {
		t.Errorf("%d entries differ", len(values))
	}
	if g.log.base.index > 0 && g.log.base.index < m.durable.Index && g.log.last < m.durable.Index {
		t.Errorf("the log begins behind %d and ends at %d, the state is at %d", g.log.base.index, g.log.last, m.durable.Index)
	}
	return len(machine.values()) > 10
}

// TestReplicasHaveIdsOfTheirOwn runs two groups on the same nodes, each replica under its
// own id.
func TestReplicasHaveIdsOfTheirOwn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		network := NewMemory()
		var nodes []*Node
		var groups []*Group
		var machines []*testMachine
		for i := range 3 {
			nodes = append(nodes, openNode(t, vfs.NewMem(), fmt.Sprint("node", i), network.Network(fmt.Sprint("node", i))))
		}
		for id := range uint32(2) {
			name := func(i int) string { return fmt.Sprintf("group%d-node%d", id, i) }
			for i, n := range nodes {
				m := &testMachine{}
				g, err := n.Start(t.Context(), GroupConfig{ID: id, Machine: m, Source: &testSource{}, Server: name(i), Servers: []string{name(0), name(1), name(2)}})
				must(t, err)
				if g.Server() != name(i) {
					t.Errorf("server is %q", g.Server())
				}
				groups, machines = append(groups, g), append(machines, m)
			}
		}
		for id := range 2 {
			eventually(t, "a leader", func() bool {
				return slices.ContainsFunc(groups[3*id:3*id+3], (*Group).Leading)
			})
		}
		for _, g := range groups {
			if g.Leading() {
				if err := g.Authorize(t.Context()); err != nil {
					t.Errorf("%s: authorize: %v", g.Server(), err)
				}
			}
			if leader := g.Leader(); !slices.Contains(g.Membership().Voters, leader) {
				t.Errorf("%s believes that %q leads", g.Server(), leader)
			}
		}
		for _, n := range nodes {
			closeNode(t, n)
		}
		for _, m := range machines {
			m.check(t)
		}
	})
}

// TestStoppedGroupGoesOnDroppedOneBeginsAnew stops and drops groups of a node that has
// others.
func TestStoppedGroupGoesOnDroppedOneBeginsAnew(t *testing.T) {
	fs := vfs.NewMem()
	n := openNode(t, fs, "a", nil)
	machines := []*testMachine{{}, {}, {}}
	start := func(id int) (*Group, *testSource) {
		machines[id] = machines[id].restart()
		s := &testSource{}
		return startGroupOf(t, n, uint32(id), machines[id], s, "a"), s
	}
	for id := range machines {
		g, s := start(id)
		for i := range 20 {
			s.add(numbered(i))
		}
		g.Kick()
		eventually(t, "all", func() bool { return len(machines[id].values()) == 20 })
	}
	must(t, n.Stop(1))
	for _, err := range []error{n.Stop(1), n.Stop(7)} {
		if !errors.Is(err, ErrNoGroup) {
			t.Errorf("stop of what does not run: %v", err)
		}
	}
	start(1)
	wantNumbered(t, machines[1], 20)
	must(t, n.Drop(1))
	must(t, n.Drop(1))
	must(t, n.Stop(2))
	must(t, n.Drop(2)) // not running
	closeNode(t, n)
	n = openNode(t, fs, "a", nil)
	defer closeNode(t, n)
	if logs, err := n.Logs(); err != nil || !slices.Equal(logs, []uint32{0}) {
		t.Errorf("there are logs of %v, %v", logs, err)
	}
	start(0)
	wantNumbered(t, machines[0], 20)
	start(1)
	wantNumbered(t, machines[1], 0)
	if err := n.Drop(nodeGroup); err == nil {
		t.Error("the store's own records were dropped")
	}
}

// TestLeadersAreTold compares what OnLeader said with what became of it.
func TestLeadersAreTold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, 1)
		defer c.close()
		var mu sync.Mutex
		told := make(map[string][]string)
		terms := make(map[string]uint64)
		for _, m := range c.members {
			closeNode(t, m.node)
			m.onLeader = func(server string, term uint64) {
				mu.Lock()
				defer mu.Unlock()
				told[m.server] = append(told[m.server], server)
				if server != "" && term < terms[m.server] {
					t.Errorf("%s was told of term %d after %d", m.server, term, terms[m.server])
				}
				terms[m.server] = term
			}
			m.start()
		}
		l := c.awaitLeader()
		time.Sleep(2 * time.Second)
		next := c.members[(slices.Index(c.members, l)+1)%3]
		must(t, l.group.TransferLeadership(t.Context(), next.server))
		time.Sleep(2 * time.Second)
		mu.Lock()
		defer mu.Unlock()
		for server, leaders := range told {
			first, last := slices.Index(leaders, l.server), len(leaders)-1
			if first < 0 || leaders[last] != next.server || terms[server] != next.group.Term() {
				t.Errorf("%s was told of %q, last in term %d", server, leaders, terms[server])
			}
		}
	})
}
