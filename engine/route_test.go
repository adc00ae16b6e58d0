package engine

import "parley/wire"

// replicaOf is the replica here of the shard that owns a slot.
func (n *Node) replicaOf(slot wire.Slot) *replica { return n.routeOf(slot).local.Load() }
