package link

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"math/rand/v2"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// Errors of opening and using a hub.
var (
	// ErrClosed is the answer of a hub that was closed.
	ErrClosed = errors.New("link: closed")
	// ErrOptions is wrapped by what is wrong with the options.
	ErrOptions = errors.New("link: bad options")
)

// Options say who a node is and how it reaches the others.
type Options struct {
	// Self is this node's number, 0 if it has none yet: see SetSelf.
	Self uint32
	// Cluster is drawn when a cluster is founded. Nodes of another are refused.
	Cluster uint64
	// Listener accepts the other nodes' connections. The hub closes it. Nil means that
	// nobody can connect.
	Listener net.Listener
	// Dial opens a connection; nil means TCP. A dead process must make it return an error
	// that wraps ECONNREFUSED, for such a node counts as silent at once.
	Dial func(ctx context.Context, address string) (net.Conn, error)
	// TLS is for both sides of every connection: see LoadTLS. Nil means plain
	// connections, which are for tests and simulation.
	TLS *tls.Config
	// Address says where a node listens, as the cluster map has it.
	Address func(node uint32) (address string, ok bool)
	// NodeOf says which node a replica is on.
	NodeOf func(server string) (node uint32, ok bool)
	// Admit refuses the connections of nodes that it returns an error for, which must say why:
	// the peer's operator reads it. Nil admits every node of the cluster.
	Admit func(node uint32) error
	// Epoch is the version of the cluster map here, which peers are told; nil means 0.
	Epoch func() uint64
	// OnEpoch is called when a peer shows an epoch that is not ours, on the goroutine that
	// reads from it. It must not block. Pings repeat it.
	OnEpoch func(from uint32, epoch uint64)
	// OnNotMember is called when the Admit of a peer has refused this node, perhaps more than
	// once. It must not block.
	OnNotMember func(err error)
	// OnTwin is called, perhaps more than once, when a peer has refused this node for long
	// because another process that lives has its number: only one of two may go on. It must
	// not block.
	OnTwin func(err error)
	// Logger gets what an operator should know; nil discards it.
	Logger *slog.Logger
}

// A Hub is a node's end of all its links. Its methods may be called from any goroutine.
type Hub struct {
	options     Options
	logger      *slog.Logger
	started     time.Time
	incarnation uint64
	self        atomic.Uint32
	cluster     atomic.Uint64
	ctx         context.Context // ends at Close
	cancel      context.CancelFunc
	running     sync.WaitGroup
	handlers    [256]atomic.Pointer[handler]
	join        atomic.Pointer[JoinHandler]
	watchers    watchers
	arrivals    watchers
	complaints  complaints
	total       counters // of connections without a known peer
	sending     chan struct{}
	receiving   chan struct{}
	handshakes  chan struct{}
	joins       chan struct{}

	mu         sync.RWMutex
	closed     bool
	retired    Stats // of peers that are no longer wanted
	peers      map[uint32]*peer
	presences  map[uint32]*presence
	transports map[uint32]*transport
	inbound    map[uint32]*inbound
	open       map[*stream]struct{}
}

// Open starts to accept connections. Nothing is dialled before Connect.
func Open(o Options) (*Hub, error) {
	if o.TLS != nil && (o.TLS.MinVersion < tls.VersionTLS13 || o.TLS.ClientAuth < tls.RequireAnyClientCert) {
		return nil, fmt.Errorf("%w: TLS must be 1.3 and ask clients for a certificate", ErrOptions)
	}
	if o.Address == nil || o.NodeOf == nil {
		return nil, fmt.Errorf("%w: Address and NodeOf are needed", ErrOptions)
	}
	if o.Dial == nil {
		o.Dial = func(ctx context.Context, address string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "tcp", address)
		}
	}
	if o.Epoch == nil {
		o.Epoch = func() uint64 { return 0 }
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	h := &Hub{
		options: o, logger: o.Logger, started: time.Now(), incarnation: rand.Uint64(),
		sending: make(chan struct{}, TransfersMax), receiving: make(chan struct{}, TransfersMax),
		handshakes: make(chan struct{}, handshakesMax), joins: make(chan struct{}, joinsMax),
		peers: make(map[uint32]*peer), presences: make(map[uint32]*presence),
		transports: make(map[uint32]*transport), inbound: make(map[uint32]*inbound),
		open: make(map[*stream]struct{}),
	}
	h.self.Store(o.Self)
	h.cluster.Store(o.Cluster)
	h.ctx, h.cancel = context.WithCancel(context.Background())
	if o.Listener != nil {
		h.running.Go(h.accept)
	}
	h.running.Go(h.tick)
	return h, nil
}

