package raft

import (
	"context"
	"errors"
	"sync"
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

func TestStartRefuses(t *testing.T) {
	fs := vfs.NewMem()
	n := openNode(t, fs, "a", nil)
	m := &testMachine{autoRecord: true}
	s := &testSource{}
	g := startGroupOf(t, n, 1, m, s, "a")
	s.add(numbered(0))
	g.Kick()
	eventually(t, "applied", func() bool { return len(m.values()) == 1 })
	start := func(c GroupConfig) error {
		_, err := n.Start(t.Context(), c)
		return err
	}
	for _, c := range []struct {
		name   string
		config GroupConfig
		want   error
	}{
		{"a group that runs", GroupConfig{ID: 1, Machine: m, Source: s}, ErrGroupExists},
		{"no machine", GroupConfig{ID: 2, Source: s}, errOptions},
		{"a record without term", GroupConfig{ID: 2, Source: s, Machine: &testMachine{durable: Record{Index: 5}}}, errOptions},
		{"a state without log", GroupConfig{ID: 2, Source: s, Machine: m}, ErrLogGap},
		{"the id of the node", GroupConfig{ID: nodeGroup, Machine: m, Source: s}, errOptions},
	} {
		if err := start(c.config); !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", c.name, err, c.want)
		}
	}
	damaged := m.restart()
	damaged.durable.Configuration = []byte("no configuration")
	closeNode(t, n)
	if err := start(GroupConfig{ID: 3, Machine: m, Source: s}); !errors.Is(err, ErrClosed) {
		t.Errorf("after close: %v", err)
	}
	n = openNode(t, fs, "a", nil)
	defer closeNode(t, n)
	if err := start(GroupConfig{ID: 1, Machine: damaged, Source: s}); !errors.Is(err, ErrDamaged) {
		t.Errorf("a damaged configuration: %v", err)
	}
	ahead := m.restart()
	ahead.durable.Index += 100
	if err := start(GroupConfig{ID: 1, Machine: ahead, Source: s}); !errors.Is(err, ErrLogGap) {
		t.Errorf("a state ahead of the log: %v", err)
	}
	startGroupOf(t, n, 1, m.restart(), s, "a") // and the right one starts after all of that
}

func TestFailedMachineStopsTheNode(t *testing.T) {
	failed := make(chan error, 1)
	n, err := Open(Options{Path: "log", FS: vfs.NewMem(), Server: "a", Fatal: func(err error) { failed <- err }})
	if err != nil {
		t.Fatal(err)
	}
	m, s := &testMachine{}, &testSource{}
	g := startGroupOf(t, n, 1, m, s, "a")
	broken := errors.New("test: state is broken")
	m.mu.Lock()
	m.fail = broken
	m.mu.Unlock()
	s.add(numbered(0), numbered(1), numbered(2))
	g.Kick()
	if err := <-failed; !errors.Is(err, broken) {
		t.Errorf("Fatal got %v", err)
	}
	m.mu.Lock()
	m.fail = nil
	m.mu.Unlock()
	s.add(numbered(3))
	g.Kick()
	if err := n.Close(); !errors.Is(err, broken) {
		t.Errorf("Close returned %v", err)
	}
	if got := m.values(); len(got) != 0 {
		t.Errorf("%d entries were applied after an error", len(got))
	}
	s.check(t, m)
}

func TestEntriesOfAFollowerAndOfAWrongSizeAreGivenBack(t *testing.T) {
	n := openNode(t, vfs.NewMem(), "a", nil)
	defer closeNode(t, n)
	s := &testSource{}
	follower := startGroupOf(t, n, 1, &testMachine{}, s, "a", "b", "c")
	s.add(numbered(0))
	follower.Kick()
	eventually(t, "given back", func() bool { return s.failures() == 1 })
	if err := s.failure(numbered(0)); !errors.Is(err, ErrNotLeader) {
		t.Errorf("failed with %v", err)
	}
	if err := follower.Authorize(t.Context()); !errors.Is(err, ErrNotLeader) {
		t.Errorf("authorize: %v", err)
	}
	s, m := &testSource{}, &testMachine{}
	leader := startGroupOf(t, n, 2, m, s, "a")
	s.add(padded(1, EntryBytesMax+1), []byte{}, padded(2, EntryBytesMax))
	leader.Kick()
	eventually(t, "the largest entry", func() bool { return len(m.values()) == 1 })
	if s.failures() != 2 || !errors.Is(s.failure(nil), ErrEntryTooLarge) {
		t.Errorf("failed: %d", s.failures())
	}
}

