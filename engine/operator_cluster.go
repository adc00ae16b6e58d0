package engine

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"parley/engine/admin"
	"parley/engine/auth"
	"parley/engine/cluster"
)

var _ admin.ClusterOperator = (*Node)(nil)

// refusal is an error as an operator gets it: what is refused for good says so.
func refusal(err error) error {
	switch {
	case err == nil:
		return nil
	case cluster.Refused(err), errors.Is(err, cluster.ErrEpoch), isRefused(err):
		return fmt.Errorf("%w: %w", admin.ErrRefused, err)
	}
	return fmt.Errorf("%w: %w", admin.ErrUnavailable, err)
}

// Nodes implements admin.ClusterOperator.
func (n *Node) Nodes(ctx context.Context) ([]admin.Node, error) {
	m := n.maps.view.Map()
	all := n.statuses(ctx, m)
	var list []admin.Node
	for i := range m.Nodes {
		d := &m.Nodes[i]
		if d.State == cluster.Removed {
			continue
		}
		line := admin.Node{Number: d.Number, Name: d.Name, Address: d.Address, Client: d.Client, Zone: d.Zone, Weight: d.Weight,
			State: d.State.String(), Self: d.Number == n.identity.Number}
		if s := all[d.Number]; s != nil {
			line.Answers, line.Sessions, line.Replicas = true, s.Sessions, len(s.Groups)
			for _, g := range s.Groups {
				if g.Leading {
					line.Leading++
				}
			}
		}
		list = append(list, line)
	}
	return list, nil
}

// Invite implements admin.ClusterOperator.
func (n *Node) Invite(_ context.Context, lifetime time.Duration) (admin.Invitation, error) {
	if n.hub == nil {
		return admin.Invitation{}, fmt.Errorf("%w: this node has no address for other nodes: start it with --cluster-listen", admin.ErrRefused)
	}
	now := n.config.Now()
	token, err := n.keys.SignInvitation(now, lifetime)
	if errors.Is(err, auth.ErrInvitation) {
		err = fmt.Errorf("%w: %w", admin.ErrRefused, err)
	}
	return admin.Invitation{Token: token, Address: n.linkAddress, Expires: now.Add(lifetime)}, err
}

// named finds a live node of the map.
func (n *Node) named(name string) (*cluster.Map, *cluster.Node, error) {
	m := n.maps.view.Map()
	d := m.NodeNamed(name)
	if d == nil {
		return m, nil, fmt.Errorf("%w: there is no node %q; `parley node list` shows all", admin.ErrRefused, name)
	}
	return m, d, nil
}

// DrainNode implements admin.ClusterOperator.
func (n *Node) DrainNode(ctx context.Context, node string, back bool) error {
	_, d, err := n.named(node)
	if err != nil {
		return err
	}
	state := cluster.Draining
	if back {
		state = cluster.Up
	}
	_, err = n.propose(ctx, cluster.SetNode{Number: d.Number, State: &state})
	return refusal(err)
}

// RemoveNode implements admin.ClusterOperator.
func (n *Node) RemoveNode(ctx context.Context, node string) error {
	m, d, err := n.named(node)
	if err != nil {
		return err
	}
	down := make(map[uint32]time.Time)
	change, err := cluster.NewRemoval(m, d.Number, n.clusterStatus(ctx, m, down))
	if err != nil {
		return refusal(err)
	}
	_, err = n.propose(ctx, change)
	return refusal(err)
}

// Shards implements admin.ClusterOperator.
func (n *Node) Shards(ctx context.Context) ([]admin.Shard, error) {
	m := n.maps.view.Map()
	all := n.statuses(ctx, m)
	list := make([]admin.Shard, len(m.Shards))
	for i := range m.Shards {
		list[i] = describeShard(m, &m.Shards[i], all)
	}
	// What the planner is about to move has not come to rest either.
	for _, change := range cluster.Plan(m, n.statusFrom(m, all, make(map[uint32]time.Time)), cluster.ShardsMax) {
		switch c := change.(type) {
		case cluster.SetReplicas:
			list[c.Shard].Settled = false
		case cluster.SetPreferred:
			list[c.Shard].Settled = false
		}
	}
	return list, nil
}

