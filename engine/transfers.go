package engine

import (
	"sync"
	"time"
)

// Pauses before a node that did not take a leadership over is asked again.
const (
	transferPauseMin = 10 * time.Second
	transferPauseMax = 5 * time.Minute
)

// transfers remembers which nodes did not take a leadership over that they should have. A
// group takes no commands while it is handed over, for up to 2 s: a preferred node with a
// slow disk that is asked again and again would stop it for as long as the disk is slow.
type transfers struct {
	mu     sync.Mutex
	failed map[uint32]failedTransfer // by group
}

type failedTransfer struct {
	node  uint32
	pause time.Duration
	until time.Time
}

// fail notes that a node was asked in vain: each time it is left alone twice as long.
func (t *transfers) fail(group, node uint32) {
	t.mu.Lock()
	defer t.mu.Unlock()
	f := t.failed[group]
	if f.node != node {
		f = failedTransfer{node: node, pause: transferPauseMin / 2}
	}
	f.pause = min(2*f.pause, transferPauseMax)
	f.until = time.Now().Add(f.pause)
	if t.failed == nil {
		t.failed = make(map[uint32]failedTransfer)
	}
	t.failed[group] = f
}

// succeed forgets what has failed before.
func (t *transfers) succeed(group uint32) {
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.failed, group)
}

// rests tells whether a node is not to be asked yet.
func (t *transfers) rests(group, node uint32) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	f := t.failed[group]
	return f.node == node && time.Now().Before(f.until)
}
