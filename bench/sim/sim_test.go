package sim

import (
	"fmt"
	"os"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"
)

// The event loops of gnet, which is linked in, share a pool that lives as long as the process.
func TestMain(m *testing.M) {
	const pool = "github.com/panjf2000/ants/v2."
	goleak.VerifyTestMain(m,
		goleak.IgnoreAnyFunction(pool+"(*poolCommon).purgeStaleWorkers"),
		goleak.IgnoreAnyFunction(pool+"(*poolCommon).ticktock"),
		goleak.IgnoreAnyFunction(pool+"(*goWorker).run.func1"))
}

// simulate is one run in a bubble of its own.
func simulate(t *testing.T, c Config) (r *Result) {
	t.Helper()
	if os.Getenv("SIM_LOG") != "" {
		c.Verbose = os.Stdout
	}
	synctest.Test(t, func(t *testing.T) { r = Run(c) })
	return r
}

// TestCalm is a run without faults, in which nothing may go wrong and much must happen.
func TestCalm(t *testing.T) {
	c := DrawConfig(1)
	c.Faults, c.Length = nil, 20*time.Second
	r := simulate(t, c)
	if len(r.Violations) > 0 {
		t.Fatal(r.Failure())
	}
	h := r.History
	if len(h.Sends) < 100 || len(h.Handed) < len(h.Sends) || len(h.Pushed) == 0 || len(h.Receipts) == 0 ||
		len(h.Listed) == 0 || len(h.Reads) == 0 || len(h.Finals) == 0 || len(h.Online) == 0 {
		t.Fatalf("hardly anything happens: %d sends, %d handed, %d pushed, %d receipts, %d listed, %d reads, %d finals",
			len(h.Sends), len(h.Handed), len(h.Pushed), len(h.Receipts), len(h.Listed), len(h.Reads), len(h.Finals))
	}
}

// TestSeeds runs seeds beside each other: SEEDS of them from FIRST on, or the one that SEED
// names. Fewer come with the other tests.
func TestSeeds(t *testing.T) {
	first, count := uint64(1), 8
	fmt.Sscan(os.Getenv("FIRST"), &first)
	fmt.Sscan(os.Getenv("SEEDS"), &count)
	if seed, ok := seedGiven(); ok {
		first, count = seed, 1
	}
	begin := time.Now()
	var virtual, sends, lives atomic.Int64
	t.Run("seed", func(t *testing.T) {
		for seed := first; seed < first+uint64(count); seed++ {
			t.Run(fmt.Sprint(seed), func(t *testing.T) {
				t.Parallel()
				r := simulate(t, DrawConfig(seed))
				virtual.Add(int64(r.Virtual - baseMargin))
				sends.Add(int64(len(r.History.Sends)))
				lives.Add(int64(r.Lives))
				t.Logf("%d nodes, %d lives, %d stopped by themselves, %d sends", r.Config.Nodes, r.Lives, r.Fatals, len(r.History.Sends))
				if len(r.Violations) > 0 {
					t.Fatal(r.Failure())
				}
			})
		}
	})
	spent, simulated := time.Since(begin), time.Duration(virtual.Load())
	fmt.Printf("seeds %d to %d: %d sends, %d lives of nodes, %v of virtual time in %v: %.2f hours a minute\n", first, first+uint64(count)-1,
		sends.Load(), lives.Load(), simulated.Round(time.Second), spent.Round(time.Second), simulated.Hours()/spent.Minutes())
}
