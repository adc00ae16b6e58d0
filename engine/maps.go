package engine

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"sync/atomic"

	"parley/engine/cluster"
	"parley/raft"
)

// mapName is a copy of the newest map that this node has seen: how a node that does not
// vote on the map finds the others after a restart. mapStateName is the state of its
// replica of the map's group, if it keeps one.
const (
	mapName      = "map"
	mapStateName = "mapstate"
)

// errNoLeader reports a group that nobody is known to lead.
var errNoLeader = errors.New("engine: no leader is known")

// A mapKeeper is what a node knows of the cluster map: the newest one, and its own replica of
// the map's group, if it keeps one.
type mapKeeper struct {
	node    *Node
	view    cluster.View
	state   atomic.Pointer[cluster.Machine] // another one after a replica was dropped
	group   atomic.Pointer[raft.Group]
	changed chan struct{} // capacity 1: look at what this node should hold
	keeping sync.Mutex    // of the copy
	kept    uint64        // epoch of the copy
}

// openMaps reads what the directory has.
func (n *Node) openMaps() error {
	fs := n.directory.FS()
	m := &mapKeeper{node: n, changed: make(chan struct{}, 1)}
	seen, err := cluster.ReadMap(fs, n.directory.Path(mapName))
	if err != nil {
		return err
	}
	machine, err := cluster.OpenMachine(fs, n.directory.Path(mapStateName), random64())
	if err != nil {
		return err
	}
	m.state.Store(machine)
	n.maps = m
	m.offer(seen)
	m.view.Subscribe(func(*cluster.Map) { m.wake() })
	machine.Subscribe(m.offer)
	return nil
}

// machine is the map as this node's replica of its group has it.
func (m *mapKeeper) machine() *cluster.Machine { return m.state.Load() }

// offer takes up a map that is newer than the one at hand.
func (m *mapKeeper) offer(newer *cluster.Map) {
	if newer.Founded() {
		m.view.Offer(newer)
	}
}

// wake asks for another look at what this node should hold.
func (m *mapKeeper) wake() {
	select {
	case m.changed <- struct{}{}:
	default:
	}
}

// keep writes the copy, if the map has changed since.
func (m *mapKeeper) keep() error {
	m.keeping.Lock()
	defer m.keeping.Unlock()
	now := m.view.Map()
	if now.Epoch <= m.kept {
		return nil
	}
	if err := cluster.WriteMap(m.node.directory.FS(), m.node.directory.Path(mapName), now); err != nil {
		return err
	}
	m.kept = now.Epoch
	return nil
}

// start starts this node's replica of the map's group.
func (m *mapKeeper) start(ctx context.Context, id string, founding []string) error {
	machine := m.machine()
	group, err := m.node.raft.Start(ctx, raft.GroupConfig{
		ID: cluster.MapGroup, Machine: hostedMap{machine, m.node}, Source: machine, Server: id, Servers: founding,
	})
	if err != nil {
		return fmt.Errorf("engine: the map's group: %w", err)
	}
	m.group.Store(group)
	machine.Attach(group.Kick)
	group.Kick()
	return nil
}

// reset forgets the state of a replica of the map's group that was dropped.
func (m *mapKeeper) reset() error {
	m.machine().Close()
	fs, path := m.node.directory.FS(), m.node.directory.Path(mapStateName)
	if err := fs.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("engine: drop the map's state: %w", err)
	}
	machine, err := cluster.OpenMachine(fs, path, random64())
	if err != nil {
		return err
	}
	machine.Subscribe(m.offer)
	m.state.Store(machine)
	return nil
}

// A hostedMap is the map's machine as its Raft group sees it: the node hears who leads.
type hostedMap struct {
	*cluster.Machine
	node *Node
}

// Lead implements raft.Machine.
func (h hostedMap) Lead(term uint64) {
	h.Machine.Lead(term)
	h.node.ledHere(cluster.MapGroup, term)
	h.node.leaders.lead(cluster.MapGroup, term)
}

// Follow implements raft.Machine.
func (h hostedMap) Follow() {
	h.Machine.Follow()
	h.node.leaders.lead(cluster.MapGroup, 0)
}

// found makes a cluster of this one node, unless there is one.
func (n *Node) found(ctx context.Context) error {
	if n.maps.view.Map().Founded() {
		return nil
	}
	id := n.roster.id(cluster.MapGroup)
	_, err := n.maps.machine().Propose(ctx, cluster.Found{
		Cluster: n.identity.Cluster, Shards: n.identity.Shards, Replica: n.identity.Replica, MapReplica: id,
		Replicas: replicasDefault, Version: cluster.Version, Node: n.description(),
	})
	if err != nil {
		return fmt.Errorf("engine: found the cluster: %w", err)
	}
	return nil
}

// replicasDefault is how many copies of a shard there should be, once there are nodes.
const replicasDefault = 3

// description is what this node says of itself to the map.
func (n *Node) description() cluster.Node {
	d := cluster.Node{Identity: n.identity.Replica, Version: cluster.Version, Address: loneAddress, Weight: cluster.WeightDefault}
	if c := n.config.Cluster; c != nil {
		d.Name, d.Zone, d.Client, d.Address = c.Name, c.Zone, c.Client, n.linkAddress
		if c.Weight > 0 {
			d.Weight = c.Weight
		}
	}
	return d
}

// loneAddress is what the map has for a node that others cannot reach yet.
const loneAddress = "none:0"

// propose has a change of the map made, wherever the map's group is led.
func (n *Node) propose(ctx context.Context, change cluster.Change) (cluster.Result, error) {
	if g := n.maps.group.Load(); g != nil && g.Leading() {
		return n.maps.machine().Propose(ctx, change)
	}
	leader, ok := n.leaders.of(cluster.MapGroup)
	if !ok || leader == n.identity.Number {
		return cluster.Result{}, errNoLeader
	}
	answer, err := n.call(ctx, leader, callPropose, cluster.AppendChange(nil, change))
	if err != nil {
		return cluster.Result{}, err
	}
	r := tokenReader{src: answer}
	result := cluster.Result{Epoch: r.uint(), Node: uint32(r.uint())}
	if r.bad {
		return cluster.Result{}, errBadAnswer
	}
	return result, nil
}

// fetch asks a node that has shown a newer map for it.
func (n *Node) fetch(ctx context.Context, from uint32) {
	answer, err := n.hub.Call(ctx, from, callMap, nil)
	if err == nil {
		var m *cluster.Map
		if m, err = cluster.ParseMap(answer); err == nil {
			n.maps.offer(m)
			return
		}
	}
	n.log.Debug("the newer cluster map did not come", "node", from, "error", err)
}
