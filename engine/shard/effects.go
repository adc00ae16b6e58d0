package shard

import "parley/wire"

// A Sink takes what applied entries mean for this node's sessions. Effects is called on
// the apply goroutine once per applied batch, after readers see the batch; refusals of
// entries that failed come from whichever goroutine learnt it. It must not block: a slow
// sink is a slow shard.
type Sink interface {
	Effects(e *Effects)
}

// Effects are what one applied batch means for this node's sessions. They are immutable
// once the Sink has them, and contents alias the log entry, which lives as long.
//
// Sent and Refused are answers to those who wait on this node, each exactly once. The
// rest concerns whoever is attached here, and may repeat what a sync has told already.
type Effects struct {
	Shard    uint32
	Index    uint64 // of the last entry applied; 0: refusals of entries that failed
	Sent     []SentEffect
	Refused  []RefusedEffect
	Messages []MessageEffect
	Receipts []ReceiptEffect
	Listed   []ListedEffect
}

// Empty reports whether there is nothing to tell.
func (e *Effects) Empty() bool {
	return len(e.Sent)+len(e.Refused)+len(e.Messages)+len(e.Receipts)+len(e.Listed) == 0
}

// A SentEffect acknowledges a send: its message has this sequence and time, on disk on
// a majority.
type SentEffect struct {
	Origin
	Sequence uint64
	Time     wire.Time
}

// A RefusedEffect refuses a send, or a cursor if its correlation is 0. The code's class
// says whether anything was decided.
type RefusedEffect struct {
	Origin
	Code wire.Code
}

// A MessageEffect is a new message, for the sessions of the conversation's members.
type MessageEffect struct {
	Conversation wire.Conversation
	Sequence     uint64
	Revision     uint64
	Time         wire.Time
	Author       wire.ID
	Content      wire.Content
	From         uint64 // the session that sent it and needs no push; 0: not one of this node
}

// A ReceiptEffect is a moved cursor, for the peer's sessions and the user's own other
// devices. A moved read cursor moves the delivered one too, and tells both.
type ReceiptEffect struct {
	Conversation wire.Conversation
	User         wire.ID
	Kind         wire.CursorKind // Delivered or Read
	Position     uint64
	Time         wire.Time
	From         uint64 // the session that moved it; 0: not one of this node
}

// A ListedEffect says that a user's own list, at home, has a conversation more.
type ListedEffect struct {
	User         wire.ID
	Conversation wire.Conversation
}
