package storage

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"

	"parley/wire"
)

// soundShard writes a small shard without a fault, which each case below spoils.
func soundShard(w *Writer) {
	for i := uint64(1); i <= 3; i++ {
		w.AppendMessage(pair, i-1, &Message{Sequence: i, Revision: i, Time: wire.Time(i), Author: pair.A})
	}
	w.PutConversation(pair, soundConversation())
	w.PutMember(pair, pair.B, &Member{Delivered: Cursor{Position: 3, Steps: []Step{{1, 5}, {3, 6}}}, Read: Cursor{Position: 2}})
	for _, id := range []wire.ID{pair.A, pair.B} {
		w.PutUserIndex(&UserIndex{User: id, Conversation: pair, Changed: 1})
	}
	name := "ada"
	id := wire.MakeID(nameSlot(name), 9)
	w.PutUser(&User{ID: id, Name: name})
	w.PutName(name, id)
	w.PutList(&List{User: id, Conversation: wire.DirectConversation(id, 77), Changed: 1})
	soundGroup(w)
	w.PutOutgoing(&Outgoing{Number: 1, Target: 2, Command: []byte("x")})
	w.PutIncoming(3, 4)
	w.SetApplied(1, 1)
}

// soundGroup is a group of two members, somebody banned and somebody who has left.
func soundGroup(w *Writer) {
	for i := uint64(1); i <= 2; i++ {
		w.AppendMessage(group, 0, &Message{Sequence: i, Revision: i, Time: wire.Time(i), Author: pair.A})
	}
	w.PutConversation(group, &Conversation{Head: 2, Revision: 2, Time: 2, Changed: 1})
	for id, m := range map[wire.ID]Membership{pair.A: {Role: wire.RoleOwner, From: 1, Joined: 1},
		pair.B: {Role: wire.RoleMember, From: 2, Joined: 2}, 99: {Banned: true}} {
		w.PutMember(group, id, &Member{Membership: m})
		if !m.Banned {
			w.PutUserIndex(&UserIndex{User: id, Conversation: group, Changed: 1})
		}
	}
	w.PutUserIndex(&UserIndex{User: 98, Conversation: group, Changed: 1, Gone: true})
	w.PutGroup(group, &Group{Version: 1, Members: 2, Owner: pair.A, Creation: Creation{User: pair.A, Device: 1}})
	w.PutOutboxes(group, pair.A, &Memory{Outboxes: []Outbox{{Author: pair.A, Device: 1, Epoch: 1, Counter: 2, Sequence: 2}}})
}

func soundConversation() *Conversation {
	return &Conversation{Head: 3, Revision: 3, Time: 3, Changed: 1, SentA: 3,
		Memory: Memory{Outboxes: []Outbox{{Author: pair.A, Device: 1, Epoch: 1, Counter: 3, Sequence: 3}}}}
}

// conversationWith is a sound head record with one change.
func conversationWith(change func(v *Conversation)) func(w *Writer) {
	return func(w *Writer) {
		v := soundConversation()
		change(v)
		w.PutConversation(pair, v)
	}
}