// describeShard puts together what the map wants and what the nodes say.
func describeShard(m *cluster.Map, want *cluster.Shard, all map[uint32]*nodeStatus) admin.Shard {
	line := admin.Shard{ID: want.ID, First: int(want.First), Last: int(want.Last)}
	var leader *groupStatus
	for node, s := range all {
		if g := s.group(want.ID); g != nil && g.Leading && (leader == nil || g.Term > leader.Term) {
			leader, line.Leader = g, m.Node(node).Name
		}
	}
	var actual []string
	if leader != nil {
		line.Term, line.Applied = leader.Term, leader.Applied
		line.Settled = cluster.Settled(want.Replicas, cluster.Membership{Voters: leader.Voters, Learners: leader.Learners})
		actual = append(append(actual, leader.Voters...), leader.Learners...)
	}
	ids := actual
	for _, r := range want.Replicas {
		if !slices.Contains(ids, r.ID) {
			ids = append(ids, r.ID)
		}
	}
	for _, id := range ids {
		node, _ := cluster.NodeOf(id)
		r := admin.Replica{Node: fmt.Sprint(node), Role: role(id, want, leader)}
		if d := m.Node(node); d != nil {
			r.Node = d.Name
		}
		if s := all[node]; s != nil {
			if g := s.group(want.ID); g != nil && g.Replica == id {
				r.Applied = g.Applied
			}
		}
		line.Replicas = append(line.Replicas, r)
	}
	return line
}

// role is what a replica is, and where it is on its way to.
func role(id string, want *cluster.Shard, leader *groupStatus) string {
	wanted := slices.ContainsFunc(want.Replicas, func(r cluster.Replica) bool { return r.ID == id })
	switch {
	case leader == nil:
		return "unknown"
	case !leader.has(id):
		return "coming"
	case !wanted:
		return "going"
	case slices.Contains(leader.Learners, id):
		return "learner"
	case leader.Replica == id:
		return "leader"
	}
	return "voter"
}

// MoveShard implements admin.ClusterOperator.
func (n *Node) MoveShard(ctx context.Context, shard uint32, from, to string) error {
	return n.place(ctx, shard, func(s *cluster.Shard) (change cluster.SetReplicas, err error) {
		_, source, err := n.named(from)
		if err != nil {
			return change, err
		}
		_, target, err := n.named(to)
		if err != nil {
			return change, err
		}
		replicas := slices.Clone(s.Replicas)
		at := slices.IndexFunc(replicas, func(r cluster.Replica) bool { return r.Node == source.Number })
		switch {
		case at < 0:
			return change, fmt.Errorf("%w: shard %d has no replica on %s; `parley shard list` shows where it is", admin.ErrRefused, shard, source.Name)
		case slices.ContainsFunc(replicas, func(r cluster.Replica) bool { return r.Node == target.Number }):
			return change, fmt.Errorf("%w: shard %d has a replica on %s already", admin.ErrRefused, shard, target.Name)
		}
		replicas[at] = cluster.NewReplica(target.Number, random64())
		preferred := s.Preferred
		if preferred == source.Number {
			preferred = target.Number
		}
		return cluster.SetReplicas{Replicas: replicas, Preferred: preferred}, nil
	})
}

// TransferShard implements admin.ClusterOperator.
func (n *Node) TransferShard(ctx context.Context, shard uint32, to string) error {
	return n.place(ctx, shard, func(s *cluster.Shard) (change cluster.SetReplicas, err error) {
		_, target, err := n.named(to)
		if err != nil {
			return change, err
		}
		if !slices.ContainsFunc(s.Replicas, func(r cluster.Replica) bool { return r.Node == target.Number }) {
			return change, fmt.Errorf("%w: shard %d has no replica on %s: move one there first (`parley shard move`)", admin.ErrRefused, shard, target.Name)
		}
		return cluster.SetReplicas{Replicas: s.Replicas, Preferred: target.Number}, nil
	})
}

// placeTries is how often an operator's choice is made again when the map has changed in
// between: the planner makes a few changes a second, for a few seconds.
const placeTries = 50

// place makes an operator's choice of where a shard is and who leads it, for the map as it
// is then. From now on the planner leaves the shard there.
func (n *Node) place(ctx context.Context, shard uint32, choose func(s *cluster.Shard) (cluster.SetReplicas, error)) error {
	var err error
	for range placeTries {
		m := n.maps.view.Map()
		s := m.Shard(shard)
		if s == nil {
			return fmt.Errorf("%w: there is no shard %d; there are 0 to %d", admin.ErrRefused, shard, len(m.Shards)-1)
		}
		change, refused := choose(s)
		if refused != nil {
			return refused
		}
		change.Shard, change.Pinned, change.Epoch = shard, true, m.Epoch
		if _, err = n.propose(ctx, change); !errors.Is(err, cluster.ErrEpoch) {
			return refusal(err)
		}
		select {
		case <-ctx.Done():
			return refusal(err)
		case <-time.After(leaderPoll):
		}
	}
	return refusal(err)
}
