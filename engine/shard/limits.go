package shard

import (
	"parley/raft"
	"parley/wire"
)

// Limits of one shard.
const (
	// EntryCommandsMax bounds the commands of one log entry: enough to make the cost of
	// an entry vanish, few enough that an entry is applied within a millisecond.
	EntryCommandsMax = 512
	// EntryBytesMax bounds one log entry, in bytes.
	EntryBytesMax = raft.EntryBytesMax
	// QueueBytesMax bounds the sends that wait for a place in an entry, in bytes. Beyond
	// it a send is refused with OVERLOADED: two seconds' work at 60,000 a second.
	QueueBytesMax = 8 << 20
	// CursorsMax bounds the moved cursors that wait; folded, so one for each member,
	// conversation and kind.
	CursorsMax = 64 << 10
	// ControlsMax bounds the other commands that wait: account creations, rows of other
	// shards, acknowledgements of own rows.
	ControlsMax = 4096
	// ControlBytesMax bounds one of them, so that it always finds a place in an entry.
	ControlBytesMax = 4 << 10
	// OutgoingMax bounds the cross-shard rows that wait for their acknowledgement. Beyond
	// it a command that would add one is refused with OVERLOADED.
	OutgoingMax = 100_000
	// EvictedMax bounds the forgotten outboxes whose hashes a conversation keeps, for each
	// user: 1 KiB of record at most. An outbox is taken for a new one only after its user has
	// used OutboxesMax + EvictedMax newer ones in the conversation. Memory of any size has
	// such a bound; this one is reached by somebody who logs in anew every day in nine months.
	EvictedMax = 256
	// ConversationsCachedMax bounds the decoded conversation records kept in memory: at
	// about 0.4 KiB each, 1.5 KiB at most, some 13 MiB a shard.
	ConversationsCachedMax = 32 << 10
	// PasswordHashBytesMax bounds the hash that an account keeps, in bytes.
	PasswordHashBytesMax = 512
)

// shardIDMax leaves room for a slot beside a shard's number in 32 bits.
const shardIDMax = 1<<20 - 1

// dedupWindow is how many of an outbox's last sends are answered again.
const dedupWindow = wire.DedupWindow

const (
	// reservedCommands and reservedBytes are the room that sends leave in an entry while
	// controls or cursors wait, so that a flood of sends delays but never starves them.
	reservedCommands = 64
	reservedBytes    = 2 * ControlBytesMax
	// laneTurnBytes is what one author may add to an entry before the next one's turn,
	// when more waits than fits: some 20 short messages.
	laneTurnBytes = 2 << 10
	// countedCursors is how many cursors must wait before each user's are counted.
	countedCursors = 4096
)
