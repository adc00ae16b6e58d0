package client

import (
	"errors"
	"fmt"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"parley/wire"
)

// groupStep does one random thing with groups: half of the time it is somebody else.
func (s *sim) groupStep(i int) {
	groups := s.world.groups()
	n := s.random.IntN(12)
	switch {
	case len(groups) == 0 || n == 0 && len(groups) < 6:
		s.makeGroup(i)
	case n < 6:
		s.othersChange(groups[s.random.IntN(len(groups))], i)
	default:
		s.ownChange(groups[s.random.IntN(len(groups))].conversation.Ref(alice), i)
	}
}

// event makes the content of an event.
func event(e wire.Event) wire.Content { return wire.EventContent(wire.AppendEvent(nil, &e)) }

func (s *sim) makeGroup(i int) {
	flags := uint64(s.random.IntN(2)) * wire.GroupHistory
	e := wire.Event{Kind: wire.EventCreate, Flags: flags, Text: fmt.Sprintf("g%d", i)}
	switch s.random.IntN(4) {
	case 0:
		e.Users = []wire.ID{alice, carol}
		log := s.world.newGroupLog()
		s.log("world makes %d", log.key())
		s.world.append(log, bob, event(e), nil)
		return
	case 1:
		e.Users = []wire.ID{bob, stranger}
	default:
		e.Users = []wire.ID{bob, carol}[:s.random.IntN(3)]
	}
	s.queueContent(&simSend{ref: newGroup, content: event(e)})
}

// othersChange lets somebody else do something to a group, if they may.
func (s *sim) othersChange(log *worldLog, i int) {
	author := []wire.ID{bob, bob, carol}[s.random.IntN(3)]
	content := wire.Text(fmt.Sprintf("x%d", i))
	switch user := []wire.ID{alice, alice, bob, carol}[s.random.IntN(4)]; s.random.IntN(8) {
	case 0:
		content = event(wire.Event{Kind: wire.EventTitle, Text: fmt.Sprintf("t%d", i)})
	case 1, 2:
		content = event(wire.Event{Kind: wire.EventAdd, Users: []wire.ID{user}})
	case 3:
		content = event(wire.Event{Kind: wire.EventRemove, Users: []wire.ID{user}})
	case 4:
		content = event(wire.Event{Kind: wire.EventRole, Role: wire.Role(1 + s.random.IntN(4)), Users: []wire.ID{user}})
	}
	if s.world.refuses(log, author, content) == 0 {
		s.log("world says %d %d %q", log.key(), author, content.Bytes)
		s.world.append(log, author, content, nil)
	}
}

func (s *sim) ownChange(ref wire.Ref, i int) {
	q := &simSend{ref: ref, content: wire.Text(fmt.Sprintf("m%d", i))}
	switch s.random.IntN(8) {
	case 0, 1:
		q.content = event(wire.Event{Kind: wire.EventTitle, Text: fmt.Sprintf("t%d", i)})
	case 2:
		q.content, q.common = event(wire.Event{Kind: wire.EventAdd, Users: []wire.ID{carol}}), true
	case 3:
		q.content, q.common = event(wire.Event{Kind: wire.EventLeave}), true
	}
	s.queueContent(q)
}

// unseen reports whether the messages between two can be passed over: those of a group
// that are not this user's to see.
func (s *sim) unseen(ref wire.Ref, seen, next uint64) bool {
	log := s.world.logs[ref.Conversation(alice)]
	switch {
	case ref.Group() && s.former(): // nobody knows any more what there was to see
		return true
	case !ref.Group() || log == nil:
		return false
	}
	for sequence := seen + 1; sequence < next; sequence++ {
		if log.visible(alice, sequence) {
			return false
		}
	}
	return true
}

// consumeGap takes the news of messages that cannot be had: none of them is this user's
// to see now, unless they were refused to who was no member at that moment.
func (s *sim) consumeGap(e *GapEvent) {
	log := s.world.logs[e.Ref.Conversation(alice)]
	switch {
	case s.former():
	case !e.Ref.Group() || e.From != s.seen[e.Ref]+1 || e.To < e.From:
		s.fail("gap %+v after %d", *e, s.seen[e.Ref])
	case e.Err != nil:
		var refused *wire.Error
		if !errors.As(e.Err, &refused) || refused.Code != wire.CodeNotMember || log == nil || len(log.group.stays[alice]) == 0 || log.group.stays[alice][0].to == 0 {
			s.fail("gap %+v for a member", *e)
		}
	default:
		for sequence := e.From; log != nil && sequence <= e.To; sequence++ {
			if log.visible(alice, sequence) {
				s.fail("gap %+v, and %d is there", *e, sequence)
			}
		}
	}
	s.seen[e.Ref] = e.To
}

