package chat

import "time"

// A Status is how far a message of our own has come.
type Status uint8

// The states of a message. Those of others have none.
const (
	None      Status = iota
	Queued           // kept here; the server does not have it yet
	Sent             // on the server's disk
	Delivered        // a device of the other user has it
	Read             // the other user has read it
	Failed           // the server refused it for good, or nobody knows
)

// String is the state's name in lower case.
func (s Status) String() string {
	return [...]string{"", "queued", "sent", "delivered", "read", "failed"}[s]
}

// A Line is one message, or one notice of the chat itself.
type Line struct {
	Sequence uint64 // 0: a notice, or not known yet
	Time     time.Time
	Author   string // empty: a notice
	Text     string
	Status   Status
	Old      bool // from history
}

// An Action is what the user did.
type Action struct {
	Kind ActionKind
	Text string // of Entered
}

// An ActionKind tells actions apart.
type ActionKind uint8

// The kinds of actions.
const (
	Typed   ActionKind = iota // wrote at a message
	Entered                   // finished a line
	Left                      // wants to leave: Ctrl-C, or Ctrl-D on an empty line
	Ended                     // the input has ended
)

// A View shows a chat. Only the goroutine in Run calls it.
type View interface {
	// Show puts a line below the others.
	Show(l *Line)
	// Update shows that the status of a line has changed.
	Update(l *Line)
	// Status says what is so right now: that the other is writing, that there is no
	// connection. Empty: nothing to say.
	Status(text string)
	// Input takes bytes from the user; none means that there will be no more.
	Input(b []byte) []Action
	// Resize tells the size of the terminal, in characters.
	Resize(width, height int)
	// Close leaves the screen in order.
	Close()
}
