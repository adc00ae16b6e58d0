package link

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	hraft "github.com/hashicorp/raft"

	"parley/raft"
)

// Errors of Raft's questions.
var (
	// errTimeout means that a peer that is alive did not answer.
	errTimeout = errors.New("link: no answer in time")
	// errSuperseded ends a message of an older term that waits for a connection.
	errSuperseded = errors.New("link: a later term has begun")
	// errNotThere is wrapped by what a peer says that did not handle a question.
	errNotThere = errors.New("link: not handled by the peer")
	errUnknown  = errors.New("link: no node has this replica")
	errGroup    = errors.New("link: the group has a transport already")
)

// network makes the transports of a hub's groups.
type network struct{ hub *Hub }

// Network returns what raft.Options want: the transports of all groups. A replica's address is its
// id, which Options.NodeOf and Options.Address resolve.
func (h *Hub) Network() raft.Network { return network{h} }

// Transport registers a group's replica, which the server id names.
func (n network) Transport(group uint32, server string) (raft.Transport, error) {
	h := n.hub
	h.mu.Lock()
	defer h.mu.Unlock()
	switch {
	case h.closed:
		return nil, ErrClosed
	case h.transports[group] != nil:
		return nil, fmt.Errorf("%w: %d", errGroup, group)
	case len(server) == 0 || len(server) > serverBytesMax:
		return nil, fmt.Errorf("%w: a replica id has 1 to %d bytes, not %d", ErrOptions, serverBytesMax, len(server))
	}
	t := &transport{
		hub: h, group: group, server: server,
		consumer: make(chan hraft.RPC, groupQueueMax), asked: make(chan question, groupQueueMax),
		waits: make(map[hraft.ServerAddress]supersedable),
	}
	t.ctx, t.cancel = context.WithCancel(h.ctx)
	t.closed = t.ctx.Done()
	h.transports[group] = t
	t.running.Go(t.respond)
	return t, nil
}

func (h *Hub) transport(group uint32) *transport {
	h.mu.RLock()
	defer h.mu.RUnlock()
	return h.transports[group]
}

// A transport is one group's share of all links.
type transport struct {
	hub        *Hub
	group      uint32
	server     string
	consumer   chan hraft.RPC
	heartbeats atomic.Pointer[func(hraft.RPC)]
	term       atomic.Uint64 // the highest that the replica has answered with
	running    sync.WaitGroup
	ctx        context.Context // ends at Close
	cancel     context.CancelFunc
	closed     <-chan struct{} // of ctx

	askMu  sync.Mutex // keeps consumer and asked in the same order
	asked  chan question
	queued atomic.Int64 // bytes

	waitMu sync.Mutex
	waits  map[hraft.ServerAddress]supersedable
}

// A supersedable is an AppendEntries that waits for a connection.
type supersedable struct {
	term uint64
	end  chan struct{}
}

func (t *transport) Consumer() <-chan hraft.RPC { return t.consumer }

func (t *transport) LocalAddr() hraft.ServerAddress { return hraft.ServerAddress(t.server) }

func (t *transport) EncodePeer(_ hraft.ServerID, a hraft.ServerAddress) []byte { return []byte(a) }

func (t *transport) DecodePeer(b []byte) hraft.ServerAddress { return hraft.ServerAddress(b) }

func (t *transport) SetHeartbeatHandler(handle func(hraft.RPC)) { t.heartbeats.Store(&handle) }

// Close ends all calls under way. Questions that were not answered are refused.
func (t *transport) Close() error {
	t.cancel()
	t.hub.mu.Lock()
	if t.hub.transports[t.group] == t {
		delete(t.hub.transports, t.group)
	}
	t.hub.mu.Unlock()
	t.running.Wait()
	return nil
}

func (t *transport) isClosed() bool { return t.ctx.Err() != nil }

// knowsTerm tells whether the replica has been in a term: then a heartbeat of it does not make
// it write its vote, and may be handled where other groups' messages wait.
func (t *transport) knowsTerm(term uint64) bool { return t.term.Load() >= term }

// ask puts a question into the replica's queue, or refuses it if that is full. It never waits.
func (t *transport) ask(q question, command any, kind frameKind, size int) error {
	q.answer, q.bytes = make(chan hraft.RPCResponse, 1), size
	t.askMu.Lock()
	full := len(t.asked) >= groupQueueMax || len(t.consumer) >= groupQueueMax ||
		t.queued.Load() > 0 && t.queued.Load()+int64(size) > groupQueueBytesMax || t.isClosed()
	if !full {
		t.queued.Add(int64(size))
		t.asked <- q
		t.consumer <- hraft.RPC{Command: command, RespChan: q.answer}
	}
	t.askMu.Unlock()
	if full {
		q.in.count.drops.Add(1)
		return q.in.refuse(q.correlation, fmt.Sprintf("group %d is busy", t.group))
	}
	return nil
}

