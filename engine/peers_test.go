package engine

import (
	"testing"

	"parley/wire"
)

// TestLookUpBeyondTheMemoryOfUsers has a look-up find more users than a loop remembers: each
// of them exists all the same, and who was not found does not.
func TestLookUpBeyondTheMemoryOfUsers(t *testing.T) {
	p := newPeers()
	for i := range PeersKnownMax - 2 {
		p.learn(wire.ID(1<<40 + i))
	}
	item := peerItem{}
	h := heldSend{}
	for i := range 5 {
		id := wire.ID(100 + i)
		item.asked = append(item.asked, id)
		h.users = append(h.users, id)
		if i != 3 {
			item.exist = append(item.exist, id)
			p.learn(id)
		}
	}
	if p.known(100) {
		t.Fatal("the memory is larger than the test takes it to be")
	}
	p.heldBytes = h.bytes()
	if p.resolve(&h, &item) || len(h.users) != 1 || h.users[0] != 103 {
		t.Errorf("unknown are %v, want 103 alone", h.users)
	}
	if p.heldBytes != h.bytes() {
		t.Errorf("%d bytes are counted as held, want %d", p.heldBytes, h.bytes())
	}
	h.users = append(h.users, 7)
	if !p.resolve(&h, &item) || len(h.users) != 2 {
		t.Errorf("one who was not asked for is not looked up: %v", h.users)
	}
}
