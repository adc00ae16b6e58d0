package raft

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// A cluster is replicas of one group in one process, each with a disk of its own.
type cluster struct {
	t       testing.TB
	r       *rand.Rand
	network *Memory
	servers []string
	members []*member
	retired []*member // no longer of the group

	started time.Time

	padding  int  // bytes that are added to entries
	truncate bool // logs are truncated as far as can be
	shipping bool // leaders send entries before they have written them

	mu           sync.Mutex
	proposed     int
	acknowledged map[string]bool // applied at the replica that proposed it
	history      []string        // the one order, as far as any replica has applied it
}

type member struct {
	c       *cluster
	server  string
	initial []string // voters

	onLeader func(server string, term uint64)
	disk     *vfs.MemFS
	stalled  atomic.Bool
	node     *Node
	group    *Group
	machine  *testMachine
	source   *testSource
	done     map[string]bool
	mine     map[string]bool // proposed here in this life
}

func newCluster(t testing.TB, seed uint64) *cluster { return newClusterOf(t, seed, 3) }

func newClusterOf(t testing.TB, seed uint64, size int) *cluster {
	c := makeCluster(t, seed, size)
	c.start()
	return c
}

// makeCluster makes the replicas, which start starts.
func makeCluster(t testing.TB, seed uint64, size int) *cluster {
	c := &cluster{t: t, started: time.Now(), r: rand.New(rand.NewPCG(seed, 5)), network: NewMemory(), acknowledged: make(map[string]bool)}
	for i := range size {
		c.servers = append(c.servers, fmt.Sprint("n", i))
	}
	for _, server := range c.servers {
		c.members = append(c.members, &member{c: c, server: server, initial: c.servers, disk: vfs.NewCrashableMem(), machine: &testMachine{}})
	}
	return c
}

func (c *cluster) start() {
	for _, m := range c.members {
		m.start()
	}
}

// join starts a replica that waits to be added.
func (c *cluster) join(server string) *member {
	m := &member{c: c, server: server, disk: vfs.NewCrashableMem(), machine: &testMachine{}}
	c.servers = append(c.servers, server)
	c.members = append(c.members, m)
	m.start()
	return m
}

// retire takes a replica that was removed off the list.
func (c *cluster) retire(m *member) {
	c.members = slices.DeleteFunc(c.members, func(other *member) bool { return other == m })
	c.retired = append(c.retired, m)
}

func (m *member) start() {
	var network Network = m.c.network.Network(m.server)
	if m.c.shipping {
		network = shippingNetwork{network}
	}
	m.startOn(network)
}

func (m *member) startOn(network Network) {
	m.c.mu.Lock()
	m.machine = m.machine.restart()
	m.done, m.mine = make(map[string]bool), make(map[string]bool)
	m.c.mu.Unlock()
	m.source = &testSource{isDone: func(entry string) bool {
		m.c.mu.Lock()
		defer m.c.mu.Unlock()
		return m.done[entry]
	}}
	m.machine.onApply, m.machine.onInstall = m.observe()
	m.node = openNode(m.c.t, stallFS(m.disk, &m.stalled), m.server, network)
	g, err := m.node.Start(context.Background(), GroupConfig{ID: 1, Machine: m.machine, Source: m.source, Servers: m.initial, OnLeader: m.onLeader})
	if err != nil {
		m.c.t.Fatal(err)
	}
	if m.c.truncate {
		g.trailing = 0
	}
	m.c.mu.Lock()
	defer m.c.mu.Unlock()
	m.group = g
}

