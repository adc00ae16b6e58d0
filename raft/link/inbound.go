package link

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"sync"
	"sync/atomic"
	"time"

	hraft "github.com/hashicorp/raft"
)

// errReplaced is why a connection ends when its node opens another.
var errReplaced = errors.New("link: the node has opened another connection")

// An inbound is a peer's connection to this node: its questions come in, answers go out. What
// comes is handled in order, on one goroutine, by code that does not block.
type inbound struct {
	hub         *Hub
	node        uint32
	incarnation uint64
	stream      *stream
	out         *outbox
	count       *counters
	ctx         context.Context // for the engine's calls; ends with the connection
	ended       chan struct{}

	routes  []inboundRoute
	beat    hraft.AppendEntriesRequest // of heartbeats, which are answered on the spot
	beating chan hraft.RPCResponse     // capacity 1
	calls   atomic.Int64               // of the engine, not yet answered
}

// An inboundRoute is what a number in the peer's frames means.
type inboundRoute struct {
	routeKey
	header    []byte     // source
	transport *transport // nil until it was looked up
}

// serveLink takes what a peer sends until the connection breaks.
func (h *Hub) serveLink(s *stream, hi *hello) error {
	ctx, cancel := context.WithCancel(h.ctx)
	defer cancel()
	in := &inbound{
		hub: h, node: hi.from, incarnation: hi.incarnation, stream: s, count: &h.total,
		ctx: ctx, ended: make(chan struct{}), beating: make(chan hraft.RPCResponse, 1),
	}
	in.out = newOutbox(s, in.count)
	s.attend(h, h.presence(hi.from))
	defer close(in.ended)
	if !in.enter() {
		return ErrClosed
	}
	defer in.leave()
	if p := h.peer(in.node); p != nil {
		p.arrived()
	}
	h.shown(in.node, hi.epoch)
	h.arrivals.tell(in.node, true)
	defer h.arrivals.tell(in.node, false)
	var writing sync.WaitGroup
	writing.Go(func() {
		if in.out.run() != nil {
			s.close()
		}
	})
	err := in.read()
	in.out.fail(fmt.Errorf("%w: %w", ErrUnreachable, err))
	s.close()
	writing.Wait()
	if errors.Is(err, io.EOF) || !errors.Is(err, ErrFrame) && !errors.Is(err, ErrFrameTooLarge) {
		h.logger.Info("link: peer's connection ended", "node", in.node, "error", err)
		return nil
	}
	h.total.errors.Add(1)
	return fmt.Errorf("link: node %d: %w", in.node, err)
}

// enter makes this the node's connection. One that it had is ended first, so that what comes on
// the two is not mixed.
func (in *inbound) enter() bool {
	h := in.hub
	for {
		h.mu.Lock()
		if h.closed {
			h.mu.Unlock()
			return false
		}
		old := h.inbound[in.node]
		if old == nil {
			h.inbound[in.node] = in
			h.mu.Unlock()
			return true
		}
		h.mu.Unlock()
		old.out.fail(errReplaced)
		old.stream.close()
		select {
		case <-old.ended:
		case <-h.ctx.Done():
			return false
		}
	}
}

func (in *inbound) leave() {
	in.hub.mu.Lock()
	defer in.hub.mu.Unlock()
	delete(in.hub.inbound, in.node)
}

// tick ends a connection that the peer, which pings, has given up or cannot reach.
func (in *inbound) tick(now time.Duration, paused bool) {
	if paused {
		in.stream.alive.hear()
	}
	if in.stream.alive.still(now) > deadAfter+2*pingInterval {
		in.stream.close()
	}
}

func (in *inbound) read() error {
	frames := frameReader{in: in.stream.in}
	for {
		if in.stream.in.Buffered() == 0 {
			in.out.flush() // answers that nobody waits for, all of what came together
		}
		kind, body, err := frames.next()
		if err != nil {
			return err
		}
		in.count.framesIn.Add(1)
		if err := in.take(kind, body); err != nil {
			return err
		}
	}
}

