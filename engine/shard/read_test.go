package shard

import (
	"context"
	"errors"
	"testing"

	"parley/storage"
	"parley/wire"
)

// readTest is a shard with a conversation of user 1 with each of some peers.
func readTest(t *testing.T, peers int) *replica {
	r := newReplica(t, 0, 0, wire.Slots-1)
	r.lead()
	for i := range peers {
		r.clock++
		r.send(&Send{Conversation: wire.DirectConversation(1, wire.ID(i+2)), Author: 1, Device: 1, Epoch: 1, Counter: 1, PeerKnown: true, Content: wire.Text("x")})
		r.run()
	}
	return r
}

// A row of the user index from before times were kept gets the conversation's.
func TestChangedKnowsTheTimeOfOldRows(t *testing.T) {
	r := readTest(t, 3)
	c := wire.DirectConversation(1, 3)
	err := r.shard.config.Store.Update(func(w *storage.Writer) error {
		w.PutUserIndex(&storage.UserIndex{User: 1, Conversation: c, Changed: 2})
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	var times []wire.Time
	if _, err := r.shard.Changed(t.Context(), 1, 0, func(c Changed) { times = append(times, c.Time) }); err != nil {
		t.Fatal(err)
	}
	if len(times) != 3 || times[0] != 1 || times[1] != 2 || times[2] != 3 {
		t.Fatalf("times %v", times)
	}
}

// A read whose caller has given up ends, however much there is to read.
func TestReadsEndWithTheirContext(t *testing.T) {
	r := readTest(t, rowsChecked)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := r.shard.Changed(ctx, 1, 0, func(Changed) {}); !errors.Is(err, context.Canceled) {
		t.Errorf("changed: %v", err)
	}
	if err := r.shard.States(ctx, 1, []wire.Conversation{wire.DirectConversation(1, 2)}, 0, func(wire.ConversationState) {}); !errors.Is(err, context.Canceled) {
		t.Errorf("states: %v", err)
	}
}

// States shows members what there is, previews for the first ones, and says when a
// conversation is another shard's.
func TestStatesOfSeveralConversations(t *testing.T) {
	r := readTest(t, 3)
	list := []wire.Conversation{wire.DirectConversation(1, 4), wire.DirectConversation(7, 8), wire.DirectConversation(1, 2), wire.DirectConversation(1, 9)}
	var got []wire.ConversationState
	err := r.shard.States(t.Context(), 1, list, 1, func(v wire.ConversationState) { got = append(got, v) })
	if err != nil || len(got) != 2 {
		t.Fatalf("%+v, %v", got, err)
	}
	if got[0].Ref != wire.DirectRef(4) || got[0].Preview == nil || got[1].Ref != wire.DirectRef(2) || got[1].Preview != nil || got[1].Head != 1 {
		t.Fatalf("%+v", got)
	}
	other := newReplica(t, 1, 0, 0)
	if err := other.shard.States(t.Context(), 1, list, 0, nil); !errors.Is(err, ErrWrongShard) {
		t.Fatalf("another shard's: %v", err)
	}
}