// observe holds what a machine is shown against the others, and notes it.
func (m *member) observe() (onApply, onInstall func(entries []Entry)) {
	position := len(m.machine.entries)
	onApply = func(entries []Entry) {
		m.c.mu.Lock()
		defer m.c.mu.Unlock()
		for _, e := range entries {
			value := string(e.Data)
			switch {
			case position < len(m.c.history) && m.c.history[position] != value:
				m.c.t.Errorf("%s applied %.20q at %d, others %.20q", m.server, value, position, m.c.history[position])
			case position == len(m.c.history):
				m.c.history = append(m.c.history, value)
			}
			position++
			m.done[value] = true
			if m.mine[value] {
				m.c.acknowledged[value] = true
			}
		}
	}
	onInstall = func(entries []Entry) {
		m.c.mu.Lock()
		defer m.c.mu.Unlock()
		for i, e := range entries {
			if i < len(m.c.history) && m.c.history[i] != string(e.Data) {
				m.c.t.Errorf("%s installed %.20q at %d, others %.20q", m.server, e.Data, i, m.c.history[i])
			}
			m.done[string(e.Data)] = true
		}
		position = len(entries)
	}
	return onApply, onInstall
}

// stop ends a member's life; crash says whether its disk loses what was not synced.
func (m *member) stop(crash bool) {
	disk := m.disk
	if crash { // what happens from here until Close is of no world
		for _, other := range m.c.servers {
			m.c.network.Cut(m.server, other)
			m.c.network.Cut(other, m.server)
		}
	}
	m.machine.mu.Lock()
	durable, entries := m.machine.durable, slices.Clone(m.machine.entries)
	if crash {
		disk = m.disk.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: m.c.r.IntN(101), RNG: m.c.r})
	}
	m.machine.mu.Unlock()
	closeNode(m.c.t, m.node)
	m.check()
	m.machine.mu.Lock()
	m.machine.durable, m.machine.entries = durable, entries
	m.machine.mu.Unlock()
	m.disk = disk
}

func (m *member) check() {
	m.machine.check(m.c.t)
	m.source.check(m.c.t, m.machine)
}

func (c *cluster) leader() *member {
	for _, m := range c.members {
		if m.node != nil && m.group.Leading() {
			return m
		}
	}
	return nil
}

// propose gives a new entry to a member.
func (m *member) propose() string {
	m.c.mu.Lock()
	m.c.proposed++
	value := fmt.Sprintf("%s-%d-%s", m.server, m.c.proposed, strings.Repeat("x", m.c.padding))
	m.mine[value] = true
	m.c.mu.Unlock()
	m.source.add([]byte(value))
	m.group.Kick()
	return value
}

// applied is the one order as far as any replica has applied it.
func (c *cluster) applied() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.history)
}

func (c *cluster) isAcknowledged(value string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.acknowledged[value]
}

// settle heals the network, proposes until an entry is acknowledged, and waits until all
// replicas have applied it.
func (c *cluster) settle() {
	c.network.Heal()
	last := ""
	eventually(c.t, "an acknowledged entry", func() bool {
		if last != "" && c.isAcknowledged(last) {
			return true
		}
		if l := c.leader(); l != nil {
			last = l.propose()
			time.Sleep(50 * time.Millisecond)
		}
		return false
	})
	eventually(c.t, "all replicas to catch up", func() bool {
		for _, m := range c.members {
			c.mu.Lock()
			done := m.done[last]
			c.mu.Unlock()
			if !done {
				return false
			}
		}
		return true
	})
	var all [][]string
	for _, m := range c.members {
		all = append(all, m.machine.values())
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for value := range c.acknowledged {
		if !slices.Contains(c.history, value) {
			c.t.Errorf("acknowledged entry %.20q is lost", value)
		}
	}
	for i, got := range all {
		if !slices.Equal(got, c.history[:len(got)]) {
			c.t.Errorf("%s differs", c.members[i].server)
		}
	}
}

func (c *cluster) close() {
	c.t.Logf("%v: %d proposed, %d acknowledged, %d terms", time.Since(c.started).Round(time.Millisecond), c.proposed, len(c.acknowledged),
		c.members[0].group.Stats().Term)
	for _, m := range append(c.members, c.retired...) {
		closeNode(c.t, m.node)
		m.check()
		check, err := CheckLog("log", m.disk)
		if err != nil || len(check.Problems) > 0 {
			c.t.Errorf("fsck of %s: %v %v", m.server, err, check.Problems)
		}
	}
}

func TestThreeReplicasSurviveTheLossOfTheLeader(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, 1)
		defer c.close()
		eventually(t, "a leader", func() bool { return c.leader() != nil })
		old := c.leader()
		for range 20 {
			old.propose()
		}
		eventually(t, "acknowledged", func() bool { return len(old.machine.values()) == 20 })
		c.network.Isolate(old.server)
		value := old.propose()
		eventually(t, "the entry of the lost leader to be given back", func() bool { return old.source.failures() == 1 })
		if c.isAcknowledged(value) {
			t.Error("an entry without majority was acknowledged")
		}
		eventually(t, "another leader", func() bool { l := c.leader(); return l != nil && l != old })
		if old.group.Leading() {
			t.Error("the old leader leads on")
		}
		if err := old.group.Authorize(t.Context()); err != ErrNotLeader {
			t.Errorf("authorize without majority: %v", err)
		}
		c.settle()
	})
}

