package shard

import (
	"sync/atomic"

	"parley/wire"
)

// recentBits is the size of the table of recent changes: 2 MiB a shard, of which nothing is
// touched before users are. A device that comes back after so many changes of the shard as a
// quarter of the table has places has its user's rows looked at in vain once in five times.
const recentBits = 18

// recentChanges remembers which users' rows of the index and of their lists were written
// lately, so that a device for which nothing has changed costs a load and not a look at
// each conversation of its user. It is a table of log indexes by a hash of the user: what it says to be unchanged
// is, and what it says to have changed may be another user's.
//
// The apply goroutine notes; anybody may ask.
type recentChanges struct {
	floor atomic.Uint64 // changes up to here are not noted
	last  []atomic.Uint64
}

func newRecentChanges() *recentChanges {
	return &recentChanges{last: make([]atomic.Uint64, 1<<recentBits)}
}

// forget says that what happened up to an index is not noted.
func (c *recentChanges) forget(index uint64) { c.floor.Store(index) }

// note is called before readers see the change.
func (c *recentChanges) note(user wire.ID, index uint64) { c.last[c.place(user)].Store(index) }

// unchanged reports that no row of a user was written after an index, as far as a reader
// sees who has looked at the store before the call.
func (c *recentChanges) unchanged(user wire.ID, since uint64) bool {
	return since >= c.floor.Load() && c.last[c.place(user)].Load() <= since
}

// place spreads users over the table (the multiplier is 2^64 divided by the golden ratio).
func (c *recentChanges) place(user wire.ID) uint64 {
	return uint64(user) * 0x9e3779b97f4a7c15 >> (64 - recentBits)
}
