package raft

import (
	"errors"
	"fmt"
	"io"
	"sync"
	"sync/atomic"
	"time"

	hraft "github.com/hashicorp/raft"
)

// Errors of the network in memory.
var (
	errUnreachable = errors.New("raft: peer does not answer")
	errPipeline    = errors.New("raft: pipeline is broken")
)

const (
	// rpcTimeout is how long a message to a silent peer waits.
	rpcTimeout = 500 * time.Millisecond
	// snapshotTimeout is how long a snapshot may be under way.
	snapshotTimeout = 10 * time.Minute
	// pipelineTimeout is how long a pipeline waits for an answer before it breaks.
	pipelineTimeout = 5 * time.Second
	// pipelineDepth is how many messages a pipeline carries: the receiver handles one at a
	// time, each with an fsync, so that a deeper one would only queue.
	pipelineDepth = 4
)

// Memory connects nodes of one process. It is for tests, where it can cut and slow
// connections, and for measuring without a network. It works under testing/synctest.
type Memory struct {
	mu         sync.RWMutex
	transports map[memoryAddress]*memoryTransport
	cut        map[[2]string]bool
	delay      atomic.Int64
}

type memoryAddress struct {
	server string
	group  uint32
}

// String names the replica for messages about it.
func (a memoryAddress) String() string { return fmt.Sprintf("%s of group %d", a.server, a.group) }

// NewMemory makes a network without nodes.
func NewMemory() *Memory {
	return &Memory{transports: make(map[memoryAddress]*memoryTransport), cut: make(map[[2]string]bool)}
}

// Network returns a node's view of the network. Cuts are between nodes, so each has a
// name, which is the server id of its replicas where they have none of their own.
func (m *Memory) Network(node string) Network { return &memoryNetwork{m, node} }

// Cut stops messages and answers from one node to another, in that direction only.
func (m *Memory) Cut(from, to string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.cut[[2]string{from, to}] = true
}

// Isolate cuts a node from all that have transports now, in both directions.
func (m *Memory) Isolate(node string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, t := range m.transports {
		if t.node != node {
			m.cut[[2]string{node, t.node}] = true
			m.cut[[2]string{t.node, node}] = true
		}
	}
}

// Heal undoes all cuts.
func (m *Memory) Heal() {
	m.mu.Lock()
	defer m.mu.Unlock()
	clear(m.cut)
}

// SetDelay makes every message and every answer take that long.
func (m *Memory) SetDelay(d time.Duration) { m.delay.Store(int64(d)) }

// route finds the way to a peer.
func (m *Memory) route(from *memoryTransport, to string) *memoryTransport {
	m.mu.RLock()
	defer m.mu.RUnlock()
	t := m.transports[memoryAddress{to, from.address.group}]
	if t == nil || len(m.cut) > 0 && m.cut[[2]string{from.node, t.node}] {
		return nil
	}
	return t
}

type memoryNetwork struct {
	memory *Memory
	node   string
}

// Transport registers this node's end of a group.
func (n *memoryNetwork) Transport(group uint32, server string) (Transport, error) {
	m := n.memory
	m.mu.Lock()
	defer m.mu.Unlock()
	address := memoryAddress{server, group}
	if m.transports[address] != nil {
		return nil, fmt.Errorf("raft: there is a transport for %v already", address)
	}
	t := &memoryTransport{memory: m, node: n.node, address: address, consumer: make(chan hraft.RPC, 16), closed: make(chan struct{})}
	m.transports[address] = t
	return t, nil
}

type memoryTransport struct {
	memory    *Memory
	node      string
	address   memoryAddress
	consumer  chan hraft.RPC
	heartbeat atomic.Pointer[func(hraft.RPC)]
	closed    chan struct{}
	closeMu   sync.Mutex // a pipeline begins before closing, or not at all
	pipelines sync.WaitGroup
}

func (t *memoryTransport) Consumer() <-chan hraft.RPC { return t.consumer }

func (t *memoryTransport) LocalAddr() hraft.ServerAddress {
	return hraft.ServerAddress(t.address.server)
}

func (t *memoryTransport) EncodePeer(_ hraft.ServerID, a hraft.ServerAddress) []byte {
	return []byte(a)
}

func (t *memoryTransport) DecodePeer(b []byte) hraft.ServerAddress { return hraft.ServerAddress(b) }

func (t *memoryTransport) SetHeartbeatHandler(handle func(hraft.RPC)) { t.heartbeat.Store(&handle) }

