package cluster

import (
	"fmt"
	"slices"

	"github.com/cockroachdb/pebble/v2/vfs"

	"parley/raft"
)

// Recovered founds a cluster anew with one node of a lost one: the same shards, wanted on
// that node alone, until others join. The node gets the next number, and every group a new
// replica, because the old ones may still exist somewhere and are not to be mistaken for
// these. The node is as the map has it under its old number; identity is that of its data
// folder from now on.
func (m *Map) Recovered(cluster uint64, old uint32, identity string, random func() uint64) (*Map, error) {
	if m.ClusterVersion > Version {
		return nil, fmt.Errorf("%w: the cluster is at version %d, this program knows %d", ErrVersion, m.ClusterVersion, Version)
	}
	was := m.Node(old)
	if was == nil {
		return nil, fmt.Errorf("%w: %d", ErrUnknownNode, old)
	}
	n := *was
	n.Number, n.State, n.Identity, n.Version = m.NextNode, Up, identity, Version
	next := *m
	next.Cluster, next.Epoch, next.NextNode = cluster, m.Epoch+1, m.NextNode+1
	next.Nodes = []Node{n}
	next.Shards = slices.Clone(m.Shards)
	for i := range next.Shards {
		s := &next.Shards[i]
		s.Replicas, s.Preferred, s.Pinned = []Replica{NewReplica(n.Number, random())}, 0, false
	}
	next.MapReplicas = []Replica{NewReplica(n.Number, random())}
	return &next, next.Check()
}

// WriteState puts a map and a record in the place of a Machine's file, which is not open:
// the group then goes on from there.
func WriteState(fs vfs.FS, path string, r raft.Record, m *Map) error {
	if err := writeFile(fs, path, appendState(nil, r, m)); err != nil {
		return fmt.Errorf("cluster: write the map: %w", err)
	}
	return nil
}
