package link

import "time"

// Limits of frames, queues and connections. They bound what a peer, or who poses as one,
// can make this node hold.
const (
	// FrameBytesMax bounds one frame, its length field excluded: the largest AppendEntries is
	// 16 entries of 64 KiB, the largest engine message is half of this.
	FrameBytesMax = 4 << 20
	// MessageBytesMax bounds the payload of a message, a call or its answer.
	MessageBytesMax = 2 << 20
	// QueueBytesMax bounds what waits for one connection. A queue takes the frame that
	// reaches it, so that it is exceeded by at most one frame.
	QueueBytesMax = 32 << 20
	// MessageQueueBytesMax is where engine messages are refused: the rest of the queue is
	// Raft's, so that a flood of messages does not look like a dead leader.
	MessageQueueBytesMax = 16 << 20
	// AppendsInFlightMax is how many AppendEntries a pipeline carries unanswered: a group has as
	// many entries in flight, so that a replica that keeps up never makes the leader wait.
	AppendsInFlightMax = 4
	// CallsMax bounds the calls under way on one connection, on each side of it.
	CallsMax = 4096
	// TransfersMax is how many snapshots a node sends at once, and how many it receives.
	TransfersMax = 2
)

const (
	// groupQueueMax and groupQueueBytesMax bound what waits for one group's replica. Beyond
	// them its peers are told that it is busy, and nobody else notices.
	groupQueueMax      = 256
	groupQueueBytesMax = 16 << 20
	// doneMax is how many answers of a pipeline wait to be read.
	doneMax = 64
	// entriesMax is the most entries that an AppendEntries may say to have; hashicorp/raft
	// allows no more.
	entriesMax = 1024
	// routesMax bounds the routes of one connection: 256 groups, each replica renamed often.
	routesMax = 4096
	// serverBytesMax bounds a replica's id.
	serverBytesMax = 255
	// textBytesMax bounds the text of an error on the wire.
	textBytesMax = 1024
	// handshakesMax bounds the connections that have not said who they are.
	handshakesMax = 64
	// joinsMax bounds the calls of nodes without a number under way.
	joinsMax = 4
	// readBufferBytes is what one read can bring: several frames under load, and all of a
	// batch of TLS records.
	readBufferBytes = 64 << 10
	// keepBytesMax is how large a buffer may be that is kept for the next turn.
	keepBytesMax = 1 << 20
	// transferBytes is the piece in which a snapshot is read and written.
	transferBytes = 256 << 10
	// writeBytesMax is the most that is written under one deadline. A way that takes longer than
	// deadAfter for it, 128 KB/s, cannot carry a link.
	writeBytesMax = 256 << 10
	// writeNowBytesMax is how much a goroutine other than the writer writes.
	writeNowBytesMax = 16 << 10
)

const (
	// SilentAfter is when a node that sent nothing counts as silent: three pings.
	SilentAfter = 750 * time.Millisecond
	// pingInterval is how often an idle connection is pinged. A busy one is pinged each
	// pingsAlways intervals, for the round trip time and the epoch.
	pingInterval = 250 * time.Millisecond
	pingsAlways  = 4
	// deadAfter is when a connection that brought nothing is given up.
	deadAfter = 2 * time.Second
	// beatInterval is how long a frame waits at most for others to ride along with if nobody
	// waits for it: heartbeats are sent each 100 to 250 ms then, for a lease of 500 ms.
	beatInterval = 50 * time.Millisecond
	// idleAfter is how long nothing must have been written before a frame is taken for one that
	// comes alone. Those that come in flocks leave together, which costs less.
	idleAfter = 100 * time.Microsecond
	// dialTimeout is for one attempt; handshakeTimeout for TLS and the preamble.
	dialTimeout      = time.Second
	handshakeTimeout = 3 * time.Second
	// backoffMin doubles up to backoffMax between attempts; each pause is jittered by half. A
	// second is short enough to be part of a cluster soon after a split ends.
	backoffMin = 50 * time.Millisecond
	backoffMax = time.Second
	// twinAfter is how long a peer must have refused this node as a second one of its number
	// until that is believed: much longer than the end of a predecessor goes unnoticed.
	twinAfter = 10 * time.Second
	// writeTimeout is how long writeBytesMax may take to leave.
	writeTimeout = 10 * time.Second
	// rpcTimeout is how long an answer of Raft may take from a peer that is alive: longer
	// than a disk stalls without being given up.
	rpcTimeout = 10 * time.Second
	// linkWait is how long a message of Raft waits for a connection before it fails, so that
	// a peer that is away costs two attempts a second and not thousands.
	linkWait = 500 * time.Millisecond
	// pipelineWait is how long a full pipeline waits for an answer before it breaks.
	pipelineWait = time.Second
	// transferTimeout is how long a snapshot may make no progress.
	transferTimeout = 30 * time.Second
	// installTimeout is how long a received snapshot may take to be installed.
	installTimeout = 10 * time.Minute
)
