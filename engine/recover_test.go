package engine

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"

	"parley/engine/cluster"
	"parley/raft"
	"parley/storage"
	"parley/wire"
)

// A lostCluster is one that was talked in and has then ended, all nodes at once.
type lostCluster struct {
	nodes []*Node
	names []string
	ids   []wire.ID
	says  int             // messages from each to the next one
	lost  map[uint32]bool // shards of which no copy is left
}

// loseCluster lets people talk at three nodes and ends those.
func loseCluster(t *testing.T) *lostCluster {
	t.Helper()
	l := talkInCluster(t)
	l.end(t)
	return l
}

// talkInCluster lets people talk at three nodes and waits until the logs of all replicas have
// all of it; the followers need not know yet that it is committed.
func talkInCluster(t *testing.T) *lostCluster {
	t.Helper()
	l := &lostCluster{nodes: startCluster(t, 3), says: 3}
	waitUntil(t, func() bool { return calm(l.nodes[0]) })
	for i := range 6 {
		l.names = append(l.names, fmt.Sprint("user", i))
		l.ids = append(l.ids, user(t, l.nodes[i%3], l.names[i]))
	}
	for i, name := range l.names {
		next := (i + 1) % len(l.names)
		from, _ := live(t, l.nodes[i%3], name, 1, uint64(100+i))
		for counter := range l.says {
			sendUntilSent(t, from, wire.DirectRef(l.ids[next]), uint64(counter+1), fmt.Sprint(name, " says ", counter+1))
		}
		to, _ := live(t, l.nodes[next%3], l.names[next], 2, uint64(200+i))
		moveUntilTold(t, to, wire.DirectRef(l.ids[i]), wire.Read, uint64(l.says), from, wire.DirectRef(l.ids[next]))
		from.hangUp()
		to.hangUp()
	}
	for _, id := range l.ids {
		listed(t, l.nodes[0], id, 2)
	}
	waitUntil(t, func() bool {
		return level(l.nodes, func(g *raft.Group) uint64 { s := g.Stats(); return max(s.Last, s.Applied) })
	})
	return l
}

// calm tells whether a node knows each shard to be led where it should be.
func calm(n *Node) bool {
	m := n.maps.view.Map()
	for i := range m.Shards {
		s := &m.Shards[i]
		if leader, ok := n.leaders.of(s.ID); !ok || s.Preferred != 0 && leader != s.Preferred {
			return false
		}
	}
	return true
}

