package shard

import (
	"testing"

	"parley/raft"
	"parley/wire"
)

// Whoever has moved a cursor is told to send it again if it is lost with a leadership: it
// has no answer that could be missed.
func TestCursorsThatALeadershipLosesAreSentAgain(t *testing.T) {
	for name, lose := range map[string]func(s *Shard){
		"waiting": func(s *Shard) { s.Follow() },
		"in an entry": func(s *Shard) {
			_, handle, ok := s.Next(nil)
			if !ok {
				t.Fatal("nothing to propose")
			}
			s.Follow()
			s.Failed(handle, raft.ErrNotLeader)
		},
	} {
		r := newReplica(t, 0, 0, wire.Slots-1)
		s := r.shard
		s.Lead(1)
		c := wire.DirectConversation(1, 2)
		for position := range uint64(2) {
			for session := range uint64(2) {
				if err := s.Cursor(&Cursor{Session: 7 + session, Node: uint32(session), Conversation: c, User: wire.ID(1 + session), Position: 1 + position}); err != nil {
					t.Fatal(err)
				}
			}
		}
		lose(s)
		told := make(map[Origin]int)
		for _, e := range r.sink.take() {
			for _, x := range e.Refused {
				if x.Code.Class() != wire.ClassRetry {
					t.Errorf("%s: refused with %v", name, x.Code)
				}
				told[x.Origin]++
			}
		}
		if len(told) != 2 || told[Origin{Session: 7}] != 1 || told[Origin{Session: 8, Node: 1}] != 1 {
			t.Errorf("%s: told %v", name, told)
		}
	}
}
