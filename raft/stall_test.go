package raft

import (
	"errors"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"
)

// stallFS lets no sync through while it is stalled.
func stallFS(fs vfs.FS, stalled *atomic.Bool) vfs.FS {
	return errorfs.Wrap(fs, errorfs.InjectorFunc(func(op errorfs.Op) error {
		for op.Kind == errorfs.OpFileSyncData && stalled.Load() {
			time.Sleep(10 * time.Millisecond)
		}
		return nil
	}))
}

// TestStalledEntryIsGivenBackOnce stalls the disk of a lone voter for longer than an
// entry may take: it is given back as unknown, and applied all the same later.
func TestStalledEntryIsGivenBackOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var stalled atomic.Bool
		n := openNode(t, stallFS(vfs.NewMem(), &stalled), "a", nil)
		defer closeNode(t, n)
		m, s := &testMachine{}, &testSource{}
		g := startGroupOf(t, n, 1, m, s, "a")
		stalled.Store(true)
		s.add(numbered(0))
		g.Kick()
		time.Sleep(proposeTimeout + 3*time.Second)
		if err := s.failure(numbered(0)); !errors.Is(err, ErrTimeout) {
			t.Errorf("failed with %v", err)
		}
		stalled.Store(false)
		eventually(t, "applied", func() bool { return len(m.values()) == 1 })
		s.add(numbered(1))
		g.Kick()
		eventually(t, "the next one", func() bool { return len(m.values()) == 2 })
		wantNumbered(t, m, 2)
		s.check(t, m)
		if s.failures() != 1 {
			t.Errorf("%d failures", s.failures())
		}
	})
}

// TestStalledLeaderLosesItsLeadership stalls the leader's disk: hashicorp/raft alone would
// send heartbeats for ever.
func TestStalledLeaderLosesItsLeadership(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, 1)
		defer c.close()
		eventually(t, "a leader", func() bool { return c.leader() != nil })
		old := c.leader()
		defer old.stalled.Store(false)
		old.stalled.Store(true)
		old.propose()
		began := time.Now()
		eventually(t, "another leader", func() bool {
			for _, m := range c.members {
				if m != old && m.group.Leading() {
					return true
				}
			}
			return false
		})
		t.Logf("after %v", time.Since(began))
		old.stalled.Store(false)
		c.settle()
	})
}
