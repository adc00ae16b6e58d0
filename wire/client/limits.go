package client

import (
	"time"

	"parley/wire"
)

// Limits of one client. Together they bound its memory whatever the server sends and
// however slow the program reads: a few KiB as a rule, about 0.5 KiB for each conversation,
// and with a full outbox and 65,536 conversations some 80 MiB.
const (
	// OutboxMessagesMax bounds the sends that wait for their acknowledgement; beyond it
	// Queue answers ErrOutboxFull.
	OutboxMessagesMax = 4096
	// OutboxBytesMax bounds the contents of those sends, in bytes.
	OutboxBytesMax = 16 << 20
	// OutboxConversationsMax bounds the conversations whose counters one outbox epoch
	// remembers; the next one begins a new epoch.
	OutboxConversationsMax = 10_000
	// FlyingMax bounds the sends of all conversations that are on the wire without an
	// answer. Of one conversation it is wire.DedupWindow.
	FlyingMax = 1024

	// EventMessagesMax bounds the messages that wait for the consumer of Events. Beyond it
	// the client keeps only how far each conversation reaches, and reads what it dropped
	// from history at the consumer's pace.
	EventMessagesMax = 1024
	// EventBytesMax bounds the contents of those messages, in bytes.
	EventBytesMax = 2 << 20
	// EventTypingMax bounds the waiting events of all kinds above which TYPING is dropped.
	EventTypingMax = 256
	// EventConnectionsMax bounds the waiting changes of the connection; beyond it the last
	// one takes the place of the one before.
	EventConnectionsMax = 16
	// StashMessagesMax bounds, for each conversation, the messages that came before those
	// that precede them.
	StashMessagesMax = 64
	// StashBytesMax bounds the contents of those messages in all conversations, in bytes.
	StashBytesMax = 1 << 20
	// ConversationsMax bounds the conversations that the client follows. Beyond it the
	// longest silent are forgotten, and met again as if for the first time.
	ConversationsMax = 65_536

	// RequestsMax bounds the calls of History, Users and Resolve that wait; more of them
	// block until there is room.
	RequestsMax = 64
	// SyncItemsMax is how many conversations the client asks for at once.
	SyncItemsMax = 200
	// SearchMessagesMax is how far back the history is searched for a send of unknown outcome.
	SearchMessagesMax = 2_000
)

const (
	// fetchesMax bounds those of them that fill gaps, so that calls are never locked out.
	fetchesMax = 2
	// fetchMessages is how many messages one request for a gap asks for.
	fetchMessages = 128
	// fetchBytes is what such an answer may take at most.
	fetchBytes = wire.FrameBytesMax
	// fetchTries is how often a gap is asked for without getting a message of it.
	fetchTries = 3
	// deliveredEvery is after how many messages the delivered cursor is sent although more
	// of the conversation wait for the consumer.
	deliveredEvery = 32
	// disorderMax is how often the first unacknowledged send of a conversation may be out
	// of order before its outcome counts as unknown.
	disorderMax = 3
	// tokenTries is how many tokens in a row may be refused as expired.
	tokenTries = 3
	// sendFrameBytes bounds a SEND frame without its content: type, length, three numbers.
	sendFrameBytes = 1 + 3 + 3*8
	// requestFrameBytes bounds the frame of any request but SEND; USERS with 100
	// identifiers and RESOLVE with 100 names are the largest.
	requestFrameBytes = 16 + wire.UsersMax*(wire.NameBytesMax+9)
	// smallFrameBytes bounds a CURSOR, TYPING or PING.
	smallFrameBytes = 32
)

const (
	// DialSeconds is how long an attempt to connect may take, token and handshake included.
	DialSeconds = 20
	// welcomeTimeout is how long the server may take to answer HELLO.
	welcomeTimeout = wire.HelloSeconds * time.Second
	// pongTimeout is how long it may take to answer PING, and a write to finish.
	pongTimeout = wire.PongSeconds * time.Second
	// answerTimeout is how long it may answer none of several requests.
	answerTimeout = 30 * time.Second
	// closeTimeout is how long the last words to a server may take.
	closeTimeout = time.Second
	// typingInterval is how often TYPING goes to one conversation: twice in its lifetime.
	typingInterval = wire.TypingSeconds * time.Second / 2
	// reconnectMin and reconnectMax bound the wait before the next attempt to connect, or to
	// repeat a request, doubled each time. It is uniform between nothing and the bound ("full
	// jitter"), so that a million clients that lose a server at once come back spread out.
	reconnectMin = time.Second
	reconnectMax = 60 * time.Second
	// disorderWait is the least time between the attempts that disorderMax counts.
	disorderWait = time.Second
	// leaveTimeout is how long a client that follows a GOAWAY waits for answers.
	leaveTimeout = 5 * time.Second
	// stableTime is how long a session must last for the bound to start anew.
	stableTime = 10 * time.Second
	// spreadMax bounds the time over which a server may spread its clients' return.
	spreadMax = 5 * time.Minute
	// ticketMargin is how long before its end a ticket is no longer used.
	ticketMargin = 10 * time.Second
)
