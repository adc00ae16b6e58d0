package link

import (
	"errors"
	"fmt"
	"sync"
	"time"
)

// Errors of sending. After both nothing was sent.
var (
	// ErrQueueFull means that the peer takes less than it is sent.
	ErrQueueFull = errors.New("link: queue full")
	// ErrUnreachable means that there is no connection to the peer now.
	ErrUnreachable = errors.New("link: peer unreachable")
)

// An outbox is what waits for one connection. Frames are appended to one buffer while the writer
// writes the other: whatever is pending leaves in one write. A lazy frame does not wake the
// writer; it leaves with the next that does, with the answers to what the peer has just
// sent, or at the next beat.
type outbox struct {
	stream *stream
	count  *counters
	wake   chan struct{} // capacity 1
	done   chan struct{} // closed when err is set

	mu      sync.Mutex
	pending []byte
	spare   []byte        // nil while it is written
	writing int           // bytes
	rest    bool          // of what is being written, the writer must write what the stream held back
	idleAt  time.Duration // of now, when the last write ended
	frames  int           // in pending
	prompt  bool          // something in pending does not wait
	armed   bool          // the timer runs
	timer   *time.Timer
	err     error
}

func newOutbox(s *stream, count *counters) *outbox {
	return &outbox{stream: s, count: count, wake: make(chan struct{}, 1), done: make(chan struct{})}
}

// begin locks the outbox and returns the buffer to append frames to, unless limit bytes wait
// already. commit or abort must follow if it does.
func (o *outbox) begin(limit int) ([]byte, error) {
	o.mu.Lock()
	err := o.err
	if err == nil && len(o.pending)+o.writing >= limit {
		err = ErrQueueFull
		o.count.drops.Add(1)
	}
	if err != nil {
		o.mu.Unlock()
		return nil, err
	}
	return o.pending, nil
}

// abort gives the buffer up; what was appended is forgotten.
func (o *outbox) abort() { o.mu.Unlock() }

// commit takes the buffer back with frames appended, the last of which began at start.
func (o *outbox) commit(b []byte, start, frames int, prompt bool) error {
	b, err := closeFrame(b, start)
	o.pending = b // without the last frame if that is too large
	if err != nil {
		o.count.drops.Add(1)
		o.mu.Unlock()
		return err
	}
	o.frames += frames
	switch {
	case prompt:
		o.prompt = true
		if b := o.takeIdle(); b != nil {
			o.mu.Unlock()
			o.writeNow(b)
			return nil
		}
		if o.writing == 0 {
			o.rouse()
		}
	case !o.prompt && !o.armed:
		o.armed = true
		wait := untilBeat(time.Now())
		if o.timer == nil {
			o.timer = time.AfterFunc(wait, o.due)
		} else {
			o.timer.Reset(wait)
		}
	}
	o.mu.Unlock()
	return nil
}

// takeIdle is take for the goroutine that has just appended a frame, if the connection was
// idle long enough: a frame that is alone need not wait until the writer is awake. mu is held.
func (o *outbox) takeIdle() []byte {
	if !o.stream.writesNow() || o.writing > 0 || len(o.pending) > writeNowBytesMax || o.stream.now()-o.idleAt < idleAfter {
		return nil
	}
	return o.takeLocked()
}

// writeNow writes what takeIdle took, as far as that goes without waiting.
func (o *outbox) writeNow(b []byte) {
	whole, err := o.stream.writeNow(b)
	if err != nil {
		o.fail(fmt.Errorf("link: write: %w", err))
		return
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	if !whole {
		o.rest = true
		o.spare = b[:0]
		o.rouse()
		return
	}
	o.giveLocked(b)
	if o.prompt {
		o.rouse()
	}
}

// rouse wakes the writer.
func (o *outbox) rouse() {
	select {
	case o.wake <- struct{}{}:
	default:
	}
}

// due is the timer's: what is lazy has waited long enough.
func (o *outbox) due() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.armed = false
	o.hasten()
}

// hasten makes what is pending leave now. mu is held.
func (o *outbox) hasten() {
	if len(o.pending) == 0 || o.prompt {
		return
	}
	o.prompt = true
	if o.writing == 0 {
		o.rouse()
	}
}

// flush makes what is pending leave now.
func (o *outbox) flush() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.hasten()
}

// untilBeat is how long it is until the next multiple of beatInterval. Nodes whose clocks agree
// write, and are written to, at the same moments, and sleep between them: for idle nodes it
// is waking up that costs. Clocks that disagree only make them wake up more often.
func untilBeat(now time.Time) time.Duration {
	past := time.Duration(now.UnixNano()) % beatInterval
	if past < 0 { // before 1970
		past += beatInterval
	}
	return beatInterval - past
}

// run writes until the outbox fails.
func (o *outbox) run() error {
	for {
		b, rest := o.take()
		if b == nil && !rest {
			select {
			case <-o.wake:
				continue
			case <-o.done:
				return o.failure()
			}
		}
		var err error
		if rest {
			err = o.stream.writeRest()
		} else {
			err = o.stream.writeAll(b)
		}
		o.give(b)
		if err != nil {
			err = fmt.Errorf("link: write: %w", err)
			o.fail(err)
			return err
		}
	}
}

// take swaps the buffers if there is something that must leave and nobody writes. If somebody
// could not write all of it, rest is true.
func (o *outbox) take() (b []byte, rest bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.err != nil {
		return nil, false
	}
	if o.rest {
		o.rest = false
		return o.spare, true
	}
	if !o.prompt || o.writing > 0 {
		return nil, false
	}
	return o.takeLocked(), false
}

func (o *outbox) takeLocked() []byte {
	b := o.pending
	o.writing = len(b)
	o.count.framesOut.Add(uint64(o.frames))
	o.pending, o.spare, o.frames, o.prompt = o.spare[:0], nil, 0, false
	if o.armed {
		o.armed = !o.timer.Stop()
	}
	return b
}

func (o *outbox) give(b []byte) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.giveLocked(b)
}

func (o *outbox) giveLocked(b []byte) {
	o.writing = 0
	o.idleAt = o.stream.now()
	if cap(b) <= keepBytesMax {
		o.spare = b
	}
}

// fail ends the outbox; begin returns err from then on.
func (o *outbox) fail(err error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.err != nil {
		return
	}
	o.err = err
	close(o.done)
	if o.timer != nil {
		o.timer.Stop()
	}
	o.pending, o.spare = nil, nil
}

func (o *outbox) failure() error {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.err
}

// queued returns the bytes that wait or are being written.
func (o *outbox) queued() int {
	o.mu.Lock()
	defer o.mu.Unlock()
	return len(o.pending) + o.writing
}
