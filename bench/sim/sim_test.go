package sim

import (
	"fmt"
	"os"
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

// TestCalm is a run without faults.
func TestCalm(t *testing.T) {
	c := DrawConfig(1)
	c.Faults, c.Length = nil, 20*time.Second
	if os.Getenv("SIM_LOG") != "" {
		c.Verbose = os.Stdout
	}
	synctest.Test(t, func(t *testing.T) {
		r, err := Run(c)
		if err != nil {
			t.Fatal(err)
		}
		fmt.Println(len(r.History.Sends), len(r.History.Handed), len(r.History.Pushed), len(r.History.Listed), len(r.History.Reads), len(r.History.Finals), r.Virtual)
		if len(r.Violations) > 0 {
			t.Fatal(r.Failure())
		}
	})
}

// TestSeeds runs seeds one after the other.
func TestSeeds(t *testing.T) {
	first, count := uint64(1), 10
	if seed, ok := seedGiven(); ok {
		first, count = seed, 1
	}
	fmt.Sscan(os.Getenv("SEEDS"), &count)
	begin := time.Now()
	virtual := time.Duration(0)
	for seed := first; seed < first+uint64(count); seed++ {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := DrawConfig(seed)
				if os.Getenv("SIM_LOG") != "" {
					c.Verbose = os.Stdout
				}
				r, err := Run(c)
				if err != nil {
					t.Fatal(err)
				}
				virtual += r.Virtual - baseMargin
				if len(r.Violations) > 0 {
					t.Fatal(r.Failure())
				}
			})
		})
	}
	real := time.Since(begin)
	t.Logf("%d seeds, %v virtual in %v", count, virtual, real)
}
