//go:build !race

package auth

import (
	"testing"
	"time"
)

// The race detector makes sync.Pool forget at random, so there is nothing to count under it.
func TestTicketsDoNotAllocate(t *testing.T) {
	k := newKeys(t)
	ticket := k.AppendTicket(nil, Identity{User: user, Device: device}, at(time.Hour))
	if n := testing.AllocsPerRun(1000, func() {
		if _, err := k.VerifyTicket(ticket, at(0)); err != nil {
			t.Fatal(err)
		}
	}); n != 0 {
		t.Errorf("VerifyTicket allocates %v times", n)
	}
	room := make([]byte, 0, TicketBytes)
	if n := testing.AllocsPerRun(1000, func() {
		room = k.AppendTicket(room[:0], Identity{User: user, Device: device}, at(time.Hour))
	}); n != 0 {
		t.Errorf("AppendTicket allocates %v times", n)
	}
}
