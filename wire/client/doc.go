// Package client is the Go client of Parley: it connects, sends, receives, and keeps all
// that whole across lost connections and restarts.
//
// # Connecting
//
// Open takes an address and a function that gives a token, and returns when the server
// has let the client in:
//
//	c, err := client.Open(ctx, client.Options{
//		Address: "wss://chat.example.org",
//		Token:   func(ctx context.Context) (string, error) { return readToken() },
//	})
//	if err != nil {
//		return err
//	}
//	defer c.Close()
//
// From then on the client looks after its connection: it answers heartbeats and finds dead
// links, reconnects at random moments that lie further and further apart, resumes with the
// ticket that the server gave it, asks for another token when the ticket is refused, and
// follows a server that sends it elsewhere. It gives up only when the server says so: the
// credential is good for nothing, another session took its place, the program is too old.
// Then Events is closed and Err tells why.
//
// # Conversations
//
// A wire.Ref names a conversation: wire.DirectRef(user) is the one with a user. Resolve
// turns names into identifiers and Users turns them back. Conversations is the list with
// heads, unread counts and cursors; ConversationEvent brings each of its entries when the
// client first hears of it, and after an absence.
//
// # Sending
//
// Send waits until the message is on disk on a majority of the server's replicas:
//
//	sent, err := c.Send(ctx, wire.DirectRef(bob), wire.Text("Are you there?"))
//
// Queue does not wait: it puts the message into the outbox and gives a Pending with the
// outcome to come. A message that is in the outbox is sent exactly once, in the order of
// its conversation, however often the connection breaks. With OpenFileOutbox it outlives
// the process too: the file has it before the network has, and after a restart the client
// goes on; Restored tells what it found. The outcome is one of
//
//   - Sent: its sequence in the conversation and the server's time;
//   - a *wire.Error: the server refused it for good, with a code;
//   - ErrUnknownOutcome: the server no longer knows, and history does not show it. It may
//     have been delivered: say so, and leave it to the person to send it again;
//   - ErrClosed: the client was closed first. A file has it still.
//
// A context that ends, or a lost connection, is no outcome.
//
// # Receiving
//
// Events is what happens, one after the other. For each conversation, MessageEvents come in
// order of their sequence, each once, without a gap, one's own included; the client asks
// the server's history for what it missed, and a GapEvent says what cannot be had. They begin at the head that the conversation has
// when the client first hears of it; Options.Begin and Options.Known ask for more, and
// History reads what is older.
//
//	for e := range c.Events() {
//		switch e := e.(type) {
//		case *client.MessageEvent:
//			fmt.Printf("%v: %s\n", e.Author, e.Content.Bytes)
//			c.Read(e.Ref, e.Sequence)
//		case *client.ReceiptEvent:
//			fmt.Println("seen up to", e.Position)
//		}
//	}
//
// A message is marked delivered when Events has handed it over, and read when the program
// calls Read. A program that writes messages to a disk of its own sets
// Options.ManualDelivered and calls Delivered after that.
//
// # Groups
//
// CreateGroup makes a group, and gives its wire.Ref; it takes messages as a person does. What
// changes it (its title, its members, their roles) is a message too, that Change puts into the
// outbox: made once, or refused, in the one order of the group, and seen by all as a
// MessageEvent whose content has the event.
//
//	family, err := c.CreateGroup(ctx, "Family", wire.GroupHistory, bob, carol)
//	p, err := c.Change(family, wire.Event{Kind: wire.EventAdd, Users: []wire.ID{dave}})
//
// SetLink and Join let people in by a link; Members and Group read who is in a group and how
// it is. Who becomes a member of a group sees a conversation that is new, and a
// ConversationEvent that has Left says that the membership is over.
//
// # Bounds
//
// A consumer may be as slow as it likes. When EventMessagesMax messages wait for it, the
// client lets go of what comes, keeps in mind how far each conversation reaches, and reads
// the rest from the server as the consumer goes on. All other tables have their limits in
// limits.go.
//
// # Inside
//
// The protocol is a state machine without I/O, clock or goroutine (core.go and the files
// that its parts are in): inputs are its methods, outputs are actions, frames and events. A
// driver of one goroutine owns it (driver.go), and a link of two reads and writes a
// WebSocket (link.go). So tests run it through every order of cuts, crashes and refusals
// that a seed can draw, tens of thousands of times a minute.
package client
