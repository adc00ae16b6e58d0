package delivery

import (
	"math"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"parley/wire"
)

// stretches are the model of one membership: what is told from where to where.
type stretches [][2]uint64

func (s stretches) open() int {
	return slices.IndexFunc(s, func(x [2]uint64) bool { return x[1] == math.MaxUint64 })
}

func (s stretches) has(sequence uint64) bool {
	return slices.ContainsFunc(s, func(x [2]uint64) bool { return x[0] <= sequence && sequence <= x[1] })
}

type membership struct {
	group wire.ID
	slot  uint32
}

// An audienceModel is an audience made of maps.
type audienceModel struct {
	members map[membership]stretches
	next    map[wire.ID]uint64
	until   map[wire.ID]uint64 // what the batch has at least
	events  map[wire.ID]uint64 // the last one: each join and leave is a message itself
}

func (m *audienceModel) join(group wire.ID, slot uint32, from uint64) {
	key := membership{group, slot}
	if i := m.members[key].open(); i >= 0 {
		m.members[key][i][0] = min(m.members[key][i][0], from)
		return
	}
	m.members[key] = append(m.members[key], [2]uint64{from, math.MaxUint64})
}

func (m *audienceModel) leave(group wire.ID, slot uint32, until uint64) {
	s := m.members[membership{group, slot}]
	if i := s.open(); i >= 0 {
		s[i][1] = until
	}
	m.until[group] = max(m.until[group], until)
}

func (m *audienceModel) settle() {
	for key, s := range m.members {
		s = slices.DeleteFunc(s, func(x [2]uint64) bool { return x[1] != math.MaxUint64 })
		if m.members[key] = s; len(s) == 0 {
			delete(m.members, key)
		}
	}
}

func (m *audienceModel) drop(slot uint32) {
	for key := range m.members {
		if key.slot == slot {
			delete(m.members, key)
		}
	}
}

func (m *audienceModel) to(group wire.ID, sequence uint64) (slots []uint32) {
	for key, s := range m.members {
		if key.group == group && s.has(sequence) {
			slots = append(slots, key.slot)
		}
	}
	slices.Sort(slots)
	return slots
}

func (m *audienceModel) groups() (groups []wire.ID) {
	for key := range m.members {
		groups = append(groups, key.group)
	}
	slices.Sort(groups)
	return slices.Compact(groups)
}

// tell checks whom the next message of a group is for.
func (m *audienceModel) tell(t *rapid.T, a *Audience, group wire.ID) {
	m.next[group]++
	members, others := a.To(group, m.next[group])
	got := slices.Concat(members, others)
	slices.Sort(got)
	if want := m.to(group, m.next[group]); !slices.Equal(got, want) {
		t.Fatalf("message %d of group %d is for %v, want %v", m.next[group], group, got, want)
	}
}

// end ends a batch, which has all messages up to those by which anybody left.
func (m *audienceModel) end(t *rapid.T, a *Audience) {
	for group, until := range m.until {
		for m.next[group] < until {
			m.tell(t, a, group)
		}
	}
	clear(m.until)
	a.Settle()
	m.settle()
}

// Whoever joins, leaves, comes back and goes, in the middle of batches or not: at each
// message the audience is who is a member then, each of them once.
func TestAudienceIsWhoIsAMember(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var a Audience
		m := audienceModel{members: map[membership]stretches{}, next: map[wire.ID]uint64{}, until: map[wire.ID]uint64{}, events: map[wire.ID]uint64{}}
		groups := wire.ID(rapid.IntRange(1, 6).Draw(t, "groups"))
		slots := uint32(rapid.IntRange(1, 60).Draw(t, "slots"))
		steps := rapid.IntRange(1, 400).Draw(t, "steps")
		var left []wire.ID
		for range steps {
			group := wire.ID(rapid.Uint64Range(1, uint64(groups)).Draw(t, "group")) << 40
			slot := rapid.Uint32Range(0, slots).Draw(t, "slot")
			event := max(m.next[group], m.events[group]) + 1
			switch n := rapid.IntRange(0, 19).Draw(t, "what"); {
			case n < 8:
				from := []uint64{0, 1, event, event, event + 2}[rapid.IntRange(0, 4).Draw(t, "from")]
				m.events[group] = event
				a.Join(group, slot, from)
				m.join(group, slot, from)
			case n < 11:
				if s := m.members[membership{group, slot}]; len(s) == 1 && s[0][0] > 5 && rapid.Bool().Draw(t, "again") {
					event = s[0][0] - 4 // an old leave, told again after the join that followed
				} else {
					m.events[group] = event
				}
				a.Leave(group, slot, event)
				m.leave(group, slot, event)
			case n < 12:
				a.Drop(slot)
				m.drop(slot)
			case n < 15:
				m.end(t, &a)
			default:
				m.tell(t, &a, group)
			}
			left = a.Left(left)
		}
		m.end(t, &a)
		checkAudience(t, &a, &m, a.Left(left))
	})
}

