package delivery

import (
	"slices"
	"testing"

	"parley/engine/shard"
	"parley/wire"
)

// Ada (1) has sessions 0x101 and 0x202, Bob (2) has 0x103; the loop is the handle's
// second digit: the sender's session gets SENT and no push, everybody else the push.
func TestPlanSendsEachEffectToWhomItConcerns(t *testing.T) {
	d := NewDirectory()
	d.Put(1, 10, 0x101)
	d.Put(1, 11, 0x202)
	d.Put(2, 20, 0x103)
	e := &shard.Effects{
		Sent:     []shard.SentEffect{{Origin: shard.Origin{Session: 0x101, Correlation: 5}}, {Origin: shard.Origin{Session: 0x103, Correlation: 5, Node: 7}}},
		Refused:  []shard.RefusedEffect{{Origin: shard.Origin{Session: 0x103}}, {Origin: shard.Origin{Session: 0xF01}}, {Origin: shard.Origin{Session: 0x101, Node: 7}}},
		Messages: []shard.MessageEffect{{Conversation: wire.DirectConversation(1, 2), Author: 1, From: 0x101}, {Conversation: wire.DirectConversation(1, 1), Author: 1, From: 0x202}, {Conversation: wire.DirectConversation(1, 2), Author: 2, From: 0x103, FromNode: 7}},
		Receipts: []shard.ReceiptEffect{{Conversation: wire.DirectConversation(1, 2), User: 2, From: 0x103}, {Conversation: wire.DirectConversation(2, 3), User: 3}},
		Own:      []shard.OwnEffect{{Conversation: wire.DirectConversation(1, 2), User: 1, From: 0x101}, {Conversation: wire.DirectConversation(1, 2), User: 2, From: 0x103, FromNode: 7}},
	}
	batches := Plan(e, d, &Groups{}, 3, func(h uint64) int { return int(h >> 8) })
	want := map[int][]Delivery{
		1: {
			{Handle: 0x101, Kind: Sent},
			{Handle: 0x103, Kind: Refused},
			{Handle: 0x103, Kind: Message},
			{Handle: 0x101, Kind: Message, Index: 1, Own: true},
			{Handle: 0x101, Kind: Message, Index: 2},
			{Handle: 0x103, Kind: Message, Index: 2, Own: true},
			{Handle: 0x101, Kind: Receipt},
			{Handle: 0x103, Kind: Receipt, Index: 1},
			{Handle: 0x103, Kind: Own, Index: 1},
		},
		2: {{Handle: 0x202, Kind: Message, Own: true}, {Handle: 0x202, Kind: Message, Index: 2}, {Handle: 0x202, Kind: Receipt}, {Handle: 0x202, Kind: Own}},
	}
	for loop, b := range batches {
		var got []Delivery
		if b != nil {
			got = b.Deliveries
		}
		byIndex := func(a, b Delivery) int {
			if a.Kind != b.Kind {
				return int(a.Kind) - int(b.Kind)
			}
			if a.Index != b.Index {
				return int(a.Index) - int(b.Index)
			}
			return int(a.Handle) - int(b.Handle)
		}
		slices.SortStableFunc(got, byIndex)
		if !slices.Equal(got, want[loop]) {
			t.Errorf("loop %d:\n%+v\nwant\n%+v", loop, got, want[loop])
		}
	}
}

// Memberships go to the sessions of their users, before anything else that a batch has for
// them; a group's message once to each loop that has members, also to one where they come
// in the same batch; a receipt in a group to nobody but the user's own other sessions.
func TestPlanOfGroups(t *testing.T) {
	d := NewDirectory()
	d.Put(1, 10, 0x101)
	d.Put(1, 11, 0x202)
	d.Put(2, 20, 0x103)
	d.Put(3, 30, 0x304)
	loopOf := func(h uint64) int { return int(h >> 8) }
	var g Groups
	group := func(id wire.ID) wire.Conversation { return wire.Conversation{Kind: wire.Group, A: id} }
	e := &shard.Effects{
		Messages: []shard.MessageEffect{{Conversation: group(7), Author: 1, Sequence: 5}, {Conversation: group(8), Author: 2, Sequence: 5}},
		Memberships: []shard.MembershipEffect{{Group: 7, User: 1, Role: wire.RoleMember, From: 5}, {Group: 7, User: 4, Role: wire.RoleMember, From: 6},
			{Group: 7, User: 2, Until: 5}},
		Receipts: []shard.ReceiptEffect{{Conversation: group(7), User: 1, From: 0x101}},
	}
	check := func(e *shard.Effects, want map[int][]Delivery) {
		t.Helper()
		for loop, b := range Plan(e, d, &g, 4, loopOf) {
			var got []Delivery
			if b != nil {
				got = b.Deliveries
			}
			if !slices.Equal(got, want[loop]) {
				t.Errorf("loop %d:\n%+v\nwant\n%+v", loop, got, want[loop])
			}
		}
	}
	check(e, map[int][]Delivery{
		1: {{Handle: 0x101, Kind: Membership}, {Handle: 0x103, Index: 2, Kind: Membership}, {Kind: GroupMessage}},
		2: {{Handle: 0x202, Kind: Membership}, {Kind: GroupMessage}, {Handle: 0x202, Kind: Receipt, Own: true}},
	})
	if unwanted := g.Unwanted(); !slices.Equal(unwanted, []wire.ID{7, 8}) {
		t.Errorf("%v may be unwanted, want 7, of which one has gone, and 8", unwanted)
	}
	check(&shard.Effects{Messages: e.Messages}, map[int][]Delivery{1: {{Kind: GroupMessage}}, 2: {{Kind: GroupMessage}}})
	if _, ok := g.Left(2, 1, []wire.ID{7}); !ok {
		t.Error("loop 2 has seen everything")
	}
	check(&shard.Effects{Messages: e.Messages}, map[int][]Delivery{1: {{Kind: GroupMessage}}})
}
