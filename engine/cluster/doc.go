// Package cluster is the map of a cluster and all that is decided from it: which nodes
// there are, which replicas of which shards each should hold, and the single steps that
// lead from what is to what should be.
//
// It is pure but for one file. [Place] computes where replicas belong, [Plan] which of
// them to move next, [Walk] what the leader of one shard does next; none of them has a
// clock, a network or randomness of its own. The [Map] itself is replicated: [Machine] is
// the state machine of the map's own Raft group, which 1 to 5 nodes hold and all others
// pull their copy from, into a [View].
//
// The map says what is desired; the Raft configuration of each shard says what is. They
// differ while a replica moves, and only [Walk] makes them agree.
package cluster
