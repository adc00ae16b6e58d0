package delivery

// Limits of streams between nodes.
const (
	// RecentBytesMax bounds the recent effects that a replica keeps for streams to resume
	// at, in bytes of memory: some 13,000 short messages, two seconds of a shard under full
	// load. A stream that was away for longer starts over.
	RecentBytesMax = 4 << 20
	// FrameBytesTarget is where a batch is cut into several frames, in bytes. Only an entry
	// is never cut.
	FrameBytesTarget = 128 << 10
	// FrameBytesMax bounds one frame of a stream, in bytes: what an entry of 64 KiB and 512
	// commands can add to a frame that is about to be cut.
	FrameBytesMax = 256 << 10
	// RequestUsersMax bounds the users that one request attaches or detaches, and its
	// groups: 48 KiB each.
	RequestUsersMax = 8 << 10
	// IntroducedMax bounds the memberships of one frame that introduces users: 56 KiB.
	IntroducedMax = 4 << 10
	// ForwardBytesMax is where an edge begins another request, in bytes of sends as
	// ForwardBytes counts them: well below what a link takes as one message.
	ForwardBytesMax = 128 << 10
	// AttachedNodesMax bounds the nodes that have users attached at one shard.
	AttachedNodesMax = 1 << tagBits
	// PendingMax bounds the tickets between the oldest send of a shard that was forwarded
	// and has no answer and the newest: two seconds' work of a whole cluster at 60,000 a
	// second. Beyond it a send is refused with OVERLOADED.
	PendingMax = 1 << 17
	// CursorSessionsMax is of how many cursors, forwarded last on a stream of a shard, the
	// sessions are remembered, to tell them if the stream is lost: more than are on their way.
	// Cursors have no answer, so nobody knows which of them arrived.
	CursorSessionsMax = 2 << 10
)

// silentMax is how many announcements of a leader may be ahead of a stream that says
// nothing, before the stream is taken for lost: one may cross with its frames.
const silentMax = 3

// idleShare is the part of what a replica keeps after which a node that nothing concerned
// is told the index, so that it can resume.
const idleShare = 4
