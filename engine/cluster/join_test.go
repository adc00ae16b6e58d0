package cluster

import (
	"bytes"
	"errors"
	"reflect"
	"strings"
	"testing"
	"time"
)

func request(n Node) *JoinRequest {
	return &JoinRequest{
		Identity: n.Identity, Name: n.Name, Address: n.Address, Client: n.Client, Zone: n.Zone, Weight: n.Weight,
		Version: Version, VersionMin: VersionMin, Token: []byte("token"),
	}
}

func TestJoinMessagesComeBackFromTheirEncoding(t *testing.T) {
	r := request(describe(3))
	r.Cluster, r.Number = 77, 3
	b := AppendJoinRequest([]byte("x"), r)[1:]
	got, err := ParseJoinRequest(b)
	if err != nil || !reflect.DeepEqual(got, r) {
		t.Errorf("got %+v %v\nwant %+v", got, err, r)
	}
	m := rich(t)
	answer := &JoinResponse{Number: 2, Map: m, Keys: []byte("secrets")}
	c := AppendJoinResponse(nil, answer)
	if got, err := ParseJoinResponse(c); err != nil || !reflect.DeepEqual(got, answer) {
		t.Errorf("got %+v %v", got, err)
	}
	for i := range b {
		if _, err := ParseJoinRequest(b[:i]); !errors.Is(err, ErrBadJoin) {
			t.Fatalf("a request of %d bytes: %v", i, err)
		}
	}
	for i := range c {
		if _, err := ParseJoinResponse(c[:i]); !errors.Is(err, ErrBadJoin) {
			t.Fatalf("a response of %d bytes: %v", i, err)
		}
	}
	answer.Number = 5 // was removed
	if _, err := ParseJoinResponse(AppendJoinResponse(nil, answer)); !errors.Is(err, ErrBadJoin) {
		t.Errorf("a response for a node that the map does not have: %v", err)
	}
	b[0] = 2
	if _, err := ParseJoinRequest(seal(b[:len(b)-checksumSize], 0)); !errors.Is(err, ErrBadJoin) || !strings.Contains(err.Error(), "version 2") {
		t.Errorf("a request of a newer version: %v", err)
	}
}

func FuzzParseJoin(f *testing.F) {
	b := AppendJoinRequest(nil, request(describe(3)))
	f.Add(b[:len(b)-checksumSize])
	b = AppendJoinResponse(nil, &JoinResponse{Number: 2, Map: rich(f), Keys: []byte("secrets")})
	f.Add(b[:len(b)-checksumSize])
	m := rich(f)
	f.Fuzz(func(t *testing.T, body []byte) {
		b := seal(body, 0)
		if r, err := ParseJoinRequest(b); err == nil {
			if again := AppendJoinRequest(nil, r); !bytes.Equal(again, b) {
				t.Errorf("request %x\nencoded again %x", b, again)
			}
			if c, err := Admission(m, r, Status{Down: map[uint32]time.Duration{2: 0}}); err == nil {
				m.Apply(c)
			}
		}
		if r, err := ParseJoinResponse(b); err == nil {
			if again := AppendJoinResponse(nil, r); !bytes.Equal(again, b) {
				t.Errorf("response %x\nencoded again %x", b, again)
			}
		}
	})
}

// TestJoinsAreJudged lists who is let in as what, and who is not.
func TestJoinsAreJudged(t *testing.T) {
	m := apply(t, founded(t, 4, 1), SetReplicas{Shard: 0, Replicas: slicesOf(1, 2, 3)}, RemoveNode{Number: 4})
	groups := map[uint32]Membership{
		0:        {Voters: replicaIDsOf(m.Shards[0].Replicas)},
		MapGroup: {Voters: replicaIDsOf(m.MapReplicas)},
	}
	change := func(n Node, set func(r *JoinRequest)) *JoinRequest {
		r := request(n)
		if set != nil {
			set(r)
		}
		return r
	}
	emptied := describe(2)
	emptied.Identity, emptied.Name, emptied.Zone, emptied.Weight = "emptied", "", "", 0
	replacing := describe(2)
	replacing.Identity = "emptied"
	moved := describe(2)
	moved.Address = "elsewhere:1"
	for name, c := range map[string]struct {
		request *JoinRequest
		down    []uint32
		want    Change
		err     error
	}{
		"a new node":                       {change(describe(9), nil), nil, AddNode{describe(9)}, nil},
		"one that joined before":           {change(describe(2), func(r *JoinRequest) { r.Cluster, r.Number = 77, 2 }), nil, AddNode{describe(2)}, nil},
		"one that did not hear the answer": {change(describe(2), nil), []uint32{2}, AddNode{describe(2)}, nil},
		"one that has moved":               {change(moved, nil), []uint32{2}, SetNode{Number: 2, Address: ptr("elsewhere:1")}, nil},
		"an emptied folder":                {change(emptied, nil), []uint32{2}, ReplaceNode{Old: 2, Node: replacing, Down: []uint32{2}}, nil},
		"an emptied folder too many":       {change(emptied, nil), []uint32{1, 2}, nil, ErrMajority},
		"another cluster's folder":         {change(describe(9), func(r *JoinRequest) { r.Cluster = 78 }), nil, nil, ErrOtherCluster},
		"a removed node":                   {change(describe(4), func(r *JoinRequest) { r.Cluster, r.Number = 77, 4 }), nil, nil, ErrRemoved},
		"a forgotten node":                 {change(describe(9), func(r *JoinRequest) { r.Cluster, r.Number = 77, 9 }), nil, nil, ErrRemoved},
		"another's number":                 {change(describe(9), func(r *JoinRequest) { r.Cluster, r.Number = 77, 2 }), nil, nil, ErrDuplicateNode},
		"an old program":                   {change(describe(9), func(r *JoinRequest) { r.Version = 0 }), nil, nil, ErrVersion},
		"a program too new":                {change(describe(9), func(r *JoinRequest) { r.VersionMin = 2 }), nil, nil, ErrVersion},
	} {
		status := Status{Down: make(map[uint32]time.Duration), Groups: groups}
		for _, node := range c.down {
			status.Down[node] = time.Second
		}
		got, err := Admission(m, c.request, status)
		if !errors.Is(err, c.err) || !reflect.DeepEqual(got, c.want) {
			t.Errorf("%s: %+v %v\nwant %+v %v", name, got, err, c.want, c.err)
		}
	}
	if _, err := Admission(&Map{}, request(describe(1)), Status{}); !errors.Is(err, ErrNotFounded) {
		t.Errorf("into no cluster: %v", err)
	}
	delete(groups, 0)
	if _, err := Admission(m, request(emptied), Status{Down: map[uint32]time.Duration{2: 0}, Groups: groups}); !errors.Is(err, ErrMajority) || !strings.Contains(err.Error(), "no leader") {
		t.Errorf("while nobody speaks for a shard: %v", err)
	}
}

func replicaIDsOf(replicas []Replica) (ids []string) {
	for _, r := range replicas {
		ids = append(ids, r.ID)
	}
	return ids
}
