package raft

import (
	"errors"
	"fmt"
	"slices"
	"testing"
	"testing/synctest"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// inspect looks at what a stopped member's disk has of the group.
func (m *member) inspect() Remains {
	m.c.t.Helper()
	r, err := OpenRemnant("log", m.disk)
	must(m.c.t, err)
	remains, err := r.Inspect(1, m.machine.Record())
	must(m.c.t, err)
	must(m.c.t, r.Close())
	return remains
}

// recoverAs makes a stopped member the only voter, under a new id, without starting it.
func (m *member) recoverAs(server string) Record {
	m.c.t.Helper()
	n := openNode(m.c.t, m.disk, server, nil)
	record, err := n.Recover(1, m.machine.Record(), server)
	must(m.c.t, err)
	closeNode(m.c.t, n)
	return record
}

// resume starts a member that was recovered, in a network that the lost ones are not in.
func (m *member) resume(server string) {
	m.c.t.Helper()
	m.c.network, m.c.servers, m.c.members = NewMemory(), []string{server}, []*member{m}
	m.server, m.initial = server, nil
	m.start()
	if !m.group.Leading() {
		m.c.t.Error("the only voter does not lead when Start returns")
	}
}

// stopAll ends all members as a power failure does.
func (c *cluster) stopAll() {
	for _, m := range c.members {
		m.stop(true)
	}
}

// The last of three replicas goes on alone with all that was committed, and with what was
// not yet; the group grows again from there.
func TestTheLastOfThreeReplicasIsRecovered(t *testing.T) {
	for _, who := range []string{"leader", "follower"} {
		synctest.Test(t, func(t *testing.T) {
			c := newCluster(t, 7)
			survivor := c.awaitLeader()
			survivor.fill(30, 100)
			c.settle()
			if who == "follower" {
				survivor = c.members[(slices.Index(c.members, survivor)+1)%3]
			} else {
				c.network.Isolate(survivor.server)
				value := survivor.propose()
				eventually(t, "the lone entry to be written", func() bool { return survivor.inspectTail(value) })
			}
			before := survivor.machine.values()
			c.stopAll()
			remains := survivor.inspect()
			if len(remains.Members.Voters) != 3 || len(remains.LastData) == 0 {
				t.Errorf("%s: remains %+v", who, remains)
			}
			record := survivor.recoverAs("again")
			if record.Index != remains.Last+1 || record.Term <= remains.Term {
				t.Errorf("%s: recovered at %d of %d, the log ended at %d of %d, heard of term %d", who, record.Index, record.Term, remains.Last, remains.LastTerm, remains.Term)
			}
			survivor.resume("again")
			defer c.close()
			if got := survivor.machine.values(); !slices.Equal(got[:len(before)], before) || !slices.Contains(got, string(remains.LastData)) {
				t.Errorf("%s: %d entries are left, there were %d", who, len(got), len(before))
			}
			grow(t, c, survivor)
		})
	}
}

// inspectTail tells whether the log's newest entry, in memory, is a value.
func (m *member) inspectTail(value string) bool {
	last, _ := m.group.log.LastIndex()
	m.group.log.mu.RLock()
	defer m.group.log.mu.RUnlock()
	return m.group.log.tail.at(last) != nil && string(m.group.log.tail.at(last).Data) == value
}

// grow adds two voters and checks that all three are alike.
func grow(t *testing.T, c *cluster, from *member) {
	t.Helper()
	for i := range 2 {
		m := c.join(fmt.Sprint("added", i))
		must(t, from.group.AddLearner(t.Context(), m.server))
		from.propose()
		m.awaitApplied(from.group.Applied())
		must(t, from.group.Promote(t.Context(), m.server))
	}
	if got := from.group.Membership(); len(got.Voters) != 3 || len(got.Learners) != 0 {
		t.Errorf("members after growing: %+v", got)
	}
	c.settle()
}

// A replica whose log begins behind an install is recovered too.
func TestAReplicaThatWasInstalledIsRecovered(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newClusterOf(t, 3, 1)
		first := c.awaitLeader()
		first.fill(40, 60<<10)
		first.truncate(10)
		survivor := c.join("added")
		must(t, first.group.AddLearner(t.Context(), survivor.server))
		survivor.awaitApplied(first.group.Applied())
		c.settle()
		if survivor.machine.installs.Load() != 1 {
			t.Fatalf("%d installs", survivor.machine.installs.Load())
		}
		c.stopAll()
		if remains := survivor.inspect(); !slices.Equal(remains.Members.Learners, []string{"added"}) {
			t.Errorf("remains: %+v", remains)
		}
		survivor.recoverAs("again")
		survivor.resume("again")
		defer c.close()
		grow(t, c, survivor)
	})
}