// TestRandomFaults crashes and cuts replicas at random while entries are proposed: what
// was acknowledged stays, all replicas apply the same, nothing fails after it was applied.
func TestRandomFaults(t *testing.T) {
	for seed := range rounds(10) {
		synctest.Test(t, func(t *testing.T) {
			c := newCluster(t, uint64(seed))
			defer c.close()
			for range 12 {
				c.step()
			}
			c.settle()
		})
		if t.Failed() {
			t.Fatalf("seed %d", seed)
		}
	}
}

// step is one fault and some proposals, on whoever believes to lead.
func (c *cluster) step() {
	m := c.members[c.r.IntN(len(c.members))]
	switch c.r.IntN(6) {
	case 0:
		c.network.Isolate(m.server)
	case 1:
		c.network.Cut(m.server, c.servers[c.r.IntN(len(c.servers))])
	case 2:
		c.network.Heal()
	case 3:
		m.stop(true)
		c.network.Heal()
		m.start()
	case 4:
		c.network.SetDelay(time.Duration(c.r.IntN(4)) * time.Millisecond)
	case 5:
		_ = m.machine.Persist(context.Background(), 0)
		m.group.Compact()
	}
	for range c.r.IntN(30) {
		time.Sleep(time.Duration(c.r.IntN(200)) * time.Millisecond)
		for _, m := range c.members {
			if m.group.Leading() {
				m.propose()
			}
		}
	}
}

// TestAuthorizedReadsSeeWhatWasAcknowledged reads on every replica that allows it, under
// faults: an authorized read must find all that was acknowledged before it began.
func TestAuthorizedReadsSeeWhatWasAcknowledged(t *testing.T) {
	for seed := range rounds(6) {
		synctest.Test(t, func(t *testing.T) {
			c := newCluster(t, uint64(seed)+100)
			defer c.close()
			var reads, authorized int
			var readers sync.WaitGroup
			for range 10 {
				c.step()
				for _, m := range c.members {
					readers.Go(func() {
						ok := c.read(m)
						c.mu.Lock()
						defer c.mu.Unlock()
						reads++
						if ok {
							authorized++
						}
					})
				}
			}
			c.network.Heal()
			readers.Wait()
			c.settle()
			t.Logf("%d of %d reads authorized", authorized, reads)
			if !c.read(c.leader()) {
				t.Error("the leader of a healthy group refuses to read")
			}
		})
		if t.Failed() {
			t.Fatalf("seed %d", seed)
		}
	}
}

func (c *cluster) read(m *member) bool {
	c.mu.Lock()
	group, done, machine := m.group, m.done, m.machine
	want := make([]string, 0, len(c.acknowledged))
	for value := range c.acknowledged {
		want = append(want, value)
	}
	c.mu.Unlock()
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	if group.Authorize(ctx) != nil {
		return false
	}
	seen := machine.values()
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, value := range want {
		if !done[value] && !slices.Contains(seen, value) {
			c.t.Errorf("%s: an authorized read misses %q, which was acknowledged before", m.server, value)
		}
	}
	return true
}
