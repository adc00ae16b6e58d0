package storage

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"parley/wire"
)

func TestOrderedGroupsAreInOrder(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 1))
	var g orderedGroup
	g.after(0, func(orderedEntry) bool { t.Error("an entry of nothing"); return true })
	var keys []uint64
	for n := range uint32(5000) {
		key := r.Uint64N(1 << 40)
		if n%2 == 0 {
			key = 1<<41 + uint64(n) // ascending beside random
		}
		if !slices.Contains(keys, key) {
			keys = append(keys, key)
			g.insert(key, n)
		}
	}
	slices.Sort(keys)
	for range 200 {
		after, limit := r.Uint64N(1<<41), 1+r.IntN(2000)
		var got []uint64
		g.after(after, func(e orderedEntry) bool { got = append(got, e.key); return len(got) < limit })
		first, _ := slices.BinarySearch(keys, after+1)
		if want := keys[first:min(first+limit, len(keys))]; !slices.Equal(got, want) {
			t.Fatalf("%d after %d: %d keys, want %d", limit, after, len(got), len(want))
		}
	}
	for _, b := range g.blocks {
		if len(b) == 0 || len(b) > blockEntries {
			t.Errorf("a block of %d", len(b))
		}
	}
}

// A membersTest is a group whose members come and go, over a store that is flushed.
type membersTest struct {
	t       testing.TB
	store   *Store
	shard   *Shard
	members map[wire.ID]uint64 // and what they have read
	index   uint64
}

func newMembersTest(t testing.TB) *membersTest {
	s := openTest(t, vfs.NewMem(), testPath, 1<<30)
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	shard, err := s.Shard(1, 0, wire.Slots-1)
	if err != nil {
		t.Fatal(err)
	}
	return &membersTest{t: t, store: s, shard: shard, members: make(map[wire.ID]uint64)}
}

func (m *membersTest) update(fn func(w *Writer)) {
	m.t.Helper()
	m.index++
	err := m.shard.Update(func(w *Writer) error {
		fn(w)
		w.SetApplied(m.index, 1)
		return nil
	})
	if err != nil {
		m.t.Fatal(err)
	}
}

func (m *membersTest) put(w *Writer, user wire.ID, read uint64) {
	m.members[user] = read
	w.PutMember(group, user, &Member{Read: Cursor{Position: read}, Membership: Membership{Role: wire.RoleMember, From: 1, Joined: 1}})
}

func (m *membersTest) remove(w *Writer, user wire.ID) {
	delete(m.members, user)
	w.DeleteMember(group, user)
}

// page reads members behind a user and compares them with what they should be.
func (m *membersTest) page(r *Reader, sorted []wire.ID, after wire.ID, limit int) error {
	first, _ := slices.BinarySearch(sorted, after+1)
	want := sorted[first:min(first+limit, len(sorted))]
	var got []wire.ID
	err := r.Members(group, after, func(user wire.ID, n *Member) (bool, error) {
		if got = append(got, user); n.Read.Position != m.members[user] {
			return false, fmt.Errorf("member %v has read %d, want %d", user, n.Read.Position, m.members[user])
		}
		return len(got) < limit, nil
	})
	if err == nil && !slices.Equal(got, want) {
		err = fmt.Errorf("%d members after %v: %d, want %d", limit, after, len(got), len(want))
	}
	return err
}

func (m *membersTest) compare(r *rand.Rand) {
	m.t.Helper()
	sorted := make([]wire.ID, 0, len(m.members))
	for user := range m.members {
		sorted = append(sorted, user)
	}
	slices.Sort(sorted)
	err := m.shard.View(func(reader *Reader) error {
		if err := m.page(reader, sorted, 0, 1<<30); err != nil {
			return err
		}
		for range 5 {
			if err := m.page(reader, sorted, wire.ID(r.Uint64N(1<<wire.IDBits)), 1+r.IntN(1000)); err != nil {
				return err
			}
		}
		return m.page(reader, sorted, lastID-1, 1)
	})
	if err != nil {
		m.t.Fatal(err)
	}
}

