package raft

import "time"

// Limits of entries, queues and the log. Bytes count encoded entries.
const (
	// EntryBytesMax bounds one entry: 16 of them, the most that one AppendEntries carries,
	// are 1 MiB, and a replica that lags buffers at most 128 times that.
	EntryBytesMax = 64 << 10
	// InFlightMax is how many entries of a group wait for commit at once. More would only
	// make smaller entries: what queues meanwhile goes into the next one.
	InFlightMax = 4
	// EntriesAppendMax is hashicorp/raft's MaxAppendEntries: the most entries in one
	// message, in one batch for the machine, and in its apply queue.
	EntriesAppendMax = 16
	// TailEntriesMax and TailBytesMax bound the newest entries that a group keeps in
	// memory, from which replicas are fed and the machine applies: 4 MiB is 64 of the largest.
	TailEntriesMax = 1024
	TailBytesMax   = 4 << 20
	// LogBytesMax is how much log a group may hold that its machine has not made durable,
	// before it is asked to: a restart replays at most about this much.
	LogBytesMax = 128 << 20
	// TrailingBytes is how much of the log stays behind the record in a group of several
	// voters, so that a replica that was away for a short time needs no snapshot.
	TrailingBytes = 16 << 20
	// ExportHoldBytesMax bounds the log that is kept because a replica is being sent the
	// state and will need what follows. A slower transfer than that must begin anew.
	ExportHoldBytesMax = 512 << 20
	// GroupsMax bounds the groups of one node: more of them only make smaller batches.
	GroupsMax = 256
)

const (
	// compactBytes is the grain of truncation: less than this is not worth a tombstone.
	compactBytes = 256 << 10
	// compactEvery is how much a group writes before it looks whether it can truncate, if
	// nobody asks for it meanwhile.
	compactEvery = 16 << 20
	// readAheadEntries and readAheadBytes bound what a sequential reader loads at once.
	readAheadEntries = 64
	readAheadBytes   = 1 << 20
)

const (
	heartbeatTimeout = time.Second
	electionTimeout  = time.Second
	// leaseTimeout is how long a leader goes without a majority before it steps down. A
	// quarter of the heartbeat would be too short: leaders would step down for ever.
	leaseTimeout = 500 * time.Millisecond
	// commitTimeout bounds how late an idle follower learns the commit index.
	commitTimeout = 500 * time.Millisecond
	// proposeTimeout is when an entry that is neither committed nor refused is given back.
	proposeTimeout = 10 * time.Second
	// stallTimeout is how long one write of the log may take before the node stops sending
	// heartbeats, so that replicas with a working disk take over.
	stallTimeout = 2 * time.Second
	// changePause is when a change of members that shows no effect is asked for again.
	changePause = 100 * time.Millisecond
	// transferTimeout is when a transfer of leadership is given up. The library does so
	// after an election timeout, and refuses entries until then.
	transferTimeout = 2 * electionTimeout
	// electAgain is how long an elected leader waits for its first entry before it proposes
	// another one.
	electAgain = 250 * time.Millisecond
	// transferPoll is how often a transfer looks how far it is.
	transferPoll = time.Millisecond
	// suspectInterval is how often the failure detector is asked about leaders, and
	// suspectAlert how soon again at least while one of them is silent.
	suspectInterval = 50 * time.Millisecond
	suspectAlert    = time.Millisecond
	// yieldTime is how much longer each voter waits before it asks for votes in a hastened
	// election: several round trips and an fsync.
	yieldTime = 15 * time.Millisecond
	// doubtsMax times yieldTime is how long a replica may go on to trust a leader that another
	// one doubts: the longest time between two heartbeats.
	doubtsMax = 18
	// exportPause is between two exports of the very same state.
	exportPause = time.Second
	// exportLinger is how long the log behind an export is kept after it was sent: the
	// receiver asks for the next entries within some heartbeats.
	exportLinger = 30 * time.Second
	// drainTimeout is how long Close waits for entries in flight.
	drainTimeout = time.Second
	// sweepInterval is how often a node looks for entries that timed out and seals its log.
	sweepInterval = time.Second
	// probeBackoff is the pause before a peer that did not answer is asked again.
	probeBackoff = 20 * time.Millisecond
)