// Recovering is one write: a crash before leaves the old log, a crash after the new one,
// and doing it again changes nothing.
func TestRecoveringTwiceIsRecoveringOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, 11)
		c.awaitLeader().fill(5, 100)
		c.settle()
		c.stopAll()
		survivor := c.members[0]
		before := survivor.inspect()
		n := openNode(t, survivor.disk, "again", nil)
		record, err := n.Recover(1, survivor.machine.Record(), "again")
		must(t, err)
		crashed := survivor.disk.CrashClone(vfs.CrashCloneCfg{})
		closeNode(t, n)
		survivor.disk = crashed
		after := survivor.inspect()
		if after.Last != before.Last+1 || !slices.Equal(after.Members.Voters, []string{"again"}) {
			t.Errorf("after the crash: %+v, before %+v", after, before)
		}
		if again := survivor.recoverAs("again"); again.Index != record.Index || again.Term != record.Term {
			t.Errorf("recovered at %d of %d, then at %d of %d", record.Index, record.Term, again.Index, again.Term)
		}
		if survivor.recoverAs("other").Index != record.Index+1 {
			t.Error("another id did not take over")
		}
		survivor.resume("other")
		defer c.close()
		c.settle()
	})
}

// A group of which nothing is left begins anew, and one that runs is left alone.
func TestRecoveringNothingBeginsAGroup(t *testing.T) {
	disk := vfs.NewMem()
	n := openNode(t, disk, "a", nil)
	record, err := n.Recover(4, Record{}, "a")
	must(t, err)
	if record.Index != 1 || record.Term != 1 || record.ConfigurationIndex != 1 {
		t.Errorf("the first configuration: %+v", record)
	}
	m := &testMachine{autoRecord: true}
	s := &testSource{}
	g := startGroupOf(t, n, 4, m, s)
	s.add(numbered(0))
	g.Kick()
	eventually(t, "an entry", func() bool { return len(m.values()) == 1 })
	if _, err := n.Recover(4, m.Record(), "b"); !errors.Is(err, ErrGroupExists) {
		t.Errorf("recovering a running group: %v", err)
	}
	closeNode(t, n)
	wantNumbered(t, m, 1)
}

// A state that the log does not continue is refused, and a flipped bit found.
func TestDamageIsNotRecovered(t *testing.T) {
	disk := vfs.NewMem()
	n := openNode(t, disk, "a", nil)
	if _, err := n.Recover(4, Record{Index: 7, Term: 2, ConfigurationIndex: 1}, "a"); !errors.Is(err, ErrLogGap) {
		t.Errorf("a state without its log: %v", err)
	}
	_, err := n.Recover(4, Record{}, "a")
	must(t, err)
	closeNode(t, n)
	r, err := OpenRemnant("log", disk)
	must(t, err)
	if _, err := r.Inspect(4, Record{Index: 7, Term: 2}); !errors.Is(err, ErrLogGap) {
		t.Errorf("inspecting a state without its log: %v", err)
	}
	must(t, r.Close())
	if _, err := OpenRemnant("none", disk); err == nil {
		t.Error("a log that is not there was opened")
	}
}