// respond sends the replica's answers, which come in the order of the questions.
func (t *transport) respond() {
	for {
		var q question
		select {
		case q = <-t.asked:
		case <-t.closed:
			t.refuseAll()
			return
		}
		select {
		case r := <-q.answer:
			t.queued.Add(-int64(q.bytes))
			t.note(r)
			_ = q.reply(r) // a broken connection has nobody to tell
		case <-t.closed:
			_ = q.in.refuse(q.correlation, "the replica is stopping")
			t.refuseAll()
			return
		}
	}
}

// note learns from an answer which term the replica is in.
func (t *transport) note(r hraft.RPCResponse) {
	if a, ok := r.Response.(*hraft.AppendEntriesResponse); ok && a.Term > t.term.Load() {
		t.term.Store(a.Term)
	}
}

// refuseAll answers what is queued when the transport is closed.
func (t *transport) refuseAll() {
	t.askMu.Lock()
	defer t.askMu.Unlock()
	for {
		select {
		case q := <-t.asked:
			_ = q.in.refuse(q.correlation, "the replica is stopping")
		default:
			return
		}
	}
}

// peerOf finds the peer that a replica is on.
func (t *transport) peerOf(target hraft.ServerAddress) (*peer, error) {
	node, ok := t.hub.options.NodeOf(string(target))
	if !ok {
		return nil, fmt.Errorf("%w: %w: %q", ErrUnreachable, errUnknown, string(target))
	}
	p := t.hub.peer(node)
	if p == nil {
		return nil, fmt.Errorf("%w: there is no link to node %d", ErrUnreachable, node)
	}
	return p, nil
}

// connected returns a link to the target. It waits for one until limit or end.
func (t *transport) connected(target hraft.ServerAddress, limit <-chan time.Time, end <-chan struct{}) (*link, error) {
	for {
		p, err := t.peerOf(target)
		if err == nil {
			l, changed := p.current()
			if l != nil {
				return l, nil
			}
			select {
			case <-changed:
				continue
			case <-p.ctx.Done():
				err = fmt.Errorf("%w: there is no link to node %d any more", ErrUnreachable, p.node)
			case <-limit:
				return nil, fmt.Errorf("%w: no link to node %d", ErrUnreachable, p.node)
			case <-end:
				return nil, errSuperseded
			case <-t.closed:
				return nil, ErrClosed
			}
		}
		ended, why := t.pause(limit, end)
		switch {
		case why != nil:
			return nil, why
		case ended || errors.Is(err, errUnknown):
			return nil, err
		}
	}
}

// pause waits for a peer that is not wanted now: the cluster map may be late. It says whether limit
// was reached, or why nobody waits any more.
func (t *transport) pause(limit <-chan time.Time, end <-chan struct{}) (ended bool, why error) {
	timer := time.NewTimer(linkWait)
	defer timer.Stop()
	select {
	case <-timer.C:
		return false, nil
	case <-limit:
		return true, nil
	case <-end:
		return true, errSuperseded
	case <-t.closed:
		return true, ErrClosed
	}
}

// An rpc is a question whose caller waits.
type rpc struct {
	kind  frameKind // of the answer
	parse func(d *decoder) error
	done  chan error // capacity 1
}

func (r *rpc) answer(kind frameKind, d *decoder) error {
	switch kind {
	case r.kind:
		err := r.parse(d)
		if err == nil {
			r.done <- nil
		}
		return err
	case frameRefused:
		text := d.bytes(textBytesMax)
		err := d.end(kind)
		if err == nil {
			r.done <- fmt.Errorf("%w: %s", errNotThere, text)
		}
		return err
	}
	return fmt.Errorf("%w: kind %d answers another question", ErrFrame, kind)
}

func (r *rpc) fail(err error) { r.done <- err }

// call asks a question and waits for its answer.
func (t *transport) call(l *link, target hraft.ServerAddress, kind, answer frameKind, prompt bool, encode func([]byte) []byte, parse func(*decoder) error) error {
	r := &rpc{kind: answer, parse: parse, done: make(chan error, 1)}
	correlation, err := t.send(l, target, r, kind, prompt, encode)
	if err != nil {
		return err
	}
	timer := time.NewTimer(rpcTimeout)
	defer timer.Stop()
	select {
	case err = <-r.done:
		return err
	case <-timer.C:
		err = fmt.Errorf("%w: node %d", errTimeout, l.peer.node)
	case <-t.closed:
		err = ErrClosed
	}
	if !l.forget(correlation, false) {
		return <-r.done // what it parses into must not be written later
	}
	return err
}

// send appends a question to the link's outbox.
func (t *transport) send(l *link, target hraft.ServerAddress, w waiter, kind frameKind, prompt bool, encode func([]byte) []byte) (uint64, error) {
	correlation, err := l.register(w, false)
	if err != nil {
		return 0, err
	}
	if err := t.write(l, target, correlation, kind, prompt, encode); err != nil {
		if !l.forget(correlation, false) {
			return 0, nil // the link broke meanwhile, and says so to the waiter
		}
		return 0, err
	}
	return correlation, nil
}