func (l *lostCluster) end(t *testing.T) {
	t.Helper()
	for _, n := range l.nodes {
		if err := n.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// level tells whether all replicas of each group have the same index.
func level(nodes []*Node, indexOf func(*raft.Group) uint64) bool {
	at := make(map[uint32]uint64)
	for _, n := range nodes {
		for _, group := range n.roster.groups() {
			g := n.groupOf(group)
			if g == nil {
				return false
			}
			index := indexOf(g) // 0 is an index like another: that of a replica that has nothing yet
			if other, known := at[group]; known && index != other {
				return false
			}
			at[group] = index
		}
	}
	return true
}

// find checks that a node has all people, messages and receipts.
func (l *lostCluster) find(t *testing.T, n *Node) {
	t.Helper()
	for i, name := range l.names {
		next := l.ids[(i+1)%len(l.ids)]
		s, list := live(t, n, name, 3, uint64(300+i))
		if len(list.Items) != 2 {
			t.Errorf("%s has %d conversations", name, len(list.Items))
		}
		for _, item := range list.Items {
			if item.Ref == wire.DirectRef(next) && (item.Head != uint64(l.says) || item.OtherRead != uint64(l.says)) {
				t.Errorf("%s: the conversation is %+v", name, item)
			}
		}
		page := s.history(wire.History{Ref: wire.DirectRef(next), Mode: wire.HistoryBackward})
		for j, m := range page.Messages {
			if want := fmt.Sprint(name, " says ", j+1); string(m.Content.Bytes) != want || m.Sequence != uint64(j+1) {
				t.Errorf("%s: message %d is %q, want %q", name, m.Sequence, m.Content.Bytes, want)
			}
		}
		if len(page.Messages) != l.says {
			t.Errorf("%s has %d messages left", name, len(page.Messages))
		}
		s.hangUp()
	}
}

// One of three nodes is left: it becomes a cluster with everything in it, under another
// name and number, refuses the old nodes, and grows again.
func TestOneOfThreeNodesIsRecovered(t *testing.T) {
	l := loseCluster(t)
	old := l.nodes[1]
	o := RecoverOptions{Data: old.config.Data}
	looked, err := InspectRecovery(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	if len(looked.Lost) != 2 || len(looked.Groups) != 5 || looked.Cluster != 0 {
		t.Errorf("found: %+v", looked)
	}
	for _, g := range looked.Groups {
		if g.Chosen != 0 || len(g.Voters) != 3 || g.Present != 1 || g.Complete() || g.Copies[0].Index == 0 || !g.Copies[0].Voter {
			t.Errorf("group %d: %+v", g.ID, g)
		}
		if g.ID != cluster.MapGroup && g.Copies[0].Newest.IsZero() {
			t.Errorf("group %d has no time", g.ID)
		}
	}
	r, err := Recover(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	if r.Node != 4 || r.Cluster == 0 || r.Cluster == old.identity.Cluster {
		t.Errorf("recovered: %+v", r)
	}
	if _, err := Recover(t.Context(), o); !errors.Is(err, ErrNothingToRecover) {
		t.Errorf("recovering again: %v", err)
	}
	n := start(t, Config{Data: o.Data, Cluster: &ClusterConfig{Listen: old.linkAddress}})
	if n.identity.Number != 4 || n.identity.Cluster != r.Cluster {
		t.Errorf("it is node %d of %x", n.identity.Number, n.identity.Cluster)
	}
	l.find(t, n)
	l.refused(t, n)
	added := []*Node{joinCluster(t, n), joinCluster(t, n)}
	if added[0].identity.Number != 5 {
		t.Errorf("the next node is %d", added[0].identity.Number)
	}
	waitUntil(t, func() bool { return placed(n, 3) && calm(n) && calm(added[1]) })
	l.find(t, added[1])
}

// refused starts an old node with its old directory and waits until the new cluster has
// refused it.
func (l *lostCluster) refused(t *testing.T, by *Node) {
	t.Helper()
	before := by.hub.Stats().Refusals
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() {
		n, err := Open(ctx, Config{Data: l.nodes[0].config.Data, Shards: 4, DiskReserveBytes: -1, Fatal: func(error) {},
			Cluster: &ClusterConfig{Listen: "127.0.0.1:0"}})
		if err == nil {
			err = n.Close()
		}
		ended <- err
	}()
	waitUntil(t, func() bool { return by.hub.Stats().Refusals > before })
	cancel()
	if err := <-ended; err != nil && !errors.Is(err, context.Canceled) {
		t.Errorf("the old node: %v", err)
	}
	if nodes := by.maps.view.Map().Nodes; len(nodes) != 1 {
		t.Errorf("an old node was let in: %+v", nodes)
	}
}

// Directories that nothing must be made of, or not now.
func TestRecoveriesThatAreRefused(t *testing.T) {
	l := loseCluster(t)
	alone := t.TempDir()
	n := start(t, Config{Data: alone})
	if _, err := Recover(t.Context(), RecoverOptions{Data: alone}); !errors.Is(err, storage.ErrInUse) {
		t.Errorf("a running server: %v", err)
	}
	if err := n.Close(); err != nil {
		t.Fatal(err)
	}
	first, second := l.nodes[0].config.Data, l.nodes[1].config.Data
	damaged := t.TempDir()
	if err := os.CopyFS(damaged, os.DirFS(l.nodes[2].config.Data)); err != nil {
		t.Fatal(err)
	}
	flip(t, damaged+"/log")
	for _, c := range []struct {
		name string
		o    RecoverOptions
		want error
		text string
	}{
		{"a node that is alone", RecoverOptions{Data: alone}, ErrNothingToRecover, "alone"},
		{"no directory", RecoverOptions{Data: t.TempDir() + "/none"}, storage.ErrNoDirectory, ""},
		{"a majority", RecoverOptions{Data: first, Survivors: []string{second}}, ErrNothingToRecover, "majority"},
		{"all nodes", RecoverOptions{Data: first, Survivors: []string{second, l.nodes[2].config.Data}}, ErrNothingToRecover, "missing"},
		{"the same directory twice", RecoverOptions{Data: first, Survivors: []string{first}}, storage.ErrInUse, ""},
		{"a copy of the same node", RecoverOptions{Data: l.nodes[2].config.Data, Survivors: []string{copied(t, l.nodes[2].config.Data)}}, ErrRecover, "both node 3"},
		{"another cluster", RecoverOptions{Data: first, Survivors: []string{alone}}, ErrNothingToRecover, ""},
	} {
		if _, err := Recover(t.Context(), c.o); !errors.Is(err, c.want) || !strings.Contains(err.Error(), c.text) {
			t.Errorf("%s: %v", c.name, err)
		}
	}
	if _, err := Recover(t.Context(), RecoverOptions{Data: damaged}); !isDamage(err) {
		t.Errorf("a damaged log: %v", err)
	}
	for _, o := range []RecoverOptions{{Data: first}, {Data: second}} { // nothing of all that has changed them
		if _, err := InspectRecovery(t.Context(), o); err != nil {
			t.Errorf("after the refusals: %v", err)
		}
	}
}

func copied(t *testing.T, dir string) string {
	t.Helper()
	to := t.TempDir()
	if err := os.CopyFS(to, os.DirFS(dir)); err != nil {
		t.Fatal(err)
	}
	return to
}

// A crash at any write leaves a directory that is as before, or that no server takes and
// that the recovery goes on with; a recovery that is done again ends alike. So it is when
// copies come from another directory.
func TestARecoveryIsRepeatedAfterACrash(t *testing.T) {
	l := loseCluster(t)
	l.crash(t, l.memory(t), RecoverOptions{Data: "data"})
	disk := l.memory(t)
	keepCopies(t, disk, "data", 0, 1)
	keepCopies(t, disk, "other", 1, 2)
	l.lost = map[uint32]bool{3: true}
	l.crash(t, disk, RecoverOptions{Data: "data", Survivors: []string{"other"}})
}

// memory copies the directories of two nodes to a disk that may crash.
func (l *lostCluster) memory(t *testing.T) *vfs.MemFS {
	t.Helper()
	disk := vfs.NewCrashableMem()
	for i, name := range []string{"data", "other"} {
		if ok, err := vfs.Clone(vfs.Default, disk, l.nodes[i].config.Data, name, vfs.CloneSync); !ok || err != nil {
			t.Fatal(ok, err)
		}
	}
	root, err := disk.OpenDir("/")
	if err == nil {
		err = errors.Join(root.Sync(), root.Close())
	}
	if err != nil {
		t.Fatal(err)
	}
	return disk
}

// keepCopies makes a directory one that has no copies of other shards.
func keepCopies(t *testing.T, disk vfs.FS, dir string, groups ...uint32) {
	t.Helper()
	d, err := storage.OpenExistingDirectory(dir, disk)
	if err != nil {
		t.Fatal(err)
	}
	r, err := openRoster(d, nil, true)
	if err != nil {
		t.Fatal(err)
	}
	maps.DeleteFunc(r.ids, func(group uint32, _ string) bool {
		return group != cluster.MapGroup && !slices.Contains(groups, group)
	})
	if err := errors.Join(r.write(), d.Close()); err != nil {
		t.Fatal(err)
	}
}

// lastWrites are those that make a directory a new node's; all of them are tried.
const lastWrites = 20

// crash recovers again and again, each time with a crash at another write.
func (l *lostCluster) crash(t *testing.T, original *vfs.MemFS, o RecoverOptions) {
	t.Helper()
	o.FS = original.CrashClone(vfs.CrashCloneCfg{})
	writes, _ := recoverUntil(t, o, -1, 0)
	step := 2
	if !testing.Verbose() {
		step = max(2, writes/10)
	}
	before, halfway, done := 0, 0, 0
	for at := 0; at < 2*writes; at++ {
		if at < 2*(writes-lastWrites) && at/2%step != 0 {
			continue
		}
		o.FS = original.CrashClone(vfs.CrashCloneCfg{})
		_, disk := recoverUntil(t, o, at/2, at%2*100)
		if disk == nil {
			break // one write less than before: some are not always needed
		}
		o.FS = disk
		looked, err := InspectRecovery(t.Context(), o)
		switch {
		case errors.Is(err, ErrNothingToRecover):
			done++
		case err != nil:
			t.Fatalf("crash at %d of %d: %v", at/2, writes, err)
		case looked.Resumed:
			halfway++
			if _, err := Open(t.Context(), Config{Data: "data", FS: disk, Fatal: func(error) {}}); !errors.Is(err, ErrRecovering) {
				t.Fatalf("crash at %d: a server starts: %v", at/2, err)
			}
		default:
			before++
		}
		if err == nil {
			if _, err := Recover(t.Context(), o); err != nil {
				t.Fatalf("crash at %d of %d, then: %v", at/2, writes, err)
			}
		}
		l.findIn(t, disk)
	}
	t.Logf("%d writes: %d crashes before, %d in the middle, %d behind", writes, before, halfway, done)
	if before == 0 || halfway == 0 {
		t.Error("the crashes were not where they should be")
	}
}

// A linkFS is a disk that can be copied while it is in use: MemFS.Link takes a lock twice
// for reading, which never ends once CrashClone waits for it in between.
type linkFS struct {
	*vfs.MemFS
	mu sync.RWMutex
}

func (fs *linkFS) Link(from, to string) error {
	fs.mu.RLock()
	defer fs.mu.RUnlock()
	return fs.MemFS.Link(from, to)
}

// recoverUntil recovers a directory and counts what it writes; at one write the disk is
// copied as a crash would leave it, with nothing or all of what was not synced.
func recoverUntil(t *testing.T, o RecoverOptions, at, unsyncedPercent int) (int, *vfs.MemFS) {
	t.Helper()
	var writes atomic.Int64
	var crashed atomic.Pointer[vfs.MemFS]
	disk := &linkFS{MemFS: o.FS.(*vfs.MemFS)}
	o.FS = errorfs.Wrap(disk, errorfs.InjectorFunc(func(op errorfs.Op) error {
		if op.Kind.ReadOrWrite() == errorfs.OpIsWrite && writes.Add(1) == int64(at)+1 {
			disk.mu.Lock()
			defer disk.mu.Unlock()
			crashed.Store(disk.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: unsyncedPercent, RNG: rand.New(rand.NewPCG(1, 1))}))
		}
		return nil
	}))
	if _, err := Recover(t.Context(), o); err != nil {
		t.Fatal(err)
	}
	return int(writes.Load()), crashed.Load()
}

// findIn opens a recovered directory alone and looks for the messages in its shards.
func (l *lostCluster) findIn(t *testing.T, disk *vfs.MemFS) {
	t.Helper()
	n, err := Open(t.Context(), Config{Data: "data", FS: disk, DiskReserveBytes: -1, Fatal: func(err error) { t.Error(err) }})
	if err != nil {
		t.Fatal(err)
	}
	l.findShards(t, n)
	if m := n.maps.view.Map(); len(m.Nodes) != 1 || m.NextNode != 5 {
		t.Errorf("the map: %+v", m)
	}
	if err := n.Close(); err != nil {
		t.Error(err)
	}
}

// findShards looks for each conversation in the shard that should have it.
func (l *lostCluster) findShards(t *testing.T, n *Node) {
	t.Helper()
	for i, id := range l.ids {
		c := wire.DirectRef(l.ids[(i+1)%len(l.ids)]).Conversation(id)
		route := n.routeOf(c.Slot())
		state, exists, err := route.local.Load().State(id, c, false)
		if err != nil || exists == l.lost[route.id] || exists && state.Head != uint64(l.says) {
			t.Errorf("conversation %d in shard %d: %+v, %v, %v", i, route.id, state, exists, err)
		}
	}
}

// Where another survivor has a copy that is missing or older here, that one is taken; what
// nobody has begins empty.
func TestTheNewestCopiesAreTaken(t *testing.T) {
	l := talkInCluster(t)
	if err := l.nodes[0].Close(); err != nil {
		t.Fatal(err)
	}
	late := nameIn(l.nodes[1], 1)
	user(t, l.nodes[1], late)
	l.end(t)
	l.lost = map[uint32]bool{3: true}
	data, other := l.nodes[0].config.Data, l.nodes[1].config.Data
	keepCopies(t, vfs.Default, data, 0, 1)
	keepCopies(t, vfs.Default, other, 1, 2)
	r, err := Recover(t.Context(), RecoverOptions{Data: data, Survivors: []string{other}})
	if err != nil {
		t.Fatal(err)
	}
	for _, g := range r.Groups {
		var in []int // the directories with a copy
		for _, c := range g.Copies {
			in = append(in, c.Directory)
			if newer(&c, &g.Copies[g.Chosen]) > 0 || g.ID == 1 && g.Copies[g.Chosen].Directory != 1 {
				t.Errorf("group %d: copy %d of %+v was chosen", g.ID, g.Chosen, g.Copies)
			}
		}
		if want := map[uint32][]int{0: {0}, 1: {0, 1}, 2: {1}, cluster.MapGroup: {0, 1}}[g.ID]; !slices.Equal(in, want) || len(in) == 0 && g.Chosen != -1 {
			t.Errorf("group %d: copies are in %v, want %v: %+v", g.ID, in, want, g)
		}
	}
	n := start(t, Config{Data: data, Cluster: &ClusterConfig{Listen: "127.0.0.1:0"}})
	l.findShards(t, n)
	if _, ok, err := n.userNamed(t.Context(), late); !ok || err != nil {
		t.Errorf("%s is gone: %v", late, err)
	}
	user(t, n, "somebody new")
	added := []*Node{joinCluster(t, n), joinCluster(t, n)}
	waitUntil(t, func() bool { return placed(n, 3) && level(append(added, n), (*raft.Group).Applied) })
	l.findShards(t, added[0])
}

// nameIn is a name whose account belongs to a shard.
func nameIn(n *Node, shard uint32) string {
	for i := 0; ; i++ {
		if name := fmt.Sprint("late", i); n.routeOf(wire.SlotOf([]byte(name))).id == shard {
			return name
		}
	}
}

// A copy is newer by its last term, and at the same term by its last index.
func TestCopiesAreComparedAsRaftDoes(t *testing.T) {
	old := RecoveryCopy{Term: 4, Index: 900, Newest: time.Unix(9, 0)}
	for _, c := range []struct {
		copy RecoveryCopy
		want int
	}{
		{RecoveryCopy{Term: 5, Index: 10}, 1}, {RecoveryCopy{Term: 4, Index: 901}, 1},
		{RecoveryCopy{Term: 4, Index: 900}, 0}, {RecoveryCopy{Term: 3, Index: 2000}, -1},
	} {
		if got := newer(&c.copy, &old); got != c.want {
			t.Errorf("%+v: %d, want %d", c.copy, got, c.want)
		}
	}
}
