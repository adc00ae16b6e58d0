package raft

import "context"

// A Network makes the transports of a node's groups.
type Network interface{}

// A Node is this process's part in all groups: one log store, one committer.
type Node struct{ options Options }

// Open opens the log store. It starts nothing but the committer.
func Open(o Options) (*Node, error) { return &Node{options: o}, nil }

// Start recovers a group and takes part in it.
func (n *Node) Start(c GroupConfig) (*Group, error) { return &Group{}, nil }

// Close stops all groups, then the committer, and closes the log store.
func (n *Node) Close() error { return nil }

// A Group is this node's replica of one replicated log.
type Group struct{}

// Kick says that the Source has something. It never blocks and is cheap.
func (g *Group) Kick() {}

// Leading tells whether this replica leads and its Machine was told so.
func (g *Group) Leading() bool { return false }

// Authorize returns nil if everything that was committed anywhere before the call has
// been applied here; ErrNotLeader otherwise.
func (g *Group) Authorize(ctx context.Context) error { return ErrNotLeader }

// Compact asks for a truncation of the log behind the machine's record.
func (g *Group) Compact() {}

// Stats returns the group's counters.
func (g *Group) Stats() Stats { return Stats{} }
