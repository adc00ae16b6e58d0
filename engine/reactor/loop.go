package reactor

import (
	"context"
	"math"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/panjf2000/gnet/v2"

	"parley/engine/websocket"
)

// A Loop is one event loop. Only Post and Index may be called from other goroutines;
// everything else belongs to the loop's Handler.
type Loop struct {
	server     *Server
	index      int
	handler    Handler
	decoder    websocket.Decoder
	handshaker *websocket.Handshaker
	slab       slab
	wheel      wheel
	output     output
	stats      counters

	// A turn is one run of the loop's code: Handler methods and what follows from them.
	turning bool
	settled []*record // closing, to be looked at when the turn's output is out
	doomed  []*record // to be dropped at the end of the turn
	gone    []*record // closed by gnet during the turn
	spare   []*record // the other half of gone, and scratch of the wheel
	unread  [1024]byte

	fragments map[uint32]*websocket.Fragments // by slot, of the few that have any
	fragment  websocket.Fragments             // of all others, while they are read
	held      int                             // bytes of unfinished input

	blocked      []Handle // whose output the kernel has not taken
	blockedOld   []Handle
	blockedTimer *time.Timer
	blockedPause time.Duration

	inbox   inbox
	events  gnet.EventLoop
	ticking atomic.Bool // a tick is under way

	tickTask, drainTask, blockedTask, shutdownTask task
}

// A task is what other goroutines ask gnet to run on the loop.
type task func()

// Run runs it.
func (t task) Run(context.Context) error {
	t()
	return nil
}

func newLoop(s *Server, index int) *Loop {
	l := &Loop{server: s, index: index, fragments: make(map[uint32]*websocket.Fragments),
		decoder:    websocket.Decoder{MessageBytesMax: s.config.MessageBytesMax},
		handshaker: websocket.NewHandshaker(s.config.Subprotocol, s.config.CheckOrigin)}
	l.slab.loop = uint8(index)
	l.wheel = wheel{slab: &l.slab, now: s.seconds()}
	l.tickTask, l.drainTask, l.blockedTask, l.shutdownTask = l.tick, l.drain, l.pollBlocked, l.shutdown
	l.inbox.timer = time.AfterFunc(math.MaxInt64, func() { l.execute(l.drainTask) })
	l.blockedTimer = time.AfterFunc(math.MaxInt64, func() { l.execute(l.blockedTask) })
	l.handler = s.config.NewHandler(l)
	return l
}

// Index is the loop's number, the one in its sessions' handles.
func (l *Loop) Index() int { return l.index }

// open takes in a new connection.
func (l *Loop) open(c gnet.Conn) {
	r := l.slab.take()
	r.conn, r.state = c, stateUpgrading
	c.SetContext(r)
	l.wheel.set(r, int(l.server.config.UpgradeTimeout/time.Second))
}

// begin starts a turn.
func (l *Loop) begin() { l.turning = true }

// end finishes a turn: output leaves, connections that are to end do, and the Handler
// hears of those that did, which may bring more of all of it.
func (l *Loop) end() {
	for {
		l.flush()
		l.settle()
		l.dropDoomed()
		if len(l.gone) == 0 {
			break
		}
		gone := l.gone
		l.gone, l.spare = l.spare[:0], nil
		for i, r := range gone {
			if r.is(flagOpened) {
				l.handler.Closed(r.handle())
			}
			l.slab.give(r)
			gone[i] = nil
		}
		l.spare = gone[:0]
	}
	l.turning = false
}

// closed takes note that gnet has closed a connection. The record stays until the
// Handler knows: only at the end of a turn, because Conn.Write closes too.
func (l *Loop) closed(r *record) {
	l.server.connections.Add(-1)
	if r.is(flagOpened) {
		l.stats.sessions.Add(-1)
	} else {
		l.server.handshakes.Add(-1)
		if r.reason == ReasonPeer {
			r.reason = ReasonUpgrade
		}
	}
	l.stats.closed[r.reason].Add(1)
	l.wheel.remove(r)
	l.output.forget(r)
	l.hold(r, 0)
	if r.is(flagFragmented) {
		delete(l.fragments, r.slot)
	}
	if r.is(flagBlocked) {
		l.stats.blocked.Add(-1)
	}
	r.state, r.conn = stateGone, nil
	l.gone = append(l.gone, r)
	if !l.turning {
		l.begin()
		l.end()
	}
}

// lateResponse is for handshakes that do not end.
var lateResponse = websocket.AppendHandshakeError(nil, websocket.ErrLate)