func (t *memoryTransport) Close() error {
	t.closeMu.Lock()
	if !t.isClosed() {
		close(t.closed)
	}
	t.closeMu.Unlock()
	t.memory.mu.Lock()
	if t.memory.transports[t.address] == t {
		delete(t.memory.transports, t.address)
	}
	t.memory.mu.Unlock()
	t.pipelines.Wait()
	return nil
}

func (t *memoryTransport) isClosed() bool {
	select {
	case <-t.closed:
		return true
	default:
		return false
	}
}

func isHeartbeat(command any) bool {
	a, ok := command.(*hraft.AppendEntriesRequest)
	return ok && a.PrevLogEntry == 0 && a.PrevLogTerm == 0 && len(a.Entries) == 0 && a.LeaderCommitIndex == 0
}

// memoryCall is a message under way.
type memoryCall struct {
	from   *memoryTransport
	to     *memoryTransport
	answer chan hraft.RPCResponse
}

// send delivers a message. It blocks while the peer's queue is full.
func (t *memoryTransport) send(target hraft.ServerAddress, command any, data io.Reader) (*memoryCall, error) {
	if d := t.memory.delay.Load(); d > 0 {
		time.Sleep(time.Duration(d))
	}
	to := t.memory.route(t, string(target))
	if to == nil {
		return nil, t.silence()
	}
	c := &memoryCall{from: t, to: to, answer: make(chan hraft.RPCResponse, 1)}
	rpc := hraft.RPC{Command: command, Reader: data, RespChan: c.answer}
	if handle := to.heartbeat.Load(); handle != nil && isHeartbeat(command) {
		(*handle)(rpc)
		return c, nil
	}
	select {
	case to.consumer <- rpc:
		return c, nil
	case <-to.closed:
	case <-t.closed:
	}
	return nil, errUnreachable
}

// silence is what a message to an unreachable peer gets, after a while.
func (t *memoryTransport) silence() error {
	timer := time.NewTimer(rpcTimeout)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-t.closed:
	}
	return errUnreachable
}

// wait waits for the answer; limit ends the wait.
func (c *memoryCall) wait(limit <-chan time.Time) (any, error) {
	select {
	case r := <-c.answer:
		if d := c.from.memory.delay.Load(); d > 0 {
			time.Sleep(time.Duration(d))
		}
		if c.from.memory.route(c.to, c.from.address.server) != c.from {
			return nil, c.from.silence()
		}
		return r.Response, r.Error
	case <-limit:
	case <-c.to.closed:
	case <-c.from.closed:
	}
	return nil, errUnreachable
}

func (t *memoryTransport) call(target hraft.ServerAddress, command any, data io.Reader, timeout time.Duration) (any, error) {
	c, err := t.send(target, command, data)
	if err != nil {
		return nil, err
	}
	timer := time.NewTimer(timeout)
	defer timer.Stop()
	return c.wait(timer.C)
}

// answerInto makes a call whose answer is a *R.
func answerInto[R any](t *memoryTransport, target hraft.ServerAddress, command any, resp *R) error {
	return answerStream(t, target, command, nil, rpcTimeout, resp)
}

// answerStream makes a call with data behind it.
func answerStream[R any](t *memoryTransport, target hraft.ServerAddress, command any, data io.Reader, timeout time.Duration, resp *R) error {
	answer, err := t.call(target, command, data, timeout)
	if err != nil {
		return err
	}
	r, ok := answer.(*R)
	if !ok {
		return fmt.Errorf("raft: unexpected answer %T", answer)
	}
	*resp = *r
	return nil
}

func (t *memoryTransport) AppendEntries(_ hraft.ServerID, target hraft.ServerAddress, args *hraft.AppendEntriesRequest, resp *hraft.AppendEntriesResponse) error {
	return answerInto(t, target, args, resp)
}

func (t *memoryTransport) RequestVote(_ hraft.ServerID, target hraft.ServerAddress, args *hraft.RequestVoteRequest, resp *hraft.RequestVoteResponse) error {
	return answerInto(t, target, args, resp)
}

func (t *memoryTransport) RequestPreVote(_ hraft.ServerID, target hraft.ServerAddress, args *hraft.RequestPreVoteRequest, resp *hraft.RequestPreVoteResponse) error {
	return answerInto(t, target, args, resp)
}