// TestWindowBoundsEntriesInFlight holds the machine and counts what is proposed.
func TestWindowBoundsEntriesInFlight(t *testing.T) {
	n := openNode(t, vfs.NewMem(), "a", nil)
	defer closeNode(t, n)
	m, s := &testMachine{hold: make(chan struct{})}, &testSource{}
	g := startGroupOf(t, n, 1, m, s, "a")
	for i := range 50 {
		s.add(numbered(i))
		g.Kick()
	}
	eventually(t, "a full window", func() bool { return g.Stats().InFlight == InFlightMax })
	if entries := g.Stats().Entries; entries != InFlightMax {
		t.Errorf("%d entries were proposed", entries)
	}
	close(m.hold)
	eventually(t, "all", func() bool { return len(m.values()) == 50 })
	wantNumbered(t, m, 50)
}

// TestAuthorizeWaitsForWhatIsCommitted reads while the machine is behind the commit index.
func TestAuthorizeWaitsForWhatIsCommitted(t *testing.T) {
	n := openNode(t, vfs.NewMem(), "a", nil)
	defer closeNode(t, n)
	m, s := &testMachine{hold: make(chan struct{})}, &testSource{}
	g := startGroupOf(t, n, 1, m, s, "a")
	s.add(numbered(0))
	g.Kick()
	eventually(t, "committed", func() bool { st := g.Stats(); return st.Commit == st.Last && st.Applied < st.Commit })
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := g.Authorize(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("authorize before it is applied: %v", err)
	}
	authorized := make(chan error)
	go func() { authorized <- g.Authorize(t.Context()) }()
	select {
	case err := <-authorized:
		t.Errorf("authorized before it was applied: %v", err)
	default:
	}
	close(m.hold)
	if err := <-authorized; err != nil {
		t.Error(err)
	}
	if got := len(m.values()); got != 1 {
		t.Errorf("authorized at %d entries", got)
	}
	if allocations := testing.AllocsPerRun(100, func() { _ = g.Authorize(t.Context()) }); allocations > 0 {
		t.Errorf("authorize of a lone voter allocates %v times", allocations)
	}
}

// TestBacklogIsPersistedAndTruncated writes more than the machine makes durable by itself.
func TestBacklogIsPersistedAndTruncated(t *testing.T) {
	n := openNode(t, vfs.NewMem(), "a", nil)
	defer closeNode(t, n)
	m, s := &testMachine{}, &testSource{}
	g := startGroupOf(t, n, 1, m, s, "a")
	g.backlogMax = 1 << 20
	const count = 600 // 36 MiB: compactEvery is passed twice
	for i := range count {
		s.add(padded(i, 60<<10))
		g.Kick()
	}
	eventually(t, "all", func() bool { return m.count() == count })
	eventually(t, "truncation", func() bool { st := g.Stats(); return st.First > 200 && st.SnapshotIndex >= st.First-1 })
	wantNumbered(t, m, count)
}

// TestGroupsStartAndStopSideBySide runs many groups through several lives at once.
func TestGroupsStartAndStopSideBySide(t *testing.T) {
	fs := vfs.NewMem()
	const groups, each = 24, 40
	machines := make([]*testMachine, groups)
	for i := range machines {
		machines[i] = &testMachine{}
	}
	for life := range 3 {
		n := openNode(t, fs, "a", nil)
		var running sync.WaitGroup
		for i, m := range machines {
			running.Go(func() {
				s := &testSource{}
				g, err := n.Start(t.Context(), GroupConfig{ID: uint32(i), Machine: m, Source: s, Servers: []string{"a"}})
				if err != nil {
					t.Error(err)
					return
				}
				for k := range each {
					s.add(numbered(life*each + k))
					g.Kick()
				}
				eventually(t, "all", func() bool { return len(m.values()) == (life+1)*each })
			})
		}
		running.Wait()
		closeNode(t, n)
		for i, m := range machines {
			wantNumbered(t, m, (life+1)*each)
			machines[i] = m.restart()
		}
	}
}
