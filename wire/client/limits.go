package client

// Limits of one client.
const (
	// OutboxMessagesMax bounds the sends that wait for their acknowledgement; beyond it
	// Queue answers ErrOutboxFull.
	OutboxMessagesMax = 4096
	// OutboxBytesMax bounds the contents of those sends, in bytes.
	OutboxBytesMax = 16 << 20
)
