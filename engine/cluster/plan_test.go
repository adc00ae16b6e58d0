package cluster

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"
)

// A world is a cluster as the planner's tests see it: the map, the configuration of each
// group, who leads it, and which nodes answer.
type world struct {
	t        *testing.T
	m        *Map
	r        *rand.Rand
	groups   map[uint32]*worldGroup
	down     map[uint32]time.Duration
	damaged  []string
	replaced time.Duration // ReplaceAfter
	limit    int
	steps    int // of Walk, in all groups
}

type worldGroup struct {
	Membership
	leader string
	behind map[string]int // rounds until a learner has caught up
}

func newWorld(t *testing.T, seed uint64, shards int) *world {
	w := &world{t: t, m: founded(t, 1, shards), r: rand.New(rand.NewPCG(seed, 3)), down: make(map[uint32]time.Duration),
		groups: make(map[uint32]*worldGroup), replaced: time.Minute, limit: 2}
	for i := range w.m.Shards {
		w.groups[uint32(i)] = newWorldGroup(w.m.Shards[i].Replicas)
	}
	w.groups[MapGroup] = newWorldGroup(w.m.MapReplicas)
	return w
}

func newWorldGroup(replicas []Replica) *worldGroup {
	return &worldGroup{Membership: Membership{Index: 1, Voters: []string{replicas[0].ID}}, leader: replicas[0].ID, behind: make(map[string]int)}
}

func (w *world) status() Status {
	s := Status{Down: w.down, Groups: make(map[uint32]Membership), Damaged: w.damaged, ReplaceAfter: w.replaced, Random: w.r.Uint64}
	for id, g := range w.groups {
		if w.up(g.leader) {
			s.Groups[id] = g.Membership
		}
	}
	return s
}

func (w *world) up(replica string) bool {
	node, _ := NodeOf(replica)
	_, down := w.down[node]
	return !down && !slices.Contains(w.damaged, replica) && w.m.Live(node) != nil
}

func (w *world) apply(c Change) Result {
	w.t.Helper()
	next, result, err := w.m.Apply(c)
	if err != nil {
		w.t.Fatalf("%T %+v: %v", c, c, err)
	}
	w.m = next
	return result
}

// round lets the planner plan, and each group's leader do a step.
func (w *world) round() {
	w.t.Helper()
	before := w.moving()
	for _, c := range Plan(w.m, w.status(), w.limit) {
		w.apply(c)
	}
	if now := w.moving(); now > max(w.limit, before) {
		w.t.Fatalf("%d shards in motion, at most %d", now, w.limit)
	}
	for _, id := range append([]uint32{MapGroup}, w.shards()...) {
		w.step(id, w.groups[id])
	}
	for node := range w.down {
		w.down[node] += 10 * time.Second
	}
}

// moving counts the shards in motion that somebody speaks for.
func (w *world) moving() (n int) {
	for i := range w.m.Shards {
		if g := w.groups[uint32(i)]; w.up(g.leader) && !Settled(w.m.Shards[i].Replicas, g.Membership) {
			n++
		}
	}
	return n
}

func (w *world) shards() (ids []uint32) {
	for i := range w.m.Shards {
		ids = append(ids, uint32(i))
	}
	return ids
}

// step elects a leader if there is none, and lets it take a step.
func (w *world) step(id uint32, g *worldGroup) {
	current := func(replica string) bool { return w.up(replica) && g.behind[replica] == 0 }
	voters := 0
	for _, v := range g.Voters {
		if w.up(v) {
			voters++
		}
	}
	if voters < quorum(len(g.Voters)) || !slices.ContainsFunc(g.Voters, current) {
		return
	}
	for replica, n := range g.behind {
		if g.behind[replica] = max(0, n-1); !w.up(replica) {
			g.behind[replica] = 3
		}
	}
	for i := 0; !current(g.leader); i++ {
		g.leader = g.Voters[i]
	}
	local := Local{Self: g.leader, Up: w.up, CaughtUp: func(r string) bool { return g.behind[r] == 0 }}
	if s := w.m.Shard(id); s != nil {
		local.Preferred = s.Preferred
	}
	w.take(g, Walk(w.m.replicasOf(id), g.Membership, local))
}

func (w *world) take(g *worldGroup, step Step) {
	w.steps++
	not := func(id string) bool { return id == step.Replica }
	switch step.Action {
	case AddLearner:
		g.Learners = append(slices.Clone(g.Learners), step.Replica)
		g.behind[step.Replica] = 1 + w.r.IntN(4)
	case Promote:
		g.Learners = slices.DeleteFunc(slices.Clone(g.Learners), not)
		g.Voters = append(slices.Clone(g.Voters), step.Replica)
	case Transfer:
		g.leader = step.Replica
	case Remove:
		g.Learners = slices.DeleteFunc(slices.Clone(g.Learners), not)
		g.Voters = slices.DeleteFunc(slices.Clone(g.Voters), not)
	default:
		w.steps--
	}
}

