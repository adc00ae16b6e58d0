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

// grouplessBits is the size of the table of users without groups: 256 KiB a shard.
const grouplessBits = 15

// grouplessUsers remembers users of whom the index was found to have no group, so that
// most who connect are not looked up again in each shard. Any goroutine may use it.
type grouplessUsers [1 << grouplessBits]atomic.Uint64

func (g *grouplessUsers) at(user wire.ID) *atomic.Uint64 {
	return &g[uint64(user)*0x9e3779b97f4a7c15>>(64-grouplessBits)]
}

// has reports whether a user has no groups for sure.
func (g *grouplessUsers) has(user wire.ID) bool { return g.at(user).Load() == uint64(user) }

// note remembers what a view of the store at an index has shown. If a row of the user was
// written since, that is forgotten at once: either here, or by forget, which comes after
// the note of the change.
func (g *grouplessUsers) note(user wire.ID, index uint64, recent *recentChanges) {
	g.at(user).Store(uint64(user))
	if !recent.unchanged(user, index) {
		g.forget(user)
	}
}

// forget is called when a row of a user's group is written, before readers see it and after
// recentChanges knows.
func (g *grouplessUsers) forget(user wire.ID) { g.at(user).CompareAndSwap(uint64(user), 0) }

// clear forgets all, before another state is read.
func (g *grouplessUsers) clear() {
	for i := range g {
		g[i].Store(0)
	}
}