// A crash in the middle of an install leaves either state; the log is looked at and goes on
// as the machine's record says.
func TestAnInterruptedInstallIsRecoveredEitherWay(t *testing.T) {
	for _, installed := range []bool{false, true} {
		disk := vfs.NewMem()
		n := openNode(t, disk, "a", nil)
		first, err := n.Recover(4, Record{}, "a")
		must(t, err)
		l := &groupLog{group: 4, store: n.store, committer: n.committer, fail: n.fail, record: func() Record { return Record{} }}
		must(t, openLog(l, Record{}))
		must(t, l.prepare(Record{Index: 9, Term: 3}))
		closeNode(t, n)
		record, want := Record{}, Remains{Term: 1, LastTerm: 1, Last: 1}
		if installed {
			record, want = Record{Index: 9, Term: 3, ConfigurationIndex: 1, Configuration: first.Configuration}, Remains{Term: 1, LastTerm: 3, Last: 9}
		}
		r, err := OpenRemnant("log", disk)
		must(t, err)
		got, err := r.Inspect(4, record)
		must(t, err)
		must(t, r.Close())
		if got.Term != want.Term || got.LastTerm != want.LastTerm || got.Last != want.Last || !slices.Equal(got.Members.Voters, []string{"a"}) {
			t.Errorf("installed %v: %+v, want %+v", installed, got, want)
		}
		n = openNode(t, disk, "b", nil)
		after, err := n.Recover(4, record, "b")
		must(t, err)
		if after.Index != want.Last+1 || after.Term != want.LastTerm+1 {
			t.Errorf("installed %v: recovered at %d of %d", installed, after.Index, after.Term)
		}
		m := &testMachine{autoRecord: true, durable: record, latest: record, index: record.Index, term: record.Term}
		g, err := n.Start(t.Context(), GroupConfig{ID: 4, Machine: m, Source: &testSource{}, Server: "b"})
		must(t, err)
		if !g.Leading() {
			t.Errorf("installed %v: it does not lead", installed)
		}
		closeNode(t, n)
		m.check(t)
	}
}

// A log from another store continues a state that was copied from beside it.
func TestALogIsGraftedBehindItsState(t *testing.T) {
	for _, persisted := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			c := newCluster(t, 21)
			c.awaitLeader().fill(40, 60<<10) // several writes of a graft
			c.settle()
			donor := c.members[1]
			if persisted {
				must(t, donor.machine.Persist(t.Context(), 0))
				c.leader().fill(3, 10)
				c.settle()
			}
			c.stopAll()
			c.history = donor.inspectAll()
			from, err := OpenRemnant("log", donor.disk)
			must(t, err)
			host := &member{c: c, disk: vfs.NewCrashableMem(), machine: donor.machine}
			n := openNode(t, host.disk, "again", nil)
			_, err = n.Recover(1, Record{}, "an old one") // is replaced
			must(t, err)
			must(t, n.Graft(1, host.machine.Record(), from))
			must(t, n.Graft(1, host.machine.Record(), from))
			_, err = n.Recover(1, host.machine.Record(), "again")
			must(t, err)
			host.disk = host.disk.CrashClone(vfs.CrashCloneCfg{})
			closeNode(t, n)
			must(t, from.Close())
			host.resume("again")
			defer c.close()
			if got := host.machine.values(); !slices.Equal(got, c.history) {
				t.Errorf("persisted %v: %d entries, want %d", persisted, len(got), len(c.history))
			}
			grow(t, c, host)
		})
	}
}

// inspectAll is every entry that a stopped member has, in its state or behind it.
func (m *member) inspectAll() []string {
	m.c.t.Helper()
	values := m.machine.restart().values()
	r, err := OpenRemnant("log", m.disk)
	must(m.c.t, err)
	must(m.c.t, r.Entries(1, m.machine.Record().Index, func(e Entry) error {
		values = append(values, string(e.Data))
		return nil
	}))
	must(m.c.t, r.Close())
	return values
}
