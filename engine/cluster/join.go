package cluster

import (
	"errors"
	"fmt"
	"math"
)

// Reasons for refusing a join, beside those for refusing the change that it becomes.
var (
	// ErrBadJoin reports a join message that cannot be decoded.
	ErrBadJoin = errors.New("cluster: bad join message")
	// ErrOtherCluster reports the data folder of another cluster.
	ErrOtherCluster = errors.New("cluster: the data folder belongs to another cluster")
	// ErrToken reports a token that is missing, too old or of another cluster.
	ErrToken = errors.New("cluster: the join token is not valid")
)

const joinVersion = 1

// A JoinRequest is what a node says of itself when it asks to be let in.
type JoinRequest struct {
	// Identity was drawn with the data folder. Cluster is what the folder says, 0 if it has
	// not belonged to any; Number likewise.
	Identity string
	Cluster  uint64
	Number   uint32
	// Name, Address, Client, Zone and Weight are those of [Node].
	Name, Address, Client, Zone string
	Weight                      int
	// Version and VersionMin are the cluster versions that the program can work at.
	Version, VersionMin int
	// Token was given by a node of the cluster, and is checked elsewhere.
	Token []byte
}

// A JoinResponse is what a node that was let in needs to take part.
type JoinResponse struct {
	// Number is the node's.
	Number uint32
	// Map is that of the cluster.
	Map *Map
	// Keys are the cluster's secrets, opaque here. They are not to be logged.
	Keys []byte
}

// AppendJoinRequest appends a request's encoding.
func AppendJoinRequest(dst []byte, r *JoinRequest) []byte {
	start := len(dst)
	dst = append(dst, joinVersion)
	n := r.node()
	dst = appendNode(dst, &n)
	dst = appendNumber(dst, uint64(r.VersionMin))
	dst = appendNumber(dst, r.Cluster)
	dst = appendNumber(dst, uint64(r.Number))
	return seal(appendText(dst, r.Token), start)
}

// ParseJoinRequest decodes a request. It comes from somebody who is not trusted yet.
func ParseJoinRequest(b []byte) (*JoinRequest, error) {
	d, err := openJoin(b)
	if err != nil {
		return nil, err
	}
	n := d.describedNode()
	r := &JoinRequest{
		Identity: n.Identity, Name: n.Name, Address: n.Address, Client: n.Client, Zone: n.Zone, Weight: n.Weight, Version: n.Version,
		VersionMin: int(d.number(math.MaxInt32)), Cluster: d.number(math.MaxUint64), Number: d.node(),
		Token: append([]byte(nil), d.bytes(TokenBytesMax)...),
	}
	if err := d.end(); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrBadJoin, err)
	}
	return r, nil
}

func openJoin(b []byte) (*decoder, error) {
	body, ok := unseal(b)
	if !ok || len(body) == 0 {
		return nil, fmt.Errorf("%w: checksum", ErrBadJoin)
	}
	if body[0] != joinVersion {
		return nil, fmt.Errorf("%w: version %d, this program knows %d", ErrBadJoin, body[0], joinVersion)
	}
	return &decoder{rest: body[1:]}, nil
}

// AppendJoinResponse appends a response's encoding.
func AppendJoinResponse(dst []byte, r *JoinResponse) []byte {
	start := len(dst)
	dst = append(dst, joinVersion)
	dst = appendNumber(dst, uint64(r.Number))
	dst = appendText(dst, r.Keys)
	return seal(r.Map.append(dst), start)
}

// ParseJoinResponse decodes a response, and checks that the map has the node.
func ParseJoinResponse(b []byte) (*JoinResponse, error) {
	d, err := openJoin(b)
	if err != nil {
		return nil, err
	}
	r := &JoinResponse{Number: d.node(), Keys: append([]byte(nil), d.bytes(KeysBytesMax)...)}
	r.Map = d.clusterMap()
	if err := errors.Join(d.end(), r.Map.Check()); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrBadJoin, err)
	}
	if r.Map.Live(r.Number) == nil {
		return nil, fmt.Errorf("%w: the map has no node %d", ErrBadJoin, r.Number)
	}
	return r, nil
}

func (r *JoinRequest) node() Node {
	return Node{
		Name: r.Name, Address: r.Address, Client: r.Client, Zone: r.Zone, Weight: r.Weight,
		Identity: r.Identity, Version: r.Version,
	}
}

// Admission decides on a join whose token was checked: it is the change to propose, and
// the answer to the join is the result of that change. A new folder at the address of a
// node that is down replaces that node, for its data is gone.
func Admission(m *Map, r *JoinRequest, status Status) (Change, error) {
	if err := admissible(m, r); err != nil {
		return nil, err
	}
	for i := range m.Nodes {
		n := &m.Nodes[i]
		if _, down := status.Down[n.Number]; !down || n.State == Removed {
			continue
		}
		if n.Identity == r.Identity && n.Address != r.Address {
			return SetNode{Number: n.Number, Address: &r.Address}, nil // it has moved
		}
		if n.Identity != r.Identity && n.Address == r.Address {
			return replacement(m, n, r, status)
		}
	}
	return AddNode{Node: r.node()}, nil
}

// admissible checks what does not depend on who answers.
func admissible(m *Map, r *JoinRequest) error {
	if !m.Founded() {
		return ErrNotFounded
	}
	if r.Cluster != 0 && r.Cluster != m.Cluster {
		return fmt.Errorf("%w: %d, this is %d; start the node with an empty folder", ErrOtherCluster, r.Cluster, m.Cluster)
	}
	if r.Version < m.ClusterVersion || r.VersionMin > m.ClusterVersion {
		return fmt.Errorf("%w: the cluster is at version %d, the node's program can work at %d to %d", ErrVersion, m.ClusterVersion, r.VersionMin, r.Version)
	}
	if r.Number == 0 {
		return nil
	}
	n := m.Live(r.Number)
	switch {
	case n == nil:
		return fmt.Errorf("%w: node %d; empty its data folder to let it join as a new node", ErrRemoved, r.Number)
	case n.Identity != r.Identity:
		return fmt.Errorf("%w: it says that it is node %d, which has another folder", ErrDuplicateNode, r.Number)
	}
	return nil
}

// replacement takes a node in for one at the same address, with what that one was given.
func replacement(m *Map, old *Node, r *JoinRequest, status Status) (Change, error) {
	down := status.down(m)
	if err := m.survives(old.Number, down, status.Groups); err != nil {
		return nil, err
	}
	n := r.node()
	if n.Name == "" {
		n.Name = old.Name
	}
	if n.Zone == "" {
		n.Zone = old.Zone
	}
	if n.Weight == 0 {
		n.Weight = old.Weight
	}
	return ReplaceNode{Old: old.Number, Node: n, Down: down}, nil
}
