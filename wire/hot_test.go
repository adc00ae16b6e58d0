package wire

import (
	"testing"
)

// The hot frames: what a message and its receipts cost, and what idle sessions say.
var (
	hotSend    = Send{Correlation: 1000, Ref: DirectRef(bob), Counter: 1000, Content: Text("Are you there? - Bob")}
	hotSent    = Sent{Correlation: 1000, Sequence: 1000, Time: noon}
	hotMessage = Message{Ref: DirectRef(alice), Sequence: 1000, Revision: 1000, Time: noon, Content: Text("Are you there? - Bob")}
	hotCursor  = Cursor{Ref: DirectRef(alice), Position: 1000, Kind: Read}
	hotReceipt = Receipt{Ref: DirectRef(bob), Position: 1000, Kind: Read, Time: noon}
	hotHead    = Head{Ref: DirectRef(bob), Sequence: 1000, Revision: 1000}
	hotTyping  = Typing{Ref: DirectRef(bob)}
	hotCounts  = Counts{Ref: GroupRef(friends), Position: 1000, Delivered: 900, Read: 800, Of: 999}
)

// A hotFrame appends a frame to a buffer, and reads it back without keeping it.
type hotFrame struct {
	name   string
	append func(dst []byte) []byte
	parse  func(f Frame) error
}

var hotFrames = []hotFrame{
	{"SEND", func(b []byte) []byte { return AppendSend(b, &hotSend) }, func(f Frame) error { _, err := ParseSend(f); return err }},
	{"SENT", func(b []byte) []byte { return AppendSent(b, &hotSent) }, func(f Frame) error { _, err := ParseSent(f); return err }},
	{"MESSAGE", func(b []byte) []byte { return AppendMessage(b, &hotMessage) }, func(f Frame) error { _, err := ParseMessage(f); return err }},
	{"CURSOR", func(b []byte) []byte { return AppendCursor(b, &hotCursor) }, func(f Frame) error { _, err := ParseCursor(f); return err }},
	{"RECEIPT", func(b []byte) []byte { return AppendReceipt(b, &hotReceipt) }, func(f Frame) error { _, err := ParseReceipt(f); return err }},
	{"HEAD", func(b []byte) []byte { return AppendHead(b, &hotHead) }, func(f Frame) error { _, err := ParseHead(f); return err }},
	{"TYPING", func(b []byte) []byte { return AppendTyping(b, &hotTyping) }, func(f Frame) error { _, err := ParseTyping(f); return err }},
	{"COUNTS", func(b []byte) []byte { return AppendCounts(b, &hotCounts) }, func(f Frame) error { _, err := ParseCounts(f); return err }},
	{"PING", AppendPing, ParseEmpty},
	{"PONG", AppendPong, ParseEmpty},
}

func TestHotFramesAllocateNothing(t *testing.T) {
	buffer := make([]byte, 0, 1024)
	for _, h := range hotFrames {
		allocations := testing.AllocsPerRun(100, func() {
			b := h.append(buffer[:0])
			f, _, err := NextFrame(b)
			if err == nil {
				err = h.parse(f)
			}
			if err != nil {
				t.Fatal(err)
			}
		})
		if allocations != 0 {
			t.Errorf("%s: %.0f allocations", h.name, allocations)
		}
	}
}

// A page of members is filled by its least: a receiver makes room once, for what is there.
func TestAMemberListAllocatesItsMembersAlone(t *testing.T) {
	l := MemberList{Members: make([]Member, MembersMax)}
	for i := range l.Members {
		l.Members[i] = Member{User: lastID - ID(i), Role: RoleMember, From: 1000, Delivered: 1000, DeliveredTime: noon, Read: 990, ReadTime: noon, ReadBy: true}
	}
	f := mustFrame(t, AppendMemberList(nil, &l))
	if n := testing.AllocsPerRun(100, func() { _, _ = ParseMemberList(f) }); n != 1 {
		t.Errorf("%.0f allocations", n)
	}
}

func TestExtendedContentsAllocateNothing(t *testing.T) {
	send := Send{Correlation: 1, Ref: DirectRef(bob), Counter: 1, Content: replyTo}
	buffer := make([]byte, 0, 1024)
	allocations := testing.AllocsPerRun(100, func() {
		f, _, _ := NextFrame(AppendSend(buffer[:0], &send))
		if _, err := ParseSend(f); err != nil {
			t.Fatal(err)
		}
	})
	if allocations != 0 {
		t.Errorf("%.0f allocations", allocations)
	}
}

// A list that says more than it has must not make room for what it says.
func TestLyingCountsAllocateNothing(t *testing.T) {
	for _, b := range [][]byte{
		frameOf(TypeConversations, 1, 0, 0x80, 0x04),
		frameOf(TypePage, 1, 2, 0, 0, 0xf4, 0x03),
		frameOf(TypeUsers, 1, 100), frameOf(TypeUserList, 1, 100), frameOf(TypeResolve, 1, 100),
		frameOf(TypeMemberList, 1, 0, 0, 100),
	} {
		f := mustFrame(t, b)
		x, err := kindByType(t, f.Type).parse(f)
		if err == nil || footprint(x) != 0 {
			t.Errorf("%v: %d bytes, %v", f.Type, footprint(x), err)
		}
	}
}

func BenchmarkHotFrames(b *testing.B) {
	buffer := make([]byte, 0, 1024)
	for _, h := range hotFrames {
		b.Run("append/"+h.name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				h.append(buffer[:0])
			}
		})
		frame := h.append(nil)
		b.Run("parse/"+h.name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				f, _, err := NextFrame(frame)
				if err == nil {
					err = h.parse(f)
				}
				if err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// BenchmarkPages shows what a page of many messages costs, the move of its body included.
func BenchmarkPages(b *testing.B) {
	p := Page{Ref: DirectRef(alice)}
	for i := range 100 {
		m := PageMessage{Sequence: uint64(i + 1), Revision: uint64(i + 1), Time: noon + Time(i), Content: Text("Are you there? - Bob")}
		p.Messages = append(p.Messages, m)
	}
	c := Conversations{Items: make([]ConversationState, 100)}
	for i := range c.Items {
		c.Items[i] = bobsState()
	}
	buffer := make([]byte, 0, FrameBytesMax)
	b.Run("append/PAGE of 100", func(b *testing.B) {
		for b.Loop() {
			AppendPage(buffer[:0], &p)
		}
	})
	b.Run("append/CONVERSATIONS of 100", func(b *testing.B) {
		for b.Loop() {
			AppendConversations(buffer[:0], &c)
		}
	})
	page, _, _ := NextFrame(AppendPage(nil, &p))
	b.Run("parse/PAGE of 100", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			_, _ = ParsePage(page)
		}
	})
	conversations, _, _ := NextFrame(AppendConversations(nil, &c))
	b.Run("parse/CONVERSATIONS of 100", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			_, _ = ParseConversations(conversations)
		}
	})
}
