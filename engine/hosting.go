package engine

import (
	"context"
	"errors"
	"fmt"
	"time"

	"parley/engine/cluster"
	"parley/engine/shard"
	"parley/raft"
	"parley/wire"
)

// hostTimeout bounds one attempt to bring what is here and what the map wants together.
const hostTimeout = 10 * time.Second

// host is the task that begins and ends this node's replicas as the map says, now and
// whenever the map changes.
func (n *Node) host() {
	tick := time.NewTicker(n.config.intervals.host)
	defer tick.Stop()
	for {
		select {
		case <-n.stop:
			return
		case <-n.maps.changed:
		case <-tick.C:
		}
		ctx, cancel := context.WithTimeout(n.life, hostTimeout)
		if err := n.settle(ctx); err != nil && n.life.Err() == nil {
			n.log.Warn("what is here is not yet as the cluster map says", "error", err)
		}
		cancel()
	}
}

// settle brings links and replicas to what the newest map says. What cannot be done yet
// is tried again later.
func (n *Node) settle(ctx context.Context) error {
	m := n.maps.view.Map()
	if !m.Founded() {
		return nil
	}
	self := m.Node(n.identity.Number)
	if self == nil || self.State == cluster.Removed {
		err := n.removedError()
		n.config.Fatal(err)
		return err
	}
	n.connect(m)
	errs := []error{n.maps.keep(), n.introduce(ctx, self)}
	own := m.Own(n.identity.Number)
	for group, id := range own {
		errs = append(errs, n.begin(ctx, group, id))
	}
	for _, group := range n.roster.groups() {
		if _, wanted := own[group]; !wanted {
			errs = append(errs, n.retire(ctx, group))
		}
	}
	if self.State == cluster.Draining {
		n.leave(len(n.roster.groups()) == 0)
	} else {
		n.stay()
	}
	return errors.Join(errs...)
}

// introduce tells the map where this node is now, if that has changed since it was told.
func (n *Node) introduce(ctx context.Context, self *cluster.Node) error {
	if n.config.Cluster == nil {
		return nil
	}
	d := n.description()
	change := cluster.SetNode{Number: self.Number}
	set := func(field **string, was, is string) {
		if is != "" && is != was {
			*field = &is
		}
	}
	set(&change.Address, self.Address, d.Address)
	set(&change.Client, self.Client, d.Client)
	set(&change.Zone, self.Zone, d.Zone)
	set(&change.Name, self.Name, d.Name)
	if d.Version != self.Version {
		change.Version = &d.Version
	}
	if change == (cluster.SetNode{Number: self.Number}) {
		return nil
	}
	_, err := n.propose(ctx, change)
	return err
}

// begin starts the replica of a group that the map wants here, if it does not run. One
// that lives here under another id must be gone first.
func (n *Node) begin(ctx context.Context, group uint32, id string) error {
	old := n.roster.id(group)
	if old != "" && old != id {
		if err := n.retire(ctx, group); err != nil || n.roster.id(group) != "" {
			return err
		}
		old = ""
	}
	if old == id && n.hosts(group) {
		return nil
	}
	if err := n.roster.set(group, id); err != nil {
		return err
	}
	n.log.Info("a replica begins", "group", group, "replica", id)
	if group == cluster.MapGroup {
		return n.maps.start(ctx, id, nil)
	}
	r := n.routes[group]
	if err := n.openShard(r); err != nil {
		return err
	}
	return n.startGroup(ctx, r, id, nil)
}

// hosts tells whether a replica of a group runs here.
func (n *Node) hosts(group uint32) bool {
	if group == cluster.MapGroup {
		return n.maps.group.Load() != nil
	}
	l := n.routes[group].local.Load()
	return l != nil && l.group != nil
}

