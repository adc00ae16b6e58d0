// Package shard is the replicated chat state machine: commands go in, records in storage
// change, effects come out. What it applies reads no clock and draws no random number, so
// that every replica that applies the same entries holds the same state.
//
// # The way of a message
//
// A session's loop calls [Shard.Send] and, once for all it has, [Shard.Kick]. The [Queue]
// keeps the encoded command until the Raft group asks for an entry with Next: then all
// that waits, or each author's share of it, becomes one entry, stamped with the leader's
// clock. Once the entry is on disk on a majority, [Shard.Apply] decodes it whole, applies
// its commands one by one, writes each changed conversation once, and gives the [Sink] one
// [Effects] for the batch: answers for those who wait on this node, news for everybody who
// is attached here.
//
// Whoever waits gets exactly one answer. A batch remembers its origins under a number that
// is also in the entry; whoever takes it from the queue, be it apply, a failure or the end
// of the process, must answer, and nobody else can.
//
// # Exactly once
//
// A conversation remembers, for each outbox, the last counter accepted and the sequence
// that it got; each message links to the one before it from the same outbox. So a retry is
// found by walking back, and there is no row for each message. The 16 outboxes that a user
// used last are remembered in full, 256 more by a hash, so that what comes from them is
// known to be of unknown outcome. See the transcripts in testdata: order.txt, outboxes.txt
// and refusals.txt are the promise, line by line.
//
// # Between shards
//
// The first message of a conversation must reach the lists of its members, which are at
// home in other shards. The same entry leaves a row for each; while a replica leads, its
// courier delivers rows, in order for each slot, until the target has applied them, and
// then proposes their removal. The target keeps the highest number that it has applied of
// each source and slot, so a second delivery does nothing.
//
// # Reads
//
// [Shard.Changed], [Shard.State], [Shard.Page] and the rest read the store, from any
// goroutine. They do not ask whether this replica leads: the caller authorizes a read with
// its Raft group first.
package shard