// take handles one frame.
func (in *inbound) take(kind frameKind, body []byte) error {
	d := &decoder{b: body}
	switch kind {
	case framePing:
		return in.ping(d)
	case frameRoute:
		return in.route(d)
	case frameAppend, frameAppendEmpty, frameVote, framePreVote, frameTimeoutNow:
		return in.raft(kind, d)
	case frameMessage:
		return in.message(d)
	case frameCall:
		return in.call(d)
	default:
		return fmt.Errorf("%w: unknown kind %d", ErrFrame, kind)
	}
}

// ping answers at once: the peer measures.
func (in *inbound) ping(d *decoder) error {
	token, epoch := d.uvarint(), d.uvarint()
	if err := d.end(framePing); err != nil {
		return err
	}
	in.hub.shown(in.node, epoch)
	b, err := in.out.begin(QueueBytesMax)
	if err != nil {
		return in.overflow(err)
	}
	start := len(b)
	b = openFrame(b, framePong)
	b = binary.AppendUvarint(b, token)
	b = binary.AppendUvarint(b, in.hub.options.Epoch())
	return in.out.commit(b, start, 1, true)
}

// route learns what a number means from now on.
func (in *inbound) route(d *decoder) error {
	number := d.uvarint()
	key, err := parseRoute(d, frameRoute)
	if err != nil {
		return err
	}
	if err := d.end(frameRoute); err != nil {
		return err
	}
	if number != uint64(len(in.routes)) || number >= routesMax {
		return fmt.Errorf("%w: route %d after %d", ErrFrame, number, len(in.routes))
	}
	if node, ok := in.hub.options.NodeOf(key.source); !ok || node != in.node {
		return fmt.Errorf("%w: node %d speaks for replica %q", ErrFrame, in.node, key.source)
	}
	in.routes = append(in.routes, inboundRoute{routeKey: key, header: []byte(key.source)})
	return nil
}

// overflow ends a connection whose answers are not taken: to drop one would leave its question
// waiting.
func (in *inbound) overflow(err error) error {
	if errors.Is(err, ErrQueueFull) {
		in.hub.logger.Warn("link: peer does not take its answers", "node", in.node)
		in.out.fail(err)
		in.stream.close()
	}
	return err
}

// raft gives a question to the group's replica, or says why not.
func (in *inbound) raft(kind frameKind, d *decoder) error {
	correlation, number := d.uvarint(), d.uvarint()
	if d.bad || number >= uint64(len(in.routes)) {
		return fmt.Errorf("%w: route %d of %d", ErrFrame, number, len(in.routes))
	}
	r := &in.routes[number]
	t := r.transport
	if t == nil || t.isClosed() {
		t = in.hub.transport(r.group)
		if t == nil || t.server != r.target {
			return in.refuse(correlation, fmt.Sprintf("replica %s of group %d is not here", r.target, r.group))
		}
		r.transport = t
	}
	header := hraft.RPCHeader{ID: r.header, Addr: r.header}
	q := question{in: in, correlation: correlation}
	switch kind {
	case frameAppendEmpty:
		q.lazy = d.byte()&flagLazy != 0
		if err := parseAppend(d, false, &in.beat); err != nil {
			return err
		}
		if isHeartbeat(&in.beat) && t.knowsTerm(in.beat.Term) {
			return in.heartbeat(t, q, header)
		}
		a := in.beat
		return t.ask(q, appendCommand(&a, header), kind, 0)
	case frameAppend:
		size := len(d.b)
		q.lazy = d.byte()&flagLazy != 0
		a := &hraft.AppendEntriesRequest{}
		if err := parseAppend(d, true, a); err != nil {
			return err
		}
		return t.ask(q, appendCommand(a, header), kind, size)
	case frameVote:
		v := &hraft.RequestVoteRequest{}
		if err := parseVote(d, v); err != nil {
			return err
		}
		header.ProtocolVersion = v.ProtocolVersion
		v.RPCHeader, v.Candidate = header, r.header
		return t.ask(q, v, kind, 0)
	case framePreVote:
		v := &hraft.RequestPreVoteRequest{}
		if err := parsePreVote(d, v); err != nil {
			return err
		}
		header.ProtocolVersion = v.ProtocolVersion
		v.RPCHeader = header
		return t.ask(q, v, kind, 0)
	default: // frameTimeoutNow
		header.ProtocolVersion = protocolVersion(d)
		if err := d.end(kind); err != nil {
			return err
		}
		return t.ask(q, &hraft.TimeoutNowRequest{RPCHeader: header}, kind, 0)
	}
}