// tick moves the wheel on: once a second, or later if the loop is busy.
func (l *Loop) tick() {
	l.ticking.Store(false)
	l.begin()
	expired := l.wheel.advance(l.server.seconds(), l.spare[:0])
	l.spare = nil
	for i, r := range expired {
		switch r.state {
		case stateOpen:
			l.handler.Expired(r.handle())
		case stateUpgrading:
			l.output.append(r, lateResponse, true)
			r.reason = ReasonUpgrade
			l.doom(r)
		case stateClosing:
			l.doom(r)
		}
		expired[i] = nil
	}
	l.spare = expired[:0]
	l.end()
}

// Alive says whether the handle names a session that may still be written to.
func (l *Loop) Alive(h Handle) bool {
	r := l.slab.find(h)
	return r != nil && r.state == stateOpen
}

// RemoteAddr is the peer's address; the zero value if the session has ended.
func (l *Loop) RemoteAddr(h Handle) netip.AddrPort {
	if r := l.slab.find(h); r != nil {
		if a, ok := r.conn.RemoteAddr().(*net.TCPAddr); ok {
			return a.AddrPort()
		}
	}
	return netip.AddrPort{}
}

// SetDeadline asks for Expired in that many seconds, unless it is called again before;
// 0 clears. Moving a deadline away costs nothing, so it may be done for each message.
// Expired comes within the second after the deadline and clears it.
func (l *Loop) SetDeadline(h Handle, seconds int) {
	if r := l.slab.find(h); r != nil && r.state == stateOpen {
		l.wheel.set(r, seconds)
	}
}

// An inbox is what other goroutines have for a loop.
type inbox struct {
	mu     sync.Mutex
	events gnet.EventLoop // nil before the loop is bound and after it has stopped
	posted []any
	spare  []any
	armed  bool // the loop will look
	dead   bool
	timer  *time.Timer
}

// drainRoundsMax is how often a loop looks again for what was posted while it drained,
// before it turns to its sockets. gnet runs what it is asked to run before it polls
// again, so without a limit a busy poster would starve the sockets.
const drainRoundsMax = 4

// drainPause is how long the loop is then left to its sockets.
const drainPause = 100 * time.Microsecond

// inboxKept is the capacity of the inbox that is kept.
const inboxKept = 8 << 10

// Post hands x to the Handler's Inbox on this loop. Any goroutine may call it; it never
// waits for the loop, a burst of posts wakes the loop once, and after Close it does
// nothing. What is posted is not bounded here: Backlog tells a producer to slow down.
func (l *Loop) Post(x any) {
	b := &l.inbox
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.dead {
		return
	}
	b.posted = append(b.posted, x)
	if b.armed || b.events == nil {
		return
	}
	b.armed = true
	_ = b.events.Execute(context.Background(), l.drainTask)
}

// Backlog is how many posted items wait. Any goroutine may call it.
func (l *Loop) Backlog() int {
	l.inbox.mu.Lock()
	defer l.inbox.mu.Unlock()
	return len(l.inbox.posted)
}

// execute runs a task on the loop; false if the loop does not run.
func (l *Loop) execute(t task) bool {
	b := &l.inbox
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.events != nil && b.events.Execute(context.Background(), t) == nil
}

// bind ties the loop to gnet's.
func (l *Loop) bind(el gnet.EventLoop) {
	l.events = el
	b := &l.inbox
	b.mu.Lock()
	defer b.mu.Unlock()
	b.events = el
	if len(b.posted) > 0 {
		b.armed = true
		_ = el.Execute(context.Background(), l.drainTask)
	}
}

// stop cuts the loop off from other goroutines, for gnet's loop must not be woken once
// it has ended: its file descriptors may be somebody else's by then.
func (l *Loop) stop() {
	b := &l.inbox
	b.mu.Lock()
	defer b.mu.Unlock()
	b.events, b.dead, b.posted = nil, true, nil
	b.timer.Stop()
	l.blockedTimer.Stop()
}

// drain gives the Handler what was posted.
func (l *Loop) drain() {
	l.stats.wakeups.Add(1)
	for round := 0; ; round++ {
		items := l.takePosted(round)
		if items == nil {
			return
		}
		l.begin()
		l.output.flushable = true
		l.handler.Inbox(items)
		l.output.flushable = false
		l.end()
		clear(items)
		if cap(items) <= inboxKept {
			l.inbox.spare = items[:0]
		}
	}
}

// takePosted is what there is to do in this round, nil if nothing.
func (l *Loop) takePosted(round int) []any {
	b := &l.inbox
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.posted) == 0 {
		b.armed = false
		return nil
	}
	if round == drainRoundsMax {
		b.timer.Reset(drainPause)
		return nil
	}
	items := b.posted
	b.posted, b.spare = b.spare, nil
	return items
}
