package engine

// Limits of the edge.
const (
	// ControlBytesMax bounds the answers that wait for a session that does not read, in
	// bytes; beyond it the session is closed with SLOW. Pushes have a bound of their own.
	// Answers that are long, those of reads, come one at a time, each when the network has
	// taken the one before, so two of them at most are among it.
	ControlBytesMax = 256 << 10
	// LoopBacklogMax is how many posted items may wait for an event loop before shards wait
	// with the effects of what they apply. An item is mostly what one applied batch means
	// for the loop's sessions: a log entry of 64 KiB, seldom more.
	LoopBacklogMax = 256
	// StreamBacklogMax is how many of them may wait before streams of other nodes are left:
	// more, because a stream that opens again costs more than a pause.
	StreamBacklogMax = 4 * LoopBacklogMax
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
