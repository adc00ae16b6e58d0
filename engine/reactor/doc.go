// Package reactor is the network core: event loops, connections, output and timers.
// It is the only package that sees gnet, so that its rules hold in one place.
//
// A Server has a few loops, each a goroutine with its own listener, connections and
// timing wheel. A session is a slot in a loop's slab, named by a Handle; an idle one
// costs its slot and nothing else: no goroutine, timer, map entry or buffer. All of a
// Handler and all of a Loop but Post belongs to the loop's goroutine: there is no lock
// on the way from a socket to a Handler and back.
//
// Work comes in turns: what one socket delivered, what was posted, what fell due. The
// Handler writes as often as it likes during a turn; at the end of it each session
// gets one WebSocket message and the kernel one write, because a system call costs a
// hundred times more than the bytes in it.
package reactor
