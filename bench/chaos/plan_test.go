//go:build linux

package chaos

import (
	"fmt"
	"math/rand/v2"
	"time"
)

// A fault is one kind of harm that comes and goes by itself.
type fault uint8

// The faults. Those from cut on need namespaces.
const (
	faultKill     fault = iota // SIGKILL, and a start after a while
	faultLeader                // the same for the node that leads most shards
	faultAll                   // the same for all nodes at once
	faultStop                  // SIGTERM, and a start after a while
	faultPause                 // SIGSTOP for a while
	faultTransfer              // an operator wants a shard led elsewhere
	faultCut                   // two nodes do not hear each other
	faultOneWay                // one of two nodes does not hear the other
	faultIsolate               // a node and all others do not hear each other
	faultDeaf                  // a node hears no other
	faultMute                  // no other node hears a node
	faultClients               // clients and a node do not hear each other
	faultSilent                // a node does not hear clients, or they it
	faults
)

var faultNames = [faults]string{"kill", "kill the leader", "kill all", "stop", "pause", "transfer", "cut", "one way", "isolate", "deaf", "mute",
	"cut clients", "one way to clients"}

// String is the fault's name.
func (f fault) String() string { return faultNames[f] }

// An operation is what an operator does over a longer time, under load.
type operation uint8

// The operations.
const (
	operationQuiet   operation = iota // nothing
	operationWipe                     // a node loses its disk, and joins again by invitation
	operationFlip                     // a bit flips in the files of a stopped node
	operationRestart                  // one node after the other is stopped and started
	operationUpgrade                  // the same, with the other program
	operationReplace                  // a new node joins, another one is drained, stopped and removed
	operations
)

var operationNames = [operations]string{"quiet", "wipe", "flip", "rolling restart", "rolling upgrade", "replace"}

// String is the operation's name.
func (o operation) String() string { return operationNames[o] }

// A step is a fault, a while after the beginning of its episode, for a while.
type step struct {
	after, length time.Duration
	fault         fault
	node, peer    int // of the members at that time, modulo their number
	amount        int // what else the fault needs
}

// String is the step as a trace shows it.
func (s step) String() string {
	return fmt.Sprintf("%v of node %d (peer %d, %d) after %v for %v", s.fault, s.node, s.peer, s.amount, s.after, s.length)
}

// An episode is an operation with faults beside it. The next begins when all is over.
type episode struct {
	operation operation
	node      int
	amount    int
	steps     []step
}

// A planner draws the episodes of a seed one by one. The seed decides what happens and in
// which order; the machine decides how long operations take, and so how many fit in.
type planner struct {
	random  *rand.Rand
	cuts    bool
	deck    []operation
	favours []fault
}

func newPlanner(seed uint64, cuts bool) *planner {
	return &planner{random: rand.New(rand.NewPCG(seed, 0x6368616f73)), cuts: cuts}
}

// next draws an episode: in turn faults alone, and an operation with at most one beside it.
// Every operation and every fault comes once before any comes again.
func (p *planner) next(number int) episode {
	e := episode{node: p.random.IntN(1 << 16), amount: p.random.IntN(1 << 30)}
	if number%2 == 0 {
		for range 1 + p.random.IntN(3) {
			e.steps = append(e.steps, p.step())
		}
		return e
	}
	if len(p.deck) == 0 {
		for o := range operations {
			p.deck = append(p.deck, o)
		}
		p.random.Shuffle(len(p.deck), func(i, j int) { p.deck[i], p.deck[j] = p.deck[j], p.deck[i] })
	}
	e.operation, p.deck = p.deck[0], p.deck[1:]
	if e.operation != operationQuiet && p.random.IntN(2) == 0 {
		e.steps = append(e.steps, p.step())
	}
	return e
}

func (p *planner) step() step {
	if len(p.favours) == 0 {
		for f := range faults {
			if p.cuts || f < faultCut {
				p.favours = append(p.favours, f)
			}
		}
		p.random.Shuffle(len(p.favours), func(i, j int) { p.favours[i], p.favours[j] = p.favours[j], p.favours[i] })
	}
	s := step{fault: p.favours[0], node: p.random.IntN(1 << 16), peer: p.random.IntN(1 << 16), amount: p.random.IntN(1 << 30)}
	p.favours = p.favours[1:]
	s.after = time.Duration(p.random.Int64N(int64(3 * time.Second)))
	s.length = lengthMin + min(time.Duration(p.random.ExpFloat64()*float64(lengthMean)), lengthMax-lengthMin)
	return s
}

// How long faults last: mostly some heartbeats to some elections, sometimes so long that
// links and sessions are given up.
const (
	lengthMin  = 100 * time.Millisecond
	lengthMean = 2500 * time.Millisecond
	lengthMax  = 10 * time.Second
)
