//go:build linux

package core

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"time"

	"parley/engine/router"
	"parley/engine/shard"
	"parley/raft"
	"parley/storage"
	"parley/wire"
)

// Replicas is how many copies there are: the least that survives the loss of one.
const Replicas = 3

// Names of a node's folders.
const (
	StateName = "state"
	LogName   = "log"
)

// nodeName names a node, as a server and as a folder.
func nodeName(i int) string { return fmt.Sprintf("node%d", i) }

// Folders lists the nodes' folders below that of a Plan.
func Folders(folder string) []string {
	folders := make([]string, Replicas)
	for i := range folders {
		folders[i] = filepath.Join(folder, nodeName(i))
	}
	return folders
}

// A node is one of the cluster's processes, but for the process.
type node struct {
	name   string
	store  *storage.Store
	raft   *raft.Node
	states []*storage.Shard
	shards []*shard.Shard
	groups []*raft.Group
}

// A cluster is three nodes, each with a replica of every shard.
type cluster struct {
	table   *router.Table
	network *raft.Memory
	nodes   [Replicas]*node
}

// openCluster opens three nodes below a folder. sinks gives each shard's sink; fatal hears
// what ends a node.
func openCluster(folder string, table *router.Table, sink func(shard int) shard.Sink, fatal func(error)) (*cluster, error) {
	c := &cluster{table: table, network: raft.NewMemory()}
	var servers []string
	for i := range c.nodes {
		servers = append(servers, nodeName(i))
	}
	for i, name := range servers {
		n := &node{name: name}
		c.nodes[i] = n
		if err := n.open(filepath.Join(folder, name), c.network.Network(name), fatal); err != nil {
			return nil, errors.Join(err, c.close())
		}
		for id := range table.Shards() {
			if err := n.openShard(c, id, sink(id)); err != nil {
				return nil, errors.Join(err, c.close())
			}
		}
	}
	for _, n := range c.nodes {
		for id, s := range n.shards {
			g, err := n.raft.Start(context.Background(), raft.GroupConfig{ID: uint32(id), Machine: s, Source: s, Servers: servers})
			if err != nil {
				return nil, errors.Join(err, c.close())
			}
			n.groups = append(n.groups, g)
			s.Attach(g.Kick)
		}
	}
	return c, nil
}

func (n *node) open(folder string, network raft.Network, fatal func(error)) (err error) {
	if n.store, err = storage.Open(storage.Options{Path: filepath.Join(folder, StateName), Fatal: fatal}); err != nil {
		return err
	}
	n.raft, err = raft.Open(raft.Options{Path: filepath.Join(folder, LogName), Server: n.name, Network: network, Fatal: fatal})
	return err
}

func (n *node) openShard(c *cluster, id int, sink shard.Sink) error {
	slots := c.table.Range(id)
	state, err := n.store.Shard(uint32(id), slots.First, slots.Last)
	if err != nil {
		return err
	}
	s, err := shard.Open(shard.Config{
		ID: uint32(id), First: slots.First, Last: slots.Last, Store: state, Nonce: rand.Uint64(),
		Now:     func() wire.Time { return wire.TimeOf(time.Now()) },
		Sink:    sink,
		Deliver: c.deliver,
	})
	if err != nil {
		return err
	}
	n.states, n.shards = append(n.states, state), append(n.shards, s)
	return nil
}

// deliver proposes another shard's command where its shard is led.
func (c *cluster) deliver(target wire.Slot, command []byte) <-chan error {
	if s := c.leader(c.table.Shard(target)); s != nil {
		return s.Receive(command)
	}
	done := make(chan error, 1)
	done <- shard.ErrNotLeader
	return done
}

// leader is the replica of a shard that takes commands; nil while there is none.
func (c *cluster) leader(id int) *shard.Shard {
	for _, n := range c.nodes {
		if n.shards[id].Leading() {
			return n.shards[id]
		}
	}
	return nil
}

// led counts the shards that each node leads.
func (c *cluster) led() []int {
	led := make([]int, Replicas)
	for i, n := range c.nodes {
		for _, s := range n.shards {
			if s.Leading() {
				led[i]++
			}
		}
	}
	return led
}

// compact lets each log be cut behind what its state has on disk, as a server does once a second.
func (c *cluster) compact() {
	for _, n := range c.nodes {
		for _, g := range n.groups {
			g.Compact()
		}
	}
}

// entries counts the log entries that all nodes have proposed.
func (c *cluster) entries() (sum uint64) {
	for _, n := range c.nodes {
		for _, g := range n.groups {
			sum += g.Stats().Entries
		}
	}
	return sum
}

// even reports whether all replicas of all shards have applied the same.
func (c *cluster) even() bool {
	for id := range c.table.Shards() {
		for _, n := range c.nodes {
			if n.shards[id].Stats().Applied != c.nodes[0].shards[id].Stats().Applied {
				return false
			}
		}
	}
	return true
}

// close stops all nodes, which flushes what they hold.
func (c *cluster) close() error {
	var errs []error
	for _, n := range c.nodes {
		if n != nil && n.raft != nil {
			errs = append(errs, n.raft.Close())
		}
	}
	for _, n := range c.nodes {
		if n == nil {
			continue
		}
		for _, s := range n.shards {
			errs = append(errs, s.Close())
		}
		if n.store != nil {
			errs = append(errs, n.store.Close())
		}
	}
	return errors.Join(errs...)
}
