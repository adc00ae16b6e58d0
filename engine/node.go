package engine

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"parley/engine/admin"
	"parley/engine/auth"
	"parley/engine/cluster"
	"parley/engine/delivery"
	"parley/engine/reactor"
	"parley/engine/router"
	"parley/raft"
	"parley/raft/link"
	"parley/storage"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// A Node is a whole Parley server: stores, shards, event loops, links to other nodes and
// the operator's door.
type Node struct {
	config      Config
	log         *slog.Logger
	directory   *storage.Directory
	identity    identity
	keys        *auth.Keys
	store       *storage.Store
	raft        *raft.Node
	roster      *roster
	maps        *mapKeeper
	leaders     *leaders
	hub         *link.Hub // nil: a node alone
	linkAddress string
	fetches     chan uint32 // nodes that have shown a newer map
	listings    *listings
	table       *router.Table
	routes      []*route
	sessions    *delivery.Directory
	readers     *readers
	server      Server
	serving     atomic.Bool // server is set
	// loops are the server's. They are set before it serves, while effects already flow.
	loops    atomic.Pointer[[]Loop]
	admin    *admin.Server
	metrics  *metrics
	counters clusterCounters
	// transfers are those of leadership that nobody took over.
	transfers transfers
	diskFull  atomic.Bool
	draining  atomic.Bool
	leaving   atomic.Bool   // the cluster map wants this node to go
	drained   chan struct{} // closed when it may
	endLeave  func()        // ends the drain that leave has begun; of the task host
	clocks    clocks
	// handingOver is set while leaderships are given to other nodes.
	handingOver atomic.Bool
	life        context.Context // ends when the node closes
	cancel      context.CancelFunc
	stop        <-chan struct{} // of life
	tasks       sync.WaitGroup
	closeOnce   sync.Once
	closeErr    error
}

// Open starts a node: when it returns, clients are served. A node alone leads every shard
// by then; one of several may still wait for others. With Config.Listen empty it serves
// nobody, which is what offline commands need.
func Open(ctx context.Context, c Config) (*Node, error) {
	if err := c.Check(); err != nil {
		return nil, err
	}
	n, err := openOnce(ctx, c)
	if err == nil || reseed(&c, err) != nil {
		return n, err
	}
	return openOnce(ctx, c)
}

func newNode(c Config) *Node {
	n := &Node{config: c, log: c.Logger, sessions: delivery.NewDirectory(), fetches: make(chan uint32, 1), listings: newListings(),
		drained: make(chan struct{})}
	n.life, n.cancel = context.WithCancel(context.Background())
	n.stop = n.life.Done()
	n.leaders = newLeaders(func() uint32 { return n.identity.Number }, n.announce, n.leaderChanged)
	return n
}

func (n *Node) openData(context.Context) (err error) {
	if n.directory, err = storage.OpenDirectory(n.config.Data, n.config.FS); err != nil {
		return err
	}
	if _, err := n.directory.ReadFile(damagedName); err == nil {
		return errMarked
	}
	if _, err := n.directory.ReadFile(recoveringName); err == nil {
		return ErrRecovering
	}
	if err := n.resumeJoin(); err != nil {
		return err
	}
	joins := n.config.Cluster != nil && len(n.config.Cluster.Join) > 0
	if n.identity, err = openIdentity(n.directory, n.config.Shards, joins); err != nil {
		return err
	}
	if n.identity.Number == 0 && !joins {
		return fmt.Errorf("%w: this data directory waits to join a cluster: say which nodes to join", ErrJoin)
	}
	n.checkDisk()
	return n.openMaps()
}

func (n *Node) openStores(context.Context) (err error) {
	if others := len(n.others()); others > 0 && n.hub == nil {
		return fmt.Errorf("%w: this data directory is of node %d of a cluster of %d: it needs an address for links to the others", ErrConfig, n.identity.Number, others+1)
	}
	if n.keys, err = n.openKeys(); err != nil {
		return err
	}
	n.store, err = storage.Open(storage.Options{
		Path: n.directory.Path("state"), FS: n.config.FS, Logger: n.log, Fatal: n.fatal,
		BufferBytesMax: n.config.BufferBytesMax, FlushInterval: n.config.FlushInterval, CacheBytes: n.config.CacheBytes,
	})
	if err != nil {
		return err
	}
	o := raft.Options{Path: n.directory.Path("log"), FS: n.config.FS, Server: n.identity.Replica, Logger: n.log, Fatal: n.fatal,
		TrailingBytes: uint64(n.config.LogTrailingBytes)}
	if n.hub != nil {
		o.Network = n.hub.Network()
	}
	if n.raft, err = raft.Open(o); err != nil {
		return err
	}
	if n.hub != nil {
		n.raft.Suspect(n.suspects)
	}
	founding := make(map[uint32]string)
	if n.alone() {
		founding[cluster.MapGroup] = cluster.NewReplica(1, random64()).ID
		for i := range n.identity.Shards {
			founding[uint32(i)] = n.identity.Replica
		}
	}
	n.roster, err = openRoster(n.directory, founding, n.hasLogs())
	return err
}

