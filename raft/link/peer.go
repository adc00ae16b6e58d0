package link

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// errSilent is why a connection is given up that brings nothing.
var errSilent = errors.New("link: the peer does not answer pings")

// A peer is a node that there should be a link to. Its goroutine dials, reads the answers,
// and dials again.
type peer struct {
	hub      *Hub
	node     uint32
	presence *presence
	ctx      context.Context // ends when the peer is no longer wanted
	cancel   context.CancelFunc
	kick     chan struct{} // the node was heard of: dial now
	rtt      atomic.Int64
	count    counters

	mu        sync.Mutex
	link      *link
	changed   chan struct{} // closed when link is set
	transfers map[*stream]struct{}
	complaint string
}

func newPeer(h *Hub, node uint32, presence *presence) *peer {
	p := &peer{
		hub: h, node: node, presence: presence,
		kick: make(chan struct{}, 1), changed: make(chan struct{}), transfers: make(map[*stream]struct{}),
	}
	p.ctx, p.cancel = context.WithCancel(h.ctx)
	return p
}

// run keeps a connection until the peer is no longer wanted.
func (p *peer) run() {
	defer p.cancel()
	pause, since := time.Duration(0), time.Duration(-1) // -1: no other process has this node's number
	for p.ctx.Err() == nil {
		l, err := p.connect()
		if errors.Is(err, ErrNotMember) && p.hub.options.OnNotMember != nil {
			p.hub.options.OnNotMember(err)
		}
		since = p.twin(since, err)
		if err == nil {
			began := p.hub.now()
			err = p.serve(l)
			if p.hub.now()-began > backoffMax {
				pause = 0
			}
		}
		if p.ctx.Err() == nil {
			p.complain(err)
			pause = p.wait(pause)
		}
	}
}

// twin takes the outcome of an attempt to connect, and since when all of them have found
// another process with this node's number; it returns the new beginning of that, or -1.
func (p *peer) twin(since time.Duration, err error) time.Duration {
	now := p.hub.now()
	switch {
	case !errors.Is(err, ErrTwin):
		return -1
	case since < 0:
		return now
	case now-since >= twinAfter && p.hub.options.OnTwin != nil:
		p.hub.options.OnTwin(err)
	}
	return since
}

// wait pauses between two attempts and returns what to pause for next.
func (p *peer) wait(pause time.Duration) time.Duration {
	if pause > 0 {
		timer := time.NewTimer(pause/2 + rand.N(pause))
		defer timer.Stop()
		select {
		case <-timer.C:
		case <-p.kick:
		case <-p.ctx.Done():
		}
	}
	return min(max(2*pause, backoffMin), backoffMax)
}

// arrived says that the node has connected to this one, so that it can be dialled, too.
func (p *peer) arrived() {
	select {
	case p.kick <- struct{}{}:
	default:
	}
}

// complain logs why there is no link, once for each reason in a row.
func (p *peer) complain(err error) {
	p.count.errors.Add(1)
	p.mu.Lock()
	same := p.complaint == err.Error()
	p.complaint = err.Error()
	p.mu.Unlock()
	if !same {
		p.hub.logger.Warn("link: no link to peer", "node", p.node, "error", err)
	}
}

// connect dials and shakes hands.
func (p *peer) connect() (*link, error) {
	p.count.dials.Add(1)
	s, w, err := p.hub.dial(p.ctx, p.node, purposeLink, &p.count)
	if err != nil {
		if errors.Is(err, syscall.ECONNREFUSED) {
			p.presence.gone.Store(true)
		}
		if errors.Is(err, ErrRefused) {
			p.count.refusals.Add(1)
		}
		return nil, err
	}
	p.count.connects.Add(1)
	p.hub.shown(p.node, w.epoch)
	return newLink(p, s), nil
}

// dial opens a connection to a node's address and shakes hands. The stream is adopted.
func (h *Hub) dial(ctx context.Context, node uint32, why purpose, count *counters) (*stream, welcome, error) {
	address, ok := h.options.Address(node)
	if !ok {
		return nil, welcome{}, fmt.Errorf("%w: node %d has no address", ErrUnreachable, node)
	}
	if h.Self() == 0 {
		return nil, welcome{}, fmt.Errorf("%w: this node has no number yet", ErrUnreachable)
	}
	return h.dialAddress(ctx, address, &hello{purpose: why, from: h.Self(), to: node, cluster: h.cluster.Load()}, count)
}