// settle goes on until nothing changes any more.
func (w *world) settle() {
	w.t.Helper()
	quiet := 0
	for range 2000 {
		epoch, steps := w.m.Epoch, w.steps
		w.round()
		if quiet++; epoch != w.m.Epoch || steps != w.steps {
			quiet = 0
		}
		if quiet > 8 {
			w.check()
			return
		}
	}
	w.t.Fatalf("never settles: %v", w)
}

// check checks a world at rest.
func (w *world) check() {
	w.t.Helper()
	var up []Node
	for i := range w.m.Nodes {
		if n := w.m.Nodes[i]; n.State == Up && w.down[n.Number] < w.replaced {
			up = append(up, n)
		}
	}
	copies := odd(w.m.Replicas, len(up))
	leads := make(map[uint32]int)
	for i := range w.m.Shards {
		s := &w.m.Shards[i]
		g := w.groups[s.ID]
		if !Settled(s.Replicas, g.Membership) || len(s.Replicas) < copies {
			w.t.Fatalf("shard %d should be on %v, is on %+v", s.ID, s.Replicas, g.Membership)
		}
		if node, _ := NodeOf(g.leader); w.up(g.leader) && s.Preferred != 0 && w.up(replicaIDOn(s.Replicas, s.Preferred)) && node != s.Preferred {
			w.t.Fatalf("shard %d is led by %d, should be by %d", s.ID, node, s.Preferred)
		}
		leads[s.Preferred]++
		for _, r := range s.Replicas {
			if n := w.m.Node(r.Node); len(up) >= w.m.Replicas && n.State != Up {
				w.t.Fatalf("shard %d is on %v: node %d is %v: %v", s.ID, s.Replicas, r.Node, n.State, w)
			}
		}
	}
	share := float64(len(w.m.Shards)) / float64(len(up))
	for _, n := range up {
		if c := float64(leads[n.Number]); len(up) >= w.m.Replicas && (c < share-2 || c > share+2) {
			w.t.Fatalf("node %d leads %v of %d shards with %d nodes up", n.Number, c, len(w.m.Shards), len(up))
		}
	}
	if want := odd(MapReplicasMax, len(up)); len(w.m.MapReplicas) < want {
		w.t.Fatalf("the map is on %v, %d nodes are up", w.m.MapReplicas, len(up))
	}
}

func replicaIDOn(replicas []Replica, node uint32) string {
	r, _ := replicaOn(replicas, node)
	return r.ID
}

func (w *world) String() string {
	var b strings.Builder
	for i := range w.m.Shards {
		fmt.Fprintf(&b, "\nshard %d: %v is %+v", i, w.m.Shards[i].Replicas, w.groups[uint32(i)])
	}
	fmt.Fprintf(&b, "\nmap: %v is %+v\nnodes %+v\ndown %v", w.m.MapReplicas, w.groups[MapGroup], w.m.Nodes, w.down)
	return b.String()
}

// grown is a world of some nodes, at rest.
func grown(t *testing.T, seed uint64, nodes, shards int) *world {
	w := newWorld(t, seed, shards)
	for i := 2; i <= nodes; i++ {
		w.apply(AddNode{describe(i)})
	}
	w.settle()
	return w
}

func TestClusterGrowsFromOneNode(t *testing.T) {
	for n, want := range map[int]struct{ copies, voters int }{1: {1, 1}, 2: {1, 1}, 3: {3, 3}, 4: {3, 3}, 5: {3, 5}, 7: {3, 5}} {
		w := grown(t, 1, n, 8)
		if got := len(w.m.MapReplicas); got != want.voters {
			t.Errorf("%d nodes: %d voters on the map, want %d", n, got, want.voters)
		}
		for i := range w.m.Shards {
			if got := len(w.m.Shards[i].Replicas); got != want.copies {
				t.Errorf("%d nodes: shard %d has %d copies, want %d", n, i, got, want.copies)
			}
		}
	}
}

// TestClusterGrowsOneByOne has no group with an even number of replicas to be.
func TestClusterGrowsOneByOne(t *testing.T) {
	w := newWorld(t, 2, 16)
	for i := 2; i <= 12; i++ {
		w.apply(AddNode{describe(i)})
		for range 40 {
			w.round()
			for _, id := range append(w.shards(), MapGroup) {
				if n := len(w.m.replicasOf(id)); n%2 == 0 {
					t.Fatalf("%d nodes: group %d should have %d replicas", i, id, n)
				}
			}
		}
		w.settle()
	}
}

