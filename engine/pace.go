package engine

import "time"

// pacePause is how often a shard that waits for a loop looks at it.
const pacePause = time.Millisecond

// pace has whoever brings effects wait while an event loop has too much to do already, so
// that a shard that applies faster than a loop can write is slowed down, instead of what
// it has for the loop growing without limit. No lock may be held: a loop never waits for a
// shard, so it always comes to what was posted, but it may want the lock on its way.
func (n *Node) pace() {
	for _, l := range n.allLoops() {
		for waited := false; l.Backlog() > LoopBacklogMax; waited = true {
			if !waited {
				n.counters.loopWaits.Add(1)
			}
			select {
			case <-n.life.Done():
				return
			case <-time.After(pacePause):
			}
		}
	}
}

// behind reports whether an event loop has so much to do that streams of other nodes must
// stop for a while. Who reads from a link cannot wait like a shard: Raft's messages come on
// the same one. A stream that was left opens again where it stood, once its leader is
// announced next, or has its users sync anew if that is too long ago.
func (n *Node) behind() bool {
	for _, l := range n.allLoops() {
		if l.Backlog() > StreamBacklogMax {
			return true
		}
	}
	return false
}
