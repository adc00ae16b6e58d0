package planted

// A Bug is one mistake that somebody might make.
type Bug uint8

// The bugs, by the package that has them.
const (
	None Bug = iota

	// raft
	NoFsync         // the log's writes are not synced
	FailedFsync     // a failed write of the log is taken for a good one
	ForgottenVote   // votes are kept in memory only
	EarlyTruncation // the log is cut behind what was applied, not behind what is on disk
	SkippedReplay   // the first entry of a replay is not applied
	StaleReads      // a leader reads without asking whether it still is one

	// storage
	RecordAhead  // a flush says that it contains what was applied after it was frozen
	DroppedChunk // a flush writes the first chunk of a conversation only

	// engine/shard
	NoDeduplication  // a message that comes again is accepted again
	ForgottenOutbox  // what outboxes have sent is not remembered across a restart
	GapAccepted      // a message is accepted though one before it is missing
	CursorBack       // cursors move back
	DroppedOutgoing  // what another shard must learn is not written to the outbox
	FailedIsSent     // what was given back is called sent
	FailedIsRefused  // what was given back is called refused for good
	ClockBack        // times go back with the leader's clock
	HiddenRandomness // replicas apply the same differently

	// engine and engine/delivery
	WrongPerson  // a message is pushed to whoever is there
	LostPush     // a push for a session that reads slowly is dropped in silence
	SyncWindow   // what happens between a session's sync and its answer is not pushed
	DoublePush   // a message is pushed twice to the author's other devices
	LostEffects  // a stream that is resumed leaves out what came first
	WrongOutcome // what waits for another node's answer is called refused when its leader changes

	bugs
)

var names = [bugs]string{"none",
	"no-fsync", "failed-fsync", "forgotten-vote", "early-truncation", "skipped-replay", "stale-reads",
	"record-ahead", "dropped-chunk",
	"no-deduplication", "forgotten-outbox", "gap-accepted", "cursor-back", "dropped-outgoing",
	"failed-is-sent", "failed-is-refused", "clock-back", "hidden-randomness",
	"wrong-person", "lost-push", "sync-window", "double-push", "lost-effects", "wrong-outcome"}

// String is the bug's name.
func (b Bug) String() string { return names[b] }

// All lists the bugs.
func All() []Bug {
	var list []Bug
	for b := None + 1; b < bugs; b++ {
		list = append(list, b)
	}
	return list
}