// hasLogs tells whether there is a log of any replica here, which then has an id. The
// first node's directory may be from before there were ids.
func (n *Node) hasLogs() bool {
	logs, err := n.raft.Logs()
	return !n.alone() && (err != nil || len(logs) > 0)
}

// suspects tells the Raft groups whether nothing is heard of a replica's node.
func (n *Node) suspects(replica string) bool {
	node, ok := cluster.NodeOf(replica)
	return ok && n.hub.Silent(node)
}

// founders are the voters that a group begins with on the node that founds it; nil for a
// replica that a leader adds.
func (n *Node) founders(group uint32, id string) []string {
	if n.alone() && (group == cluster.MapGroup || id == n.identity.Replica) {
		return []string{id}
	}
	return nil
}

// alone tells whether this is the first node and has never had others: what is not there
// yet begins here. In any other case an empty group waits for its leader.
func (n *Node) alone() bool { return n.identity.Number == 1 && n.maps.view.Map().NextNode <= 2 }

// openMapGroup starts this node's replica of the map's group, if it keeps one, and founds
// the cluster if there is none yet.
func (n *Node) openMapGroup(ctx context.Context) error {
	id := n.roster.id(cluster.MapGroup)
	if id == "" {
		return nil
	}
	if err := n.maps.start(ctx, id, n.founders(cluster.MapGroup, id)); err != nil {
		return err
	}
	if err := n.found(ctx); err != nil {
		return err
	}
	if self := n.maps.view.Map().Live(n.identity.Number); self != nil && len(n.others()) == 0 {
		// Whoever joins must not be told an address of before: there is nobody else to ask.
		return n.introduce(ctx, self)
	}
	return nil
}

func (n *Node) openShards(ctx context.Context) (err error) {
	if n.table, err = router.NewTable(n.identity.Shards); err != nil {
		return err
	}
	n.readers = newReaders(n.config.Readers, ReadQueueMax)
	n.metrics = newMetrics(n)
	n.routes = n.newRoutes()
	// All shards are there before the first group starts: what one has for another is
	// delivered as soon as it leads.
	if err := n.sweepDropped(); err != nil {
		return err
	}
	var here []*route
	for _, r := range n.routes {
		if n.roster.id(r.id) == "" {
			continue
		}
		if err := n.openShard(r); err != nil {
			return fmt.Errorf("engine: shard %d: %w", r.id, err)
		}
		here = append(here, r)
	}
	return n.startGroups(ctx, here)
}

// sweepDropped deletes what is left of replicas that were being dropped when the process
// ended: logs and states of which the roster knows nothing.
func (n *Node) sweepDropped() error {
	logs, err := n.raft.Logs()
	if err != nil {
		return err
	}
	for _, group := range logs {
		if n.roster.id(group) == "" {
			if err := n.raft.Drop(group); err != nil {
				return err
			}
		}
	}
	for _, r := range n.routes {
		if n.roster.id(r.id) == "" {
			if err := n.store.DropShard(r.id); err != nil {
				return err
			}
		}
	}
	return nil
}

// startGroups starts groups side by side: each replays its log, on as many cores as there
// are.
func (n *Node) startGroups(ctx context.Context, routes []*route) error {
	errs := make([]error, len(routes))
	var starting sync.WaitGroup
	for i, r := range routes {
		starting.Go(func() {
			id := n.roster.id(r.id)
			if err := n.startGroup(ctx, r, id, n.founders(r.id, id)); err != nil {
				errs[i] = fmt.Errorf("engine: shard %d: %w", r.id, err)
			}
		})
	}
	starting.Wait()
	return errors.Join(errs...)
}

// openPeers begins to talk to the other nodes.
func (n *Node) openPeers(context.Context) error {
	if n.hub == nil {
		return nil
	}
	n.handle()
	for _, task := range []func(){n.host, n.walk, n.plan, n.announcer, n.fetcher, n.attachListed} {
		n.tasks.Go(task)
	}
	n.connect(n.maps.view.Map())
	n.maps.wake()
	return nil
}

// leadersWait is how long a node of several waits for leaders before it serves anyway:
// clients are then told to try again.
const leadersWait = 10 * time.Second

