package delivery

import (
	"slices"
	"testing"

	"pgregory.net/rapid"

	"parley/engine/shard"
	"parley/wire"
)

// The flat tables do what maps do, through growing, shrinking and runs that wrap around.
func TestAttachedIsAMapOfSets(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var a Attached
		model := map[uint32]map[wire.ID]bool{}
		rows := 0
		for range 300 {
			node := rapid.Uint32Range(1, 5).Draw(t, "node")
			user := wire.ID(rapid.Uint64Range(1, 40).Draw(t, "user"))
			switch rapid.IntRange(0, 9).Draw(t, "what") {
			case 0:
				a.DropNode(node)
				rows -= len(model[node])
				delete(model, node)
			case 1, 2, 3:
				a.Detach(node, user)
				if model[node][user] {
					rows--
				}
				delete(model[node], user)
			default:
				if !a.Attach(node, user, user+1) {
					t.Fatal("five nodes are too many")
				}
				if model[node] == nil {
					model[node] = map[wire.ID]bool{}
				}
				rows -= len(model[node])
				model[node][user], model[node][user+1] = true, true
				rows += len(model[node])
			}
			var want []uint32
			for n := uint32(1); n <= 5; n++ {
				if model[n][user] {
					want = append(want, n)
				}
				if a.Has(n, user) != model[n][user] {
					t.Fatalf("user %d at node %d: %v", user, n, a.Has(n, user))
				}
			}
			got := a.Append(nil, user)
			slices.Sort(got)
			if !slices.Equal(got, want) || a.Len() != rows {
				t.Fatalf("user %d: %v of %d rows, want %v of %d", user, got, a.Len(), want, rows)
			}
		}
	})
}

// Which nodes want a group's messages is a map of numbers: what they want no more is taken
// out only if it was not wanted again behind the place that they speak of.
func TestWantedIsAMapOfNumbers(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var a Attached
		model := map[uint32]map[wire.ID]uint64{}
		for node := uint32(1); node <= 3; node++ {
			model[node] = map[wire.ID]uint64{}
		}
		for range 300 {
			node := rapid.Uint32Range(1, 3).Draw(t, "node")
			group := wire.ID(rapid.Uint64Range(1, 40).Draw(t, "group"))
			index := rapid.Uint64Range(0, 9).Draw(t, "index")
			switch rapid.IntRange(0, 9).Draw(t, "what") {
			case 0:
				a.DropNode(node)
				clear(model[node])
			case 1, 2, 3, 4:
				a.Unwant(node, index, group)
				if model[node][group] <= index {
					delete(model[node], group)
				}
			default:
				a.Want(node, index, group)
				model[node][group] = max(model[node][group], index)
			}
			var want []uint32
			for n := uint32(1); n <= 3; n++ {
				_, wanted := model[n][group]
				if wanted {
					want = append(want, n)
				}
				if a.Wants(n, group) != wanted {
					t.Fatalf("node %d wants group %d: %v", n, group, !wanted)
				}
			}
			got := a.AppendWanting(nil, group)
			slices.Sort(got)
			if !slices.Equal(got, want) || a.groups.used != len(model[1])+len(model[2])+len(model[3]) {
				t.Fatalf("group %d is wanted by %v, want %v; %d rows", group, got, want, a.groups.used)
			}
		}
	})
}

// A loop gives up groups only when it has seen all that was said of them, and a group is
// gone when its last loop has given it up.
func TestGroupsGoWithTheirLastLoop(t *testing.T) {
	var g Groups
	g.join(7, 0)
	g.join(7, 2)
	g.join(8, 2)
	seen := g.posting(2)
	g.posting(2)
	if _, ok := g.Left(2, seen, []wire.ID{7}); ok {
		t.Error("a loop with news on its way was believed")
	}
	if gone, ok := g.Left(2, seen+1, []wire.ID{7, 8, 9}); !ok || !slices.Equal(gone, []wire.ID{8}) {
		t.Errorf("%v are gone (%v), want 8: another loop has 7", gone, ok)
	}
	if groups := g.Append(nil); !slices.Equal(groups, []wire.ID{7}) {
		t.Errorf("%v are left, want 7", groups)
	}
	if gone, ok := g.Left(0, 0, []wire.ID{7}); !ok || !slices.Equal(gone, []wire.ID{7}) || g.Has(7) {
		t.Errorf("%v are gone (%v), want 7", gone, ok)
	}
}

// What was read before a membership ended is not told after that.
func TestNobodyIsIntroducedAfterLeaving(t *testing.T) {
	var g Groups
	joined := []shard.MembershipEffect{{Group: 7, User: 1, Role: wire.RoleMember, From: 5}}
	g.told(&shard.Effects{Index: 10, Memberships: []shard.MembershipEffect{{Group: 7, User: 1, Until: 9}}})
	if _, ok := g.Introduce(3, 9, joined); ok {
		t.Error("a membership was told that ended")
	}
	if e, ok := g.Introduce(3, 11, joined); !ok || e.Memberships[0].From != 5 {
		t.Errorf("read beyond what was told: %+v, %v", e, ok)
	}
	g.told(&shard.Effects{Index: 11})
	if e, ok := g.Introduce(3, 11, joined); !ok || e.Memberships[0].From != 0 {
		t.Errorf("all was told that was read: %+v, %v", e, ok)
	}
}

func TestUsersIsASet(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var u Users
		model := map[wire.ID]bool{}
		for range 300 {
			user := wire.ID(rapid.Uint64Range(1, 60).Draw(t, "user"))
			if rapid.IntRange(0, 2).Draw(t, "what") == 0 {
				if u.Remove(user) != model[user] {
					t.Fatal("removed what was not there, or did not remove what was")
				}
				delete(model, user)
			} else if u.Add(user) == model[user] {
				t.Fatal("added what was there, or did not add what was not")
			} else {
				model[user] = true
			}
			if u.Len() != len(model) || u.Has(user) != model[user] {
				t.Fatalf("%d users, want %d", u.Len(), len(model))
			}
		}
		for _, user := range u.Append(nil) {
			if !model[user] {
				t.Fatalf("%d is not one of them", user)
			}
			delete(model, user)
		}
		if len(model) > 0 {
			t.Fatalf("%v were left out", model)
		}
	})
}

// At the most frequent size, just after growing, a row takes what the table is made for.
func TestAttachedRowsAreSmall(t *testing.T) {
	var a Attached
	for user := range wire.ID(100_000) {
		a.Attach(1+uint32(user%3), user+1)
		if bytes := 8 * len(a.rows.places); user > 1000 && bytes > 24*a.Len() {
			t.Fatalf("%d rows take %d bytes", a.Len(), bytes)
		}
	}
	a.DropNode(1)
	a.DropNode(2)
	a.DropNode(3)
	if len(a.rows.places) > pairsMin {
		t.Fatalf("no row takes %d places", len(a.rows.places))
	}
}
