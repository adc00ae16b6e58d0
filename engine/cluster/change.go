package cluster

import (
	"errors"
	"fmt"
)

// What a change can be refused with. The texts around them say what to do; none of them
// has changed anything.
var (
	// ErrBadChange reports values that cannot be, or bytes that are no change.
	ErrBadChange = errors.New("cluster: bad change")
	// ErrNotFounded reports that there is no cluster yet.
	ErrNotFounded = errors.New("cluster: not founded")
	// ErrFounded reports that there is a cluster already.
	ErrFounded = errors.New("cluster: already founded")
	// ErrEpoch reports that the map has changed since the change was thought of.
	ErrEpoch = errors.New("cluster: the map has changed meanwhile")
	// ErrUnknownNode reports a node that the map does not have.
	ErrUnknownNode = errors.New("cluster: unknown node")
	// ErrUnknownShard reports a shard that the map does not have.
	ErrUnknownShard = errors.New("cluster: unknown shard")
	// ErrRemoved reports a node that was removed for good.
	ErrRemoved = errors.New("cluster: the node was removed")
	// ErrDuplicateNode reports a second node with the data folder of one that is there.
	ErrDuplicateNode = errors.New("cluster: a node with this data folder exists")
	// ErrDuplicateAddress reports an address that a live node has.
	ErrDuplicateAddress = errors.New("cluster: another node has this address")
	// ErrDuplicateName reports a name that a live node has.
	ErrDuplicateName = errors.New("cluster: another node has this name")
	// ErrMajority reports a change that would leave a group without a majority.
	ErrMajority = errors.New("cluster: a majority would be lost")
	// ErrVersion reports a program or a cluster that is too old or too new.
	ErrVersion = errors.New("cluster: versions do not fit")
	// ErrTooMany reports a limit of the map.
	ErrTooMany = errors.New("cluster: too many")
)

// errUnchanged is the way of a change to say that all is already as it wants.
var errUnchanged = errors.New("cluster: unchanged")

// A Change is one replicated change of the map. Whether it is allowed is decided when it
// is applied, from the change and the map alone, so that all replicas decide alike.
type Change interface {
	kind() changeKind
	// append appends the encoding of the change without its kind.
	append(dst []byte) []byte
	// apply changes a map that nobody else sees. node is the number of the node that the
	// change is about, 0 if it is about none.
	apply(m *Map) (node uint32, err error)
}

// Result is what an accepted change led to.
type Result struct {
	// Epoch is that of the map that has the change.
	Epoch uint64
	// Node is the number of the node that the change was about: of a node that was added,
	// its new one.
	Node uint32
}

// Found makes a cluster of one node, from a data folder that was served alone until now.
type Found struct {
	// Cluster and Shards are those of node.json.
	Cluster uint64
	Shards  int
	// Replica is the server id that the folder has in the groups of its shards, MapReplica
	// the one in the map's own group.
	Replica, MapReplica string
	// Replicas is how many copies each shard should have once there are nodes for them.
	Replicas int
	// Version is the version that the cluster begins with.
	Version int
	// Node describes the node; it becomes number 1.
	Node Node
}

// AddNode takes a node in. It gets the next number; an empty name becomes "n" and the
// number, weight 0 the default. A node that is there already keeps its number, so that a
// join may be repeated.
type AddNode struct {
	Node Node
}

// ReplaceNode takes a node in for one whose data is lost: the old number is removed, and
// the planner gives the replicas it had to others or to the new one. Down says which
// other nodes cannot be reached, see [RemoveNode].
type ReplaceNode struct {
	Old  uint32
	Node Node
	Down []uint32
}

// SetNode changes what is known or wanted of a node; nil leaves a value alone.
type SetNode struct {
	Number  uint32
	Name    *string
	Address *string
	Client  *string
	Zone    *string
	Weight  *int
	State   *NodeState // Up or Draining
	Version *int
}

// RemoveNode removes a node for good. It is refused if any group that the node is part of
// would then have no majority of replicas on nodes that are neither removed nor in Down:
// those that whoever proposes it cannot reach. Make it by [NewRemoval], which also looks
// at what the groups actually are.
type RemoveNode struct {
	Number uint32
	Down   []uint32
	Epoch  uint64 // if not 0: refused unless the map still has this epoch
}

// SetReplicas says where a shard should be and who should lead it.
type SetReplicas struct {
	Shard     uint32
	Replicas  []Replica
	Preferred uint32
	Pinned    bool
	Epoch     uint64 // if not 0: refused unless the map still has this epoch
}

// SetPreferred says which node should lead a shard; 0: any.
type SetPreferred struct {
	Shard uint32
	Node  uint32
}

// SetMapReplicas says who should vote on the map.
type SetMapReplicas struct {
	Replicas []Replica
	Epoch    uint64 // if not 0: refused unless the map still has this epoch
}

// SetCopies says how many copies each shard should have.
type SetCopies struct {
	Copies int
}

// SetVersion lets the cluster use what a newer version brings. It cannot be taken back.
type SetVersion struct {
	Version int
}

type changeKind uint8

// Kinds of changes as they are encoded.
const (
	changeFound changeKind = iota + 1
	changeAddNode
	changeReplaceNode
	changeSetNode
	changeRemoveNode
	changeSetReplicas
	changeSetPreferred
	changeSetMapReplicas
	changeSetCopies
	changeSetVersion
)

func (Found) kind() changeKind          { return changeFound }
func (AddNode) kind() changeKind        { return changeAddNode }
func (ReplaceNode) kind() changeKind    { return changeReplaceNode }
func (SetNode) kind() changeKind        { return changeSetNode }
func (RemoveNode) kind() changeKind     { return changeRemoveNode }
func (SetReplicas) kind() changeKind    { return changeSetReplicas }
func (SetPreferred) kind() changeKind   { return changeSetPreferred }
func (SetMapReplicas) kind() changeKind { return changeSetMapReplicas }
func (SetCopies) kind() changeKind      { return changeSetCopies }
func (SetVersion) kind() changeKind     { return changeSetVersion }

// Apply returns the map with a change, one epoch later. If the change is refused, or if
// nothing has to change, it returns m itself.
func (m *Map) Apply(c Change) (*Map, Result, error) {
	if _, founds := c.(Found); !founds && !m.Founded() {
		return m, Result{}, ErrNotFounded
	}
	next := m.clone()
	node, err := c.apply(next)
	if errors.Is(err, errUnchanged) {
		return m, Result{Epoch: m.Epoch, Node: node}, nil
	}
	if err != nil {
		return m, Result{}, err
	}
	next.Epoch++
	next.forget()
	if err := next.Check(); err != nil {
		// What a change sets is checked by the map's own rules, once for all changes.
		return m, Result{}, fmt.Errorf("%w: %w", ErrBadChange, err)
	}
	return next, Result{Epoch: next.Epoch, Node: node}, nil
}
