// Package session is one client's session as a pure state machine: WebSocket messages
// go in, actions come out. It does no I/O, reads no clock and starts no goroutine, so
// that transcripts test every path of it and a million sessions cost a slab entry each.
package session
