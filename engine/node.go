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
	"parley/engine/delivery"
	"parley/engine/reactor"
	"parley/engine/router"
	"parley/engine/shard"
	"parley/raft"
	"parley/storage"
	"parley/wire"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// A Node is a whole Parley server: stores, shards, event loops and the operator's door.
type Node struct {
	config    Config
	log       *slog.Logger
	directory *storage.Directory
	identity  identity
	keys      *auth.Keys
	store     *storage.Store
	raft      *raft.Node
	table     *router.Table
	routes    []*route
	sessions  *delivery.Directory
	readers   *readers
	server    Server
	// loops are the server's. They are set before it serves, while effects already flow.
	loops     atomic.Pointer[[]Loop]
	admin     *admin.Server
	metrics   *metrics
	diskFull  atomic.Bool
	draining  atomic.Bool
	stop      chan struct{} // closed when the node closes
	tasks     sync.WaitGroup
	closeOnce sync.Once
	closeErr  error
}

// Open starts a node: when it returns, every shard is led and clients are served. With
// Config.Listen empty it serves nobody, which is what offline commands need.
func Open(ctx context.Context, c Config) (*Node, error) {
	if err := c.Check(); err != nil {
		return nil, err
	}
	n := &Node{config: c, log: c.Logger, sessions: delivery.NewDirectory(), stop: make(chan struct{})}
	for _, step := range []func(context.Context) error{n.openData, n.openShards, n.awaitLeaders, n.listen, n.openAdmin} {
		if err := step(ctx); err != nil {
			return nil, errors.Join(err, n.Close())
		}
	}
	return n, nil
}

func (n *Node) openData(context.Context) (err error) {
	if n.directory, err = storage.OpenDirectory(n.config.Data, n.config.FS); err != nil {
		return err
	}
	if n.identity, err = openIdentity(n.directory, n.config.Shards); err != nil {
		return err
	}
	if n.keys, err = n.openKeys(); err != nil {
		return err
	}
	n.checkDisk()
	n.store, err = storage.Open(storage.Options{
		Path: n.directory.Path("state"), FS: n.config.FS, Logger: n.log, Fatal: n.config.Fatal,
		BufferBytesMax: n.config.BufferBytesMax, FlushInterval: n.config.FlushInterval, CacheBytes: n.config.CacheBytes,
	})
	if err != nil {
		return err
	}
	n.raft, err = raft.Open(raft.Options{
		Path: n.directory.Path("log"), FS: n.config.FS, Server: n.identity.Replica, Logger: n.log, Fatal: n.config.Fatal,
	})
	return err
}

func (n *Node) openShards(context.Context) (err error) {
	if n.table, err = router.NewTable(n.identity.Shards); err != nil {
		return err
	}
	n.readers = newReaders(n.config.Readers, ReadQueueMax)
	n.metrics = newMetrics(n)
	n.routes = newRoutes(n.table)
	// All shards are there before the first group starts: what one has for another is
	// delivered as soon as it leads.
	for _, r := range n.routes {
		if err := n.openShard(r); err != nil {
			return fmt.Errorf("engine: shard %d: %w", r.id, err)
		}
	}
	return n.startGroups()
}

// startGroups starts all groups side by side: each replays its log, on as many cores as there are.
func (n *Node) startGroups() error {
	errs := make([]error, len(n.routes))
	var starting sync.WaitGroup
	for i, r := range n.routes {
		starting.Go(func() {
			if err := n.startGroup(r); err != nil {
				errs[i] = fmt.Errorf("engine: shard %d: %w", r.id, err)
			}
		})
	}
	starting.Wait()
	return errors.Join(errs...)
}

func (n *Node) openShard(r *route) error {
	state, err := n.store.Shard(r.id, r.slots.First, r.slots.Last)
	if err != nil {
		return err
	}
	s, err := shard.Open(shard.Config{
		ID: r.id, First: r.slots.First, Last: r.slots.Last, Store: state, Nonce: random64(),
		Now:     func() wire.Time { return wire.TimeOf(n.config.Now()) },
		Sink:    n,
		Deliver: n.deliverCommand,
		Logger:  n.log,
	})
	if err != nil {
		return err
	}
	r.local.Store(&replica{Shard: s})
	return nil
}

func (n *Node) startGroup(r *route) error {
	s := r.local.Load().Shard
	group, err := n.raft.Start(context.Background(), raft.GroupConfig{ID: r.id, Machine: s, Source: s, Servers: []string{n.identity.Replica}})
	if err != nil {
		return err
	}
	r.local.Store(&replica{Shard: s, group: group})
	s.Attach(group.Kick)
	s.Kick() // for what came to the queue before
	return nil
}

// awaitLeaders waits until every shard takes commands: the log was replayed.
func (n *Node) awaitLeaders(ctx context.Context) error {
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for _, r := range n.local() {
		for !r.group.Leading() {
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

// deliverCommand proposes a command at the shard that owns a slot.
func (n *Node) deliverCommand(target wire.Slot, command []byte) <-chan error {
	return n.replicaOf(target).Receive(command)
}

// post hands an item to the loop of a session.
func (n *Node) post(h reactor.Handle, item any) {
	if loops := n.allLoops(); h.Loop() < len(loops) {
		loops[h.Loop()].Post(item)
	}
}

// Effects implements shard.Sink: each loop gets what concerns its sessions.
func (n *Node) Effects(e *shard.Effects) {
	loops := n.allLoops()
	if len(loops) == 0 {
		return
	}
	loopOf := func(handle uint64) int { return reactor.Handle(handle).Loop() }
	for i, batch := range delivery.Plan(e, n.sessions, len(loops), loopOf) {
		if batch != nil {
			loops[i].Post(batch)
		}
	}
	for i := range e.Listed {
		n.listed(e.Listed[i])
	}
}

// listed tells a user's sessions of a conversation that came to the user's list: a sync
// that looked at the list before could not know of it. The row is there because of the
// first message, so this much is sure; a page of the history says how far it reaches.
func (n *Node) listed(l shard.ListedEffect) {
	for _, entry := range n.sessions.Append(nil, l.User) {
		h := reactor.Handle(entry.Handle)
		n.post(h, headItem{handle: h, head: wire.Head{Ref: l.Conversation.Ref(l.User), Sequence: 1, Revision: 1}})
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
	if n.server == nil || n.draining.Swap(true) {
		return nil
	}
	for _, l := range n.allLoops() {
		l.Post(drainItem{})
	}
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

// Close stops the node: sessions end, what was applied is written to the state store,
// and the data directory is released. Nothing acknowledged depends on it.
func (n *Node) Close() error {
	n.closeOnce.Do(func() { n.closeErr = n.close() })
	return n.closeErr
}

func (n *Node) close() error {
	close(n.stop)
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
	if n.readers != nil {
		n.readers.close()
	}
	for _, r := range n.local() {
		done(r.Shard.Close())
	}
	if n.store != nil {
		done(n.store.Close())
	}
	if n.directory != nil {
		done(n.directory.Close())
	}
	return errors.Join(errs...)
}
