package raft

import (
	"context"
	"errors"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
)

func TestSingleVoterAppliesInOrderAndReplaysAfterRestart(t *testing.T) {
	fs := vfs.NewMem()
	m, s := &testMachine{}, &testSource{}
	const count = 500
	for life := range 4 {
		n := openNode(t, fs, "a", nil)
		g := startGroupOf(t, n, 7, m, s, "a")
		if !g.Leading() {
			t.Fatal("a lone voter does not lead after Start")
		}
		eventually(t, "replay", func() bool { return len(m.values()) == life*count })
		for i := range count {
			s.add(numbered(life*count + i))
			g.Kick()
		}
		eventually(t, "all applied", func() bool { return len(m.values()) == (life+1)*count })
		wantNumbered(t, m, (life+1)*count)
		if life == 1 { // from here on a part is durable, the rest is replayed
			if err := m.Persist(context.Background(), m.index); err != nil {
				t.Fatal(err)
			}
		}
		if err := g.Authorize(context.Background()); err != nil {
			t.Errorf("authorize: %v", err)
		}
		closeNode(t, n)
		if err := g.Authorize(context.Background()); !errors.Is(err, ErrClosed) {
			t.Errorf("authorize after close: %v", err)
		}
		if m.leading {
			t.Error("no Follow at close")
		}
		m.check(t)
		if s.failures() != 0 {
			t.Errorf("%d entries failed", s.failures())
		}
		m = m.restart()
	}
}
