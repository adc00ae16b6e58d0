//go:build planted

package sim

import (
	"fmt"
	"os"
	"testing"

	"parley/wire/planted"
)

// TestPlantedBugsAreFound gives the engine one bug after the other, and says at which seed
// each is found.
func TestPlantedBugsAreFound(t *testing.T) {
	seeds := 200
	fmt.Sscan(os.Getenv("SEEDS"), &seeds)
	defer planted.Plant(planted.None)
	for _, bug := range planted.All() {
		if only := os.Getenv("BUG"); only != "" && only != bug.String() {
			continue
		}
		t.Run(bug.String(), func(t *testing.T) {
			for seed := uint64(1); seed <= uint64(seeds); seed++ {
				planted.Plant(bug)
				r := simulate(t, DrawConfig(seed))
				planted.Plant(planted.None)
				if len(r.Violations) > 0 {
					t.Logf("| %s | %d | %d | %s |", bug, seed, r.Config.Nodes, r.Violations[0].Promise)
					t.Log(r.Violations[0])
					return
				}
			}
			t.Errorf("%v: not found in %d seeds", bug, seeds)
		})
	}
}

// TestPlanted is one run with the bug that BUG names.
func TestPlanted(t *testing.T) {
	for _, bug := range planted.All() {
		if bug.String() == os.Getenv("BUG") {
			seed, _ := seedGiven()
			planted.Plant(bug)
			r := simulate(t, DrawConfig(seed))
			planted.Plant(planted.None)
			t.Log(r.Failure())
		}
	}
}
