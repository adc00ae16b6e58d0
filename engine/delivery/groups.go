package delivery

import (
	"slices"

	"parley/engine/shard"
	"parley/wire"
)

// unwantedMax bounds the groups that Groups notes as unwanted at a time: what is not noted
// comes again.
const unwantedMax = 64

// Groups knows, at an edge, which event loops have members of which groups of one shard.
// Who is a member is the loops' to know: this is where their messages are to go, and what
// a stream is to bring. Whoever delivers the shard's effects holds one mutex for it.
type Groups struct {
	inlet    *Inlet // knows who is attached; nil: whoever has a session
	loops    pairs  // by group
	posted   []uint64
	unwanted []wire.ID // groups that the stream brings for nobody, perhaps
	last     uint64    // index up to which effects were told
	ended    uint64    // index of the last batch in which a membership ended
}

// join notes that a loop is told of a membership.
func (g *Groups) join(group wire.ID, loop int) { g.loops.add(group, uint16(loop)) }

// posting counts a batch with memberships for a loop.
func (g *Groups) posting(loop int) uint64 {
	for loop >= len(g.posted) {
		g.posted = append(g.posted, 0)
	}
	g.posted[loop]++
	return g.posted[loop]
}

// told notes a batch that was planned.
func (g *Groups) told(e *shard.Effects) {
	g.last = max(g.last, e.Index)
	for i := range e.Memberships {
		if e.Memberships[i].Role == wire.RoleNone {
			g.ended = max(g.ended, e.Index)
			return
		}
	}
}

// Introduce makes effects of memberships that were read from the replica here at an index;
// false if one of them may have ended since, which was told: read again. It is for users
// who need not have been told of as long as they had no session.
func (g *Groups) Introduce(shardID uint32, index uint64, memberships []shard.MembershipEffect) (*shard.Effects, bool) {
	if index < g.ended {
		return nil, false
	}
	return &shard.Effects{Shard: shardID, Memberships: introduced(memberships, index <= g.last)}, true
}

// introduced are memberships as they are told to edges. As long as all was told up to the
// index at which they were read, their members get whatever comes next.
func introduced(memberships []shard.MembershipEffect, whatever bool) []shard.MembershipEffect {
	if whatever {
		for i := range memberships {
			memberships[i].From = 0
		}
	}
	return memberships
}

// Left tells that a loop, having seen a number of batches with memberships, has no members
// of groups any more. It gives those of which no loop has any; false if the loop has not
// seen all of them: again, when it has.
func (g *Groups) Left(loop int, seen uint64, groups []wire.ID) (gone []wire.ID, ok bool) {
	if loop < len(g.posted) && g.posted[loop] != seen {
		return nil, false
	}
	for _, group := range groups {
		if g.loops.remove(group, uint16(loop)) && !g.Has(group) {
			gone = append(gone, group)
		}
	}
	return gone, true
}

// Has reports whether any loop has members of a group.
func (g *Groups) Has(group wire.ID) bool {
	_, ok := g.loops.any(group)
	return ok
}

// Append appends the groups of which a loop has members, in no order.
func (g *Groups) Append(dst []wire.ID) []wire.ID {
	for _, pair := range g.loops.places {
		if pair == 0 {
			continue
		}
		if first, _ := g.loops.any(userOf(pair)); first == uint16(pair) {
			dst = append(dst, userOf(pair))
		}
	}
	return dst
}

// Unwanted gives the groups of messages that came and that no loop wants, and of
// memberships of who has gone, once each.
func (g *Groups) Unwanted() []wire.ID {
	unwanted := g.unwanted
	g.unwanted = nil
	return unwanted
}

func (g *Groups) unwant(group wire.ID) {
	if len(g.unwanted) < unwantedMax && !slices.Contains(g.unwanted, group) {
		g.unwanted = append(g.unwanted, group)
	}
}

// attached reports whether memberships of a user are to be told to the user's sessions.
func (g *Groups) attached(user wire.ID) bool { return g.inlet == nil || g.inlet.hears(user) }