// TestFsckFindsWhatDoesNotAgree spoils one thing at a time through the writer, so that every
// checksum is right and only the meaning is wrong.
func TestFsckFindsWhatDoesNotAgree(t *testing.T) {
	other := wire.DirectConversation(pair.A, 99)
	for want, spoil := range map[string]func(w *Writer){
		"head is 4, messages end at 3": conversationWith(func(v *Conversation) { v.Head, v.Revision = 4, 4 }),
		"head is 2, messages end at 3": conversationWith(func(v *Conversation) {
			v.Head, v.SentA, v.Outboxes = 2, 2, nil
		}),
		"says that A sent 1, it was 3": conversationWith(func(v *Conversation) { v.SentA = 1 }),
		"behind the last message's":    conversationWith(func(v *Conversation) { v.Time = 1 }),
		"head 3, revision 2":           conversationWith(func(v *Conversation) { v.Revision = 2 }),
		"changed at log index 9":       conversationWith(func(v *Conversation) { v.Changed = 9 }),
		"counter 0":                    conversationWith(func(v *Conversation) { v.Outboxes[0].Counter = 0 }),
		"sequence 9 of 3":              conversationWith(func(v *Conversation) { v.Outboxes[0].Sequence = 9 }),
		"who is no member":             conversationWith(func(v *Conversation) { v.Outboxes[0].Author = 88 }),
		"claims it":                    conversationWith(func(v *Conversation) { v.Outboxes[0].Author = pair.B }),
		"are one":                      conversationWith(func(v *Conversation) { v.Outboxes = append(v.Outboxes, v.Outboxes[0]) }),
		"gap or overlap": func(w *Writer) {
			w.AppendMessage(other, 0, &Message{Sequence: 2, Revision: 2, Author: pair.A})
			w.PutConversation(other, &Conversation{Head: 2, Revision: 2, SentA: 1})
		},
		"there is no such conversation": func(w *Writer) {
			w.PutMember(other, pair.A, &Member{})
		},
		"no member": func(w *Writer) {
			w.PutMember(pair, 1234, &Member{})
		},
		"cursor at 4 of 3": func(w *Writer) {
			w.PutMember(pair, pair.A, &Member{Read: Cursor{Position: 4}})
		},
		"go backward": func(w *Writer) {
			w.PutMember(pair, pair.A, &Member{Read: Cursor{Position: 3, Steps: []Step{{3, 9}, {2, 10}}}})
		},
		"another shard's or not this user's": func(w *Writer) {
			w.PutUserIndex(&UserIndex{User: 1234, Conversation: pair})
		},
		"such conversation": func(w *Writer) {
			w.PutUserIndex(&UserIndex{User: pair.A, Conversation: other})
		},
		"there is no such user": func(w *Writer) {
			w.PutList(&List{User: pair.A, Conversation: pair})
		},
		"not this user's": func(w *Writer) {
			w.PutList(&List{User: wire.MakeID(nameSlot("ada"), 9), Conversation: pair})
		},
		"is not there or has another name": func(w *Writer) {
			w.PutName("bob", wire.MakeID(nameSlot("bob"), 3))
		},
		"does not lead to it": func(w *Writer) {
			w.PutUser(&User{ID: wire.MakeID(50, 3), Name: "cyd"})
		},
		"has a role in a direct conversation": func(w *Writer) {
			w.PutMember(pair, pair.A, &Member{Membership: Membership{Role: wire.RoleMember}})
		},
		"own flags 16, muted until 0": func(w *Writer) { w.PutMember(pair, pair.A, &Member{Own: Own{Flags: 16, Version: 1}}) },
		"own flags 2, muted until 7":  func(w *Writer) { w.PutMember(pair, pair.A, &Member{Own: Own{Flags: 2, Version: 1, MutedUntil: 7}}) },
		"has no role in a group":      func(w *Writer) { w.PutMember(group, pair.A, &Member{}) },
		"sees a group from 3, joined at 1 of 2": func(w *Writer) {
			w.PutMember(group, pair.B, &Member{Membership: Membership{Role: wire.RoleMember, From: 3, Joined: 1}})
		},
		"the user index does not have the group": func(w *Writer) {
			w.PutMember(group, 1234, &Member{Membership: Membership{Role: wire.RoleMember, From: 1, Joined: 1}})
		},
		"gone is false, the role is 0": func(w *Writer) { w.DeleteMember(group, pair.B) },
		"gone is true, the role is 2": func(w *Writer) {
			w.PutUserIndex(&UserIndex{User: pair.B, Conversation: group, Gone: true})
		},
		"says that it has 2 members of which 0 is the owner": func(w *Writer) {
			w.PutGroup(group, &Group{Version: 1, Members: 2, Creation: Creation{User: 1, Device: 1}})
		},
		"version 5 at revision 2": func(w *Writer) {
			w.PutGroup(group, &Group{Version: 5, Members: 2, Owner: pair.A, Creation: Creation{User: 1, Device: 1}})
		},
		"is a group without its record": func(w *Writer) {
			c := wire.Conversation{Kind: wire.Group, A: 77}
			w.AppendMessage(c, 0, &Message{Sequence: 1, Revision: 1, Author: pair.A})
			w.PutConversation(c, &Conversation{Head: 1, Revision: 1})
		},
		"a group has outboxes": func(w *Writer) {
			w.PutConversation(group, &Conversation{Head: 2, Revision: 2, Memory: Memory{Evicted: []uint32{1}}})
		},
		"sequence 5 of 2": func(w *Writer) {
			w.PutOutboxes(group, pair.A, &Memory{Outboxes: []Outbox{{Device: 1, Counter: 1, Sequence: 5}}})
		},
		"configuration of index 7": func(w *Writer) { w.SetConfiguration(7, []byte("c")) },
	} {
		t.Run(want, func(t *testing.T) {
			fs := vfs.NewMem()
			s := openTest(t, fs, testPath, 0)
			err := openShard(t, s).Update(func(w *Writer) error {
				soundShard(w)
				spoil(w)
				return nil
			})
			if err != nil {
				t.Fatal(err)
			}
			closeTest(t, s)
			var found []string
			sum, err := Fsck(t.Context(), testPath, fs, func(f Finding) { found = append(found, f.String()) })
			if err != nil || sum.Findings == 0 || !strings.Contains(strings.Join(found, "\n"), want) {
				t.Errorf("found %q, %v", found, err)
			}
		})
	}
}