func (t *memoryTransport) TimeoutNow(_ hraft.ServerID, target hraft.ServerAddress, args *hraft.TimeoutNowRequest, resp *hraft.TimeoutNowResponse) error {
	return answerInto(t, target, args, resp)
}

func (t *memoryTransport) InstallSnapshot(_ hraft.ServerID, target hraft.ServerAddress, args *hraft.InstallSnapshotRequest, resp *hraft.InstallSnapshotResponse, data io.Reader) error {
	stream := &memoryStream{from: t, target: string(target), data: data}
	defer stream.end()
	return answerStream(t, target, args, stream, snapshotTimeout, resp)
}

// A memoryStream is the data of a snapshot on its way. It breaks when the way is cut, and
// when the call is over: the sender closes what it reads from.
type memoryStream struct {
	from   *memoryTransport
	target string

	mu   sync.Mutex
	data io.Reader // nil: over
}

// Read is the receiver's.
func (s *memoryStream) Read(p []byte) (int, error) {
	if d := s.from.memory.delay.Load(); d > 0 {
		time.Sleep(time.Duration(d))
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.data == nil || s.from.memory.route(s.from, s.target) == nil {
		return 0, errUnreachable
	}
	return s.data.Read(p)
}

func (s *memoryStream) end() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.data = nil
}

// AppendEntriesPipeline starts a pipeline, whose goroutine lives until Close.
func (t *memoryTransport) AppendEntriesPipeline(_ hraft.ServerID, target hraft.ServerAddress) (hraft.AppendPipeline, error) {
	p := &memoryPipeline{
		transport: t, target: target,
		sent:   make(chan *memoryAppend, pipelineDepth),
		done:   make(chan hraft.AppendFuture, pipelineDepth+1),
		closed: make(chan struct{}),
	}
	t.closeMu.Lock()
	defer t.closeMu.Unlock()
	if t.isClosed() {
		return nil, errUnreachable
	}
	t.pipelines.Go(p.run)
	return p, nil
}

// memoryPipeline carries several messages at once. After the first that fails or is
// refused it takes no more, so that its user falls back instead of waiting for ever.
type memoryPipeline struct {
	transport *memoryTransport
	target    hraft.ServerAddress
	sent      chan *memoryAppend
	done      chan hraft.AppendFuture
	broken    atomic.Bool
	closed    chan struct{}
	closeOnce sync.Once
}

// memoryAppend is a message of a pipeline, and its future.
type memoryAppend struct {
	call  *memoryCall
	start time.Time
	args  *hraft.AppendEntriesRequest
	resp  *hraft.AppendEntriesResponse
	err   error
}

func (a *memoryAppend) Error() error                           { return a.err }
func (a *memoryAppend) Start() time.Time                       { return a.start }
func (a *memoryAppend) Request() *hraft.AppendEntriesRequest   { return a.args }
func (a *memoryAppend) Response() *hraft.AppendEntriesResponse { return a.resp }

func (p *memoryPipeline) AppendEntries(args *hraft.AppendEntriesRequest, resp *hraft.AppendEntriesResponse) (hraft.AppendFuture, error) {
	if p.broken.Load() {
		return nil, errPipeline
	}
	a := &memoryAppend{start: time.Now(), args: args, resp: resp}
	var err error
	if a.call, err = p.transport.send(p.target, args, nil); err != nil {
		p.broken.Store(true)
		return nil, err
	}
	select {
	case p.sent <- a:
		return a, nil
	case <-p.closed:
	case <-p.transport.closed:
	}
	return nil, errPipeline
}

func (p *memoryPipeline) Consumer() <-chan hraft.AppendFuture { return p.done }

func (p *memoryPipeline) Close() error {
	p.closeOnce.Do(func() { close(p.closed) })
	return nil
}

// run hands the answers on, in order.
func (p *memoryPipeline) run() {
	timer := time.NewTimer(pipelineTimeout)
	defer timer.Stop()
	for {
		var a *memoryAppend
		select {
		case a = <-p.sent:
		case <-p.closed:
			return
		case <-p.transport.closed:
			return
		}
		var answer any
		timer.Reset(pipelineTimeout)
		if answer, a.err = a.call.wait(timer.C); a.err == nil {
			*a.resp = *answer.(*hraft.AppendEntriesResponse)
		}
		if a.err != nil || !a.resp.Success {
			p.broken.Store(true)
		}
		select {
		case p.done <- a:
		case <-p.closed:
			return
		case <-p.transport.closed:
			return
		}
	}
}
