package client

import (
	"time"

	"parley/wire"
)

// An Event is what Events carries: *MessageEvent, *ReceiptEvent, *TypingEvent,
// *ConversationEvent, *CountsEvent, *GapEvent or *ConnectionEvent.
type Event interface{ event() }

// A MessageEvent is one message of a conversation. For each conversation they come in
// order of Sequence, each once and without a gap, whoever wrote them: one's own too, when
// the server has acknowledged them.
type MessageEvent struct {
	Ref      wire.Ref
	Sequence uint64
	Author   wire.ID // never 0
	Revision uint64  // 0: not known yet, in one's own just acknowledged
	Time     wire.Time
	Content  wire.Content
	Sent     bool // by this client
}

// A ReceiptEvent is the news of a moved cursor. Positions only grow. wire.Delivered and
// wire.Read are the other user's cursors; wire.OwnDelivered and wire.OwnRead, one's own,
// moved by another device.
type ReceiptEvent struct {
	Ref      wire.Ref
	Kind     wire.CursorKind
	Position uint64
	Time     wire.Time // 0: learnt from a sync, which does not tell
}

// A TypingEvent says that Author is writing, for the next wire.TypingSeconds or until a
// message comes.
type TypingEvent struct {
	Ref    wire.Ref
	Author wire.ID // never 0
}

// A CountsEvent says how many members of a group have received and read a message that this
// user wrote. A newer one of the same group replaces one that the consumer has not taken.
type CountsEvent wire.Counts

// A ConversationEvent is a conversation as a sync told it, or that a first message
// opened. What changes after it comes in events of its own. What State says of a group
// wire.ParseGroupItem reads from its Extensions.
type ConversationEvent struct {
	State wire.ConversationState
	// Begin is the sequence after which MessageEvents follow; older ones are read by
	// Client.History. See Options.Begin.
	Begin uint64
	// First says that it is this client's first news of the conversation.
	First bool
	// Left says that it is a group that this user is not a member of any more: it is not in
	// the list, and nothing can be said or read there. Another event tells if that changes.
	Left bool
}

// A GapEvent says that the messages From to To, both included, cannot be had from the
// server, and why if it said so. MessageEvents go on after To.
type GapEvent struct {
	Ref      wire.Ref
	From, To uint64
	Err      error
}

// A ConnectionState is how a client stands towards the server.
type ConnectionState uint8

// The states of a client's connection.
const (
	Offline    ConnectionState = iota // no connection; the next attempt is at ConnectionEvent.Retry
	Connecting                        // an attempt is under way
	Online                            // the server has let this client in
	Live                              // and all that was missed is known: pushes go on from here
	Closed                            // the client has ended, by Close or for ConnectionEvent.Err
)

// String is the state's name in lower case.
func (s ConnectionState) String() string {
	return [...]string{"offline", "connecting", "online", "live", "closed"}[min(s, Closed)]
}

// A ConnectionEvent says that the connection's state has changed. When a consumer is slow,
// states that have passed are left out.
type ConnectionEvent struct {
	State ConnectionState
	Err   error     // why, when Offline or Closed; nil after Close
	Retry time.Time // when Offline
}

func (*MessageEvent) event()      {}
func (*ReceiptEvent) event()      {}
func (*TypingEvent) event()       {}
func (*ConversationEvent) event() {}
func (*CountsEvent) event()       {}
func (*GapEvent) event()          {}
func (*ConnectionEvent) event()   {}