// retire drops the replica of a group that the map does not want here, once the group has
// let it go: until then its vote may be needed.
func (n *Node) retire(ctx context.Context, group uint32) error {
	id := n.roster.id(group)
	member, err := n.isMember(ctx, group, id)
	if err != nil || member {
		return err
	}
	n.log.Info("a replica that has moved away is dropped", "group", group, "replica", id)
	// The name goes first: what a crash leaves of the rest belongs to nobody, and is deleted
	// at the next start. A log without its state, or the other way round, would look damaged.
	if err := n.roster.set(group, ""); err != nil {
		return err
	}
	if err := n.drop(group); err != nil {
		return fmt.Errorf("engine: drop replica %s of group %d: %w", id, group, err)
	}
	return nil
}

// isMember asks the leader of a group whether a replica still belongs to it.
func (n *Node) isMember(ctx context.Context, group uint32, id string) (bool, error) {
	if g := n.groupOf(group); g != nil && g.Leading() {
		return true, nil
	}
	leader, ok := n.leaders.of(group)
	if !ok || leader == n.identity.Number {
		return true, nil // it may be: nobody can say
	}
	s, err := n.statusOf(ctx, leader)
	if err != nil {
		return true, err
	}
	g := s.group(group)
	return g == nil || !g.Leading || g.has(id), nil
}

// groupOf is the Raft group of a replica here, nil if there is none.
func (n *Node) groupOf(group uint32) *raft.Group {
	if group == cluster.MapGroup {
		return n.maps.group.Load()
	}
	if int(group) >= len(n.routes) {
		return nil
	}
	if l := n.routes[group].local.Load(); l != nil {
		return l.group
	}
	return nil
}

// drop ends a replica and deletes what it had.
func (n *Node) drop(group uint32) error {
	if group == cluster.MapGroup {
		n.maps.group.Store(nil)
		if err := n.dropGroup(group); err != nil {
			return err
		}
		return n.maps.reset()
	}
	r := n.routes[group]
	l := r.local.Swap(nil)
	if l == nil {
		// It was dropped before, but not to the end.
		if err := n.dropGroup(group); err != nil {
			return err
		}
		return n.store.DropShard(group)
	}
	if err := errors.Join(n.dropGroup(group), l.Shard.Close()); err != nil {
		return err
	}
	r.vacate()
	return n.store.DropShard(group)
}

func (n *Node) dropGroup(group uint32) error { return n.raft.Drop(group) }

// openShard takes up the state of a shard whose replica lives here.
func (n *Node) openShard(r *route) error {
	state, err := n.store.Shard(r.id, r.slots.First, r.slots.Last)
	if err != nil {
		return err
	}
	s, err := shard.Open(shard.Config{
		ID: r.id, First: r.slots.First, Last: r.slots.Last, Store: state, Nonce: random64(),
		Now:  func() wire.Time { return wire.TimeOf(n.config.Now()) },
		Sink: r, TellAlways: n.hub != nil,
		Deliver: n.deliverCommand,
		Logger:  n.log,
	})
	if err != nil {
		return err
	}
	r.occupy(s)
	return nil
}

// startGroup starts the Raft group of a shard that was opened. founding are the voters of
// a group that begins here.
func (n *Node) startGroup(ctx context.Context, r *route, id string, founding []string) error {
	s := r.local.Load().Shard
	group, err := n.raft.Start(ctx, raft.GroupConfig{ID: r.id, Machine: hostedShard{s, r}, Source: s, Server: id, Servers: founding})
	if err != nil {
		return err
	}
	r.local.Store(&replica{Shard: s, group: group})
	s.Attach(group.Kick)
	s.Kick() // for what came to the queue before
	return nil
}

// A hostedShard is a shard as its Raft group sees it: the node hears who leads.
type hostedShard struct {
	*shard.Shard
	route *route
}

// Lead implements raft.Machine.
func (h hostedShard) Lead(term uint64) {
	h.Shard.Lead(term)
	h.route.node.ledHere(h.route.id, term)
	h.route.node.leaders.lead(h.route.id, term)
}

// Follow implements raft.Machine.
func (h hostedShard) Follow() {
	h.Shard.Follow()
	h.route.node.leaders.lead(h.route.id, 0)
}
