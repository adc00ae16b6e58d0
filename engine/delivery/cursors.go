package delivery

import "slices"

// cursorSessions are the sessions of the cursors that were forwarded last.
type cursorSessions struct {
	ring []uint64 // at most CursorSessionsMax; nil: none
	next int
}

func (c *cursorSessions) add(session uint64) {
	if len(c.ring) < CursorSessionsMax {
		c.ring = append(c.ring, session)
		return
	}
	c.ring[c.next] = session
	c.next = (c.next + 1) % CursorSessionsMax
}

// drain takes the sessions, each once.
func (c *cursorSessions) drain() []uint64 {
	sessions := c.ring
	*c = cursorSessions{}
	slices.Sort(sessions)
	return slices.Compact(sessions)
}
