package engine

import (
	"sync"
	"time"
)

// ClockSkewMax is how far this node's clock may be from those of most other nodes before
// it gives up leadership: a leader's clock stamps messages, and one that is hours ahead
// would date all later messages of a conversation into the future.
const ClockSkewMax = 10 * time.Second

// clockReadings is how long another node's reading counts.
const clockReadings = 10 * time.Second

// clocks compares this node's clock with those of the others, which announcements bring.
type clocks struct {
	mu    sync.Mutex
	seen  map[uint32]clockReading
	wrong bool
}

// A clockReading is how far another node's clock was ahead of this one's, the way of the
// announcement included, and when that was heard, by the monotonic clock.
type clockReading struct {
	ahead time.Duration
	heard time.Time
}

// hear takes another node's clock.
func (c *clocks) hear(node uint32, theirs, ours time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.seen == nil {
		c.seen = make(map[uint32]clockReading)
	}
	c.seen[node] = clockReading{theirs.Sub(ours), time.Now()}
}

// judge tells whether this node's clock is wrong: more than half of all nodes that are
// heard of, this one included, are on the same side of it, beyond ClockSkewMax. changed
// says that it was the other way before.
func (c *clocks) judge() (wrong, changed bool, ahead time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	fast, slow, all := 0, 0, 1
	for node, r := range c.seen {
		if time.Since(r.heard) > clockReadings {
			delete(c.seen, node)
			continue
		}
		all++
		switch {
		case r.ahead > ClockSkewMax:
			slow++
			ahead = r.ahead
		case r.ahead < -ClockSkewMax:
			fast++
			ahead = r.ahead
		}
	}
	wrong = max(fast, slow) > all/2
	changed, c.wrong = wrong != c.wrong, wrong
	return wrong, changed, ahead
}

// isWrong is what judge found last.
func (c *clocks) isWrong() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.wrong
}

// checkClock gives up leadership while this node's clock is wrong.
func (n *Node) checkClock() {
	wrong, changed, ahead := n.clocks.judge()
	if changed && wrong {
		n.log.Error("this node's clock is wrong: it leads nothing until it is set", "others_ahead", ahead.String())
	} else if changed {
		n.log.Info("this node's clock is right again")
	}
	if wrong && !n.handingOver.Swap(true) {
		n.tasks.Go(func() {
			defer n.handingOver.Store(false)
			n.handOver(n.life)
		})
	}
}
