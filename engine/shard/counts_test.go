package shard

import (
	"errors"
	"maps"
	"slices"

	"parley/wire"
)

// counts is what authors of a group must be told, in the naive model.
func (g *naiveGroup) counts() (counts []Count) {
	last := make(map[wire.ID]Count)
	for i := max(0, len(g.messages)-CountedMessagesMax); i < len(g.messages); i++ {
		n := Count{Author: g.messages[i].author, Position: uint64(i + 1)}
		for user, m := range g.members {
			if user == n.Author || m.joined > n.Position {
				continue
			}
			n.Of++
			if m.read >= n.Position {
				n.Read++
			}
			if max(m.delivered, m.read) >= n.Position {
				n.Delivered++
			}
		}
		if n.Delivered > 0 {
			last[n.Author] = n
		}
	}
	for _, author := range slices.Sorted(maps.Keys(last)) {
		counts = append(counts, last[author])
	}
	return counts
}

// readCounts holds what authors are told against the model, for all and for one of them.
func (m *groupRun) readCounts(g *naiveGroup, user wire.ID) {
	all, err := m.leader.shard.Counts(g.id, func(wire.ID) bool { return true })
	one, oneErr := m.leader.shard.Counts(g.id, func(author wire.ID) bool { return author == user })
	want := g.counts()
	if g.flags&wire.GroupBroadcast != 0 {
		want = nil
	}
	wantOne := slices.DeleteFunc(slices.Clone(want), func(n Count) bool { return n.Author != user })
	if err := errors.Join(err, oneErr); err != nil || !slices.Equal(all, want) || !slices.Equal(one, wantOne) {
		m.t.Fatalf("%v: counts are %+v and %+v (%v), want %+v", g, all, one, err, want)
	}
}
