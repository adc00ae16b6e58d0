package cluster

import (
	"fmt"
	"testing"
)

// describe makes a node as a join would.
func describe(i int) Node {
	return Node{
		Name: fmt.Sprint("node-", i), Address: fmt.Sprintf("10.0.0.%d:7700", i), Client: fmt.Sprintf("wss://c%d.example", i),
		Zone: fmt.Sprint("z", i%3), Weight: WeightDefault, Identity: fmt.Sprint("folder-", i), Version: Version,
	}
}

func foundation(shards int) Found {
	return Found{
		Cluster: 77, Shards: shards, Replica: "n-00000000000000aa", MapReplica: NewReplica(1, 1).ID,
		Replicas: 3, Version: 1, Node: describe(1),
	}
}

// apply makes changes that must be accepted.
func apply(t testing.TB, m *Map, changes ...Change) *Map {
	t.Helper()
	for _, c := range changes {
		next, _, err := m.Apply(c)
		if err != nil {
			t.Fatalf("%T %+v: %v", c, c, err)
		}
		m = next
	}
	return m
}

// founded is a cluster of some nodes whose shards are all on the first.
func founded(t testing.TB, nodes, shards int) *Map {
	t.Helper()
	m := apply(t, &Map{}, foundation(shards))
	for i := 2; i <= nodes; i++ {
		m = apply(t, m, AddNode{describe(i)})
	}
	return m
}

func ptr[T any](v T) *T { return &v }