// logsOf are the conversations in which a send may be.
func (s *sim) logsOf(q *simSend) []*worldLog {
	if q.ref == newGroup {
		return s.world.groups()
	}
	if log := s.world.logs[q.ref.Conversation(alice)]; log != nil {
		return []*worldLog{log}
	}
	return nil
}

// checkLeft looks at a group that alice is not in.
func (s *sim) checkLeft(ref wire.Ref) {
	if v := s.core.conversations[ref]; v != nil && v.listed {
		s.fail("group %d is in the list, and alice is not in it", ref)
	}
	if _, told := s.begins[ref]; told && !s.left[ref] {
		s.fail("the program was not told that alice is not in group %d", ref)
	}
}

// checkGroup looks at one that she is in.
func (s *sim) checkGroup(ref wire.Ref, log *worldLog, state *wire.ConversationState) {
	item, err := wire.ParseGroupItem(state.Extensions)
	from := log.from(alice)
	want := wire.GroupItem{Members: item.Members, Role: log.group.roles[alice], From: from, Title: log.group.title}
	if err != nil || item != want || s.left[ref] || state.Unread != log.state(alice).Unread {
		s.fail("group %d is %+v %v, unread %d, left %v; want %+v, unread %d", ref, item, err, state.Unread, s.left[ref], want, log.state(alice).Unread)
	}
}

// checkCreations looks whether what makes groups has made them, once, and says which.
func (s *sim) checkCreations() {
	for _, q := range s.queued {
		if q.ref != newGroup || !q.done || q.err != nil || q.undone || q.lost {
			continue
		}
		log := s.world.logs[q.sent.Ref.Conversation(alice)]
		if log == nil || !sameContent(log.messages[0].Content, q.content) {
			s.fail("%q has made group %d, which is another", q.content.Bytes, q.sent.Ref)
		}
	}
}

// Members come and go while connections break and processes die: groups are made once,
// changes are made once or refused, and the program sees what is its user's to see.
func TestGroupsAreMadeAndChangedOnce(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := drawSim(t)
		if rapid.Bool().Draw(t, "evict") {
			s.world.faults.evict, s.evictions = 20, true
		}
		s.run(t, func(i int) {
			if s.random.IntN(4) == 0 {
				s.groupStep(i)
				return
			}
			s.step(i)
		})
		s.checkCreations()
	})
}

// The same when the cluster is replaced by one that has lost its end: there may be fewer
// groups, of fewer members.
func TestAClusterThatLostItsEndKeepsGroupsStraight(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := drawSim(t)
		s.run(t, func(i int) {
			switch n := s.random.IntN(200); {
			case n == 0:
				s.recover()
			case n < 50:
				s.groupStep(i)
			default:
				s.step(i)
			}
		})
		s.checkCreations()
	})
}

// What is made in one life of the process is made once, whatever the next one knows.
func TestACreationOutlivesTheProcess(t *testing.T) {
	state := OutboxState{Epoch: 5, User: alice, Device: simDevice, ClusterEpoch: 1, Counters: map[wire.Ref]uint64{newGroup: 3},
		Entries: []OutboxEntry{{Key: Key{5, newGroup, 2}, Content: event(wire.Event{Kind: wire.EventCreate, Text: "us"})}}}
	if err := state.check(); err != nil {
		t.Fatal(err)
	}
	state.Entries[0].Ref = wire.DirectRef(0)
	if err := state.check(); !errors.Is(err, ErrOutboxDamaged) {
		t.Fatalf("a send to nobody: %v", err)
	}
	changes := []OutboxChange{{Kind: OutboxAdd, Entry: OutboxEntry{Key: Key{5, newGroup, 2}, Content: event(wire.Event{Kind: wire.EventCreate})}}}
	_, again, _, err := parseRecord(appendRecord(nil, 0, changes), 0)
	if err != nil || !slices.EqualFunc(again, changes, func(a, b OutboxChange) bool {
		return a.Entry.Key == b.Entry.Key && sameContent(a.Entry.Content, b.Entry.Content)
	}) {
		t.Fatalf("%+v, %v", again, err)
	}
}
