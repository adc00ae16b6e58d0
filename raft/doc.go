// Package raft replicates logs of opaque entries. A Node owns one log store and one
// committer for all of its groups; a Group is one replica of one replicated log, which
// feeds a Machine in order and pulls its entries from a Source. The package knows
// nothing of what is in an entry.
//
// # What an entry goes through
//
// The group's batcher pulls an entry from its Source and gives it to hashicorp/raft,
// which hands it to the group's log. The log queues it for the node's committer: all
// that all groups have queued becomes one batch and one fsync. Once a majority has it,
// the Machine gets it, in order.
//
// # What is promised
//
//   - Durable before applied: an entry reaches Machine.Apply only after it is on disk
//     (fsync) on a majority, this node included if it leads.
//   - In order, once: Machine.Apply gets every index above Machine.Record().Index once in
//     the life of a process, ascending. A restart is the record plus a replay of the log.
//   - Fail-stop: the first failed read or write of the log calls Options.Fatal and
//     nothing is acknowledged afterwards.
//   - A failed entry is unknown: Source.Failed means that the entry was not applied here
//     before the call, not that it never will be. Every entry that a Source gave is either
//     shown to Machine.Apply or given back, and given back at most once. One that was given
//     back may still be applied later; one that was applied is never given back.
//   - Damage is told: a log with a flipped bit is refused, or holds all that it held. Only
//     the last second before an unclean stop is not covered: see wal.go.
//   - Reads are linearizable: Group.Authorize.
//   - A replica that needs what was truncated is sent the machine's state, as of when it is
//     sent; the log behind that is kept for it. A crash of the receiver leaves the old state
//     or the new one, and a log that continues it.
//   - Members change one at a time. What a replica id has voted and acknowledged is kept
//     until it is dropped, after which the id must never be used again.
//
// # Files
//
//	raft.go       the contract: Options, Machine, Source
//	node.go       a process: opening, starting groups, failing, closing
//	group.go      a replica: recovery, leadership
//	batcher.go    from the Source to hashicorp/raft, and back when it fails
//	fsm.go        from hashicorp/raft to the Machine
//	authorize.go  reads
//	members.go    who takes part, and changes of that
//	leader.go     who leads, and handing it over; suspect.go hastens elections
//	snapshot.go   sending and receiving the machine's state; base.go is the log behind it
//	log.go        a group's log and vote (stable.go), with the newest entries in memory (tail.go)
//	committer.go  one write and one fsync for all groups
//	store.go      what keeps the records; pebble.go and record.go keep them
//	wal.go        damage that Pebble overlooks; ahead.go fills its log with zeros
//	compact.go    truncation behind the Machine's record
//	network.go    what carries messages; memory.go carries them within a process
//	check.go      CheckLog, for fsck
package raft
