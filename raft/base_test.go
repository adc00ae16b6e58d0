package raft

import (
	"errors"
	"fmt"
	"slices"
	"testing"
	"testing/synctest"

	"github.com/cockroachdb/pebble/v2/vfs"
	hraft "github.com/hashicorp/raft"
)

// installed makes a log begin behind an index, as after an install.
func installed(t *testing.T, g *groupLog, index, term uint64) {
	t.Helper()
	r := Record{Index: index, Term: term}
	must(t, g.prepare(r))
	must(t, g.begin(r))
}

func wantLogs(t *testing.T, g *groupLog, first, last uint64) {
	t.Helper()
	if f, _ := g.FirstIndex(); f != first {
		t.Errorf("first is %d, want %d", f, first)
	}
	if l, _ := g.LastIndex(); l != last {
		t.Errorf("last is %d, want %d", l, last)
	}
}

// wantBase wants the entry before the first one to be known by its term.
func wantBase(t *testing.T, g *groupLog, index, term uint64) {
	t.Helper()
	var l hraft.Log
	if err := g.GetLog(index, &l); err != nil || l.Term != term || l.Index != index {
		t.Errorf("entry %d is %+v, %v; want term %d", index, l, err, term)
	}
	wantNoLog(t, g, index-1)
}

// TestLogBeginsBehindAnInstall installs below, within and above what a log has, goes on
// behind it, and opens the log again at each stage.
func TestLogBeginsBehindAnInstall(t *testing.T) {
	for _, have := range []uint64{0, 40, 100, 120} {
		t.Run(fmt.Sprint(have), func(t *testing.T) {
			fs := vfs.NewMem()
			record := Record{Index: 100, Term: 5}
			g, n := openTestLog(t, fs, nil)
			must(t, g.SetUint64([]byte(stableTerm), 9))
			if have > 0 {
				mustStore(t, g, testLogs(1, have, 3, 10<<10))
			}
			installed(t, g, record.Index, record.Term)
			first, last := uint64(0), uint64(0)
			if have > 100 {
				first, last = 101, have
			}
			for range 2 {
				wantLogs(t, g, first, last)
				wantBase(t, g, 100, 5)
				must(t, g.follows(record))
				if err := g.follows(Record{Index: 99, Term: 5}); !errors.Is(err, ErrLogGap) {
					t.Errorf("a state before the base: %v", err)
				}
				if err := g.follows(Record{}); !errors.Is(err, ErrLogGap) {
					t.Errorf("no state: %v", err)
				}
				closeNode(t, n)
				g, n = openTestLog(t, fs, nil)
			}
			if have > 100 { // another leader's entries take the place of what was left
				must(t, g.DeleteRange(101, have))
			}
			mustStore(t, g, testLogs(101, 150, 6, 10<<10))
			for range 2 {
				wantLogs(t, g, 101, 150)
				for i := uint64(101); i <= 150; i++ {
					wantLog(t, g, i, 6)
				}
				wantBase(t, g, 100, 5)
				closeNode(t, n)
				g, n = openTestLog(t, fs, nil)
			}
			must(t, g.truncate(newOperation(3), 130, 0))
			if f, _ := g.FirstIndex(); f <= 101 || f > 131 {
				t.Errorf("truncated to %d", f)
			}
			closeNode(t, n)
			if check, err := CheckLog("log", fs); err != nil || len(check.Problems) > 0 {
				t.Errorf("fsck: %v %v", err, check.Problems)
			}
		})
	}
}

// TestInstallTakesAStagedDeletionAlong installs while the deletion of a suffix waits for
// the entries that replace it: nothing of the suffix may come back.
func TestInstallTakesAStagedDeletionAlong(t *testing.T) {
	for _, test := range []struct{ have, cut, index uint64 }{{100, 60, 80}, {100, 1, 80}, {100, 60, 100}, {100, 60, 50}} {
		fs := vfs.NewMem()
		g, n := openTestLog(t, fs, nil)
		must(t, g.SetUint64([]byte(stableTerm), 9))
		mustStore(t, g, testLogs(1, test.have, 3, 100))
		must(t, g.DeleteRange(test.cut, test.have))
		installed(t, g, test.index, 5)
		first, last := uint64(0), uint64(0)
		if test.cut-1 > test.index {
			first, last = test.index+1, test.cut-1
		}
		wantLogs(t, g, first, last)
		mustStore(t, g, testLogs(max(last, test.index)+1, test.index+15, 6, 100))
		closeNode(t, n)
		g, n = openTestLog(t, fs, nil)
		wantLogs(t, g, test.index+1, test.index+15)
		closeNode(t, n)
	}
}

// TestSnapshotsUnderFaults truncates all logs as far as can be, so that whoever was away
// needs a snapshot, and crashes and cuts replicas at random.
func TestSnapshotsUnderFaults(t *testing.T) {
	installs := 0
	for seed := range rounds(8) {
		synctest.Test(t, func(t *testing.T) {
			c := makeCluster(t, uint64(seed)+900, 3)
			c.padding, c.truncate = 50<<10, true
			c.start()
			defer c.close()
			for range 8 {
				c.step()
				for _, m := range c.members {
					must(t, m.machine.Persist(t.Context(), 0))
					m.group.Compact()
				}
			}
			c.settle()
			for _, m := range c.members {
				installs += int(m.machine.installs.Load())
			}
		})
		if t.Failed() {
			t.Fatalf("seed %d", seed)
		}
	}
	t.Logf("%d installs in the last lives", installs)
	if installs == 0 {
		t.Error("no snapshot was installed")
	}
}

// TestLogBehindASnapshotIsEnough sends the state of an idle leader whose log was cut as
// near to its record as can be, with entries behind it that no machine is shown: one
// snapshot is enough.
func TestLogBehindASnapshotIsEnough(t *testing.T) {
	for count := range 10 {
		synctest.Test(t, func(t *testing.T) {
			c := makeCluster(t, uint64(count), 3)
			c.truncate = true
			c.start()
			defer c.close()
			l := c.awaitLeader()
			at := slices.Index(c.members, l)
			next, laggard := c.members[(at+1)%3], c.members[(at+2)%3]
			c.network.Isolate(laggard.server)
			l.fill(9+count, 60<<10)
			must(t, l.group.TransferLeadership(t.Context(), next.server))
			eventually(t, "the other to lead", next.group.Leading)
			next.truncate(2)
			c.network.Heal()
			laggard.awaitApplied(next.group.Applied())
			if next.machine.exports.Load() != 1 {
				t.Errorf("%d entries: %d exports", 9+count, next.machine.exports.Load())
			}
		})
	}
}