// Members of a large group, in tables and buffers, and some of them gone from either, come in
// order from anywhere.
func TestMembersOfALargeGroupComeInOrder(t *testing.T) {
	r := rand.New(rand.NewPCG(4, 4))
	m := newMembersTest(t)
	m.update(func(w *Writer) { m.put(w, lastID, 9); m.put(w, 1, 9) })
	for round := range uint64(8) {
		m.update(func(w *Writer) {
			for range 1500 {
				m.put(w, 1+wire.ID(r.Uint64N(1<<wire.IDBits-1)), round)
			}
			for user := range m.members {
				switch r.IntN(8) {
				case 0:
					m.remove(w, user)
				case 1:
					m.put(w, user, 100+round)
				}
			}
		})
		m.compare(r)
		if round%3 == 1 {
			if err := m.store.Flush(t.Context()); err != nil {
				t.Fatal(err)
			}
			m.compare(r)
		}
	}
	err := m.shard.View(func(reader *Reader) error {
		return reader.Members(group, 0, func(wire.ID, *Member) (bool, error) { return true, ErrDropped })
	})
	if err == nil {
		t.Error("the error of the function was lost")
	}
}

// A view that pages sees its moment, while the group changes.
func TestAViewOfMembersSeesItsMoment(t *testing.T) {
	r := rand.New(rand.NewPCG(5, 5))
	m := newMembersTest(t)
	m.update(func(w *Writer) {
		for user := range wire.ID(2000) {
			m.put(w, 1+user*1000, 1)
		}
	})
	seen := 0
	err := m.shard.View(func(reader *Reader) error {
		return reader.Members(group, 0, func(user wire.ID, n *Member) (bool, error) {
			if seen++; seen%100 == 1 {
				m.update(func(w *Writer) {
					for range 300 {
						m.put(w, 2+wire.ID(r.Uint64N(2_000_000)), 2)
						m.remove(w, 1+1000*wire.ID(r.IntN(2000)))
					}
				})
			}
			if n.Read.Position != 1 || user%1000 != 1 {
				return false, fmt.Errorf("member %v with %d", user, n.Read.Position)
			}
			return true, nil
		})
	})
	if err != nil || seen != 2000 {
		t.Fatalf("%d members, %v", seen, err)
	}
}

// BenchmarkMembers reads a page of 200 members in the middle of groups of different sizes,
// from the buffer and from tables: the size must not matter.
func BenchmarkMembers(b *testing.B) {
	for _, size := range []int{400, 100_000} {
		for _, flushed := range []bool{false, true} {
			b.Run(fmt.Sprintf("members=%d/flushed=%t", size, flushed), func(b *testing.B) {
				m := newMembersTest(b)
				r := rand.New(rand.NewPCG(6, 6))
				m.update(func(w *Writer) {
					for range size {
						m.put(w, 1+wire.ID(r.Uint64N(1<<wire.IDBits-1)), 1)
					}
				})
				if flushed {
					if err := m.store.Flush(b.Context()); err != nil {
						b.Fatal(err)
					}
				}
				b.ReportAllocs()
				for b.Loop() {
					left := 200
					err := m.shard.View(func(reader *Reader) error {
						return reader.Members(group, lastID/2-lastID/8, func(wire.ID, *Member) (bool, error) { left--; return left > 0, nil })
					})
					if err != nil || left > 0 {
						b.Fatal(left, err)
					}
				}
			})
		}
	}
}

// BenchmarkUserGroups asks for the groups of a user who has none, as attaching does.
func BenchmarkUserGroups(b *testing.B) {
	m := newMembersTest(b)
	m.update(func(w *Writer) {
		for user := wire.ID(1); user < 2000; user++ {
			w.PutUserIndex(&UserIndex{User: 1, Conversation: wire.DirectConversation(1, user), Changed: 1, Time: 1})
		}
	})
	b.ReportAllocs()
	for b.Loop() {
		err := m.shard.View(func(r *Reader) error {
			return r.UserGroups(1, func(UserIndex) error { return ErrMisuse })
		})
		if err != nil {
			b.Fatal(err)
		}
	}
}
