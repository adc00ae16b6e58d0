package engine

import "sync"

// readers are the goroutines that read from disk, so that no event loop does. Their
// queue is bounded: what does not fit is refused, and the client comes again.
type readers struct {
	jobs chan func()
	done sync.WaitGroup
}

func newReaders(count, queue int) *readers {
	r := &readers{jobs: make(chan func(), queue)}
	for range count {
		r.done.Go(func() {
			for job := range r.jobs {
				job()
			}
		})
	}
	return r
}

// submit queues a job; false: the queue is full.
func (r *readers) submit(job func()) bool {
	select {
	case r.jobs <- job:
		return true
	default:
		return false
	}
}

// close waits for the queued jobs. Nothing may be submitted any more.
func (r *readers) close() {
	close(r.jobs)
	r.done.Wait()
}
