package delivery

import (
	"slices"

	"parley/engine/shard"
	"parley/wire"
)

// introduceTries is how often memberships are read again because one of them ended
// meanwhile, before the replica is made to wait.
const introduceTries = 8

// Introduce tells an edge, on its stream, of which groups users of it are members: what is
// told from there on is theirs. A read for them comes after it, so that nothing lies
// between, and its answer brings the number, 0 if there was nothing to tell: see
// Inlet.Introduced. Users who have gone meanwhile are left out. read gives the memberships of users as of an index, from a
// replica that has applied all that the edge may have heard of; it may take its time.
//
// It says no where Reached would.
func (o *Outlet) Introduce(node uint32, generation uint64, users []wire.ID, read func(users []wire.ID) ([]shard.MembershipEffect, uint64, error)) (number uint64, ok bool, err error) {
	for range introduceTries {
		memberships, index, err := read(users)
		if err != nil {
			return 0, false, err
		}
		number, ok, again := o.introduceAt(node, generation, memberships, index)
		if !again {
			return number, ok, nil
		}
	}
	return 0, false, nil
}

// introduceAt tells an edge of memberships as of an index; again says that one of them may
// have ended since, or begun before the stream did.
func (o *Outlet) introduceAt(node uint32, generation uint64, memberships []shard.MembershipEffect, index uint64) (number uint64, ok, again bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	s := o.streams[node]
	if s == nil || s.generation != generation || s.broken || s.opening {
		return 0, false, false
	}
	if index < o.ended || index < s.began {
		return 0, false, true
	}
	before := s.introduced
	if o.introduce(s, memberships, index); s.introduced == before {
		return 0, !s.broken, false
	}
	return s.introduced, !s.broken, false
}

// introduce sends memberships at the place where a stream stands, which their frames name.
// The stream is brought to what was told first, because most memberships were read there.
func (o *Outlet) introduce(s *stream, memberships []shard.MembershipEffect, index uint64) {
	memberships = slices.DeleteFunc(memberships, func(m shard.MembershipEffect) bool {
		return m.Role == wire.RoleNone || !o.attached.Has(s.node, m.User)
	})
	if len(memberships) > 0 && s.sent < o.told {
		o.idle(s, o.told)
	}
	memberships = introduced(memberships, index <= s.sent)
	for part := range slices.Chunk(memberships, IntroducedMax) {
		if s.broken {
			return
		}
		e := shard.Effects{Shard: o.shard, Previous: s.sent, Index: s.sent, Memberships: part}
		pick := Pick{Node: s.node}
		for i := range part {
			pick.Memberships = append(pick.Memberships, uint32(i))
			o.attached.Want(s.node, s.sent+1, part[i].Group) // the edge is sure to know once it is beyond
		}
		s.introduced++
		s.heard = s.detached
		o.frame = appendIntroduceFrame(o.frame[:0], s.generation, s.introduced, s.detached, &e, &pick)
		o.put(s)
	}
}

// hint tells an edge which requests to detach users were heard, so that it need not
// remember them until something is said of users.
func (o *Outlet) hint(s *stream) {
	if s.broken || s.opening || s.hinted == s.detached || s.heard == s.detached {
		return
	}
	s.hinted = s.detached
	o.frame = appendFrame(o.frame[:0], FrameDetached, o.shard, s.generation, s.detached)
	o.put(s)
}
