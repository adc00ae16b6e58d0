package cluster

import (
	"bytes"
	"encoding/json"
	"errors"
	"reflect"
	"strings"
	"testing"

	"parley/engine/router"
)

func TestNodeOfTellsWhatNewReplicaSaid(t *testing.T) {
	for _, node := range []uint32{1, 2, 1000, 1<<32 - 1} {
		r := NewReplica(node, 0xfeed)
		if got, ok := NodeOf(r.ID); !ok || got != node || r.Node != node {
			t.Errorf("%v is on %d %v", r, got, ok)
		}
	}
	if got, ok := NodeOf("n-00112233445566ff"); !ok || got != 1 {
		t.Errorf("the id of a single node is on %d %v", got, ok)
	}
	for _, bad := range []string{
		"", "n", "n1", "n1-", "n1-123", "n0-0000000000000001", "n01-0000000000000001", "n1-000000000000000g", "n1-00000000000000AA",
		"m1-0000000000000001", "n4294967296-0000000000000001", "n+1-0000000000000001", "n1-0000000000000001-", "n1-00000000000000001",
	} {
		if node, ok := NodeOf(bad); ok {
			t.Errorf("%q is on %d", bad, node)
		}
	}
}

func TestShardsHaveTheRangesOfTheRouter(t *testing.T) {
	for _, n := range []int{1, 3, 8, 100, 256} {
		m := founded(t, 1, n)
		table, err := router.NewTable(n)
		if err != nil {
			t.Fatal(err)
		}
		for i, s := range m.Shards {
			if want := table.Range(i); want.First != s.First || want.Last != s.Last {
				t.Errorf("shard %d of %d has %d to %d, want %v", i, n, s.First, s.Last, want)
			}
		}
	}
}

// rich is a map with something of everything.
func rich(t testing.TB) *Map {
	m := founded(t, 5, 4)
	return apply(t, m,
		SetNode{Number: 2, State: ptr(Draining)},
		SetReplicas{Shard: 1, Replicas: []Replica{NewReplica(1, 5), NewReplica(2, 6), NewReplica(3, 7)}, Preferred: 3, Pinned: true},
		SetMapReplicas{Replicas: []Replica{NewReplica(1, 1), NewReplica(3, 9), NewReplica(4, 1<<63)}},
		RemoveNode{Number: 5},
	)
}

func TestMapComesBackFromItsEncoding(t *testing.T) {
	for _, m := range []*Map{{Version: 1}, founded(t, 1, 1), rich(t)} {
		b := AppendMap([]byte("before"), m)[6:]
		got, err := ParseMap(b)
		if err != nil {
			t.Fatal(err)
		}
		if !reflect.DeepEqual(got, m) {
			t.Errorf("got %+v\nwant %+v", got, m)
		}
	}
}

func TestMapComesBackFromJSON(t *testing.T) {
	m := rich(t)
	b, err := json.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	var got Map
	if err := json.Unmarshal(b, &got); err != nil || !reflect.DeepEqual(&got, m) {
		t.Errorf("%v\n%s", err, b)
	}
	if !strings.Contains(string(b), `"state":"draining"`) {
		t.Errorf("no word for the state: %s", b)
	}
}

// TestMapBytesAreFrozen fails if the encoding of a map has changed: nodes of two versions
// exchange maps, so a new encoding needs a new version.
func TestMapBytesAreFrozen(t *testing.T) {
	// Version, cluster, epoch, cluster version, next node, copies; one node; one shard; voters.
	want := unhex(t, "01"+"4d"+"01"+"01"+"02"+"03"+
		"01"+"01"+"00"+"066e6f64652d31"+"0d31302e302e302e313a37373030"+"107773733a2f2f63312e6578616d706c65"+"027a31"+"64"+"08666f6c6465722d31"+"01"+
		"01"+"ff1f"+"01"+"00"+"01"+"126e2d30303030303030303030303030306161"+
		"01"+"136e312d30303030303030303030303030303031"+"ad0279c6")
	if got := AppendMap(nil, founded(t, 1, 1)); !bytes.Equal(got, want) {
		t.Errorf("%x\nwant %x", got, want)
	}
}

