package cluster

import "parley/wire"

// Limits of the map. Bytes count UTF-8.
const (
	// NodesMax bounds the nodes of a map, removed ones included: 1,000 in service are what
	// placement is tested with.
	NodesMax = 1 << 10
	// RemovedMax is how many removed nodes a map remembers, so that one that comes back is
	// told why it is refused; older ones are forgotten, but their numbers are not reused.
	RemovedMax = 64
	// ShardsMax is that of the router: more Raft groups cost more than they bring.
	ShardsMax = 256
	// ReplicasMax bounds the replicas of one shard while none is being replaced.
	ReplicasMax = 7
	// MapReplicasMax bounds the voters of the map's own group: with 5 two may be lost, and
	// more would only make each change slower.
	MapReplicasMax = 5
	// NameBytesMax bounds the name of a node or zone.
	NameBytesMax = 64
	// AddressBytesMax bounds an address: a host name of 253 bytes, a scheme and a port.
	AddressBytesMax = 300
	// IdentityBytesMax bounds the identity of a data folder and a replica id.
	IdentityBytesMax = 64
	// WeightDefault is the weight of a node that names none.
	WeightDefault = 100
	// WeightMax bounds a weight: 100 times the default is another kind of machine.
	WeightMax = 10_000
	// MapBytesMax bounds an encoded map: 1,024 nodes with the longest of everything take
	// 0.8 MB.
	MapBytesMax = 2 << 20
	// ChangeBytesMax bounds an encoded change; it fits into an entry with room to spare.
	ChangeBytesMax = 48 << 10
	// ProposalsMax bounds the changes that wait on a leader: they are made by people, joins
	// and the planner, a few at a time.
	ProposalsMax = 64
	// TokenBytesMax bounds the token of a join.
	TokenBytesMax = 4 << 10
	// KeysBytesMax bounds the secrets that a joining node is given.
	KeysBytesMax = 64 << 10
)

// slots is the number of hash slots that the shards share.
const slots = wire.Slots
