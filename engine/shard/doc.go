// Package shard is the replicated chat state machine: commands go in, records in
// storage change, effects come out. It reads no clock and draws no random number, so
// that every replica that applies the same entries holds the same state.
package shard
