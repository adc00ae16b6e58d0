package delivery

import (
	"slices"
	"testing"

	"pgregory.net/rapid"

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
