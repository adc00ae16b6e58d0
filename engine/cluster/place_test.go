package cluster

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"pgregory.net/rapid"
)

// someNodes are nodes 1 to n, in turn in each of some zones.
func someNodes(n, zones int) []Node {
	nodes := make([]Node, n)
	for i := range nodes {
		nodes[i] = Node{Number: uint32(i + 1), Zone: fmt.Sprint("z", i%zones), Weight: WeightDefault}
	}
	return nodes
}

// loads counts the replicas of each node.
func loads(lists [][]uint32) map[uint32]int {
	load := make(map[uint32]int)
	for _, list := range lists {
		for _, node := range list {
			load[node]++
		}
	}
	return load
}

// arrivals are the replicas of b that a has elsewhere, by their nodes in b.
func arrivals(a, b [][]uint32) map[uint32]int {
	moved := make(map[uint32]int)
	for s := range b {
		for _, node := range b[s] {
			if !slices.Contains(a[s], node) {
				moved[node]++
			}
		}
	}
	return moved
}

func sum(counts map[uint32]int) (n int) {
	for _, c := range counts {
		n += c
	}
	return n
}

// checkPlacement checks what must hold of every placement.
func checkPlacement(t interface{ Fatalf(string, ...any) }, lists [][]uint32, nodes []Node, copies int) {
	zoneOf := make(map[uint32]string)
	sizes := make(map[string]int)
	for _, n := range nodes {
		if n.State == Up {
			zoneOf[n.Number] = n.Zone
			sizes[n.Zone]++
		}
	}
	copies = min(copies, len(zoneOf))
	perZone, room := 0, 0
	for room < copies {
		perZone++
		room = 0
		for _, n := range sizes {
			room += min(n, perZone)
		}
	}
	for s, list := range lists {
		if len(list) != copies {
			t.Fatalf("shard %d is on %v, want %d copies", s, list, copies)
		}
		zones := make(map[string]int)
		for i, node := range list {
			zone, up := zoneOf[node]
			if !up || slices.Contains(list[:i], node) {
				t.Fatalf("shard %d is on %v: %d is not up, or twice", s, list, node)
			}
			if zones[zone]++; zones[zone] > perZone {
				t.Fatalf("shard %d is on %v: more than %d in zone %s", s, list, perZone, zone)
			}
		}
	}
}

// checkBalance wants every node to be within a tenth of its fair share, or within one
// replica. shares are those that weights and zones allow.
func checkBalance(t interface{ Fatalf(string, ...any) }, lists [][]uint32, nodes []Node, copies int) {
	load := loads(lists)
	for _, c := range newPlacement(nodes, len(lists), copies).nodes {
		got := float64(load[c.number])
		if most := math.Max(c.share*Slack, 1); math.Abs(got-c.share) > most+rounding {
			t.Fatalf("node %d of %d holds %v, its share is %.2f", c.number, len(nodes), got, c.share)
		}
	}
}

// TestPlacementIsEvenFrom3To1000Nodes has 20 replicas and more a node.
func TestPlacementIsEvenFrom3To1000Nodes(t *testing.T) {
	for _, n := range []int{3, 4, 5, 6, 7, 8, 10, 13, 20, 38, 50, 100, 333, 1000} {
		for _, zones := range []int{1, 3, 5} {
			if n < zones || testing.Short() && n > 333 {
				continue
			}
			for _, shards := range []int{(20*n + 2) / 3, 256} {
				if shards*3 < 20*n {
					continue
				}
				nodes := someNodes(n, zones)
				lists := Place(nodes, shards, 3)
				checkPlacement(t, lists, nodes, 3)
				checkBalance(t, lists, nodes, 3)
				if n%zones != 0 {
					continue
				}
				average := float64(shards*3) / float64(n)
				for node, load := range loads(lists) {
					if math.Abs(float64(load)-average) > average/10 {
						t.Errorf("%d nodes in %d zones, %d shards: node %d holds %d, average %.1f", n, zones, shards, node, load, average)
					}
				}
			}
		}
	}
}

