package reactor

import "net/netip"

// A Loop is one event loop. Only Post and Index may be called from other goroutines.
type Loop struct{}

// Index is the loop's number, the one in its sessions' handles.
func (l *Loop) Index() int { return 0 }

// Post hands x to the Handler's Inbox on this loop. Any goroutine may call it; it never
// blocks, a burst of posts wakes the loop once, and after Close it does nothing.
func (l *Loop) Post(x any) {}

// Write queues whole protocol frames for a session and copies them. What is queued
// during one turn leaves as one WebSocket message and one system call at its end;
// beyond MessageBytesMax a new message starts between two calls. frames must not
// exceed MessageBytesMax. A session that has ended is ignored.
func (l *Loop) Write(h Handle, frames []byte) {}

// Blocked says that the kernel has not taken all of the session's output yet: hold back
// what can wait until Writable.
func (l *Loop) Blocked(h Handle) bool { return false }

// Queued is how many bytes of output the kernel has not taken yet.
func (l *Loop) Queued(h Handle) int { return 0 }

// SetDeadline asks for Expired in that many seconds, unless it is called again before;
// 0 clears. Moving a deadline away costs nothing, so it may be done for each message.
func (l *Loop) SetDeadline(h Handle, seconds int) {}

// Close ends a session: no more messages are delivered; pending output leaves, then a
// close frame, then the connection when the peer has answered, or after 2 seconds.
func (l *Loop) Close(h Handle, code uint16, reason string) {}

// Alive says whether the handle still names a session that may be written to.
func (l *Loop) Alive(h Handle) bool { return false }

// RemoteAddr is the peer's address; the zero value if the session has ended.
func (l *Loop) RemoteAddr(h Handle) netip.AddrPort { return netip.AddrPort{} }