func TestFsckCountsASoundStore(t *testing.T) {
	fs := vfs.NewMem()
	s := openTest(t, fs, testPath, 0)
	if err := openShard(t, s).Update(func(w *Writer) error { soundShard(w); return nil }); err != nil {
		t.Fatal(err)
	}
	closeTest(t, s)
	before, err := fs.List(testPath)
	if err != nil {
		t.Fatal(err)
	}
	got := fsckTest(t, fs, testPath)
	got.Tables, got.TableBytes = 0, 0
	want := Summary{Shards: 1, UserIndex: 5, Outgoing: 1, Incoming: 1, Users: 1, Names: 1, Lists: 1,
		Conversations: 2, Members: 4, Groups: 1, Outboxes: 1, Chunks: 2, Messages: 5}
	if got != want {
		t.Errorf("%+v, want %+v", got, want)
	}
	if after, err := fs.List(testPath); err != nil || len(after) != len(before) {
		t.Errorf("the check changed the folder: %v became %v", before, after)
	}
}

// TestFsckFindsStrangeRecords writes what no writer would, straight into Pebble.
func TestFsckFindsStrangeRecords(t *testing.T) {
	for want, record := range map[string][2][]byte{
		"unknown kind":                      {appendPrefix(nil, 7, 0x77), {1}},
		"belongs to no shard":               {appendUserKey(nil, wire.MakeID(3000, 1)), appendUser(nil, &User{Name: "x"})},
		"is not at its shard's first slot":  {appendIncomingKey(nil, 9, 1), appendIncoming(nil, 1)},
		"begins inside shard 1":             {appendShardKey(nil, 100), appendShardRecord(nil, &shardRecord{ID: 2, Last: 4000})},
		"encoding 9":                        {appendUserKey(nil, wire.MakeID(5, 1)), {9}},
		"ends early":                        {appendUserKey(nil, wire.MakeID(5, 1)), {1, 1}},
		"says that it begins at sequence 1": {appendSequence(appendChunkPrefix(nil, pair.Slot(), pair), 9), appendChunk(nil, pair, 0, []Message{{Sequence: 1, Revision: 1, Author: pair.A}})},
		"says that A sent 9 before": {appendSequence(appendChunkPrefix(nil, pair.Slot(), pair), 1),
			appendChunk(nil, pair, 9, []Message{{Sequence: 1, Revision: 1, Author: pair.A}})},
	} {
		t.Run(want, func(t *testing.T) {
			fs := vfs.NewMem()
			s := openTest(t, fs, testPath, 0)
			last := wire.Slot(2999)
			if pair.Slot() > last {
				t.Fatalf("the conversation is at slot %d", pair.Slot())
			}
			shard, err := s.Shard(1, 0, last)
			if err != nil {
				t.Fatal(err)
			}
			err = shard.Update(func(w *Writer) error {
				w.PutConversation(pair, &Conversation{Head: 1, Revision: 1, SentA: 1})
				w.SetApplied(1, 1)
				return nil
			})
			if err != nil {
				t.Fatal(err)
			}
			if err := s.Flush(t.Context()); err != nil {
				t.Fatal(err)
			}
			if err := errors.Join(s.db.Set(record[0], record[1], pebble.NoSync), s.db.Flush()); err != nil {
				t.Fatal(err)
			}
			closeTest(t, s)
			var found []string
			if _, err := Fsck(t.Context(), testPath, fs, func(f Finding) { found = append(found, f.String()) }); err != nil {
				t.Fatal(err)
			}
			if !strings.Contains(strings.Join(found, "\n"), want) {
				t.Errorf("found %q", found)
			}
		})
	}
}

func TestFsckOfNothing(t *testing.T) {
	fs := vfs.NewMem()
	report := func(f Finding) { t.Error(f) }
	if _, err := Fsck(t.Context(), testPath, fs, report); !errors.Is(err, ErrNoDirectory) {
		t.Errorf("%v, want ErrNoDirectory", err)
	}
	if err := fs.MkdirAll(testPath, 0o700); err != nil {
		t.Fatal(err)
	}
	if _, err := Fsck(t.Context(), testPath, fs, report); !errors.Is(err, ErrNoDirectory) {
		t.Errorf("%v, want ErrNoDirectory", err)
	}
	s := openTest(t, fs, testPath, 0)
	closeTest(t, s)
	if sum, err := Fsck(t.Context(), testPath, fs, report); err != nil || sum != (Summary{}) {
		t.Errorf("a fresh store: %+v, %v", sum, err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	s = openTest(t, fs, testPath, 0)
	if err := openShard(t, s).Update(setApplied(1)); err != nil {
		t.Fatal(err)
	}
	closeTest(t, s)
	if _, err := Fsck(ctx, testPath, fs, report); !errors.Is(err, context.Canceled) {
		t.Errorf("a canceled check: %v", err)
	}
}
