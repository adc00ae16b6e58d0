package link

import (
	"encoding/binary"
	"fmt"
	"sync"
)

// A link is one connection to a peer: questions and messages go out, answers come back.
type link struct {
	peer   *peer
	stream *stream
	out    *outbox

	routes map[routeKey]uint64 // guarded by out.mu: the peer must learn a route before its use

	mu      sync.Mutex
	next    uint64
	calls   int // of waiting, those of the engine
	waiting map[uint64]waiter
	dead    error
}

// A routeKey is a pair of replicas. Frames name it by a number.
type routeKey struct {
	group          uint32
	source, target string
}

// A waiter is a question that has been asked. One of its methods is called once, without
// locks held, on the goroutine that reads or on the one that finds the link broken.
type waiter interface {
	// answer takes the answer. An error means that it is not one, and closes the link.
	answer(kind frameKind, body *decoder) error
	// fail says that there will be none.
	fail(err error)
}

func newLink(p *peer, s *stream) *link {
	s.attend(p.hub, p.presence)
	return &link{
		peer: p, stream: s, out: newOutbox(s, &p.count),
		routes: make(map[routeKey]uint64), waiting: make(map[uint64]waiter),
	}
}

// register gives a question its number.
func (l *link) register(w waiter, call bool) (uint64, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.dead != nil {
		return 0, fmt.Errorf("%w: %w", ErrUnreachable, l.dead)
	}
	if call {
		if l.calls >= CallsMax {
			return 0, ErrQueueFull
		}
		l.calls++
	}
	l.next++
	l.waiting[l.next] = w
	return l.next, nil
}

// forget drops a question; false means that its answer is being taken.
func (l *link) forget(correlation uint64, call bool) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	_, ok := l.waiting[correlation]
	if ok {
		delete(l.waiting, correlation)
		if call {
			l.calls--
		}
	}
	return ok
}

// route returns the number of a route, and appends the frame that explains a new one. The
// outbox is locked.
func (l *link) route(b []byte, key routeKey) ([]byte, uint64, int, error) {
	if n, ok := l.routes[key]; ok {
		return b, n, 0, nil
	}
	if len(l.routes) >= routesMax {
		return b, 0, 0, fmt.Errorf("%w: %d routes on one connection", ErrQueueFull, routesMax)
	}
	n := uint64(len(l.routes))
	start := len(b)
	b = openFrame(b, frameRoute)
	b = binary.AppendUvarint(b, n)
	b, err := closeFrame(appendRoute(b, key), start)
	l.routes[key] = n
	return b, n, 1, err
}

// fail ends the link and everything that waits for an answer. The first reason is kept.
func (l *link) fail(err error) {
	l.mu.Lock()
	if l.dead == nil {
		l.dead = err
	}
	waiting := l.waiting
	l.waiting = nil
	l.mu.Unlock()
	l.out.fail(fmt.Errorf("%w: %w", ErrUnreachable, err))
	l.stream.close()
	for _, w := range waiting {
		w.fail(fmt.Errorf("%w: %w", ErrUnreachable, err))
	}
}

func (l *link) failure() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.dead
}

// read takes answers until the connection breaks.
func (l *link) read() error {
	frames := frameReader{in: l.stream.in}
	for {
		kind, body, err := frames.next()
		if err != nil {
			return fmt.Errorf("link: read: %w", err)
		}
		l.peer.count.framesIn.Add(1)
		if kind == framePong {
			err = l.pong(body)
		} else {
			err = l.answer(kind, body)
		}
		if err != nil {
			return err
		}
	}
}

// answer hands an answer to who waits for it; one that nobody waits for came too late.
func (l *link) answer(kind frameKind, body []byte) error {
	switch kind {
	case frameAppended, frameVoted, framePreVoted, frameTimedOut, frameRefused, frameAnswer, frameFailure:
	default:
		return fmt.Errorf("%w: kind %d is not an answer", ErrFrame, kind)
	}
	d := decoder{b: body}
	correlation := d.uvarint()
	if d.bad {
		return d.end(kind)
	}
	call := kind == frameAnswer || kind == frameFailure
	l.mu.Lock()
	w := l.waiting[correlation]
	if w == nil {
		late := correlation <= l.next
		l.mu.Unlock()
		if !late {
			return fmt.Errorf("%w: an answer to nothing", ErrFrame)
		}
		return nil
	}
	delete(l.waiting, correlation)
	if call {
		l.calls--
	}
	l.mu.Unlock()
	err := w.answer(kind, &d)
	if err != nil {
		w.fail(err)
	}
	return err
}
