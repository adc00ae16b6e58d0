package sim

import (
	"context"
	"errors"
	"time"

	"parley/engine"
)

// operate does what an operator does, at a bad moment maybe. What the cluster refuses then
// is not done.
func (w *world) operate(s Step) {
	machines := w.members()
	m := machines[s.Node%len(machines)]
	node := m.Node()
	if node == nil || len(machines) == 1 {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), s.For+time.Minute)
	defer cancel()
	shard, to := uint32(s.Amount/7%w.config.Shards), machines[s.Amount%len(machines)]
	var err error
	switch s.Fault {
	case FaultTransfer:
		err = node.TransferShard(ctx, shard, to.nodeName())
	case FaultMove:
		err = node.MoveShard(ctx, shard, machines[s.Amount/3%len(machines)].nodeName(), to.nodeName())
	case FaultDrain:
		err = w.drain(ctx, node, to, s.For)
	case FaultJoin:
		err = w.join(ctx, node, m)
	case FaultWipe:
		err = w.replace(ctx, to)
	}
	w.log("%s: %v", s.Fault, err)
}

// members are the machines of the cluster by now.
func (w *world) members() []*Machine {
	w.mu.Lock()
	defer w.mu.Unlock()
	return append([]*Machine(nil), w.machines...)
}

// drain has a node drained for a while.
func (w *world) drain(ctx context.Context, node *engine.Node, m *Machine, d time.Duration) error {
	name := m.nodeName()
	if err := node.DrainNode(ctx, name, false); err != nil {
		return err
	}
	time.Sleep(d)
	for {
		for _, other := range w.members() {
			if node := other.Node(); node != nil && other != m {
				if err := node.DrainNode(ctx, name, true); err == nil {
					return nil
				}
			}
		}
		if !pause(ctx, time.Second) {
			return ctx.Err()
		}
	}
}

// join lets a spare machine join by way of a member.
func (w *world) join(ctx context.Context, node *engine.Node, member *Machine) error {
	invitation, err := node.Invite(ctx, time.Hour)
	if err != nil {
		return err
	}
	w.mu.Lock()
	if len(w.spares) == 0 {
		w.mu.Unlock()
		return errors.New("sim: there is no spare machine")
	}
	m := w.spares[0]
	w.spares = w.spares[1:]
	w.machines = append(w.machines, m)
	m.Join([]string{member.LinkAddress()}, invitation.Token)
	w.mu.Unlock()
	m.Start()
	return nil
}

// replace takes a machine's disk away while all others are well, removes its node and lets
// another one join on an empty disk. It happens once in a run: a second time could be too
// soon after the first.
func (w *world) replace(ctx context.Context, m *Machine) error {
	var helper *Machine
	for _, other := range w.members() {
		if other == m {
			continue
		}
		if node := other.Node(); node == nil || other.Flipped() || !w.settled(ctx, node) {
			return errors.New("sim: not all others are well")
		}
		helper = other
	}
	w.mu.Lock()
	again := w.wiped
	w.wiped = true
	w.mu.Unlock()
	if again {
		return errors.New("sim: a disk was lost before")
	}
	old := m.nodeName()
	m.Wipe()
	for {
		node := helper.Node()
		if node != nil {
			if err := node.RemoveNode(ctx, old); err == nil {
				break
			}
		}
		if !pause(ctx, time.Second) {
			return ctx.Err()
		}
	}
	for {
		if node := helper.Node(); node != nil {
			invitation, err := node.Invite(ctx, time.Hour)
			if err == nil {
				m.Replace([]string{helper.LinkAddress()}, invitation.Token)
				return nil
			}
		}
		if !pause(ctx, time.Second) {
			return ctx.Err()
		}
	}
}
