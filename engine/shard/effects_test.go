package shard

import (
	"context"
	"reflect"
	"testing"

	"parley/raft"
	"parley/wire"
)

// Two replicas that apply the same log in different batches tell the same effects after
// any index, so that a session can change from one to the other in the middle of a batch.
func TestEffectsAreCutAtTheIndexOfAnEntry(t *testing.T) {
	leader := newReplica(t, 1, 0, wire.Slots-1)
	leader.lead()
	var entries []raft.Entry
	for counter := uint64(1); counter <= 5; counter++ {
		send := firstMessage(wire.DirectConversation(1, 2), 1)
		send.Counter, send.Node = counter, 7
		leader.send(send)
		if counter == 3 {
			bad := firstMessage(wire.DirectConversation(1, 2), 3)
			bad.Device = 9
			leader.send(bad)
			if err := leader.shard.Cursor(&Cursor{Session: 5, Node: 7, Conversation: wire.DirectConversation(1, 2), User: 2, Kind: wire.Read, Position: 2}); err != nil {
				t.Fatal(err)
			}
		}
		packed, _ := leader.pack()
		entries = append(entries, packed...)
	}
	leader.apply(entries...)
	told := leader.sink.take()
	if len(told) != 1 || told[0].Previous != 0 || told[0].Index != 5 || len(told[0].Marks) != 5 {
		t.Fatalf("one batch of 5 entries told %+v", told)
	}
	follower := newReplica(t, 1, 0, wire.Slots-1)
	follower.shard.machine.tell = true
	for i := range entries {
		follower.apply(entries[i])
	}
	each := follower.sink.take()
	for after := uint64(0); after <= 6; after++ {
		for last := max(after, 1); last <= 6; last++ {
			part := told[0].Between(after, last)
			var messages []MessageEffect
			var receipts []ReceiptEffect
			for _, e := range each {
				if e.Index > after && e.Index <= last {
					messages, receipts = append(messages, e.Messages...), append(receipts, e.Receipts...)
				}
			}
			for _, e := range part.Messages {
				if e.From != 1 || e.FromNode != 7 {
					t.Fatalf("a message of session 1 of node 7 says it is of %d of %d", e.From, e.FromNode)
				}
			}
			if !sameMessages(part.Messages, messages) || len(part.Receipts) != len(receipts) || len(part.Sent) != len(messages) {
				t.Fatalf("after %d to %d: %+v, want %+v and %+v", after, last, part, messages, receipts)
			}
			if again := part.Between(after, last); !reflect.DeepEqual(again, part) {
				t.Fatalf("after %d to %d, cut again: %+v, want %+v", after, last, again, part)
			}
			if narrow := part.Between(2, 4); !sameMessages(narrow.Messages, told[0].Between(max(after, 2), min(last, 4)).Messages) {
				t.Fatalf("after %d to %d, then 2 to 4: %+v", after, last, narrow)
			}
		}
	}
}

func sameMessages(a, b []MessageEffect) bool {
	if len(a) != len(b) {
		return false
	}
	for i := range a {
		if a[i].Sequence != b[i].Sequence || string(a[i].Content.Bytes) != string(b[i].Content.Bytes) {
			return false
		}
	}
	return true
}

// A replica that must tell always tells batches without effects too, one after the other
// without a gap, although it never led.
func TestTellAlwaysTellsEveryBatch(t *testing.T) {
	leader := newReplica(t, 1, 0, wire.Slots-1)
	leader.lead()
	leader.send(firstMessage(wire.DirectConversation(1, 2), 1))
	leader.run()
	leader.send(firstMessage(wire.DirectConversation(1, 2), 1)) // a duplicate: an answer, but nothing for others
	leader.run()

	follower := newReplica(t, 1, 0, wire.Slots-1)
	follower.shard.config.TellAlways, follower.shard.machine.tell = true, true
	var previous uint64
	for _, entry := range leader.log {
		follower.apply(entry)
		told := follower.sink.take()
		if len(told) != 1 || told[0].Previous != previous || told[0].Index != entry.Index {
			t.Fatalf("entry %d told %+v after %d", entry.Index, told, previous)
		}
		previous = entry.Index
	}
}

// A snapshot is told at once, as a gap: what it stands for was never told here, and no
// batch may follow that shows it.
func TestInstallTellsTheGap(t *testing.T) {
	leader := newReplica(t, 1, 0, wire.Slots-1)
	leader.lead()
	leader.send(firstMessage(wire.DirectConversation(1, 2), 1))
	leader.run()
	leader.flush()
	export, err := leader.shard.Export(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	follower := newReplica(t, 1, 0, wire.Slots-1)
	follower.shard.config.TellAlways, follower.shard.machine.tell = true, true
	if err := follower.shard.Install(export.Record, export.Reader); err != nil {
		t.Fatal(err)
	}
	if err := export.Reader.Close(); err != nil {
		t.Error(err)
	}
	told := follower.sink.take()
	if len(told) != 1 || told[0].Previous != 1 || told[0].Index != 1 || !told[0].Empty() {
		t.Fatalf("told %+v, want nothing from 1 to 1", told)
	}
}
