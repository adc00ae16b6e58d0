package raft

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
)

// Errors of starting groups.
var (
	// ErrGroupExists means that the group runs already on this node.
	ErrGroupExists = errors.New("raft: the group is running")
	// ErrTooManyGroups means that GroupsMax groups run already.
	ErrTooManyGroups = errors.New("raft: too many groups on one node")
	// ErrNoGroup means that the group does not run on this node.
	ErrNoGroup = errors.New("raft: the group is not running")
	// errOptions is wrapped by what is wrong with a configuration.
	errOptions = errors.New("raft: bad configuration")
)

// A Node is this process's part in all groups: one log store, one committer. Its methods
// may be called from any goroutine.
type Node struct {
	options   Options
	logger    *slog.Logger
	store     store
	committer *committer
	compactor *compactor

	failure atomic.Pointer[error] // why the log cannot be trusted any more
	failed  chan struct{}         // closed then
	closing chan struct{}
	sweeper sync.WaitGroup

	mu       sync.Mutex
	closed   bool
	groups   map[uint32]*Group // nil while one starts or stops
	changing sync.WaitGroup    // what makes them so
}

// Open opens the log store. It refuses one that is damaged or of a newer format.
func Open(o Options) (*Node, error) {
	if o.Server == "" || o.Fatal == nil || o.Path == "" {
		return nil, fmt.Errorf("%w: Path, Server and Fatal are needed", errOptions)
	}
	if o.FS == nil {
		o.FS = vfs.Default
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Network == nil {
		o.Network = NewMemory().Network(o.Server)
	}
	n := &Node{
		options: o, logger: o.Logger,
		failed: make(chan struct{}), closing: make(chan struct{}),
		groups: make(map[uint32]*Group),
	}
	s, err := openPebble(&pebbleConfig{
		path: o.Path, fs: o.FS, fail: n.fail, broken: n.broken,
		logger: &pebbleLogger{logger: o.Logger, fail: n.fail},
	})
	if err != nil {
		return nil, asDamage(err)
	}
	if err := clearReceived(o.FS, o.Path); err != nil {
		return nil, errors.Join(err, s.close())
	}
	n.store = s
	n.committer = newCommitter(s, n.fail)
	n.compactor = newCompactor(n)
	n.sweeper.Go(n.sweep)
	return n, nil
}

// asDamage marks an error of opening the log as damage, unless the operating system
// refused something or the files are of another version: what Pebble cannot read has
// changed since it was written, and not all of its errors say so.
func asDamage(err error) error {
	var system syscall.Errno
	if errors.As(err, &system) || errors.Is(err, errFormat) || errors.Is(err, ErrNewerFormat) || errors.Is(err, ErrDamaged) {
		return err
	}
	return fmt.Errorf("%w: %w", ErrDamaged, err)
}

// fail stops the node's log for good, once.
func (n *Node) fail(err error) {
	// Of what Pebble reports as fatal only the text is left.
	corruption := errors.Is(err, pebble.ErrCorruption) || strings.Contains(err.Error(), "corruption")
	if corruption && !errors.Is(err, ErrDamaged) {
		err = fmt.Errorf("%w: %w", ErrDamaged, err)
	}
	if !n.failure.CompareAndSwap(nil, &err) {
		return
	}
	close(n.failed)
	n.logger.Error("raft: the log failed; stopping", "error", err)
	n.options.Fatal(err)
}

// broken returns why the node failed, nil if it did not.
func (n *Node) broken() error {
	if err := n.failure.Load(); err != nil {
		return *err
	}
	return nil
}

// Err returns why the node's log stopped, nil if it works.
func (n *Node) Err() error { return n.broken() }

// Start recovers a group and takes part in it. A group whose only voter is this replica is
// led by it when Start returns, all of its log applied; with several voters Start does
// not wait. The machine's and the source's methods are called before Start returns. If ctx
// ends before, the group is stopped. Groups may be started side by side.
func (n *Node) Start(ctx context.Context, c GroupConfig) (*Group, error) {
	if c.Machine == nil || c.Source == nil || c.ID == nodeGroup {
		return nil, fmt.Errorf("%w: Machine, Source and an ID below %d are needed", errOptions, uint32(nodeGroup))
	}
	err := n.reserve(c.ID, func(_ *Group, exists bool) error {
		switch {
		case exists:
			return fmt.Errorf("%w: %d", ErrGroupExists, c.ID)
		case len(n.groups) >= GroupsMax:
			return ErrTooManyGroups
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	g, err := startGroup(n, c)
	n.release(c.ID, g)
	if err != nil {
		return nil, err
	}
	if err := g.elected(ctx); err != nil {
		if ctx.Err() != nil {
			err = errors.Join(err, n.Stop(c.ID))
		}
		return nil, err
	}
	return g, nil
}

// reserve makes a group one that starts or stops, if allow does not mind.
func (n *Node) reserve(id uint32, allow func(g *Group, exists bool) error) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.closed {
		return ErrClosed
	}
	g, exists := n.groups[id]
	if err := allow(g, exists); err != nil {
		return err
	}
	n.groups[id] = nil
	n.changing.Add(1)
	return nil
}

// release ends that: the group runs, or is gone if it is nil.
func (n *Node) release(id uint32, g *Group) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if g == nil {
		delete(n.groups, id)
	} else {
		n.groups[id] = g
	}
	n.changing.Done()
}

// Stop stops this node's replica of a group, and keeps its log: it may be started again.
// No method of its machine or source is running or follows when Stop returns.
func (n *Node) Stop(group uint32) error { return n.end(group, false) }

// Drop stops this node's replica of a group, if it runs, and deletes its log, vote and
// term, durably and in one step. Only a replica whose id will never be used again may be
// dropped: it has forgotten whom it voted for and what it acknowledged.
func (n *Node) Drop(group uint32) error { return n.end(group, true) }

func (n *Node) end(id uint32, drop bool) error {
	var g *Group
	err := n.reserve(id, func(running *Group, exists bool) error {
		if exists && running == nil || !exists && !drop || id == nodeGroup {
			return fmt.Errorf("%w: %d", ErrNoGroup, id)
		}
		g = running
		return nil
	})
	if err != nil {
		return err
	}
	defer n.release(id, nil)
	if g != nil {
		g.stop()
	}
	if !drop {
		return nil
	}
	o := newOperation(id)
	o.drop = true
	if err := n.committer.commit(o); err != nil {
		return fmt.Errorf("raft: drop group %d: %w", id, err)
	}
	return nil
}

// Logs lists the groups of which this node has a log, running or not: so what was to be
// dropped when the process ended is found.
func (n *Node) Logs() ([]uint32, error) { return n.store.groups() }

// running lists the groups.
func (n *Node) running() []*Group {
	n.mu.Lock()
	defer n.mu.Unlock()
	groups := make([]*Group, 0, len(n.groups))
	for _, g := range n.groups {
		if g != nil {
			groups = append(groups, g)
		}
	}
	return groups
}

// sweep gives entries back that wait too long, and seals the log when it is idle.
func (n *Node) sweep() {
	ticker := time.NewTicker(sweepInterval)
	defer ticker.Stop()
	for {
		select {
		case <-n.closing:
			return
		case now := <-ticker.C:
			n.committer.seal()
			for _, g := range n.running() {
				g.expire(now.Add(-proposeTimeout))
			}
		}
	}
}

// Close waits shortly for entries in flight, stops all groups and closes the log store.
// After a failure of the log it closes what can be closed and returns the failure.
func (n *Node) Close() error {
	n.mu.Lock()
	if n.closed {
		n.mu.Unlock()
		return ErrClosed
	}
	n.closed = true
	n.mu.Unlock()
	close(n.closing)
	n.sweeper.Wait()
	n.changing.Wait()
	var stopping sync.WaitGroup
	for _, g := range n.running() {
		stopping.Go(g.stop)
	}
	stopping.Wait()
	n.compactor.stop()
	n.committer.stop(ErrClosed)
	err := n.store.close()
	if failure := n.broken(); failure != nil {
		return failure
	}
	if err != nil {
		return fmt.Errorf("raft: close log: %w", err)
	}
	return nil
}
