package raft

import (
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
	groups   map[uint32]*Group // nil while one starts
	starting sync.WaitGroup
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

// Start recovers a group and takes part in it. A group whose only voter is this node is
// led by it when Start returns, all of its log applied; with several voters Start does
// not wait. The machine's and the source's methods are called before Start returns.
// Groups may be started side by side.
func (n *Node) Start(c GroupConfig) (*Group, error) {
	if c.Machine == nil || c.Source == nil || c.ID == nodeGroup {
		return nil, fmt.Errorf("%w: Machine, Source and an ID below %d are needed", errOptions, uint32(nodeGroup))
	}
	n.mu.Lock()
	_, exists := n.groups[c.ID]
	var err error
	switch {
	case n.closed:
		err = ErrClosed
	case exists:
		err = fmt.Errorf("%w: %d", ErrGroupExists, c.ID)
	case len(n.groups) >= GroupsMax:
		err = ErrTooManyGroups
	}
	if err == nil {
		n.groups[c.ID] = nil
		n.starting.Add(1)
	}
	n.mu.Unlock()
	if err != nil {
		return nil, err
	}
	g, err := startGroup(n, c)
	n.mu.Lock()
	if err != nil {
		delete(n.groups, c.ID)
	} else {
		n.groups[c.ID] = g
	}
	n.mu.Unlock()
	n.starting.Done()
	if err != nil {
		return nil, err
	}
	return g, g.elected()
}

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
	n.starting.Wait()
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