// appendCommand completes an AppendEntries with what the route says.
func appendCommand(a *hraft.AppendEntriesRequest, header hraft.RPCHeader) *hraft.AppendEntriesRequest {
	header.ProtocolVersion = a.ProtocolVersion
	a.RPCHeader, a.Leader = header, header.Addr
	return a
}

// isHeartbeat is what hashicorp/raft takes for one.
func isHeartbeat(a *hraft.AppendEntriesRequest) bool {
	return a.PrevLogEntry == 0 && a.PrevLogTerm == 0 && a.LeaderCommitIndex == 0 && len(a.Entries) == 0
}

// heartbeat answers a heartbeat past what waits for the replica's disk.
func (in *inbound) heartbeat(t *transport, q question, header hraft.RPCHeader) error {
	handle := t.heartbeats.Load()
	if handle == nil {
		a := in.beat
		return t.ask(q, appendCommand(&a, header), frameAppendEmpty, 0)
	}
	(*handle)(hraft.RPC{Command: appendCommand(&in.beat, header), RespChan: in.beating})
	select {
	case r := <-in.beating:
		return q.reply(r)
	default:
		return in.refuse(q.correlation, "the replica is stopping")
	}
}

// refuse answers a question of Raft that cannot be handled.
func (in *inbound) refuse(correlation uint64, text string) error {
	b, err := in.out.begin(QueueBytesMax)
	if err != nil {
		return in.overflow(err)
	}
	start := len(b)
	b = openFrame(b, frameRefused)
	b = binary.AppendUvarint(b, correlation)
	b = appendBytes(b, text[:min(len(text), textBytesMax)])
	return in.out.commit(b, start, 1, true)
}

// A question is where the answer to a peer's question goes.
type question struct {
	in          *inbound
	correlation uint64
	lazy        bool
	at          time.Duration
	bytes       int
	answer      chan hraft.RPCResponse
}

// reply sends what the replica answered. An error means that the connection is broken.
func (q *question) reply(r hraft.RPCResponse) error {
	if r.Error != nil {
		return q.in.refuse(q.correlation, r.Error.Error())
	}
	b, err := q.in.out.begin(QueueBytesMax)
	if err != nil {
		return q.in.overflow(err)
	}
	start := len(b)
	switch a := r.Response.(type) {
	case *hraft.AppendEntriesResponse:
		b = appendAppended(q.open(b, frameAppended), a)
	case *hraft.RequestVoteResponse:
		b = appendTermAnswer(q.open(b, frameVoted), a.Term, a.Granted)
	case *hraft.RequestPreVoteResponse:
		b = appendTermAnswer(q.open(b, framePreVoted), a.Term, a.Granted)
	case *hraft.TimeoutNowResponse:
		b = q.open(b, frameTimedOut)
	default:
		b = appendBytes(q.open(b, frameRefused), fmt.Sprintf("no answer of this kind: %T", r.Response))
	}
	return q.in.out.commit(b, start, 1, !q.lazy)
}

func (q *question) open(b []byte, kind frameKind) []byte {
	return binary.AppendUvarint(openFrame(b, kind), q.correlation)
}