// TestOnlyWhatComesOrGoesMoves adds one node, and loses one, for sizes from 3 to 1,000.
// It moves what the node gets or had, 1/n of the replicas, and at most a tenth of that
// beside; replicas go from nodes that stay to nodes that stay only within that tenth.
func TestOnlyWhatComesOrGoesMoves(t *testing.T) {
	for _, n := range []int{3, 4, 5, 9, 12, 30, 38, 100, 300, 999} {
		for _, zones := range []int{1, 3, 4} {
			if n < zones || testing.Short() && n > 300 {
				continue
			}
			shards := max(256, (20*n+2)/3)
			nodes := someNodes(n, zones)
			before := Place(nodes, shards, 3)

			grown := someNodes(n+1, zones)
			after := Adjust(before, grown, 3)
			checkPlacement(t, after, grown, 3)
			checkBalance(t, after, grown, 3)
			share := shareOf(grown, shards, uint32(n+1))
			moved := arrivals(before, after)
			if total, new := sum(moved), moved[uint32(n+1)]; float64(new) > share+1 || float64(total-new) > share/10+1 {
				t.Errorf("%d nodes in %d zones and one more: %d replicas came to it, %d moved, its share is %.1f", n, zones, new, total, share)
			}

			lost := rand.New(rand.NewPCG(uint64(n), 1)).IntN(n)
			fewer := slices.Clone(nodes)
			fewer[lost].State = Removed
			after = Adjust(before, fewer, 3)
			checkPlacement(t, after, fewer, 3)
			checkBalance(t, after, fewer, 3)
			had := loads(before)[uint32(lost+1)]
			if zones != 1 && n < 20 {
				continue // zones of few nodes: what their nodes may hold changes by more
			}
			if total := sum(arrivals(before, after)); n > 3 && (total < had || float64(total-had) > float64(had)/10+1) {
				t.Errorf("%d nodes in %d zones less one: it had %d replicas, %d moved", n, zones, had, total)
			}
		}
	}
}

func shareOf(nodes []Node, shards int, number uint32) float64 {
	for _, c := range newPlacement(nodes, shards, 3).nodes {
		if c.number == number {
			return c.share
		}
	}
	return 0
}

// TestPlacementIsEvenAfterAnyHistory lets nodes of any weights and zones come, go, drain
// and change: the placement is as good as a new one.
func TestPlacementIsEvenAfterAnyHistory(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		copies := rapid.IntRange(1, 5).Draw(t, "copies")
		lists := make([][]uint32, rapid.IntRange(1, 100).Draw(t, "shards"))
		var nodes []Node
		weights := rapid.SampledFrom([]int{50, 100, 100, 100, 200})
		for range rapid.IntRange(1, 25).Draw(t, "steps") {
			switch i := 0; {
			case len(nodes) < 3 || rapid.IntRange(0, 2).Draw(t, "what") > 0:
				zone := rapid.SampledFrom([]string{"a", "b", "c"}).Draw(t, "zone")
				nodes = append(nodes, Node{Number: uint32(len(nodes) + 1), Zone: zone, Weight: weights.Draw(t, "weight")})
			default:
				i = rapid.IntRange(0, len(nodes)-1).Draw(t, "node")
				nodes[i].State = rapid.SampledFrom([]NodeState{Up, Draining, Removed}).Draw(t, "state")
				nodes[i].Weight = weights.Draw(t, "weight")
			}
			lists = Adjust(lists, nodes, copies)
			checkPlacement(t, lists, nodes, copies)
			if again := Adjust(lists, nodes, copies); sum(arrivals(lists, again)) > 0 {
				t.Fatalf("what is in place moves: %v to %v", lists, again)
			}
		}
	})
}

func TestPlacementDependsOnNothingElse(t *testing.T) {
	nodes := someNodes(9, 3)
	want := fmt.Sprint(Place(nodes, 50, 3))
	for seed := range uint64(20) {
		r := rand.New(rand.NewPCG(seed, 1))
		r.Shuffle(len(nodes), func(i, j int) { nodes[i], nodes[j] = nodes[j], nodes[i] })
		for i := range nodes {
			nodes[i].Zone = "x" + nodes[i].Zone
			nodes[i].Name = fmt.Sprint(seed)
		}
		if got := fmt.Sprint(Place(nodes, 50, 3)); got != want {
			t.Fatalf("the order of nodes or the names of zones matter:\n%s\n%s", got, want)
		}
	}
}

