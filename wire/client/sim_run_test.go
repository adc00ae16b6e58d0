package client

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"parley/wire"
)

// step does one random thing. weights of the rare ones are of a hundred.
func (s *sim) step(i int) {
	switch n := s.random.IntN(100); {
	case n < 12:
		peers := []wire.ID{bob, bob, bob, carol, stranger}
		s.queue(wire.DirectRef(peers[s.random.IntN(len(peers))]), fmt.Sprintf("m%d", i))
	case n < 22:
		s.world.say([]wire.ID{bob, carol}[n%2], alice, fmt.Sprintf("w%d", i))
	case n < 26:
		s.moveOther()
	case n < 40:
		s.output()
	case n < 54:
		if s.peer != nil && len(s.up) > 0 {
			s.deliverUp()
		}
	case n < 64:
		s.world.apply()
	case n < 78:
		if s.peer != nil {
			s.deliverDown()
		}
	case n < 84:
		s.consume()
	case n < 88:
		if s.writing != nil {
			s.commit()
			s.core.wrote(s.now, nil)
			s.perform()
		}
	case n < 92:
		s.connect()
	case n < 95:
		s.wait()
	case n < 98:
		if s.peer != nil && s.random.IntN(s.calm) == 0 {
			s.log("cut")
			s.disconnect(n == 96)
			s.core.closed(s.now, 0, "", errors.New("cut"))
			s.perform()
		}
	case n < 99:
		s.ownRead()
	case s.random.IntN(4) == 0:
		s.world.users[stranger] = [...]string{"", "stranger"}[s.random.IntN(2)]
	case s.random.IntN(s.calm) == 0:
		s.crash()
	}
}

func (s *sim) moveOther() {
	other := []wire.ID{bob, carol}[s.random.IntN(2)]
	log := s.world.log(wire.DirectConversation(alice, other))
	user := []wire.ID{other, other, alice}[s.random.IntN(3)] // or another device's
	if log.head() > 0 {
		position := 1 + s.random.Uint64N(log.head())
		s.log("world moves %d %d", log.key(), user)
		s.world.move(log, user, wire.CursorKind(s.random.IntN(2)), position, nil)
	}
}

func (s *sim) ownRead() {
	for _, ref := range slices.Sorted(maps.Keys(s.seen)) {
		v := s.core.conversations[ref]
		if s.random.IntN(2) == 0 || v == nil || v.left || v.life != s.lives[ref] || s.core.clusterEpoch != s.world.clusterEpoch {
			continue
		}
		seen := s.seen[ref]
		if err := s.core.moveCursor(ref, wire.Read, seen); err != nil {
			s.fail("read %d of %d: %v", seen, ref, err)
		}
	}
	s.perform()
}

// simLimits are small, so that few steps reach them.
var simLimits = coreLimits{conversations: 100, outbox: 30, epoch: 2, events: 8, fetch: 3, stash: 2}

// run takes random steps, heals and checks.
func (s *sim) run(t *rapid.T, step func(i int)) {
	for i := range rapid.IntRange(100, 1000).Draw(t, "steps") {
		step(i)
	}
	s.log("heal")
	s.heal()
	s.check()
}

func drawSim(t *rapid.T) *sim {
	limits := rapid.SampledFrom([]coreLimits{defaultLimits, simLimits}).Draw(t, "limits")
	s := newSim(t, rapid.Uint64().Draw(t, "seed"), limits)
	s.calm = rapid.SampledFrom([]int{1, 4, 20}).Draw(t, "calm")
	s.world.faults = faults{
		repeatPush:  rapid.SampledFrom([]int{0, 200}).Draw(t, "repeat"),
		headForPush: rapid.SampledFrom([]int{0, 200}).Draw(t, "head"),
		refuseSend:  rapid.SampledFrom([]int{0, 200}).Draw(t, "refuse"),
		timeoutSend: rapid.SampledFrom([]int{0, 100}).Draw(t, "timeout"),
		refuseRead:  rapid.SampledFrom([]int{0, 200}).Draw(t, "refuse read"),
	}
	return s
}

// Whatever breaks, in whatever order: each message is accepted once, in order, and has
// the outcome that the server gave it; the program sees each message once, in order,
// without a gap; and cursors and receipts end where they belong.
func TestNothingIsLostDoubledOrReordered(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := drawSim(t)
		s.run(t, s.step)
	})
}

// The same when conversations forget outboxes: outcomes may be unknown, but a message is
// still accepted at most once and never called failed.
func TestForgottenOutboxesLoseNothingAndDoubleNothing(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := drawSim(t)
		s.world.faults.evict, s.evictions = 20, true
		s.run(t, s.step)
	})
}

// The same when tickets are refused and the server sends clients away.
func TestRefusedTicketsAndGoAwayLoseNothing(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := drawSim(t)
		s.run(t, func(i int) {
			switch n := s.random.IntN(100); {
			case n < 2:
				s.world.badTickets = !s.world.badTickets
			case n < 4 && s.peer != nil && s.peer.greeted && s.peer.closing == 0:
				s.log("go away")
				s.peer.out = wire.AppendGoAway(s.peer.out, &wire.GoAway{Code: wire.CodeGoingAway, SpreadMS: uint64(s.random.IntN(3)) * 1000})
			case n < 5 && s.peer != nil && s.peer.greeted && s.peer.closing == 0:
				code := []wire.Code{wire.CodeSlow, wire.CodeGoingAway, wire.CodeOverloaded, wire.CodeRateLimited, wire.CodeIdleTimeout}[s.random.IntN(5)]
				s.log("close %v", code)
				s.peer.refuse(code)
			default:
				s.step(i)
			}
		})
	})
}

// The same when the cluster is replaced by one that has lost its end. Outcomes that the
// former one gave are void, but nothing is accepted twice.
func TestAClusterThatLostItsEndDoublesNothing(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := drawSim(t)
		s.run(t, func(i int) {
			if s.random.IntN(200) == 0 {
				s.recover()
				return
			}
			s.step(i)
		})
	})
}
