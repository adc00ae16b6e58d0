package engine

import (
	"testing"

	"parley/engine/cluster"
	"parley/storage"
)

// A node that set its damaged data aside and ended before it had joined again joins at the
// next start, wherever it ended: it neither stays away nor founds a cluster of its own.
func TestADamagedNodeThatEndedBeforeItJoinedJoinsAtItsNextStart(t *testing.T) {
	nodes := startCluster(t, 3)
	victim := nodes[2]
	address, data := victim.linkAddress, victim.config.Data
	for i, end := range []func(d *storage.Directory) error{
		func(d *storage.Directory) error { return putAside(d, "damaged-1") },
		func(d *storage.Directory) error { // in the middle: the mark is the last to go
			if err := putAside(d, "damaged-2"); err != nil {
				return err
			}
			return d.WriteFile(damagedName, []byte("being set aside\n"))
		},
		func(d *storage.Directory) error { // while it asked
			if err := putAside(d, "damaged-3"); err != nil {
				return err
			}
			_, err := openIdentity(d, 4, true)
			return err
		},
	} {
		if err := victim.Close(); err != nil {
			t.Fatal(err)
		}
		d, err := storage.OpenDirectory(data, nil)
		if err != nil {
			t.Fatal(err)
		}
		if err := end(d); err != nil {
			t.Fatal(err)
		}
		if err := d.Close(); err != nil {
			t.Fatal(err)
		}
		victim = start(t, Config{Data: data, Cluster: &ClusterConfig{Listen: address}})
		if want := uint32(4 + i); victim.identity.Number != want || victim.identity.Cluster != nodes[0].identity.Cluster {
			t.Fatalf("it is node %d of cluster %d, not node %d of %d", victim.identity.Number, victim.identity.Cluster, want, nodes[0].identity.Cluster)
		}
		waitUntil(t, func() bool { return placed(victim, 3) })
		m := victim.maps.view.Map()
		if m.Node(victim.identity.Number).State != cluster.Up || m.Node(victim.identity.Number-1).State != cluster.Removed {
			t.Fatalf("the map: %+v", m.Nodes)
		}
	}
}
