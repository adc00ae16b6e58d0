package engine

import (
	"iter"
	"sync"

	"parley/engine/shard"
)

// listings are new conversations that users are to be told of. A batch of effects brings
// them with a route's mutex held, and they need another route's.
type listings struct {
	mu    sync.Mutex
	queue []shard.ListedEffect
	wake  chan struct{} // capacity 1
}

func newListings() *listings { return &listings{wake: make(chan struct{}, 1)} }

func (q *listings) add(l shard.ListedEffect) {
	q.mu.Lock()
	q.queue = append(q.queue, l)
	q.mu.Unlock()
	select {
	case q.wake <- struct{}{}:
	default:
	}
}

// each yields what is added until stop is closed.
func (q *listings) each(stop <-chan struct{}) iter.Seq[shard.ListedEffect] {
	return func(yield func(shard.ListedEffect) bool) {
		for {
			select {
			case <-stop:
				return
			case <-q.wake:
			}
			q.mu.Lock()
			queue := q.queue
			q.queue = nil
			q.mu.Unlock()
			for _, l := range queue {
				if !yield(l) {
					return
				}
			}
		}
	}
}
