package shard

import "parley/wire"

// Limits of one shard.
const (
	// EntryCommandsMax bounds the commands of one log entry: enough to make the cost of
	// an entry vanish, few enough that an entry is applied within a millisecond.
	EntryCommandsMax = 512
	// EntryBytesMax bounds one log entry, in bytes.
	EntryBytesMax = 64 << 10
	// QueueBytesMax bounds the commands that wait for a place in an entry, in bytes.
	// Beyond it a send is refused with OVERLOADED: two seconds' work at 60,000 a second.
	QueueBytesMax = 8 << 20
	// OutgoingMax bounds the cross-shard rows that wait for their acknowledgement. Beyond
	// it a command that would add one is refused with OVERLOADED.
	OutgoingMax = 100_000
	// UnreadMax is where unread counts stop: a member with more unread messages sees
	// this number. Counting further would read the conversation from disk.
	UnreadMax = 1_000
	// ConversationsCachedMax bounds the decoded conversation records kept in memory.
	ConversationsCachedMax = 200_000
)

// dedupWindow is how many of an outbox's last sends are answered again.
const dedupWindow = wire.DedupWindow
