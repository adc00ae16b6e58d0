package engine

import (
	"runtime"
	"testing"
)

func TestMemoryIsGivenBackOnlyByAnIdleNodeWithSomethingToGive(t *testing.T) {
	const mb = 1 << 20
	for _, test := range []struct {
		name        string
		before, now heapReading
		want        bool
	}{
		{"idle, half of it garbage", heapReading{allocated: 100 * mb}, heapReading{allocated: 100 * mb, live: 10 * mb, objects: 20 * mb}, true},
		{"idle, free and not given back", heapReading{allocated: 100 * mb}, heapReading{allocated: 100 * mb, live: 10 * mb, objects: 10 * mb, free: 5 * mb}, true},
		{"busy", heapReading{allocated: 100 * mb}, heapReading{allocated: 200 * mb, live: 10 * mb, objects: 20 * mb}, false},
		{"idle, little to give", heapReading{allocated: 100 * mb}, heapReading{allocated: 100 * mb, live: 10 * mb, objects: 12 * mb, free: 2 * mb}, false},
		{"idle, an eighth of a large heap", heapReading{}, heapReading{live: 800 * mb, objects: 860 * mb, free: 40 * mb}, false},
		{"less than what lives", heapReading{}, heapReading{live: 100 * mb, objects: 10 * mb}, false},
	} {
		if got := worthTrimming(test.before, test.now); got != test.want {
			t.Errorf("%s: %v", test.name, got)
		}
	}
}

// The runtime knows the metrics by the names that are asked for.
func TestHeapReadingIsOfThisProcess(t *testing.T) {
	runtime.GC()
	h := readHeap()
	if h.allocated == 0 || h.live == 0 || h.objects == 0 {
		t.Fatalf("%+v", h)
	}
}
