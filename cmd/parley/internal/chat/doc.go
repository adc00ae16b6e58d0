// Package chat is the terminal chat behind `parley chat`.
//
// One goroutine, in Run, owns everything: the conversation, the screen and the line that
// is being written. What comes from the server, from the keyboard and from slow requests
// reaches it through channels, so nothing is locked and an incoming message can never
// tear the line apart. Two views show the same chat: Terminal, which edits a line at the
// bottom and changes the ticks of messages where they stand, and Plain, which writes a
// line for each event, for scripts and pipes.
package chat