func TestAnyFlippedBitIsFound(t *testing.T) {
	b := AppendMap(nil, rich(t))
	for i := range len(b) * 8 {
		b[i/8] ^= 1 << (i % 8)
		if _, err := ParseMap(b); !errors.Is(err, ErrBadMap) {
			t.Fatalf("bit %d: %v", i, err)
		}
		b[i/8] ^= 1 << (i % 8)
	}
	for i := range b {
		if _, err := ParseMap(b[:i]); !errors.Is(err, ErrBadMap) {
			t.Fatalf("%d bytes: %v", i, err)
		}
	}
}

// TestMapsThatContradictThemselvesAreRefused breaks a good map in one way each.
func TestMapsThatContradictThemselvesAreRefused(t *testing.T) {
	for name, damage := range map[string]func(m *Map){
		"no cluster":          func(m *Map) { m.Cluster = 0 },
		"no version":          func(m *Map) { m.ClusterVersion = 0 },
		"no copies":           func(m *Map) { m.Replicas = 0 },
		"a number too high":   func(m *Map) { m.NextNode = 5 },
		"numbers out of turn": func(m *Map) { m.Nodes[1].Number = 1 },
		"two addresses":       func(m *Map) { m.Nodes[1].Address = m.Nodes[0].Address },
		"two names":           func(m *Map) { m.Nodes[1].Name = m.Nodes[0].Name },
		"a bad name":          func(m *Map) { m.Nodes[1].Name = "two words" },
		"no port":             func(m *Map) { m.Nodes[1].Address = "host" },
		"no weight":           func(m *Map) { m.Nodes[1].Weight = 0 },
		"no identity":         func(m *Map) { m.Nodes[1].Identity = "" },
		"slots lost":          func(m *Map) { m.Shards[3].Last-- },
		"slots twice":         func(m *Map) { m.Shards[0].Last++ },
		"a shard too few":     func(m *Map) { m.Shards = m.Shards[:3] },
		"no replicas":         func(m *Map) { m.Shards[2].Replicas = nil },
		"an unknown node":     func(m *Map) { m.Shards[2].Replicas = []Replica{NewReplica(9, 1)} },
		"two on a node":       func(m *Map) { m.MapReplicas = []Replica{NewReplica(1, 1), NewReplica(1, 2)} },
		"a wrong preference":  func(m *Map) { m.Shards[1].Preferred = 4 },
		"epoch zero":          func(m *Map) { m.Epoch = 0 },
	} {
		m := rich(t).clone()
		damage(m)
		if err := m.Check(); !errors.Is(err, ErrBadMap) {
			t.Errorf("%s: %v", name, err)
		}
		if name == "slots twice" {
			continue // an encoded range begins where the one before it ends
		}
		if _, err := ParseMap(AppendMap(nil, m)); !errors.Is(err, ErrBadMap) {
			t.Errorf("%s, encoded: %v", name, err)
		}
	}
}

func FuzzParseMap(f *testing.F) {
	for _, m := range []*Map{{}, founded(f, 1, 1), rich(f)} {
		b := AppendMap(nil, m)
		f.Add(b[:len(b)-checksumSize])
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		b := seal(body, 0)
		m, err := ParseMap(b)
		if err != nil {
			return
		}
		if again := AppendMap(nil, m); !bytes.Equal(again, b) {
			t.Errorf("%x\nencoded again %x", b, again)
		}
		m.Own(1)
		m.NodeNamed("1")
		for _, c := range []Change{AddNode{describe(9)}, RemoveNode{Number: 1}, SetCopies{3}} {
			if next, _, err := m.Apply(c); err == nil && next.Check() != nil {
				t.Errorf("%T makes a bad map", c)
			}
		}
	})
}
