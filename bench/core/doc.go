// Package core drives the replicated storage core without a server around it: three replicas
// of every shard in one process, each node with its own log and its own state on disk, and
// Raft messages that change hands in memory. Messages are put into the queues of the shards'
// leaders; what a queue, an entry, its three fsyncs and its three applications cost is left.
//
// The process is `parley bench core`, a hidden command: it is told what to do by lines of
// JSON, like the process that applies load, so that its CPU time is that of the core and of
// the little that feeds it. Whoever feeds runs on the goroutine that applies: a closed loop
// without a goroutine, channel or allocation for a message.
package core
