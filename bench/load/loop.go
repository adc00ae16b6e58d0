//go:build linux

package load

import (
	"container/heap"
	"encoding/binary"
	"errors"
	"fmt"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// readBytes is the buffer that all sessions share: a burst of 1,000 messages in one read.
	readBytes = 256 << 10
	// eventsMax bounds what one epoll_wait gives.
	eventsMax = 512
	// idleBuffersMax bounds the output buffers that are kept for reuse.
	idleBuffersMax = 1024
)

// A Loop is one epoll loop. All of its methods but Post run on the goroutine that Run
// is on, and so do the handlers of its connections.
type Loop struct {
	epoll, event, timer int

	started time.Time
	now     time.Duration // since started, read after each system call that waits
	conns   []*Conn       // by file descriptor
	dirty   []*Conn       // have frames to write
	read    []byte
	buffers [][]byte
	timers  timers
	stopped bool

	mu     sync.Mutex
	posted []func()
}

// NewLoop opens a loop. Close it after Run has returned.
func NewLoop() (*Loop, error) {
	l := &Loop{started: time.Now(), read: make([]byte, readBytes)}
	var err error
	if l.epoll, err = unix.EpollCreate1(unix.EPOLL_CLOEXEC); err != nil {
		return nil, fmt.Errorf("load: epoll: %w", err)
	}
	if l.event, err = unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK); err != nil {
		return nil, fmt.Errorf("load: eventfd: %w", err)
	}
	if l.timer, err = unix.TimerfdCreate(unix.CLOCK_MONOTONIC, unix.TFD_CLOEXEC|unix.TFD_NONBLOCK); err != nil {
		return nil, fmt.Errorf("load: timerfd: %w", err)
	}
	return l, errors.Join(l.watch(l.event, unix.EPOLLIN), l.watch(l.timer, unix.EPOLLIN))
}

// Close closes the loop's own descriptors and the connections that are left.
func (l *Loop) Close() error {
	for _, c := range l.conns {
		if c != nil {
			_ = unix.Close(c.fd)
		}
	}
	l.conns = nil
	return errors.Join(unix.Close(l.epoll), unix.Close(l.event), unix.Close(l.timer))
}

// Now is the time since the loop was made, as of the last event.
func (l *Loop) Now() time.Duration { return l.now }

// Post runs fn on the loop; any goroutine may call it.
func (l *Loop) Post(fn func()) {
	l.mu.Lock()
	l.posted = append(l.posted, fn)
	first := len(l.posted) == 1
	l.mu.Unlock()
	if first {
		one := [8]byte{1}
		_, _ = unix.Write(l.event, one[:]) // fails only if the counter is full, and then the loop is awake
	}
}

// Stop makes Run return after the current round.
func (l *Loop) Stop() { l.stopped = true }

// After runs fn on the loop once d has passed.
func (l *Loop) After(d time.Duration, fn func()) { l.at(l.tick()+d, fn) }

// At runs fn at a moment on the loop's clock, which may be past.
func (l *Loop) At(when time.Duration, fn func()) { l.at(when, fn) }

func (l *Loop) at(when time.Duration, fn func()) {
	heap.Push(&l.timers, timer{when, fn})
	if l.timers[0].when == when {
		l.arm()
	}
}

// tick reads the clock.
func (l *Loop) tick() time.Duration {
	l.now = time.Since(l.started)
	return l.now
}

// arm sets the timer's descriptor to the earliest timer.
func (l *Loop) arm() {
	var spec unix.ItimerSpec
	if len(l.timers) > 0 {
		wait := max(l.timers[0].when-l.tick(), 1) // 0 would disarm it
		spec.Value = unix.NsecToTimespec(int64(wait))
	}
	_ = unix.TimerfdSettime(l.timer, 0, &spec, nil) // fails only for bad arguments
}

// Run handles events until Stop.
func (l *Loop) Run() error {
	events := make([]unix.EpollEvent, eventsMax)
	l.runPosted() // what came before anybody waited
	for !l.stopped {
		l.flush()
		n, err := unix.EpollWait(l.epoll, events, -1)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			return fmt.Errorf("load: epoll: %w", err)
		}
		for i := range events[:n] {
			l.handle(int(events[i].Fd), events[i].Events)
		}
	}
	return nil
}

