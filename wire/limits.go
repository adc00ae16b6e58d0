package wire

// Limits of the protocol, version 1. A server may set lower ones where PROTOCOL.md
// says so; none may be exceeded.
const (
	// Version is the protocol version that this package speaks.
	Version = 1
	// Subprotocol is the WebSocket subprotocol that a client offers.
	Subprotocol = "parley.v1"
	// Path is where a server takes WebSockets, so that one host can serve other things too.
	Path = "/v1/socket"
	// NumberMax is the greatest integer on the wire: exact in a JavaScript number.
	NumberMax = 1<<53 - 1
	// FrameBytesMax bounds a frame with its header, in bytes: one frame of the longest
	// content, or a page of some hundred short messages.
	FrameBytesMax = 64 << 10
	// MessageBytesMax bounds one WebSocket message of a client, in bytes: HELLO, SYNC and
	// the outbox's SENDs fit in one, and a longer outbox goes in several.
	MessageBytesMax = 128 << 10
	// ServerMessageBytesMax bounds one WebSocket message of a server, in bytes: all that
	// may be queued for a session (256 KiB) and the pages it asked for, in one write.
	ServerMessageBytesMax = 512 << 10
	// ContentBytesMax bounds the content of one message with its extensions, in bytes.
	ContentBytesMax = 16 << 10
	// ExtensionBytesMax bounds the extension block of one frame, in bytes.
	ExtensionBytesMax = 1 << 10
	// CredentialBytesMax bounds a token or ticket in HELLO, in bytes.
	CredentialBytesMax = 2 << 10
	// ClientBytesMax bounds the client's description of itself in HELLO, in bytes.
	ClientBytesMax = 64
	// NameBytesMax bounds a user's name, in bytes of UTF-8.
	NameBytesMax = 64
	// ReasonBytesMax bounds the text of ERROR and GOAWAY, in bytes.
	ReasonBytesMax = 256
	// SyncTokenBytesMax bounds the opaque token of SYNC and CONVERSATIONS, in bytes.
	SyncTokenBytesMax = 4 << 10
	// SyncItemsMax bounds the conversations of one CONVERSATIONS frame.
	SyncItemsMax = 512
	// PreviewsMax bounds the previews that one SYNC may ask for.
	PreviewsMax = 50
	// PreviewBytesMax bounds the content of one preview, in bytes; longer ones are cut.
	PreviewBytesMax = 256
	// HistoryMessagesMax bounds the messages of one PAGE.
	HistoryMessagesMax = 500
	// UsersMax bounds the identifiers of one USERS and the names of one RESOLVE.
	UsersMax = 100
	// RequestsMax bounds the SYNC, HISTORY, USERS and RESOLVE of a session that wait for
	// their answers, so that answers of 64 KiB each fit what may be queued for it.
	RequestsMax = 4
	// DedupWindow is how many of an outbox's last sends are answered again, and how many
	// a client may have unacknowledged in one conversation.
	DedupWindow = 64
	// OutboxesMax is how many outboxes of a user a conversation remembers.
	OutboxesMax = 16
	// HeartbeatSecondsMin and HeartbeatSecondsMax bound the heartbeat interval.
	HeartbeatSecondsMin = 15
	HeartbeatSecondsMax = 240
	// UpgradeSeconds is how long a connection may take to become a WebSocket.
	UpgradeSeconds = 5
	// HelloSeconds is how long a WebSocket may take to send its HELLO.
	HelloSeconds = 10
	// PongSeconds is how long a client waits for PONG before it takes the link for dead.
	PongSeconds = 10
	// SuspectSeconds is how long a push may wait for its delivered cursor before the
	// server takes the session for gone and the device for offline.
	SuspectSeconds = 15
	// IdleGraceSeconds comes on top of one and a half heartbeat intervals before the
	// server closes a session that sends nothing.
	IdleGraceSeconds = 5
	// TypingSeconds is how long a TYPING holds.
	TypingSeconds = 6
	// GroupMembersMax bounds the members of a group.
	GroupMembersMax = 100_000
	// MembersMax bounds the members of one MEMBER_LIST.
	MembersMax = 200
	// EventUsersMax bounds the users that one event is about.
	EventUsersMax = 100
	// TitleBytesMax, DescriptionBytesMax and PictureBytesMax bound a group's texts, in bytes.
	TitleBytesMax       = 128
	DescriptionBytesMax = 1024
	PictureBytesMax     = 256
	// LinkSecretBytesMax is the length of the secret in a group's link, in bytes; no other will do.
	LinkSecretBytesMax = 16
	// LinkHashBytesMax is the length of the hash that stands for that secret in an event, in
	// bytes: a SHA-256.
	LinkHashBytesMax = 32
)
