//go:build linux

package chaos

import (
	"flag"
	"math/rand/v2"
	"os"
	"strings"
	"testing"
	"time"

	"parley/bench/sim"
)

var (
	minutes = flag.Float64("chaos.minutes", 3, "how long faults come, in `MINUTES`")
	seed    = flag.Uint64("chaos.seed", 0, "what happens; 0 draws a `SEED`")
)

func TestMain(m *testing.M) {
	flag.Parse()
	code := m.Run()
	if built.dir != "" {
		os.RemoveAll(built.dir)
	}
	os.Exit(code)
}

// A cluster under load keeps every promise while its processes, disks, links and operators
// do what a seed says.
func TestChaos(t *testing.T) {
	if *seed == 0 {
		*seed = rand.Uint64N(1<<32) | 1
	}
	t.Logf("again: make chaos SEED=%d", *seed)
	if testing.Short() {
		t.Skip("a cluster under faults, minutes long: make chaos")
	}
	length := time.Duration(*minutes * float64(time.Minute))
	c := newCluster(t, "a", "b", "c", "d")
	if err := c.form(3); err != nil {
		t.Fatal(err)
	}
	c.log("three nodes serve")
	w, err := newCrowd(c, *seed, 5, 150*time.Millisecond)
	if err != nil {
		t.Fatal(err)
	}
	w.begin()
	defer w.disperse()
	plan := newPlanner(*seed, c.network.cuts())
	for number, end := 0, time.Now().Add(length); time.Now().Before(end); number++ {
		if err := c.play(plan.next(number)); err != nil {
			t.Fatal(err)
		}
	}
	c.conclude(w)
}

// conclude heals the cluster, reads everything through each node, from each node's copy,
// and after all have been killed, and checks all that was seen.
func (c *cluster) conclude(w *crowd) {
	t := c.t
	t.Helper()
	c.log("all is well")
	if err := c.heal(); err != nil {
		t.Fatal(err)
	}
	c.log("every shard has come to rest")
	if err := w.rest(c); err != nil {
		t.Fatal(err)
	}
	w.disperse()
	members := c.members()
	for _, n := range members {
		if _, err := w.judge(c, "through "+n.name, n); err != nil {
			t.Fatal(err)
		}
	}
	for _, n := range members {
		if err := c.led(n); err != nil {
			t.Fatal(err)
		}
		if _, err := w.judge(c, "when "+n.name+" leads", nil); err != nil {
			t.Fatal(err)
		}
	}
	c.log("all nodes are killed once more")
	for _, n := range members {
		n.kill()
	}
	for _, n := range members {
		if code, out := parley(t, n.program, "fsck", n.dir); code != 0 {
			t.Errorf("fsck of %s: code %d: %s", n.name, code, out)
		}
		if err := n.start(); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := w.judge(c, "after all were killed", nil); err != nil {
		t.Fatal(err)
	}
	c.examine(w.recorder.History())
}

// examine checks what was seen, and how processes ended.
func (c *cluster) examine(h *sim.History) {
	accepted, lives := 0, 0
	for i := range h.Sends {
		if h.Sends[i].Outcome == sim.Accepted {
			accepted++
		}
	}
	for _, n := range c.nodes {
		lives += n.lives
		for _, ending := range n.endings {
			if n.flipped && strings.HasPrefix(ending, "code 4: ") {
				c.log("%s found the damage: %s", n.name, ending)
				continue
			}
			c.t.Errorf("%s ended by itself: %s", n.name, ending)
		}
	}
	c.t.Logf("%d sends, %d acknowledged, %d pushes, %d pages, %d processes", len(h.Sends), accepted, len(h.Pushed), len(h.Reads), lives)
	if text := verdict(h); text != "" {
		c.t.Error(text)
	}
}
