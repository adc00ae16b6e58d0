package cluster

import (
	"context"
	"errors"
	"reflect"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"parley/raft"
)

// A voter is one replica of the map in a real Raft group, on a disk and a network in memory.
type voter struct {
	t       *testing.T
	replica Replica
	disk    *vfs.MemFS
	network *raft.Memory
	node    *raft.Node
	group   *raft.Group
	machine *Machine
}

// start opens the replica; one with initial voters founds the group.
func (v *voter) start(servers ...string) {
	v.t.Helper()
	v.machine = openMachine(v.t, v.disk, uint64(v.replica.Node))
	var err error
	v.node, err = raft.Open(raft.Options{
		Path: "log", FS: v.disk, Server: v.replica.ID, Network: v.network.Network(v.replica.ID),
		Fatal: func(err error) { v.t.Errorf("%s: %v", v.replica.ID, err) },
	})
	if err != nil {
		v.t.Fatal(err)
	}
	v.group, err = v.node.Start(v.t.Context(), raft.GroupConfig{ID: MapGroup, Machine: v.machine, Source: v.machine, Servers: servers})
	if err != nil {
		v.t.Fatal(err)
	}
	v.machine.Attach(v.group.Kick)
}

func (v *voter) stop() {
	v.t.Helper()
	if err := v.node.Close(); err != nil {
		v.t.Error(err)
	}
	v.machine.Close()
}

type voters []*voter

func newVoters(t *testing.T, n int) (list voters) {
	network := raft.NewMemory()
	for i := range n {
		list = append(list, &voter{t: t, replica: NewReplica(uint32(i+1), uint64(100+i)), disk: vfs.NewCrashableMem(), network: network})
	}
	return list
}

// eventually waits, in virtual time, for what the voters bring about.
func (l voters) eventually(what string, ok func() bool) {
	l[0].t.Helper()
	for range 60_000 {
		if ok() {
			return
		}
		time.Sleep(time.Millisecond)
	}
	l[0].t.Fatalf("did not happen: %s", what)
}

func (l voters) leader() *voter {
	for _, v := range l {
		if v.group != nil && v.machine.Term() != 0 && v.group.Leading() {
			return v
		}
	}
	return nil
}

// propose makes a change, on whoever leads.
func (l voters) propose(c Change) (result Result) {
	l[0].t.Helper()
	l.eventually("a change", func() bool {
		v := l.leader()
		if v == nil {
			return false
		}
		ctx, cancel := context.WithTimeout(v.t.Context(), 2*time.Second)
		defer cancel()
		var err error
		if result, err = v.machine.Propose(ctx, c); err != nil && !errors.Is(err, raft.ErrNotLeader) && !errors.Is(err, context.DeadlineExceeded) {
			v.t.Fatal(err)
		}
		return err == nil
	})
	return result
}

// walk lets the leader walk until the group is as the map says.
func (l voters) walk() {
	l[0].t.Helper()
	l.eventually("the group to be as desired", func() bool {
		v := l.leader()
		if v == nil {
			return false
		}
		step := Walk(v.machine.Map().MapReplicas, v.group.Membership(), Local{
			Self: v.replica.ID,
			Up:   func(id string) bool { return l.on(id).group != nil },
			CaughtUp: func(id string) bool {
				return l.on(id).machine.Applied() >= v.machine.Applied()
			},
		})
		ctx, cancel := context.WithTimeout(v.t.Context(), 2*time.Second)
		defer cancel()
		switch step.Action {
		case AddLearner:
			_ = v.group.AddLearner(ctx, step.Replica) // it is asked again if it did not work
		case Promote:
			_ = v.group.Promote(ctx, step.Replica)
		case Transfer:
			_ = v.group.TransferLeadership(ctx, step.Replica)
		case Remove:
			_ = v.group.Remove(ctx, step.Replica)
		}
		return step.Action == Done
	})
}

func (l voters) on(replica string) *voter {
	node, _ := NodeOf(replica)
	return l[node-1]
}

// same waits until some voters have the same map.
func (l voters) same(list ...*voter) {
	l[0].t.Helper()
	l.eventually("the same map", func() bool {
		for _, v := range list {
			if !reflect.DeepEqual(v.machine.Map(), list[0].machine.Map()) {
				return false
			}
		}
		return true
	})
}

// TestMapGroupGrowsMovesAndSurvives takes the map from one voter to three, through the loss
// of its leader, a crash, and on to another node.
func TestMapGroupGrowsMovesAndSurvives(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newVoters(t, 4)
		l[0].start(l[0].replica.ID)
		founding := foundation(4)
		founding.MapReplica = l[0].replica.ID
		l.propose(founding)
		for i, v := range l[1:] {
			if got := l.propose(AddNode{describe(i + 2)}); got.Node != v.replica.Node {
				t.Fatalf("node %d got number %d", v.replica.Node, got.Node)
			}
			v.start()
		}
		three := []Replica{l[0].replica, l[1].replica, l[2].replica}
		l.propose(SetMapReplicas{Replicas: three})
		l.walk()
		l.same(l[:3]...)

		lost := l.leader()
		l[0].network.Isolate(lost.replica.ID)
		l.eventually("another leader", func() bool { return lost.machine.Term() == 0 && l.leader() != nil })
		l.propose(SetCopies{5})
		l[0].network.Heal()
		l.same(l[:3]...)

		crashed := l.leader()
		if err := crashed.machine.Persist(t.Context(), crashed.machine.Applied()); err != nil {
			t.Fatal(err)
		}
		l.propose(SetCopies{3})
		disk := crashed.disk.CrashClone(vfs.CrashCloneCfg{})
		crashed.stop()
		crashed.disk = disk
		crashed.start()
		l.propose(SetNode{Number: 2, Zone: ptr("elsewhere")})
		l.same(l[:3]...)

		for _, v := range l[:3] {
			v.group.Compact()
		}
		moved := []Replica{l[3].replica}
		for _, r := range three {
			if r.ID != l.leader().replica.ID {
				moved = append(moved, r)
			}
		}
		l.propose(SetMapReplicas{Replicas: moved})
		l.walk()
		l.same(l.on(moved[0].ID), l.on(moved[1].ID), l.on(moved[2].ID))
		if m := l[3].machine.Map(); m.Replicas != 3 || m.Node(2).Zone != "elsewhere" {
			t.Errorf("%+v", m)
		}
		for _, v := range l {
			v.stop()
		}
	})
}
