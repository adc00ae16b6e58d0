// Package link connects the nodes of a cluster: one connection for each ordered pair of them,
// on which Raft's messages of all groups, the engine's messages and the answers share writes.
package link
