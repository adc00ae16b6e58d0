package sim

import (
	"fmt"
	"sync"
	"time"

	"parley/wire"
)

// A Device names a device of the simulation.
type Device string

// An Outcome is what a device was told of a send.
type Outcome uint8

// The outcomes.
const (
	Unknown   Outcome = iota // nothing, or that nobody knows
	Accepted                 // acknowledged: it is durable
	Refused                  // refused for good: it never was and never will be
	Forgotten                // the server says that it does not know, or did so for a while
)

// String is the outcome's name.
func (o Outcome) String() string {
	return [...]string{"unknown", "accepted", "refused", "forgotten"}[o]
}

// A Send is one message that a device sent. Body is different in each of a run.
type Send struct {
	Device       Device
	Author       wire.ID
	Conversation wire.Conversation
	Body         string
	Life         int // of the device's client, whose outbox it went through
	Order        int // there, in this conversation, from 1
	Called       time.Duration
	Returned     time.Duration // 0: no outcome
	Outcome      Outcome
	Sequence     uint64
	Error        string
}

// An Entry is a message as somebody saw it.
type Entry struct {
	Sequence uint64
	Author   wire.ID
	Time     wire.Time
	Body     string
}

// A Seen is a message that came to a device: handed over by its client, or pushed on one
// of its connections.
type Seen struct {
	Entry
	Device       Device
	Life         int // of the client's process, or the connection's number
	User         wire.ID
	Conversation wire.Conversation
	At           time.Duration
}

// A Moved is a receipt that came to a device.
type Moved struct {
	Device       Device
	Life         int
	User         wire.ID // who was told
	Conversation wire.Conversation
	Kind         wire.CursorKind
	Position     uint64
	At           time.Duration
}

// A Listed is a conversation as a sync told it to a device.
type Listed struct {
	Device       Device
	Life         int
	User         wire.ID
	Conversation wire.Conversation
	State        wire.ConversationState
	Called, At   time.Duration
}

// A Read is a page of history.
type Read struct {
	Device           Device
	User             wire.ID
	Conversation     wire.Conversation
	Called, Returned time.Duration
	Head             uint64
	Entries          []Entry
}

// A Final is a whole conversation, read when all was over.
type Final struct {
	Stage        string // after what it was read
	At           time.Duration
	User         wire.ID
	Conversation wire.Conversation
	State        wire.ConversationState
	Entries      []Entry
}

// An Online is a device that was connected at the end, with how far its client had handed
// over each of its user's conversations.
type Online struct {
	Device   Device
	User     wire.ID
	Reached  map[wire.Conversation]uint64
	Problems []string // what kept it from getting there
}

// A History is what the clients of a run did and saw. Times are since its start.
type History struct {
	Sends    []Send
	Handed   []Seen  // by clients to their programs
	Pushed   []Seen  // in MESSAGE frames, per connection
	Moved    []Moved // by clients
	Receipts []Moved // in RECEIPT frames, per connection
	Listed   []Listed
	Reads    []Read
	Finals   []Final
	Online   []Online
	Gaps     []string // gaps that clients reported
	Late     []string // shards that did not commit in time once all was well
	Replicas []Replica
}

// A Replica is the state of a shard on a node at an index.
type Replica struct {
	Node  string
	Shard int
	Index uint64
	Hash  [32]byte
}

// A Recorder collects a history from all goroutines of a run.
type Recorder struct {
	start time.Time
	mu    sync.Mutex
	h     History
}

// NewRecorder starts the clock of a history.
func NewRecorder() *Recorder { return &Recorder{start: time.Now()} }

// Now is the time since the start.
func (r *Recorder) Now() time.Duration { return time.Since(r.start) }

// Add changes the history.
func (r *Recorder) Add(fn func(h *History)) {
	r.mu.Lock()
	defer r.mu.Unlock()
	fn(&r.h)
}

// Send notes the call of a send and returns its place for Return.
func (r *Recorder) Send(s Send) int {
	r.mu.Lock()
	defer r.mu.Unlock()
	s.Called = r.Now()
	r.h.Sends = append(r.h.Sends, s)
	return len(r.h.Sends) - 1
}

// Return notes the outcome of a send.
func (r *Recorder) Return(place int, o Outcome, sequence uint64, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	s := &r.h.Sends[place]
	s.Returned, s.Outcome, s.Sequence = r.Now(), o, sequence
	if err != nil {
		s.Error = err.Error()
	}
}

// History is what was recorded. Nothing may be recorded any more.
func (r *Recorder) History() *History {
	r.mu.Lock()
	defer r.mu.Unlock()
	return &r.h
}

// conversationName is short enough for reports.
func conversationName(c wire.Conversation) string {
	return fmt.Sprintf("%x-%x", uint64(c.A), uint64(c.B))
}

// bodyOf is the text of a message.
func bodyOf(c wire.Content) string {
	_, body, err := c.Body()
	if err != nil {
		return fmt.Sprintf("damaged: %v", err)
	}
	return string(body)
}
