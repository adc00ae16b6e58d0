package sim

import (
	"fmt"
	"math/rand/v2"
	"time"
)

// A Fault is one kind of harm.
type Fault uint8

// The faults.
const (
	FaultKill     Fault = iota // the process dies: what it wrote is there
	FaultPower                 // the machine loses power: some of what was not synced is gone
	FaultStop                  // a clean stop, as an operator does it
	FaultPause                 // SIGSTOP for a while
	FaultSync                  // an fsync fails
	FaultWrite                 // a write fails
	FaultSlow                  // fsyncs take up to seconds
	FaultNearFull              // less than the reserve is free
	FaultFull                  // the disk takes a few more kilobytes
	FaultFlip                  // a bit flips while the machine is down
	FaultClock                 // the wall clock jumps
	FaultCut                   // clients and the node do not hear each other
	FaultOneWay                // one direction is cut
	FaultFlap                  // a cut that comes and goes
	FaultLossy                 // loss, delay and little bandwidth
	FaultReset                 // connections break
	FaultBlackout              // all machines lose power at once
	FaultTransfer              // a shard is led elsewhere, as an operator wants it
	FaultMove                  // a replica moves to another node
	FaultDrain                 // a node is drained, and taken back
	FaultJoin                  // a spare machine joins
	FaultWipe                  // a machine loses its disk; its node is removed, and another joins on it
	faults
)

var faultNames = [faults]string{"kill", "power", "stop", "pause", "sync", "write", "slow", "near-full", "full", "flip",
	"clock", "cut", "one-way", "flap", "lossy", "reset", "blackout", "transfer",
	"move", "drain", "join", "wipe"}

// String is the fault's name.
func (f Fault) String() string { return faultNames[f] }

// A Step is a fault of a plan, at a time since the plan's start, for a while, to a node and,
// for the network, a device.
type Step struct {
	At, For time.Duration
	Fault   Fault
	Node    int
	Device  int // of the network's faults: -1: all
	Peer    int // the other node of the network's faults; -1: it is about devices; Node: all nodes
	Amount  int // what else the fault needs: a number drawn with it
}

// String is the step as a trace shows it.
func (s Step) String() string {
	return fmt.Sprintf("%8.3fs %-9s node %d device %d peer %d for %v (%d)", s.At.Seconds(), s.Fault, s.Node+1, s.Device, s.Peer+1, s.For, s.Amount)
}

// DrawPlan draws the faults of a run. Periods of 5 to 20 s follow one another; a quarter
// of them is quiet, the others have one to three of a few kinds that this run favours, so
// that runs differ from each other more than their halves do.
func DrawPlan(random *rand.Rand, length time.Duration, nodes, devices int, allowed []Fault) []Step {
	if len(allowed) == 0 {
		return nil
	}
	favoured := make([]Fault, 0, 5)
	for range 2 + random.IntN(4) {
		favoured = append(favoured, allowed[random.IntN(len(allowed))])
	}
	var steps []Step
	for at := time.Duration(0); at < length; {
		period := 5*time.Second + time.Duration(random.Int64N(int64(15*time.Second)))
		if random.IntN(4) > 0 {
			for range 1 + random.IntN(3) {
				s := Step{At: at + time.Duration(random.Int64N(int64(period))), Fault: favoured[random.IntN(len(favoured))],
					For:  100*time.Millisecond + time.Duration(random.Int64N(int64(10*time.Second))),
					Node: random.IntN(nodes), Device: random.IntN(devices+1) - 1, Peer: -1, Amount: random.IntN(1 << 20)}
				if nodes > 1 && random.IntN(3) > 0 {
					s.Peer = random.IntN(nodes)
				}
				if random.IntN(8) == 0 {
					s.For += 30 * time.Second
				}
				steps = append(steps, s)
			}
		}
		at += period
	}
	return steps
}
