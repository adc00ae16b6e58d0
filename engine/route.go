package engine

import (
	"sync/atomic"

	"parley/engine/router"
	"parley/engine/shard"
	"parley/raft"
	"parley/wire"
)

// A route is the way to one shard: the replica here, if there is one, and the node that
// leads it.
type route struct {
	id        uint32
	slots     router.Range
	local     atomic.Pointer[replica]
	touchedBy []bool // by loop; each loop uses only its own
}

// A replica is this node's part in one shard: the state machine and its Raft group.
type replica struct {
	*shard.Shard
	group *raft.Group
}

func newRoutes(t *router.Table) []*route {
	routes := make([]*route, t.Shards())
	for i := range routes {
		routes[i] = &route{id: uint32(i), slots: t.Range(i), touchedBy: make([]bool, LoopsMax)}
	}
	return routes
}

// send queues a message at the shard.
func (r *route) send(m *shard.Send) error {
	if l := r.local.Load(); l != nil {
		return l.Send(m)
	}
	return shard.ErrNotLeader
}

// cursor queues a moved cursor at the shard.
func (r *route) cursor(c *shard.Cursor) error {
	if l := r.local.Load(); l != nil {
		return l.Cursor(c)
	}
	return shard.ErrNotLeader
}

// kick wakes the shard after any number of sends and cursors.
func (r *route) kick() {
	if l := r.local.Load(); l != nil {
		l.Kick()
	}
}

// routeOf is the way to the shard that owns a slot.
func (n *Node) routeOf(slot wire.Slot) *route { return n.routes[n.table.Shard(slot)] }

// replicaOf is the replica here of the shard that owns a slot, nil if there is none.
func (n *Node) replicaOf(slot wire.Slot) *replica { return n.routeOf(slot).local.Load() }

// local lists the replicas of this node.
func (n *Node) local() []*replica {
	replicas := make([]*replica, 0, len(n.routes))
	for _, r := range n.routes {
		if l := r.local.Load(); l != nil {
			replicas = append(replicas, l)
		}
	}
	return replicas
}
