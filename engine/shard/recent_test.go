package shard

import (
	"testing"

	"parley/wire"
)

func TestRecentChangesAreNeverCalledUnchanged(t *testing.T) {
	c := newRecentChanges()
	c.forget(100)
	if c.unchanged(7, 99) {
		t.Error("what is not noted is called unchanged")
	}
	if !c.unchanged(7, 100) {
		t.Error("a user of whom nothing was written has changed")
	}
	for user := wire.ID(1); user < 2000; user++ {
		c.note(user, 100+uint64(user))
	}
	for user := wire.ID(1); user < 2000; user++ {
		if c.unchanged(user, 99+uint64(user)) {
			t.Fatalf("the change of user %d is overlooked", user)
		}
	}
	if !c.unchanged(1999, 2099) {
		t.Error("what was seen counts as a change")
	}
	c.forget(5000) // another state was installed
	if c.unchanged(7, 4999) || !c.unchanged(7, 5000) {
		t.Error("the table is of another state")
	}
}
