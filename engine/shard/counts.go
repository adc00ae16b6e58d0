package shard

import (
	"cmp"
	"slices"

	"parley/storage"
	"parley/wire"
)

// CountedMessagesMax is of how many messages, the last ones of a group, the authors are told
// how many members have received and read theirs.
const CountedMessagesMax = 32

// A Count is how far the last message of an author has come: of the members since before it,
// its author left out, so many have received and read it.
type Count struct {
	Author              wire.ID
	Position            uint64
	Delivered, Read, Of uint64
}

// Counts counts for those who wrote lately in a group, if they are wanted, in the order of
// their identifiers. It looks at every member, some 0.3 µs each; at none if nobody is
// wanted or the group is a broadcast.
func (s *Shard) Counts(group wire.ID, wanted func(author wire.ID) bool) (counts []Count, err error) {
	c := wire.Conversation{Kind: wire.Group, A: group}
	err = s.view(c.Slot(), func(r *storage.Reader) error {
		g, ok, err := r.Group(c)
		if err != nil || !ok || g.Flags&wire.GroupBroadcast != 0 {
			return err
		}
		if counts, err = lastOf(r, c, wanted); err != nil || len(counts) == 0 {
			return err
		}
		return r.Members(c, 0, func(user wire.ID, m *storage.Member) (bool, error) {
			for i := range counts {
				counts[i].add(user, m)
			}
			return true, nil
		})
	})
	return counts, err
}

// lastOf finds the last message of each of the authors who wrote lately.
func lastOf(r *storage.Reader, c wire.Conversation, wanted func(author wire.ID) bool) (counts []Count, err error) {
	record, _, err := r.Conversation(c)
	if err != nil || record.Head == 0 {
		return nil, err
	}
	first := record.Head - min(record.Head, CountedMessagesMax) + 1
	last := make(map[wire.ID]uint64)
	err = r.Messages(c, first, record.Head, func(m storage.Message) (bool, error) {
		last[m.Author] = m.Sequence
		return true, nil
	})
	for author, position := range last {
		if wanted(author) {
			counts = append(counts, Count{Author: author, Position: position})
		}
	}
	slices.SortFunc(counts, func(a, b Count) int { return cmp.Compare(a.Author, b.Author) })
	return counts, err
}

func (n *Count) add(user wire.ID, m *storage.Member) {
	if m.Role == wire.RoleNone || user == n.Author || m.Joined > n.Position {
		return
	}
	n.Of++
	if m.Read.Position >= n.Position {
		n.Read++
	}
	if max(m.Delivered.Position, m.Read.Position) >= n.Position {
		n.Delivered++
	}
}
