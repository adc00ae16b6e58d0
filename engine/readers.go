package engine

import (
	"sync"

	"parley/wire"
)

// readsAtOnce is how many reads of one user run at a time, so that one that waits for
// another node does not hold up all others of the user.
const readsAtOnce = 2

// readers are the goroutines that read from disk, so that no event loop does. Users take
// turns: one who asks again and again, on however many sessions, delays nobody but
// himself. What waits is bounded, and a user may have half of what is free: what does not
// fit is refused, and the client comes again.
//
// Questions of other nodes have goroutines of their own. Who asks one waits in a reader of
// its node for the answer, so that with common ones two nodes could wait for each other.
type readers struct {
	limit     int
	mu        sync.Mutex
	work      sync.Cond
	waiting   int
	turns     []*readLane // those with something to do, in the order of their turns
	lanes     map[wire.ID]*readLane
	closed    bool
	questions chan func()
	done      sync.WaitGroup
}

// A readLane is what one user waits for.
type readLane struct {
	user    wire.ID
	jobs    []func()
	running int
	turn    bool // it is among turns
}

// newReaders starts readers, as many for the sessions as for other nodes.
func newReaders(count, limit int) *readers {
	r := &readers{limit: limit, lanes: make(map[wire.ID]*readLane), questions: make(chan func(), limit)}
	r.work.L = &r.mu
	for range count {
		r.done.Go(r.run)
		r.done.Go(func() {
			for job := range r.questions {
				job()
			}
		})
	}
	return r
}

// submit queues a job for a user; false: too much waits.
func (r *readers) submit(user wire.ID, job func()) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	l := r.lanes[user]
	if free := r.limit - r.waiting; free <= 0 || r.closed || l != nil && len(l.jobs) > free/2 {
		return false
	}
	if l == nil {
		l = &readLane{user: user}
		r.lanes[user] = l
	}
	l.jobs = append(l.jobs, job)
	r.waiting++
	r.queue(l)
	return true
}

// queue gives a lane its turn, behind all others, if it has use for one; mu is held.
func (r *readers) queue(l *readLane) {
	if !l.turn && len(l.jobs) > 0 && l.running < readsAtOnce {
		l.turn = true
		r.turns = append(r.turns, l)
		r.work.Signal()
	}
}

// run does one job after the other until the readers are closed and nothing waits.
func (r *readers) run() {
	r.mu.Lock()
	defer r.mu.Unlock()
	for {
		for len(r.turns) == 0 {
			if r.closed && r.waiting == 0 {
				r.work.Broadcast()
				return
			}
			r.work.Wait()
		}
		l := r.turns[0]
		r.turns[0] = nil
		r.turns = r.turns[1:]
		job := l.jobs[0]
		l.jobs[0] = nil
		l.jobs, l.turn = l.jobs[1:], false
		l.running++
		r.waiting--
		r.queue(l)
		r.mu.Unlock()
		job()
		r.mu.Lock()
		l.running--
		r.queue(l)
		if l.running == 0 && len(l.jobs) == 0 {
			delete(r.lanes, l.user)
		}
	}
}

// answer queues a job that answers another node; false: the queue is full, or closed.
func (r *readers) answer(job func()) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed {
		return false
	}
	select {
	case r.questions <- job:
		return true
	default:
		return false
	}
}

// depth is how many jobs wait.
func (r *readers) depth() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.waiting + len(r.questions)
}

// close waits for the queued jobs. None is taken any more.
func (r *readers) close() {
	r.mu.Lock()
	r.closed = true
	r.work.Broadcast()
	r.mu.Unlock()
	close(r.questions)
	r.done.Wait()
}