func TestDrainedNodesAreEmptiedAndRemoved(t *testing.T) {
	w := grown(t, 3, 5, 16)
	w.apply(SetNode{Number: 1, State: ptr(Draining)})
	w.settle()
	if own := w.m.Own(1); len(own) > 0 {
		t.Errorf("a drained node still has %v", own)
	}
	if n := len(w.m.MapReplicas); n != 3 {
		t.Errorf("%d voters on the map with four nodes left", n)
	}
	removal, err := NewRemoval(w.m, 1, w.status())
	if err != nil {
		t.Fatal(err)
	}
	w.apply(removal)
	w.apply(SetNode{Number: 2, State: ptr(Draining)})
	w.apply(SetNode{Number: 2, State: ptr(Up)})
	w.settle()
}

// TestDrainOfThreeGoesNowhere keeps three copies where there are three nodes.
func TestDrainOfThreeGoesNowhere(t *testing.T) {
	w := grown(t, 4, 3, 4)
	w.apply(SetNode{Number: 2, State: ptr(Draining)})
	w.settle()
	if own := w.m.Own(2); len(own) != 5 {
		t.Errorf("a node that cannot be spared has %v", own)
	}
	for i := range w.m.Shards {
		if w.m.Shards[i].Preferred == 2 {
			t.Errorf("shard %d should still be led by a draining node", i)
		}
	}
	w.apply(AddNode{describe(4)})
	w.settle()
	if own := w.m.Own(2); len(own) != 0 {
		t.Errorf("once there is another node it still has %v", own)
	}
}

func TestDeadNodesAreReplacedOnlyIfTold(t *testing.T) {
	for _, after := range []time.Duration{0, time.Minute} {
		w := grown(t, 5, 4, 8)
		w.replaced = after
		before := w.m.Own(3)
		w.down[3] = time.Second
		for range 5 {
			w.round()
		}
		if len(w.m.Own(3)) != len(before) {
			t.Errorf("a node down for less than a minute loses replicas")
		}
		for range 100 {
			w.round()
		}
		if got := len(w.m.Own(3)); (got > 0) != (after == 0) {
			t.Errorf("down for long, ReplaceAfter %v: it should have %d replicas", after, got)
		}
	}
}

func TestDamagedReplicasComeBackUnderANewID(t *testing.T) {
	w := grown(t, 6, 3, 4)
	old := replicaIDOn(w.m.Shards[2].Replicas, 2)
	w.damaged = []string{old}
	w.settle()
	if now := replicaIDOn(w.m.Shards[2].Replicas, 2); now == old || now == "" {
		t.Errorf("node 2 should hold shard 2 as %q, before %q", now, old)
	}
}

func TestReplacedNodesAreFilledAgain(t *testing.T) {
	w := grown(t, 7, 3, 8)
	n := describe(2)
	n.Identity = "emptied"
	w.down[2] = time.Second
	w.round()
	result := w.apply(ReplaceNode{Old: 2, Node: n, Down: []uint32{2}})
	w.settle()
	if own := w.m.Own(result.Node); len(own) != 9 {
		t.Errorf("the new node has %v", own)
	}
	if own := w.m.Own(2); len(own) != 0 {
		t.Errorf("the old node has %v", own)
	}
}

func TestPinnedShardsStayUnlessTheyMust(t *testing.T) {
	w := grown(t, 8, 6, 4)
	s := w.m.Shards[0]
	away := make([]Replica, 0, 3)
	for node := uint32(1); len(away) < 3; node++ {
		if node%2 == 1 {
			away = append(away, NewReplica(node, uint64(node)))
		}
	}
	w.apply(SetReplicas{Shard: 0, Replicas: away, Preferred: 5, Pinned: true})
	w.settle()
	if got := nodesOf(w.m.Shards[0].Replicas); !slices.Equal(got, []uint32{1, 3, 5}) {
		t.Errorf("pinned to 1, 3 and 5, before %v, now %v", s.Replicas, got)
	}
	w.apply(SetNode{Number: 3, State: ptr(Draining)})
	w.settle()
	if got := nodesOf(w.m.Shards[0].Replicas); slices.Contains(got, 3) || !slices.Contains(got, 1) || !slices.Contains(got, 5) {
		t.Errorf("with 3 drained it is on %v", got)
	}
}

func TestMoreCopiesAndFewer(t *testing.T) {
	w := grown(t, 9, 7, 4)
	for _, copies := range []int{5, 3, 1, 7, 3} {
		w.apply(SetCopies{copies})
		w.settle()
		for i := range w.m.Shards {
			if n := len(w.m.Shards[i].Replicas); n != copies {
				t.Errorf("%d copies of shard %d, want %d", n, i, copies)
			}
		}
	}
}