// SetSelf gives the node its number and the cluster it is in, after Join.
func (h *Hub) SetSelf(node uint32, cluster uint64) {
	h.cluster.Store(cluster)
	h.self.Store(node)
}

// Self returns this node's number, 0 if it has none yet.
func (h *Hub) Self() uint32 { return h.self.Load() }

// Connect says which nodes there should be links to. Links to others are closed, and connections of
// nodes that Admit would not let in now. The node itself is left out.
func (h *Hub) Connect(nodes []uint32) {
	h.connect(nodes)
	if h.options.Admit == nil {
		return
	}
	h.mu.RLock()
	arrivals := slices.Collect(maps.Values(h.inbound))
	h.mu.RUnlock()
	for _, in := range arrivals {
		if err := h.options.Admit(in.node); err != nil {
			h.logger.Info("link: node is no longer admitted", "node", in.node, "error", err)
			in.stream.close()
		}
	}
}

func (h *Hub) connect(nodes []uint32) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.closed {
		return
	}
	for node, p := range h.peers {
		if !slices.Contains(nodes, node) {
			delete(h.peers, node)
			h.retired.add(&p.count) // but for its last moments
			p.cancel()
		}
	}
	for _, node := range nodes {
		if node == 0 || node == h.Self() || h.peers[node] != nil {
			continue
		}
		p := newPeer(h, node, h.presenceLocked(node))
		h.peers[node] = p
		h.running.Go(p.run)
	}
}

// peer returns the peer, nil if there should be no link to it.
func (h *Hub) peer(node uint32) *peer {
	h.mu.RLock()
	defer h.mu.RUnlock()
	return h.peers[node]
}

// Close ends all connections and calls, and waits for the hub's goroutines. Transports
// must be closed by their groups.
func (h *Hub) Close() error {
	h.mu.Lock()
	if h.closed {
		h.mu.Unlock()
		return ErrClosed
	}
	h.closed = true
	clear(h.peers)
	for s := range h.open {
		s.close()
	}
	h.mu.Unlock()
	h.cancel()
	var err error
	if h.options.Listener != nil {
		err = h.options.Listener.Close()
	}
	h.running.Wait()
	if err != nil && !errors.Is(err, net.ErrClosed) {
		return fmt.Errorf("link: close listener: %w", err)
	}
	return nil
}

// adopt notes a stream so that Close ends it; false means that the hub is closed.
func (h *Hub) adopt(s *stream) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.closed {
		s.close()
		return false
	}
	h.open[s] = struct{}{}
	return true
}

// abandon closes a stream that was adopted.
func (h *Hub) abandon(s *stream) {
	s.close()
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(h.open, s)
}

// now is the time since the hub was opened, which no clock change moves.
func (h *Hub) now() time.Duration { return time.Since(h.started) }

// tick pings idle connections and gives up dead ones.
func (h *Hub) tick() {
	ticker := time.NewTicker(pingInterval)
	defer ticker.Stop()
	last := h.now()
	var peers []*peer
	var arrivals []*inbound
	for n := 0; ; n++ {
		select {
		case <-h.ctx.Done():
			return
		case <-ticker.C:
		}
		now := h.now()
		// Who was not running could not hear anybody.
		paused := now-last > 2*pingInterval
		last = now
		h.mu.RLock()
		if paused {
			for _, p := range h.presences {
				p.hear(now)
			}
		}
		peers = slices.AppendSeq(peers[:0], maps.Values(h.peers))
		arrivals = slices.AppendSeq(arrivals[:0], maps.Values(h.inbound))
		h.mu.RUnlock()
		for _, p := range peers {
			p.tick(now, paused, n%pingsAlways == 0)
		}
		for _, in := range arrivals {
			in.tick(now, paused)
		}
	}
}

// shown passes on an epoch that a peer showed.
func (h *Hub) shown(from uint32, epoch uint64) {
	if h.options.OnEpoch != nil && epoch != h.options.Epoch() {
		h.options.OnEpoch(from, epoch)
	}
}

// complaints keep a peer that is refused again and again from filling the log.
type complaints struct {
	mu   sync.Mutex
	last map[string]time.Time
}

// complaintInterval is how often the same complaint is logged.
const complaintInterval = time.Minute

// fresh reports whether a complaint was not made lately.
func (c *complaints) fresh(what string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := time.Now()
	if at, ok := c.last[what]; ok && now.Sub(at) < complaintInterval {
		return false
	}
	if c.last == nil || len(c.last) >= 256 {
		c.last = make(map[string]time.Time)
	}
	c.last[what] = now
	return true
}
