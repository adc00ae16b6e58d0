package sim

import (
	"slices"
	"strings"
	"testing"
	"time"

	"parley/wire"
)

var (
	ada  = wire.MakeID(1, 1)
	bob  = wire.MakeID(2, 2)
	eve  = wire.MakeID(3, 3)
	chat = wire.DirectConversation(ada, bob)
)

// good is a history that keeps every promise: ada's phone sends two messages, bob's sees
// them, reads them, and both are there in the end.
func good() *History {
	entries := []Entry{{1, ada, 10, "a/1 x"}, {2, ada, 20, "a/2 y"}}
	s := time.Second
	h := &History{
		Sends: []Send{
			{Device: "a", Author: ada, Conversation: chat, Body: "a/1 x", Life: 1, Order: 1, Called: 1 * s, Returned: 2 * s, Outcome: Accepted, Sequence: 1},
			{Device: "a", Author: ada, Conversation: chat, Body: "a/2 y", Life: 1, Order: 2, Called: 3 * s, Returned: 4 * s, Outcome: Accepted, Sequence: 2},
		},
		Reads:  []Read{{Device: "b", User: bob, Conversation: chat, Called: 5 * s, Returned: 6 * s, Head: 2, Entries: entries}},
		Listed: []Listed{{Device: "b", Life: 1, User: bob, Conversation: chat, State: wire.ConversationState{Head: 2, OtherRead: 1, OtherDelivered: 1}, At: 6 * s}},
		Online: []Online{{Device: "b", User: bob}},
	}
	for i, e := range entries {
		at := time.Duration(2*i+2) * s
		h.Handed = append(h.Handed, Seen{Entry: e, Device: "b", Life: 1, User: bob, Conversation: chat, At: at})
		h.Pushed = append(h.Pushed, Seen{Entry: e, Device: "b", Life: 1, User: bob, Conversation: chat, At: at})
		moved := Moved{Device: "a", Life: 1, User: ada, Conversation: chat, Kind: wire.Read, Position: e.Sequence, At: at + s/2}
		h.Moved, h.Receipts = append(h.Moved, moved), append(h.Receipts, moved)
	}
	for _, user := range []wire.ID{ada, bob} {
		state := wire.ConversationState{Head: 2, Delivered: 2, Read: 2, OtherDelivered: 2, OtherRead: 2}
		h.Finals = append(h.Finals, Final{Stage: "in the end", At: 9 * s, User: user, Conversation: chat, State: state, Entries: slices.Clone(entries)})
	}
	h.Replicas = []Replica{{Node: "n1", Index: 7}, {Node: "n2", Index: 7}}
	return h
}

func TestAGoodHistoryHasNoViolations(t *testing.T) {
	if v := Check(good()); len(v) > 0 {
		t.Fatal(v)
	}
	if v := Check(&History{}); len(v) > 0 {
		t.Fatal(v)
	}
}

// both changes both final readings.
func both(h *History, fn func(f *Final)) {
	for i := range h.Finals {
		fn(&h.Finals[i])
	}
}

