package engine

// Limits of the edge.
const (
	// ControlBytesMax bounds the answers that wait for a session that does not read, in
	// bytes; beyond it the session is closed with SLOW. Pushes have a bound of their own.
	ControlBytesMax = 256 << 10
	// PeersKnownMax bounds the users that a loop remembers to exist. Beyond it the memory
	// starts anew, which costs a look-up each.
	PeersKnownMax = 1 << 16
	// HeldBytesMax bounds the messages of one loop that wait until it is known whether
	// their recipient exists, in bytes.
	HeldBytesMax = 4 << 20
	// retryOverloadedMS and retryDiskFullMS say when a refused request may come again.
	retryOverloadedMS = 200
	retryDiskFullMS   = 5_000
)