func (t *transport) write(l *link, target hraft.ServerAddress, correlation uint64, kind frameKind, prompt bool, encode func([]byte) []byte) error {
	b, err := l.out.begin(QueueBytesMax)
	if err != nil {
		return err
	}
	b, route, frames, err := l.route(b, routeKey{t.group, t.server, string(target)})
	if err != nil {
		l.out.abort()
		return err
	}
	start := len(b)
	b = openFrame(b, kind)
	b = binary.AppendUvarint(b, correlation)
	b = binary.AppendUvarint(b, route)
	return l.out.commit(encode(b), start, frames+1, prompt)
}

// AppendEntries waits for its answer. A heartbeat leaves with other traffic; nobody waits for
// it. Any other message waits for a connection as long as there is none: hashicorp/raft
// backs off after each failure, up to ten seconds, and would still do so when the peer is
// back.
func (t *transport) AppendEntries(_ hraft.ServerID, target hraft.ServerAddress, args *hraft.AppendEntriesRequest, resp *hraft.AppendEntriesResponse) error {
	if isHeartbeat(args) {
		return t.heartbeat(target, args, resp, false)
	}
	end := t.supersede(target, args.Term)
	l, err := t.connected(target, nil, end)
	if err != nil {
		return err
	}
	return t.append(l, target, args, resp, true)
}

// Probe is a heartbeat whose answer somebody waits for: it leaves at once, and so does the answer.
func (t *transport) Probe(_ hraft.ServerID, target hraft.ServerAddress, args *hraft.AppendEntriesRequest, resp *hraft.AppendEntriesResponse) error {
	return t.heartbeat(target, args, resp, true)
}

func (t *transport) heartbeat(target hraft.ServerAddress, args *hraft.AppendEntriesRequest, resp *hraft.AppendEntriesResponse, prompt bool) error {
	l, err := t.within(target)
	if err != nil {
		return err
	}
	return t.append(l, target, args, resp, prompt)
}

// within waits for a link for linkWait at most.
func (t *transport) within(target hraft.ServerAddress) (*link, error) {
	if p, err := t.peerOf(target); err == nil {
		if l, _ := p.current(); l != nil {
			return l, nil
		}
	}
	timer := time.NewTimer(linkWait)
	defer timer.Stop()
	return t.connected(target, timer.C, nil)
}

func (t *transport) append(l *link, target hraft.ServerAddress, args *hraft.AppendEntriesRequest, resp *hraft.AppendEntriesResponse, prompt bool) error {
	return t.call(l, target, appendKind(args), frameAppended, prompt,
		func(b []byte) []byte { return appendAppend(append(b, lazyFlag(prompt)), args) },
		func(d *decoder) error { return parseAppended(d, resp) })
}

func appendKind(a *hraft.AppendEntriesRequest) frameKind {
	if len(a.Entries) == 0 {
		return frameAppendEmpty
	}
	return frameAppend
}

func lazyFlag(prompt bool) byte {
	if prompt {
		return 0
	}
	return flagLazy
}

// supersede ends the wait of an AppendEntries of an older leadership, whose goroutine nobody
// stops otherwise, and returns what ends the wait of this one.
func (t *transport) supersede(target hraft.ServerAddress, term uint64) <-chan struct{} {
	t.waitMu.Lock()
	defer t.waitMu.Unlock()
	old, ok := t.waits[target]
	if ok && old.term == term {
		return old.end
	}
	if ok {
		close(old.end)
	}
	s := supersedable{term, make(chan struct{})}
	t.waits[target] = s
	return s.end
}

func (t *transport) RequestVote(_ hraft.ServerID, target hraft.ServerAddress, args *hraft.RequestVoteRequest, resp *hraft.RequestVoteResponse) error {
	l, err := t.within(target)
	if err != nil {
		return err
	}
	return t.call(l, target, frameVote, frameVoted, true,
		func(b []byte) []byte { return appendVote(b, args) },
		func(d *decoder) (err error) {
			resp.Term, resp.Granted, err = parseTermAnswer(d, frameVoted)
			return err
		})
}

func (t *transport) RequestPreVote(_ hraft.ServerID, target hraft.ServerAddress, args *hraft.RequestPreVoteRequest, resp *hraft.RequestPreVoteResponse) error {
	l, err := t.within(target)
	if err != nil {
		return err
	}
	return t.call(l, target, framePreVote, framePreVoted, true,
		func(b []byte) []byte { return appendPreVote(b, args) },
		func(d *decoder) (err error) {
			resp.Term, resp.Granted, err = parseTermAnswer(d, framePreVoted)
			return err
		})
}

func (t *transport) TimeoutNow(_ hraft.ServerID, target hraft.ServerAddress, args *hraft.TimeoutNowRequest, _ *hraft.TimeoutNowResponse) error {
	l, err := t.within(target)
	if err != nil {
		return err
	}
	return t.call(l, target, frameTimeoutNow, frameTimedOut, true,
		func(b []byte) []byte { return binary.AppendUvarint(b, uint64(args.ProtocolVersion)) },
		func(d *decoder) error { return d.end(frameTimedOut) })
}