// TestViolationsAreFound breaks each promise in a good history and expects the checker of
// that promise to say so.
func TestViolationsAreFound(t *testing.T) {
	for _, test := range []struct {
		promise, text string
		spoil         func(h *History)
	}{
		{"members only", "which nobody sent", func(h *History) { h.Handed[0].Body = "x/9 z" }},
		{"members only", "which was sent in", func(h *History) { h.Pushed[0].Conversation = wire.DirectConversation(ada, eve) }},
		{"members only", "as written by", func(h *History) { h.Pushed[0].Author = bob }},
		{"the same at the same sequence", "#1 is", func(h *History) { h.Handed[0].Entry = h.Handed[1].Entry; h.Handed[0].Sequence = 1 }},
		{"the same at the same sequence", "#2 is", func(h *History) { h.Reads[0].Entries = []Entry{{2, ada, 21, "a/2 y"}} }},
		{"the same at the same sequence", "was acknowledged to", func(h *History) { h.Sends[0].Sequence = 2 }},
		{"no gaps", "in place 1", func(h *History) { both(h, func(f *Final) { f.Entries = f.Entries[1:] }) }},
		{"no gaps", "the head is 3", func(h *History) { both(h, func(f *Final) { f.State.Head = 3 }) }},
		{"no gaps", "is handed #2 after #2", func(h *History) { h.Handed[0] = h.Handed[1] }},
		{"no gaps", "has #2 after #2", func(h *History) { h.Reads[0].Entries = []Entry{h.Finals[0].Entries[1], h.Finals[0].Entries[1]} }},
		{"no gaps", "cannot be had", func(h *History) { h.Gaps = []string{"b: 1 to 2 cannot be had"} }},
		{"exactly once", "is there twice", func(h *History) {
			both(h, func(f *Final) { f.Entries = append(f.Entries, Entry{3, ada, 30, "a/1 x"}) })
		}},
		{"nothing acknowledged is lost", "reads 1 messages", func(h *History) {
			both(h, func(f *Final) { f.Entries, f.State.Head = f.Entries[:1], 1 })
		}},
		{"nothing acknowledged is lost", "has no such conversation", func(h *History) { h.Finals[1].Conversation = wire.DirectConversation(bob, eve) }},
		{"nothing acknowledged is lost", "messages before, and 1", func(h *History) {
			f := h.Finals[0]
			f.Entries = f.Entries[:1]
			h.Finals = append(h.Finals, f)
		}},
		{"refused is refused", "was refused", func(h *History) { h.Sends[0].Outcome = Refused }},
		{"what was sent lately is known", "unknown outcome", func(h *History) { h.Sends[0].Outcome = Forgotten }},
		{"times do not go back", "#1 is of 30", func(h *History) { both(h, func(f *Final) { f.Entries[0].Time = 30 }) }},
		{"a device's order", "after its 1.", func(h *History) { h.Sends[0].Order, h.Sends[1].Order = 2, 1 }},
		{"pushed once, in order", "pushed #1 after #1", func(h *History) { h.Pushed[1] = h.Pushed[0] }},
		{"receipts move forward", "client 1 of a hears of cursor 1 at 1 after 2", func(h *History) { h.Moved[0].Position = 2; h.Moved[1].Position = 1 }},
		{"receipts move forward", "connection 1 of a", func(h *History) { h.Receipts[1].Position = 1 }},
		{"receipts move forward", "it was told 1", func(h *History) {
			l := h.Listed[0]
			l.State.OtherRead = 0
			h.Listed = append(h.Listed, l)
		}},
		{"receipts move forward", "the head is 1; it was told 2", func(h *History) {
			l := h.Listed[0]
			l.State.Head = 1
			h.Listed = append(h.Listed, l)
		}},
		{"receipts move forward", "is at 3, the head is 2", func(h *History) { h.Listed[0].State.Read = 3 }},
		{"receipts move forward", "somebody was told 2", func(h *History) { both(h, func(f *Final) { f.State.Read, f.State.OtherRead = 1, 1 }) }},
		{"receipts move forward", "is at 5", func(h *History) { both(h, func(f *Final) { f.State.Delivered = 5 }) }},
		{"linearizable", "no order", func(h *History) { h.Reads[0].Head = 1 }},
		{"linearizable", "no order", func(h *History) { h.Sends[0].Called, h.Sends[0].Returned = 7*time.Second, 8*time.Second }},
		{"online members are served", "it has 1 of 2", func(h *History) { h.Online[0].Problems = []string{"it has 1 of 2"} }},
		{"it commits again", "shard 1", func(h *History) { h.Late = []string{"shard 1 does not commit"} }},
		{"it commits again", "has no outcome", func(h *History) { h.Sends[1].Returned, h.Sends[1].Outcome = 0, Unknown }},
		{"replicas are equal", "shard 0 at 7", func(h *History) { h.Replicas[1].Hash[0] = 1 }},
	} {
		h := good()
		test.spoil(h)
		found := slices.ContainsFunc(Check(h), func(v Violation) bool {
			return v.Promise == test.promise && strings.Contains(v.Text, test.text)
		})
		if !found {
			t.Errorf("%s, %s: not found among %v", test.promise, test.text, Check(h))
		}
	}
}

// TestWhatMayHappenIsNoViolation: answers that are lost, and messages that are there
// without one.
func TestWhatMayHappenIsNoViolation(t *testing.T) {
	for name, change := range map[string]func(h *History){
		"the outcome is unknown, and the message is there": func(h *History) { h.Sends[1].Outcome, h.Sends[1].Sequence = Unknown, 0 },
		"the outcome is unknown, and the message is not": func(h *History) {
			h.Sends = append(h.Sends, Send{Device: "a", Author: ada, Conversation: chat, Body: "a/3", Returned: 1})
		},
		"a message was refused": func(h *History) {
			h.Sends = append(h.Sends, Send{Device: "a", Author: ada, Conversation: chat, Body: "a/3", Returned: 1, Outcome: Refused})
		},
		"a client begins anew": func(h *History) { s := h.Handed[0]; s.Life = 2; h.Handed = append(h.Handed, s) },
		"a read that overlaps a send may see it or not": func(h *History) {
			h.Reads[0].Called, h.Reads[0].Head = 3500*time.Millisecond, 1
			h.Reads[0].Entries = nil
		},
		"a HEAD stands for pushes that are left out": func(h *History) { h.Pushed = h.Pushed[1:] },
		"a receipt that comes after the last reading began": func(h *History) {
			h.Moved = append(h.Moved, Moved{Device: "b", Life: 1, User: bob, Conversation: chat, Kind: wire.OwnRead, Position: 9, At: 10 * time.Second})
		},
	} {
		h := good()
		change(h)
		if v := Check(h); len(v) > 0 {
			t.Errorf("%s: %v", name, v)
		}
	}
}

func TestAReportTellsTheHistoryOfTheConversation(t *testing.T) {
	h := good()
	h.Sends[0].Sequence = 2
	r := Result{Config: Config{Seed: 42}, Trace: []string{"node1 crashes"}, History: h, Violations: Check(h)}
	text := r.Failure()
	for _, part := range []string{"make sim SEED=42", "node1 crashes", "VIOLATION", "a life 1 sends a/1", "b life 1 is handed #2 a/2", "reads in the end: head 2: #1 a/1 #2 a/2"} {
		if !strings.Contains(text, part) {
			t.Errorf("%q is not in the report:\n%s", part, text)
		}
	}
}
