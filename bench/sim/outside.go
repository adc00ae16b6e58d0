package sim

import (
	"net"

	"parley/wire"
)

// Listen wraps a connection of a device that is not simulated: whatever the server sends
// on it becomes part of the history. Connections of a device are numbered from 1.
func Listen(conn net.Conn, r *Recorder, name Device, user wire.ID, number int) net.Conn {
	return &tap{Conn: conn, device: &device{name: name, user: user, recorder: r}, number: number}
}

// OutcomeOf is what the result of a send says of it, for the checkers.
func OutcomeOf(err error) Outcome { return outcomeOf(err) }

// EntriesOf are the messages of a page as the checkers compare them.
func EntriesOf(page *wire.Page) []Entry { return entriesOf(page) }

// BodyOf is the text of a message as the checkers compare it.
func BodyOf(c wire.Content) string { return bodyOf(c) }
