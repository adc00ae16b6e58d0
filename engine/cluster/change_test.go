package cluster

import (
	"bytes"
	"encoding/hex"
	"errors"
	"reflect"
	"strings"
	"testing"
)

func unhex(t testing.TB, text string) []byte {
	t.Helper()
	b, err := hex.DecodeString(text)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// samples are one change of each kind, and some with other values.
func samples() []Change {
	return []Change{
		foundation(8),
		AddNode{describe(2)},
		AddNode{Node{Address: "a:1", Identity: "x", Version: 1}},
		ReplaceNode{Old: 2, Node: describe(3), Down: []uint32{2, 4}},
		SetNode{Number: 2, Name: ptr("x"), Address: ptr("b:2"), Client: ptr(""), Zone: ptr("z"), Weight: ptr(3), State: ptr(Draining), Version: ptr(2)},
		SetNode{Number: 2, State: ptr(Up)},
		SetNode{Number: 2},
		RemoveNode{Number: 3, Down: []uint32{1}, Epoch: 9},
		SetReplicas{Shard: 2, Replicas: []Replica{NewReplica(1, 1), NewReplica(2, 2)}, Preferred: 2, Pinned: true, Epoch: 4},
		SetPreferred{Shard: 1, Node: 3},
		SetMapReplicas{Replicas: []Replica{NewReplica(1, 1)}, Epoch: 1 << 60},
		SetCopies{5},
		SetVersion{2},
	}
}

func TestChangesComeBackFromTheirEncoding(t *testing.T) {
	kinds := map[changeKind]bool{}
	for _, c := range samples() {
		b := AppendChange([]byte("x"), c)[1:]
		got, err := ParseChange(b)
		if err != nil {
			t.Fatalf("%T: %v", c, err)
		}
		if !reflect.DeepEqual(got, c) {
			t.Errorf("got %+v\nwant %+v", got, c)
		}
		kinds[c.kind()] = true
		for i := range b {
			if _, err := ParseChange(b[:i]); !errors.Is(err, ErrBadChange) {
				t.Errorf("%T cut to %d bytes: %v", c, i, err)
			}
		}
	}
	for kind := changeFound; kind <= changeSetVersion; kind++ {
		if !kinds[kind] {
			t.Errorf("no sample of kind %d", kind)
		}
	}
}

// TestChangeBytesAreFrozen fails if the encoding of a change has changed: logs hold them.
func TestChangeBytesAreFrozen(t *testing.T) {
	for _, c := range []struct {
		change Change
		want   string
	}{
		{AddNode{Node{Name: "a", Address: "b:1", Client: "c", Zone: "d", Weight: 300, Identity: "e", Version: 1}}, "02" + "0161" + "03623a31" + "0163" + "0164" + "ac02" + "0165" + "01"},
		{SetNode{Number: 2, State: ptr(Draining)}, "04" + "02" + "20" + "01"},
		{RemoveNode{Number: 3, Down: []uint32{1}, Epoch: 9}, "05" + "03" + "0101" + "09"},
		{SetReplicas{Shard: 2, Replicas: []Replica{NewReplica(1, 1)}, Preferred: 1, Pinned: true}, "06" + "02" + "01" + "13" + hex.EncodeToString([]byte("n1-0000000000000001")) + "01" + "01" + "00"},
		{SetCopies{5}, "09" + "05"},
	} {
		got := AppendChange(nil, c.change)
		if want := unhex(t, c.want); !bytes.Equal(got[:len(got)-checksumSize], want) {
			t.Errorf("%T is %x, want %x", c.change, got, want)
		}
	}
}

func FuzzParseChange(f *testing.F) {
	for _, c := range samples() {
		b := AppendChange(nil, c)
		f.Add(b[:len(b)-checksumSize])
	}
	m := rich(f)
	f.Fuzz(func(t *testing.T, body []byte) {
		b := seal(body, 0)
		c, err := ParseChange(b)
		if err != nil {
			return
		}
		if again := AppendChange(nil, c); !bytes.Equal(again, b) {
			t.Errorf("%x\nencoded again %x", b, again)
		}
		next, result, err := m.Apply(c)
		if err != nil && next != m || err == nil && result.Epoch != next.Epoch {
			t.Errorf("%+v: %v %+v", c, err, result)
		}
		if err := next.Check(); err != nil {
			t.Errorf("%+v makes a bad map: %v", c, err)
		}
	})
}

// TestChangesAreRefused lists what is refused, with the words that tell what to do.
func TestChangesAreRefused(t *testing.T) {
	three := []Replica{NewReplica(1, 1), NewReplica(2, 2), NewReplica(3, 3)}
	m := apply(t, founded(t, 5, 2),
		SetReplicas{Shard: 0, Replicas: three},
		SetReplicas{Shard: 1, Replicas: three},
		SetMapReplicas{Replicas: three},
		RemoveNode{Number: 5},
	)
	twin := describe(6)
	twin.Identity = "folder-2"
	sameAddress, sameName, gone, old := describe(6), describe(6), describe(5), describe(6)
	sameAddress.Address, sameName.Name, old.Version = describe(2).Address, describe(3).Name, 0
	for name, c := range map[string]struct {
		change Change
		want   error
		words  string
	}{
		"found again":             {Found{Cluster: 5, Shards: 1, Node: describe(9)}, ErrFounded, "77"},
		"a copied folder":         {AddNode{twin}, ErrDuplicateNode, "10.0.0.2:7700"},
		"a taken address":         {AddNode{sameAddress}, ErrDuplicateAddress, "replace it"},
		"a taken name":            {AddNode{sameName}, ErrDuplicateName, "node-3"},
		"a removed node":          {AddNode{gone}, ErrRemoved, "empty its data folder"},
		"an old program":          {AddNode{old}, ErrVersion, "update"},
		"a bad name":              {AddNode{Node{Name: "a b", Address: "x:1", Identity: "y", Version: 1}}, ErrBadChange, "letters"},
		"a bad address":           {AddNode{Node{Address: "x", Identity: "y", Version: 1}}, ErrBadChange, "HOST:PORT"},
		"replace nobody":          {ReplaceNode{Old: 9, Node: describe(9)}, ErrUnknownNode, "9"},
		"replace by itself":       {ReplaceNode{Old: 2, Node: twin}, ErrDuplicateNode, ""},
		"replace without others":  {ReplaceNode{Old: 2, Node: describe(9), Down: []uint32{2, 3}}, ErrMajority, "shard 0 would have 1 of 3"},
		"set an unknown node":     {SetNode{Number: 9}, ErrUnknownNode, "9"},
		"set a removed node":      {SetNode{Number: 5, State: ptr(Up)}, ErrRemoved, "5"},
		"remove by setting":       {SetNode{Number: 4, State: ptr(Removed)}, ErrBadChange, "removal"},
		"rename to a taken name":  {SetNode{Number: 4, Name: ptr("node-1")}, ErrDuplicateName, ""},
		"move to a taken address": {SetNode{Number: 4, Address: ptr("10.0.0.1:7700")}, ErrDuplicateAddress, ""},
		"no weight":               {SetNode{Number: 4, Weight: ptr(0)}, ErrBadChange, "weight"},
		"remove an unknown node":  {RemoveNode{Number: 9}, ErrUnknownNode, "9"},
		"remove, others are down": {RemoveNode{Number: 2, Down: []uint32{1}}, ErrMajority, "parley node drain node-2"},
		"remove, looked too long": {RemoveNode{Number: 4, Epoch: 3}, ErrEpoch, "look again"},
		"place on nobody":         {SetReplicas{Shard: 0, Replicas: []Replica{NewReplica(9, 9)}}, ErrUnknownNode, "9"},
		"place on a removed node": {SetReplicas{Shard: 0, Replicas: []Replica{NewReplica(5, 9)}}, ErrRemoved, "5"},
		"place nowhere":           {SetReplicas{Shard: 0}, ErrBadChange, "0 replicas"},
		"place twice":             {SetReplicas{Shard: 0, Replicas: []Replica{NewReplica(1, 1), NewReplica(1, 2)}}, ErrBadChange, "two replicas"},
		"place no shard":          {SetReplicas{Shard: 2, Replicas: three}, ErrUnknownShard, "2"},
		"place under a wrong id":  {SetReplicas{Shard: 0, Replicas: []Replica{{1, "n2-0000000000000001"}}}, ErrBadChange, "node 1"},
		"place, looked too long":  {SetReplicas{Shard: 0, Replicas: three, Epoch: 1}, ErrEpoch, ""},
		"prefer who has none":     {SetPreferred{Shard: 0, Node: 4}, ErrBadChange, "no replica"},
		"prefer for no shard":     {SetPreferred{Shard: 7, Node: 1}, ErrUnknownShard, "7"},
		"six voters on the map":   {SetMapReplicas{Replicas: append(slicesOf(4, 4), three...)}, ErrBadChange, "two replicas"},
		"no voters on the map":    {SetMapReplicas{}, ErrBadChange, "1 to 5"},
		"no copies":               {SetCopies{0}, ErrBadChange, "0 replicas"},
		"too many copies":         {SetCopies{8}, ErrBadChange, "8 replicas"},
		"an unknown version":      {SetVersion{2}, ErrVersion, "update its program"},
		"an older version":        {SetVersion{0}, ErrVersion, "back"},
	} {
		next, result, err := m.Apply(c.change)
		if !errors.Is(err, c.want) || !strings.Contains(err.Error(), c.words) {
			t.Errorf("%s: %v, want %v with %q", name, err, c.want, c.words)
		}
		if next != m || result != (Result{}) {
			t.Errorf("%s: something changed", name)
		}
	}
	if _, _, err := (&Map{}).Apply(AddNode{describe(1)}); !errors.Is(err, ErrNotFounded) {
		t.Errorf("a node of no cluster: %v", err)
	}
}

func slicesOf(nodes ...uint32) (list []Replica) {
	for i, n := range nodes {
		list = append(list, NewReplica(n, uint64(i)))
	}
	return list
}

func TestEveryChangeIsAnEpoch(t *testing.T) {
	m := founded(t, 3, 2)
	if m.Epoch != 3 || m.NextNode != 4 {
		t.Fatalf("epoch %d, next node %d", m.Epoch, m.NextNode)
	}
	for _, c := range []Change{
		SetNode{Number: 2, Zone: ptr("elsewhere")}, SetCopies{5}, SetPreferred{Shard: 0}, SetMapReplicas{Replicas: slicesOf(2)},
		SetReplicas{Shard: 0, Replicas: slicesOf(1, 2, 3)}, RemoveNode{Number: 3}, ReplaceNode{Old: 3, Node: describe(8)},
	} {
		before := AppendMap(nil, m)
		next, result, err := m.Apply(c)
		if err != nil || next.Epoch != m.Epoch+1 || result.Epoch != next.Epoch {
			t.Errorf("%T: %v, epoch %d after %d", c, err, next.Epoch, m.Epoch)
		}
		if !bytes.Equal(AppendMap(nil, m), before) {
			t.Errorf("%T changed the map that it was made from", c)
		}
		again, _, err := next.Apply(c)
		if err != nil || again != next {
			t.Errorf("%T is not the same when made twice: %v", c, err)
		}
		m = next
	}
}

func TestJoiningTwiceIsJoiningOnce(t *testing.T) {
	m := founded(t, 2, 1)
	n := describe(3)
	n.Name, n.Weight = "", 0
	m, first, err := m.Apply(AddNode{n})
	if err != nil || first.Node != 3 || m.Node(3).Name != "n3" || m.Node(3).Weight != WeightDefault {
		t.Fatalf("%+v %v", m.Node(3), err)
	}
	again, second, err := m.Apply(AddNode{n})
	if err != nil || second.Node != 3 || again != m {
		t.Errorf("joined again as %d: %v", second.Node, err)
	}
}

func TestNumbersAreNotReusedAndRemovedNodesForgotten(t *testing.T) {
	m := founded(t, 1, 1)
	for i := 2; i < 2+3*RemovedMax; i++ {
		n := describe(2)
		n.Identity = describe(i).Identity
		m = apply(t, m, AddNode{n}, RemoveNode{Number: uint32(i)})
		if want := min(i, RemovedMax+1); len(m.Nodes) != want || m.NextNode != uint32(i+1) {
			t.Fatalf("after %d: %d nodes, next %d", i, len(m.Nodes), m.NextNode)
		}
	}
}

func TestRemovedNodesStayWhileReplicasAreThere(t *testing.T) {
	m := apply(t, founded(t, 3, 1), SetReplicas{Shard: 0, Replicas: slicesOf(1, 2, 3), Preferred: 2}, RemoveNode{Number: 2})
	if s := m.Shard(0); len(s.Replicas) != 3 || s.Preferred != 0 || m.Live(2) != nil {
		t.Errorf("%+v", s)
	}
	if _, _, err := m.Apply(RemoveNode{Number: 3}); !errors.Is(err, ErrMajority) {
		t.Errorf("the second of three was removed: %v", err)
	}
}

func TestReplacedNodeComesBackUnderAnotherNumber(t *testing.T) {
	m := apply(t, founded(t, 3, 1), SetReplicas{Shard: 0, Replicas: slicesOf(1, 2, 3)})
	n := describe(2) // the same name and address
	n.Identity = "a new folder"
	next, result, err := m.Apply(ReplaceNode{Old: 2, Node: n, Down: []uint32{2}})
	if err != nil || result.Node != 4 || next.Live(2) != nil || next.Live(4).Address != n.Address {
		t.Fatalf("%+v %v", result, err)
	}
	if _, result, err := next.Apply(ReplaceNode{Old: 2, Node: n, Down: []uint32{2}}); err != nil || result.Node != 4 {
		t.Errorf("again: %+v %v", result, err)
	}
}