// awaitLeaders waits until every shard takes commands.
func (n *Node) awaitLeaders(ctx context.Context) error {
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	start := time.Now()
	for _, r := range n.routes {
		for {
			if _, ok := n.leaders.of(r.id); ok {
				break
			}
			if n.hub != nil && time.Since(start) > leadersWait {
				n.log.Warn("clients are served before every shard has a leader", "shard", r.id)
				return nil
			}
			select {
			case <-ctx.Done():
				return fmt.Errorf("engine: waiting for the shards' leaders: %w", ctx.Err())
			case <-tick.C:
			}
		}
	}
	return nil
}

func (n *Node) listen(context.Context) (err error) {
	n.tasks.Go(n.watch)
	if n.config.FS == nil {
		n.tasks.Go(n.trim)
	}
	serve := n.config.Serve
	if serve == nil {
		if n.config.Listen == "" {
			return nil
		}
		serve = n.listenReactor
	}
	server, err := serve(n.newHandler)
	if err != nil {
		return err
	}
	n.server = server
	n.serving.Store(true)
	return nil
}

// newHandler makes the edge of a loop, and the loop known to whoever posts.
func (n *Node) newHandler(l Loop) reactor.Handler {
	loops := append(slices.Clone(n.allLoops()), l)
	n.loops.Store(&loops)
	return newEdge(n, l)
}

func (n *Node) allLoops() []Loop {
	if loops := n.loops.Load(); loops != nil {
		return *loops
	}
	return nil
}

// post hands an item to the loop of a session.
func (n *Node) post(h reactor.Handle, item any) {
	if loops := n.allLoops(); h.Loop() < len(loops) {
		loops[h.Loop()].Post(item)
	}
}

// watch looks after what nobody else does, once a second.
func (n *Node) watch() {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		select {
		case <-n.stop:
			return
		case <-tick.C:
			n.checkDisk()
			n.compact()
		}
	}
}

// checkDisk refuses sends while less than the reserve is free: a full disk would stop
// the node instead.
func (n *Node) checkDisk() {
	if n.config.DiskReserveBytes < 0 {
		return
	}
	free, err := n.directory.FreeBytes()
	if errors.Is(err, vfs.ErrUnsupported) {
		return // a file system in memory
	}
	if err != nil {
		n.log.Error("cannot tell how much space is free", "error", err)
		return
	}
	full := free < uint64(n.config.DiskReserveBytes)
	if full != n.diskFull.Swap(full) {
		n.log.Warn("disk space", "sends_refused", full, "free_bytes", free, "reserve_bytes", n.config.DiskReserveBytes)
	}
}

// compact lets each log be cut behind what its state has on disk.
func (n *Node) compact() {
	for _, r := range n.local() {
		if r.group == nil {
			continue // it is being started
		}
		r.group.Compact()
	}
}

// Address is where clients are served; nil if nobody is.
func (n *Node) Address() net.Addr {
	if n.server == nil {
		return nil
	}
	return n.server.Address()
}

// Drain asks all clients to connect elsewhere over the spread, and returns when they
// have gone, when the spread is over, or when ctx ends. Close comes after it.
func (n *Node) Drain(ctx context.Context) error {
	if !n.serving.Load() || n.draining.Swap(true) {
		return nil
	}
	for _, l := range n.allLoops() {
		l.Post(drainItem{})
	}
	n.handOver(ctx)
	ctx, cancel := context.WithTimeout(ctx, n.config.DrainSpread+time.Second)
	defer cancel()
	if err := n.server.Drain(ctx); err == nil {
		return nil
	}
	for _, l := range n.allLoops() {
		l.Post(endItem{})
	}
	return nil
}

// Drained is closed when the cluster map wants this node to go and it holds nothing any
// more: the process should end.
func (n *Node) Drained() <-chan struct{} { return n.drained }

// Close stops the node: sessions end, what was applied is written to the state store,
// and the data directory is released. Nothing acknowledged depends on it.
func (n *Node) Close() error {
	n.closeOnce.Do(func() { n.closeErr = n.close() })
	return n.closeErr
}

func (n *Node) close() error {
	n.cancel()
	var errs []error
	done := func(err error) { errs = append(errs, err) }
	if n.admin != nil {
		done(n.closeAdmin())
	}
	if n.server != nil {
		done(n.server.Close())
	}
	n.tasks.Wait()
	if n.raft != nil {
		done(n.raft.Close()) // reads that wait for authorization end
	}
	if n.hub != nil {
		done(n.hub.Close())
	}
	if n.readers != nil {
		n.readers.close()
	}
	for _, r := range n.local() {
		done(r.Shard.Close())
	}
	if n.maps != nil {
		n.maps.machine().Close()
	}
	if n.store != nil {
		done(n.store.Close())
	}
	if n.directory != nil {
		done(n.directory.Close())
	}
	return errors.Join(errs...)
}