func (h *Hub) dialAddress(ctx context.Context, address string, hi *hello, count *counters) (*stream, welcome, error) {
	dialling, cancel := context.WithTimeout(ctx, dialTimeout)
	conn, err := h.options.Dial(dialling, address)
	cancel()
	if err != nil {
		return nil, welcome{}, fmt.Errorf("link: dial: %w", err)
	}
	s := newStream(conn, count)
	if !h.adopt(s) {
		return nil, welcome{}, ErrClosed
	}
	hi.version, hi.oldest, hi.incarnation, hi.epoch = Version, versionOldest, h.incarnation, h.options.Epoch()
	w, err := h.greet(ctx, s, hi)
	if err != nil {
		h.abandon(s)
		return nil, welcome{}, fmt.Errorf("link: %s: %w", address, err)
	}
	return s, w, nil
}

// greet is the handshake of the side that dialled.
func (h *Hub) greet(ctx context.Context, s *stream, hi *hello) (welcome, error) {
	ctx, cancel := context.WithTimeout(ctx, handshakeTimeout)
	defer cancel()
	stop := context.AfterFunc(ctx, s.close)
	defer stop()
	if err := s.secure(ctx, h.options.TLS, true); err != nil {
		return welcome{}, err
	}
	if err := s.writeAll(appendHello(nil, hi)); err != nil {
		return welcome{}, err
	}
	w, err := readWelcome(s.in)
	if err == nil && hi.to != 0 && (w.node != hi.to || w.cluster != hi.cluster) {
		err = fmt.Errorf("%w: it says that it is node %d of cluster %016x", ErrPreamble, w.node, w.cluster)
	}
	if err == nil && !stop() {
		err = context.Cause(ctx)
	}
	return w, err
}

// serve uses a connection until it breaks.
func (p *peer) serve(l *link) error {
	defer p.hub.abandon(l.stream)
	var writing sync.WaitGroup
	writing.Go(func() {
		if err := l.out.run(); err != nil {
			l.fail(err)
		}
	})
	stop := context.AfterFunc(p.ctx, func() { l.fail(ErrClosed) })
	p.mu.Lock()
	p.link = l
	close(p.changed)
	p.complaint = ""
	p.mu.Unlock()
	p.hub.logger.Info("link: up", "node", p.node)
	p.hub.watchers.tell(p.node, true)

	l.fail(l.read())
	stop()
	p.mu.Lock()
	p.link = nil
	p.changed = make(chan struct{})
	p.mu.Unlock()
	writing.Wait()
	p.rtt.Store(0)
	p.hub.watchers.tell(p.node, false)
	return l.failure()
}

// current returns the connection, nil if there is none, and what is closed when there is.
func (p *peer) current() (*link, <-chan struct{}) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.link, p.changed
}

// tick pings the connection if it is idle, and gives it up if it is dead.
func (p *peer) tick(now time.Duration, paused, always bool) {
	l, _ := p.current()
	if l == nil {
		return
	}
	if paused {
		l.stream.alive.hear()
	}
	if l.stream.alive.still(now) > deadAfter {
		p.endTransfers()
		l.fail(errSilent)
		return
	}
	if always || l.stream.alive.idle(now) >= pingInterval/2 {
		l.ping(now, p.hub.options.Epoch())
	}
}

// ping sends a ping; a full queue is answer enough.
func (l *link) ping(now time.Duration, epoch uint64) {
	b, err := l.out.begin(QueueBytesMax)
	if err != nil {
		return
	}
	start := len(b)
	b = openFrame(b, framePing)
	b = binary.AppendUvarint(b, uint64(now))
	b = binary.AppendUvarint(b, epoch)
	_ = l.out.commit(b, start, 1, true) // it is small
}

// pong takes the answer.
func (l *link) pong(body []byte) error {
	d := decoder{b: body}
	sent, epoch := d.uvarint(), d.uvarint()
	if err := d.end(framePong); err != nil {
		return err
	}
	sample := int64(l.peer.hub.now()) - int64(sent)
	if sample < 0 {
		return fmt.Errorf("%w: a pong from the future", ErrFrame)
	}
	if old := l.peer.rtt.Load(); old != 0 {
		sample = old + (sample-old)/8
	}
	l.peer.rtt.Store(max(sample, 1))
	l.peer.hub.shown(l.peer.node, epoch)
	return nil
}

// carry notes a transfer, which ends when the peer is given up.
func (p *peer) carry(s *stream) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.transfers[s] = struct{}{}
}

func (p *peer) drop(s *stream) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.transfers, s)
}

func (p *peer) endTransfers() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for s := range p.transfers {
		s.close()
	}
}