// TestClusterSurvivesAnyHistory lets nodes join, drain, die one at a time, come back, be
// replaced and be removed while replicas move, and everything must come to rest.
func TestClusterSurvivesAnyHistory(t *testing.T) {
	for seed := range uint64(60) {
		w := newWorld(t, seed, 1+int(seed%9))
		next := 2
		for range 120 {
			switch node := uint32(1 + w.r.IntN(next)); w.r.IntN(7) {
			case 0:
				if next < 12 {
					w.apply(AddNode{describe(next)})
					next++
				}
			case 1:
				if n := w.m.Live(node); n != nil {
					w.apply(SetNode{Number: node, State: ptr(NodeState(w.r.IntN(2)))})
				}
			case 2:
				if len(w.down) == 0 && w.m.Live(node) != nil {
					w.down[node] = 0
				}
			case 3:
				clear(w.down)
			case 4:
				w.remove(node)
			default:
				w.round()
			}
			w.round()
		}
		clear(w.down)
		w.settle()
	}
}

// remove removes a node if that is allowed. Then no group may have lost its majority.
func (w *world) remove(node uint32) {
	w.t.Helper()
	if w.m.Live(node) == nil || w.r.IntN(3) > 0 {
		return
	}
	before := w.served()
	removal, err := NewRemoval(w.m, node, w.status())
	if errors.Is(err, ErrMajority) {
		return
	}
	if err != nil {
		w.t.Fatal(err)
	}
	w.apply(removal)
	delete(w.down, node)
	for id := range before {
		if !w.served()[id] {
			w.t.Fatalf("group %d has lost its majority with node %d: %v", id, node, w)
		}
	}
}

// served are the groups with a majority.
func (w *world) served() map[uint32]bool {
	served := make(map[uint32]bool)
	for id, g := range w.groups {
		n := 0
		for _, v := range g.Voters {
			if w.up(v) {
				n++
			}
		}
		if n >= quorum(len(g.Voters)) {
			served[id] = true
		}
	}
	return served
}

func TestRemovalLooksAtWhatIs(t *testing.T) {
	w := grown(t, 10, 4, 1)
	// The shard should be elsewhere, but has not moved yet: one of its voters is down.
	s := w.m.Shards[0]
	others := make([]Replica, 0, 3)
	for node := uint32(1); node <= 4; node++ {
		if node != s.Replicas[0].Node {
			others = append(others, NewReplica(node, 99))
		}
	}
	w.apply(SetReplicas{Shard: 0, Replicas: others})
	w.apply(SetMapReplicas{Replicas: others})
	w.down[s.Replicas[0].Node] = time.Second
	w.groups[0].leader, w.groups[MapGroup].leader = s.Replicas[1].ID, others[0].ID
	_, err := NewRemoval(w.m, s.Replicas[2].Node, w.status())
	if !errors.Is(err, ErrMajority) || !strings.Contains(err.Error(), "as it is now") {
		t.Errorf("%v", err)
	}
	if _, err := NewRemoval(w.m, 77, w.status()); !errors.Is(err, ErrUnknownNode) {
		t.Errorf("%v", err)
	}
}

func TestNothingIsPlannedWithoutACluster(t *testing.T) {
	if changes := Plan(&Map{}, Status{}, 5); changes != nil {
		t.Errorf("%v", changes)
	}
	w := grown(t, 11, 5, 8)
	status := w.status()
	status.Groups = nil
	w.apply(SetNode{Number: 1, State: ptr(Draining)})
	if changes := Plan(w.m, status, 5); changes != nil {
		t.Errorf("planned for groups that nobody speaks for: %+v", changes)
	}
}

func BenchmarkPlan(b *testing.B) {
	for _, n := range []int{3, 100, 1000} {
		m := founded(b, 1, 256)
		for i := 2; i <= n; i++ {
			d := describe(2)
			d.Name, d.Address, d.Identity = fmt.Sprint("n", i), fmt.Sprintf("host-%d:7700", i), fmt.Sprint(i)
			m = apply(b, m, AddNode{d})
		}
		status := Status{Groups: make(map[uint32]Membership), Random: rand.New(rand.NewPCG(1, 1)).Uint64}
		for i := range m.Shards {
			status.Groups[uint32(i)] = Membership{Voters: []string{m.Shards[i].Replicas[0].ID}}
		}
		b.Run(fmt.Sprintf("nodes=%d/shards=256", n), func(b *testing.B) {
			for b.Loop() {
				Plan(m, status, 4)
			}
		})
	}
}