func (l *Loop) handle(fd int, events uint32) {
	switch fd {
	case l.event:
		drain(fd)
		l.runPosted()
	case l.timer:
		drain(fd)
		l.runTimers()
	default:
		c := l.conns[fd]
		if c == nil {
			return // closed by an event of the same round
		}
		if events&unix.EPOLLOUT != 0 {
			c.writable()
		}
		if !c.closed && events&(unix.EPOLLIN|unix.EPOLLHUP|unix.EPOLLERR) != 0 {
			c.readable()
		}
	}
}

func drain(fd int) {
	var b [8]byte
	_, _ = unix.Read(fd, b[:]) // only resets the counter
}

func (l *Loop) runPosted() {
	l.mu.Lock()
	posted := l.posted
	l.posted = nil
	l.mu.Unlock()
	l.tick()
	for _, fn := range posted {
		fn()
	}
}

func (l *Loop) runTimers() {
	for l.tick(); len(l.timers) > 0 && l.timers[0].when <= l.now; {
		t := heap.Pop(&l.timers).(timer)
		t.fn()
	}
	l.arm()
}

// flush writes what the round's handlers have queued: one write a session.
func (l *Loop) flush() {
	for i := 0; i < len(l.dirty); i++ { // a failed write may queue more
		c := l.dirty[i]
		c.dirty = false
		c.flush()
	}
	l.dirty = l.dirty[:0]
}

func (l *Loop) watch(fd int, events uint32) error {
	return unix.EpollCtl(l.epoll, unix.EPOLL_CTL_ADD, fd, &unix.EpollEvent{Events: events, Fd: int32(fd)})
}

func (l *Loop) rewatch(fd int, events uint32) error {
	return unix.EpollCtl(l.epoll, unix.EPOLL_CTL_MOD, fd, &unix.EpollEvent{Events: events, Fd: int32(fd)})
}

func (l *Loop) buffer() []byte {
	if n := len(l.buffers); n > 0 {
		b := l.buffers[n-1]
		l.buffers = l.buffers[:n-1]
		return b
	}
	return make([]byte, 0, 1024)
}

func (l *Loop) release(b []byte) {
	if len(l.buffers) < idleBuffersMax {
		l.buffers = append(l.buffers, b[:0])
	}
}

// A timer is a function and its moment on the loop's clock.
type timer struct {
	when time.Duration
	fn   func()
}

// timers is a heap, the earliest first.
type timers []timer

func (t timers) Len() int           { return len(t) }
func (t timers) Less(i, j int) bool { return t[i].when < t[j].when }
func (t timers) Swap(i, j int)      { t[i], t[j] = t[j], t[i] }
func (t *timers) Push(x any)        { *t = append(*t, x.(timer)) }
func (t *timers) Pop() any {
	old := *t
	last := old[len(old)-1]
	*t = old[:len(old)-1]
	return last
}

// frameHeader reads the header of a server's WebSocket frame. size is 0 while bytes are missing.
func frameHeader(b []byte) (h frame, size int, err error) {
	if len(b) < 2 {
		return h, 0, nil
	}
	h.final, h.opcode = b[0]&0x80 != 0, b[0]&0x0f
	if b[0]&0x70 != 0 || b[1]&0x80 != 0 {
		return h, 0, ErrFrame
	}
	switch n := b[1]; {
	case n < 126:
		h.length, size = int(n), 2
	case n == 126 && len(b) >= 4:
		h.length, size = int(binary.BigEndian.Uint16(b[2:])), 4
	case n == 127 && len(b) >= 10:
		length := binary.BigEndian.Uint64(b[2:])
		if length > readBytes {
			return h, 0, ErrFrame
		}
		h.length, size = int(length), 10
	}
	return h, size, nil
}

// A frame is the header of a WebSocket frame.
type frame struct {
	final  bool
	opcode byte
	length int
}
