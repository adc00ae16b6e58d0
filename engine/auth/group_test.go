package auth

import (
	"testing"

	"parley/wire"
)

// A creation that is sent again is the same group, any other one another group.
func TestGroupIDFollowsFromTheCreation(t *testing.T) {
	k := newKeys(t)
	seen := map[wire.ID]bool{}
	for user := wire.ID(1); user <= 3; user++ {
		for device := wire.ID(1); device <= 3; device++ {
			for epoch := range uint64(3) {
				for counter := range uint64(3) {
					id := k.GroupID(user, device, epoch, counter)
					if again := k.GroupID(user, device, epoch, counter); again != id || !id.Valid() {
						t.Fatalf("%x, then %x", id, again)
					}
					if seen[id] {
						t.Fatalf("%x is another group too", id)
					}
					seen[id] = true
				}
			}
		}
	}
	if other := newKeys(t); seen[other.GroupID(1, 1, 0, 0)] {
		t.Error("another cluster makes the same groups")
	}
}