func TestWeightsAreSharesOfReplicas(t *testing.T) {
	nodes := someNodes(6, 1)
	for i := range nodes {
		nodes[i].Weight = 100 * (1 + i%3)
	}
	lists := Place(nodes, 400, 3)
	checkBalance(t, lists, nodes, 3)
	for node, load := range loads(lists) {
		if want := float64(100 * (1 + (node-1)%3)); math.Abs(float64(load)-want) > want/10 {
			t.Errorf("node %d of weight %v holds %d of 1,200", node, want, load)
		}
	}
}

func TestFewNodesHoldEverything(t *testing.T) {
	for n := range 4 {
		nodes := someNodes(n, 1)
		lists := Place(nodes, 5, 3)
		for s, list := range lists {
			if len(list) != min(n, 3) {
				t.Errorf("%d nodes: shard %d is on %v", n, s, list)
			}
		}
	}
}

func TestLeadersAreSpreadEvenly(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.IntRange(1, 40).Draw(t, "nodes")
		nodes := someNodes(n, rapid.IntRange(1, min(n, 3)).Draw(t, "zones"))
		lists := Place(nodes, rapid.IntRange(1, 120).Draw(t, "shards"), 3)
		current := make([]uint32, len(lists))
		for s := range current {
			if rapid.Bool().Draw(t, "led") {
				current[s] = lists[s][0]
			}
		}
		leaders := Leaders(lists, nodes, current)
		count := make(map[uint32]int)
		for s, node := range leaders {
			if !slices.Contains(lists[s], node) {
				t.Fatalf("shard %d on %v is led by %d", s, lists[s], node)
			}
			count[node]++
		}
		share := float64(len(lists)) / float64(n)
		held := loads(lists)
		for _, node := range nodes {
			c := float64(count[node.Number])
			if c > math.Ceil(share)+1 || c < math.Floor(share)-1 && int(c) < held[node.Number] {
				t.Fatalf("node %d leads %v of %d shards with %d nodes, holds %d", node.Number, c, len(lists), n, held[node.Number])
			}
		}
		if again := Leaders(lists, nodes, leaders); !slices.Equal(again, leaders) {
			t.Fatalf("leaders that are spread evenly change:\n%v\n%v", leaders, again)
		}
	})
}

func TestLeadersStayOutOfDrainingNodes(t *testing.T) {
	nodes := someNodes(3, 1)
	lists := Place(nodes, 9, 3)
	leaders := Leaders(lists, nodes, nil)
	nodes[1].State = Draining
	moved := Leaders(lists, nodes, leaders)
	for s := range moved {
		if moved[s] == 2 || leaders[s] != 2 && moved[s] != leaders[s] {
			t.Errorf("shard %d was led by %d, then %d", s, leaders[s], moved[s])
		}
	}
	for i := range nodes {
		nodes[i].State = Draining
	}
	if same := Leaders(lists, nodes, moved); !slices.Equal(same, moved) {
		t.Errorf("with nobody else to lead: %v", same)
	}
}

func BenchmarkPlace(b *testing.B) {
	for _, size := range []struct{ nodes, shards int }{{3, 8}, {10, 64}, {100, 256}, {1000, 256}, {1000, 6667}} {
		nodes := someNodes(size.nodes, 3)
		b.Run(fmt.Sprintf("nodes=%d/shards=%d", size.nodes, size.shards), func(b *testing.B) {
			for b.Loop() {
				Place(nodes, size.shards, 3)
			}
		})
	}
}

func BenchmarkAdjust(b *testing.B) {
	for _, size := range []struct{ nodes, shards int }{{3, 8}, {100, 256}, {1000, 256}, {1000, 6667}} {
		nodes := someNodes(size.nodes, 3)
		lists := Place(nodes, size.shards, 3)
		nodes[size.nodes/2].State = Removed
		b.Run(fmt.Sprintf("nodes=%d/shards=%d", size.nodes, size.shards), func(b *testing.B) {
			for b.Loop() {
				Adjust(lists, nodes, 3)
			}
		})
	}
}