// checkAudience looks at what is left of an audience, and then ends all sessions.
func checkAudience(t *rapid.T, a *Audience, m *audienceModel, left []wire.ID) {
	if a.Memberships() != len(m.members) {
		t.Fatalf("%d memberships, want %d", a.Memberships(), len(m.members))
	}
	groups := m.groups()
	for group := range m.next {
		if is := slices.Contains(groups, group); a.Has(group) != is {
			t.Fatalf("group %d has members: %v, want %v", group, a.Has(group), is)
		} else if !is && len(m.members) > 0 && a.byGroup.used != len(groups) {
			t.Fatalf("%d rooms, want %d", a.byGroup.used, len(groups))
		}
	}
	for key := range m.members {
		a.Drop(key.slot)
	}
	left = a.Left(left)
	for _, group := range groups {
		if !slices.Contains(left, group) {
			t.Fatalf("nobody said that group %d has no member any more", group)
		}
	}
	if a.Memberships()+a.byGroup.used+a.bySlot.used+len(a.spans) > 0 {
		t.Fatalf("something is left of nothing: %d, %d, %d, %d", a.Memberships(), a.byGroup.used, a.bySlot.used, len(a.spans))
	}
	free := 0
	for i := a.chairFree; i != 0; i = a.chairs[i-1].next {
		free++
	}
	if free != len(a.chairs) {
		t.Fatalf("%d chairs of %d can be used again", free, len(a.chairs))
	}
}

// A lookup and blocks grow, shrink, and are used again: a loop that had a million
// memberships and has none keeps little but what will be used again.
func TestAudienceUsesMemoryAgain(t *testing.T) {
	var a Audience
	for round := range 3 {
		for slot := range uint32(1000) {
			for group := range wire.ID(10) {
				a.Join(group+1, slot, 0)
			}
		}
		if a.Memberships() != 10_000 {
			t.Fatal(a.Memberships())
		}
		rows, arena := len(a.chairs), len(a.lists.arena)
		if round > 0 && (rows != 10_000 || arena > 10*4*1024) {
			t.Errorf("round %d: %d rows, %d numbers of lists", round, rows, arena)
		}
		for slot := range uint32(1000) {
			a.Drop(slot)
		}
		if n := len(a.byPlace.places) + len(a.bySlot.places) + len(a.byGroup.places); n > 3*2*lookupMin {
			t.Errorf("%d places for nothing", n)
		}
	}
}

// bytes is the memory that an audience takes.
func (a *Audience) bytes() int {
	const chairBytes, roomBytes, spanBytes = 16, 48, 24
	n := cap(a.chairs)*chairBytes + cap(a.rooms)*roomBytes + cap(a.lists.arena)*4
	n += (len(a.byPlace.places) + len(a.bySlot.places) + len(a.byGroup.places)) * 4
	for _, s := range a.spans {
		n += cap(s) * spanBytes
	}
	return n
}

// BenchmarkAudience is what a membership costs to begin and to end, and in memory, and what
// one recipient of a message costs to find: for a large group, and for many of ten.
func BenchmarkAudience(b *testing.B) {
	for _, bench := range []struct {
		name          string
		groups, slots int
	}{{"one of 18000", 1, 18_000}, {"10000 of 10", 10_000, 10}} {
		fill := func(a *Audience) {
			for g := range bench.groups {
				for s := range bench.slots {
					a.Join(wire.ID(g+1), uint32((g*7+s*13)%100_000), 0)
				}
			}
		}
		b.Run("join/"+bench.name, func(b *testing.B) {
			b.ReportAllocs()
			bytes := 0
			for done := 0; done < b.N; {
				var a Audience
				fill(&a)
				done += a.Memberships()
				bytes = a.bytes() / a.Memberships()
			}
			b.ReportMetric(float64(bytes), "B/membership")
		})
		b.Run("drop/"+bench.name, func(b *testing.B) {
			for done := 0; done < b.N; {
				b.StopTimer()
				var a Audience
				fill(&a)
				done += a.Memberships()
				b.StartTimer()
				for slot := range uint32(100_000) {
					a.Drop(slot)
				}
			}
		})
		b.Run("to/"+bench.name, func(b *testing.B) {
			var a Audience
			fill(&a)
			b.ReportAllocs()
			sum, sequence := uint32(0), uint64(0)
			for done := 0; done < b.N; {
				sequence++
				members, others := a.To(wire.ID(int(sequence)%bench.groups+1), sequence)
				for _, slot := range members {
					sum += slot
				}
				done += len(members) + len(others)
			}
			if sum == 0 {
				b.Fatal("nobody")
			}
		})
	}
}
