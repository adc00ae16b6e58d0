package cluster

import (
	"errors"
	"reflect"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"parley/raft"
)

func TestARecoveredMapHasOneNodeAndTheSameShards(t *testing.T) {
	lost := founded(t, 3, 8)
	draw := uint64(100)
	random := func() uint64 { draw++; return draw }
	m, err := lost.Recovered(78, 2, "another folder", random)
	if err != nil {
		t.Fatal(err)
	}
	if m.Cluster != 78 || m.Epoch <= lost.Epoch || len(m.Nodes) != 1 || m.NextNode != 5 {
		t.Errorf("the map: %+v", m)
	}
	if n := m.Nodes[0]; n.Number != 4 || n.Name != "node-2" || n.Identity != "another folder" || n.State != Up {
		t.Errorf("the node: %+v", n)
	}
	own := m.Own(4)
	if len(own) != 9 {
		t.Errorf("it has %d groups", len(own))
	}
	seen := make(map[string]bool)
	for group, id := range own {
		if seen[id] {
			t.Errorf("group %d has the id of another", group)
		}
		seen[id] = true
	}
	for i, s := range m.Shards {
		if was := lost.Shards[i]; s.ID != was.ID || s.First != was.First || s.Last != was.Last {
			t.Errorf("shard %d: %+v, was %+v", i, s, was)
		}
	}
	if _, err := lost.Recovered(78, 9, "x", random); !errors.Is(err, ErrUnknownNode) {
		t.Errorf("a node that is not there: %v", err)
	}
	lost.ClusterVersion = Version + 1
	if _, err := lost.Recovered(78, 2, "x", random); !errors.Is(err, ErrVersion) {
		t.Errorf("a newer cluster: %v", err)
	}
}

func TestAWrittenStateIsWhatAMachineOpens(t *testing.T) {
	fs, want := vfs.NewMem(), founded(t, 2, 4)
	record := raft.Record{Index: 1, Term: 1, ConfigurationIndex: 1, Configuration: []byte("one voter")}
	if err := WriteState(fs, "map", record, want); err != nil {
		t.Fatal(err)
	}
	m := openMachine(t, fs, 1)
	defer m.Close()
	if !reflect.DeepEqual(m.Map(), want) || !reflect.DeepEqual(m.Record(), record) {
		t.Errorf("opened: %+v %+v", m.Map(), m.Record())
	}
}
