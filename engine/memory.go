package engine

import (
	"runtime/debug"
	runtimemetrics "runtime/metrics"
	"time"
)

// Pace and bounds of giving memory back.
const (
	trimInterval = 5 * time.Second
	// trimBytesMin is the least that is worth a collection of the whole heap.
	trimBytesMin = 4 << 20
)

// A heapReading is what the runtime says of its heap, in bytes.
type heapReading struct {
	allocated uint64 // since the process began
	live      uint64 // marked by the last collection
	objects   uint64 // live and dead ones
	free      uint64 // not in use, not given back
}

// waste is what a collection and a release would give back, as far as is known.
func (h heapReading) waste() uint64 {
	garbage := uint64(0)
	if h.objects > h.live {
		garbage = h.objects - h.live
	}
	return garbage + h.free
}

// worthTrimming decides from two readings, trimInterval apart. After a burst, such as
// thousands of connects, half of the heap may be garbage that nothing collects until as
// much again was allocated: on a node that then only holds sessions, never. So an idle
// node collects and gives back; a busy one leaves its heap to the collector.
func worthTrimming(before, now heapReading) bool {
	idle := now.allocated-before.allocated < max(now.live/8, trimBytesMin/4)
	return idle && now.waste() > max(now.live/8, trimBytesMin)
}

// trim gives memory back whenever the node is idle.
func (n *Node) trim() {
	tick := time.NewTicker(trimInterval)
	defer tick.Stop()
	before := readHeap()
	for {
		select {
		case <-n.stop:
			return
		case <-tick.C:
			now := readHeap()
			if worthTrimming(before, now) {
				debug.FreeOSMemory()
			}
			before = now
		}
	}
}

func readHeap() heapReading {
	samples := [...]runtimemetrics.Sample{
		{Name: "/gc/heap/allocs:bytes"}, {Name: "/gc/heap/live:bytes"},
		{Name: "/memory/classes/heap/objects:bytes"}, {Name: "/memory/classes/heap/free:bytes"},
	}
	runtimemetrics.Read(samples[:])
	return heapReading{
		allocated: samples[0].Value.Uint64(), live: samples[1].Value.Uint64(),
		objects: samples[2].Value.Uint64(), free: samples[3].Value.Uint64(),
	}
}
