// Package storage keeps the state of a node's shards in one Pebble store that is written
// only by ingesting sorted tables, and guards the data directory around it.
//
// Changes go to a write buffer in memory that serves fresh reads. Every 64 MiB or 30 s each
// shard freezes its buffer between two updates, the frozen buffers are written as sorted
// tables, synced and ingested in one atomic step, each shard's applied record inside. There
// is no write-ahead log: the Raft log is it, and [Shard.Record] says from where to replay.
// Views see one moment while updates and flushes go on: they pin buffers and a snapshot of
// the tables, and what a view may see is kept aside when an update would overwrite it.
// KEYS.md gives every key and value to the byte.
package storage
