package storage

import "parley/wire"

// A Record tells how far a shard's state has come: the last log entry in it and the last
// committed configuration. It is ingested with the state, so the two cannot differ.
type Record struct {
	Index, Term        uint64
	ConfigurationIndex uint64
	Configuration      []byte
}

// A User is an account, kept in the slot of its identifier.
type User struct {
	ID      wire.ID
	Name    string
	Version uint64 // counts changes of what others see, so that a client can ask for news
	Hash    string // of the password, in PHC form
	Created wire.Time
}

// A List is a row of a user's own conversation list at home: what to attach to after HELLO.
type List struct {
	User         wire.ID
	Conversation wire.Conversation
	Version      uint64 // the highest wins, so that redelivery is harmless
	Changed      uint64 // log index at the home shard
	Gone         bool   // a group that the user has left
}

// A UserIndex row tells a shard which of its conversations a user takes part in.
type UserIndex struct {
	User         wire.ID
	Conversation wire.Conversation
	Changed      uint64 // log index of the last change that this user should hear of
	// Time is the conversation's, of its last message: the order of a user's list, without
	// a look at the conversations. 0: unknown, in a row that was written before it was kept,
	// and in a group's: that row changes with the membership alone.
	Time wire.Time
	Gone bool // a group that the user has left, at Time
}

// A Conversation is the head record of a conversation.
type Conversation struct {
	Head     uint64 // sequence of the last message
	Revision uint64 // counts every change
	Time     wire.Time
	Changed  uint64 // log index of the last change
	SentA    uint64 // direct: how many of the messages up to Head user A wrote
	Memory          // direct; a group has one for each member that writes
}

// A Memory is what is remembered of the outboxes that have sent something.
type Memory struct {
	Outboxes []Outbox // least recently used first, at most wire.OutboxesMax a user
	Evicted  []uint32 // hashes of forgotten outboxes
}

// An Outbox remembers the last send that a conversation accepted from one outbox, which is
// all that deduplication needs: Message.Previous links lead to the ones before.
type Outbox struct {
	Author, Device wire.ID
	Epoch          uint64 // 64 random bits that name the outbox
	Counter        uint64 // the last one accepted
	Sequence       uint64 // the sequence that it got
}

// A Member holds how far one member of a conversation has come, and what a member of a
// group may do.
type Member struct {
	Delivered, Read Cursor
	Membership      // of a group; zero in a direct conversation
	Own             Own
}

// An Own is what a conversation is to one member alone, with flags as wire has them.
type Own struct {
	Flags      uint64
	Version    uint64    // counts the changes
	MutedUntil wire.Time // 0: muted for good, if at all
}

// A Membership is a user's place in a group. Who leaves has none; who is banned has one
// of no role.
type Membership struct {
	Role   wire.Role
	Banned bool
	From   uint64    // the first sequence that the member sees
	Joined uint64    // the sequence of the event that made the user a member, or banned it
	Since  wire.Time // of that event
}

// A Group is what a group is beside its conversation. What grows with its members is not
// in it, so that it stays small.
type Group struct {
	Version     uint64 // the revision of the last change of any of this
	Flags       uint64
	Members     uint64
	Owner       wire.ID // 0: nobody is left
	Creation    Creation
	Created     wire.Time
	Title       string
	Description string
	Picture     string
	Link        Link
}

// A Creation names the request that made a group, so that a retry finds it.
type Creation struct {
	User, Device wire.ID
	Epoch        uint64
	Counter      uint64
}

// A Link lets who knows its secret join a group.
type Link struct {
	Hash    LinkHash  // of the secret; zero: there is no link
	Expires wire.Time // 0: never
	Left    uint64    // how many may still join; 0: any number
}

// A LinkHash is what is kept of a link's secret.
type LinkHash [32]byte

// A Cursor is a position and when its last steps were made.
type Cursor struct {
	Position uint64
	Steps    []Step // oldest first, at most StepsMax
}

// A Step says that a cursor reached a position at a time.
type Step struct {
	Position uint64
	Time     wire.Time
}

// A Message is one message of a conversation. Content aliases storage and is valid only
// until the function given to View or Update returns.
type Message struct {
	Sequence uint64
	Revision uint64 // of the conversation, when this message was appended
	Time     wire.Time
	Author   wire.ID
	Previous uint64 // sequence of the same outbox's previous send here, 0: none
	Content  wire.Content
}

// An Outgoing row is a command that another shard must apply: kept until it has.
type Outgoing struct {
	Number  uint64 // 1, 2, 3, … in a shard; never used twice
	Target  wire.Slot
	Command []byte
}
