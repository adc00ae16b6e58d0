package delivery

import (
	"bytes"
	"reflect"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"parley/engine/shard"
	"parley/wire"
)

var (
	drawID     = rapid.Custom(func(t *rapid.T) wire.ID { return wire.ID(rapid.Uint64Range(1, 4).Draw(t, "id")) << 40 })
	drawNumber = rapid.OneOf(rapid.Uint64Range(0, 5), rapid.Uint64Range(0, wire.NumberMax))
	drawHandle = rapid.OneOf(rapid.Uint64Range(1, 5), rapid.Uint64Range(1, 1<<64-1))
	drawNode   = rapid.Uint32Range(0, 3)
	drawBytes  = rapid.SliceOfN(rapid.Byte(), 0, 20)
	drawKind   = rapid.Custom(func(t *rapid.T) wire.CursorKind { return wire.CursorKind(rapid.IntRange(0, 1).Draw(t, "kind")) })
)

var drawConversation = rapid.Custom(func(t *rapid.T) wire.Conversation {
	if rapid.IntRange(0, 4).Draw(t, "group") == 0 {
		return wire.Conversation{Kind: wire.Group, A: drawID.Draw(t, "a")}
	}
	return wire.DirectConversation(drawID.Draw(t, "a"), drawID.Draw(t, "b"))
})

func drawContent(t *rapid.T) wire.Content {
	return wire.Content{Extended: rapid.Bool().Draw(t, "extended"), Bytes: drawBytes.Draw(t, "content")}
}

func drawTime(t *rapid.T) wire.Time { return wire.Time(drawNumber.Draw(t, "time")) }

var drawOrigin = rapid.Custom(func(t *rapid.T) shard.Origin {
	return shard.Origin{Session: drawHandle.Draw(t, "session"), Correlation: drawNumber.Draw(t, "correlation"), Node: drawNode.Draw(t, "node")}
})

var drawMessage = rapid.Custom(func(t *rapid.T) shard.MessageEffect {
	m := shard.MessageEffect{Conversation: drawConversation.Draw(t, "conversation"), Sequence: drawNumber.Draw(t, "sequence"),
		Time: drawTime(t), Author: drawID.Draw(t, "author"), Content: drawContent(t), FromNode: drawNode.Draw(t, "node")}
	m.Revision = m.Sequence
	if rapid.Bool().Draw(t, "revised") {
		m.Revision = drawNumber.Draw(t, "revision")
	}
	if rapid.Bool().Draw(t, "from") {
		m.From = drawHandle.Draw(t, "session")
	}
	return m
})

var drawReceipt = rapid.Custom(func(t *rapid.T) shard.ReceiptEffect {
	return shard.ReceiptEffect{Conversation: drawConversation.Draw(t, "conversation"), User: drawID.Draw(t, "user"), Kind: drawKind.Draw(t, "kind"),
		Position: drawNumber.Draw(t, "position"), Time: drawTime(t), From: drawHandle.Draw(t, "session"), FromNode: drawNode.Draw(t, "node")}
})

var drawOwn = rapid.Custom(func(t *rapid.T) shard.OwnEffect {
	return shard.OwnEffect{Conversation: drawConversation.Draw(t, "conversation"), User: drawID.Draw(t, "user"),
		Own:  wire.Own{Flags: drawNumber.Draw(t, "own flags"), Version: drawNumber.Draw(t, "version"), MutedUntil: drawTime(t)},
		From: drawHandle.Draw(t, "session"), FromNode: drawNode.Draw(t, "node")}
})

var drawEffects = rapid.Custom(func(t *rapid.T) *shard.Effects {
	e := &shard.Effects{Shard: rapid.Uint32().Draw(t, "shard"), Previous: drawNumber.Draw(t, "previous")}
	e.Index = e.Previous + drawNumber.Draw(t, "entries")
	for _, o := range rapid.SliceOfN(drawOrigin, 0, 4).Draw(t, "sent") {
		e.Sent = append(e.Sent, shard.SentEffect{Origin: o, Sequence: drawNumber.Draw(t, "sequence"), Time: drawTime(t)})
		if rapid.IntRange(0, 3).Draw(t, "created") == 0 {
			e.Sent[len(e.Sent)-1].Created = drawID.Draw(t, "group")
		}
	}
	for _, o := range rapid.SliceOfN(drawOrigin, 0, 3).Draw(t, "refused") {
		e.Refused = append(e.Refused, shard.RefusedEffect{Origin: o, Code: wire.Code(rapid.IntRange(0, 999).Draw(t, "code"))})
	}
	e.Messages = rapid.SliceOfN(drawMessage, 0, 5).Draw(t, "messages")
	e.Receipts = rapid.SliceOfN(drawReceipt, 0, 4).Draw(t, "receipts")
	for range rapid.IntRange(0, 3).Draw(t, "listed") {
		e.Listed = append(e.Listed, shard.ListedEffect{User: drawID.Draw(t, "user"), Conversation: drawConversation.Draw(t, "conversation"),
			Gone: rapid.Bool().Draw(t, "gone")})
	}
	for range rapid.IntRange(0, 4).Draw(t, "memberships") {
		m := shard.MembershipEffect{Group: drawID.Draw(t, "group"), User: drawID.Draw(t, "user"), Role: wire.Role(rapid.IntRange(0, 5).Draw(t, "role"))}
		if position := drawNumber.Draw(t, "position"); m.Role == wire.RoleNone {
			m.Until = position
		} else {
			m.From = position
		}
		e.Memberships = append(e.Memberships, m)
	}
	e.Own = rapid.SliceOfN(drawOwn, 0, 3).Draw(t, "own")
	return e
})

// picked is what a node should see of effects that it is told in part.
func picked(e *shard.Effects, p *Pick) *shard.Effects {
	out := &shard.Effects{Shard: e.Shard, Previous: e.Previous, Index: e.Index}
	from := func(handle uint64, node uint32) uint64 {
		if node != p.Node {
			return 0
		}
		return handle
	}
	for _, i := range p.Sent {
		x := e.Sent[i]
		x.Node = 0
		out.Sent = append(out.Sent, x)
	}
	for _, i := range p.Refused {
		x := e.Refused[i]
		x.Node = 0
		out.Refused = append(out.Refused, x)
	}
	for _, i := range p.Messages {
		x := e.Messages[i]
		x.From, x.FromNode = from(x.From, x.FromNode), 0
		out.Messages = append(out.Messages, x)
	}
	for _, i := range p.Receipts {
		x := e.Receipts[i]
		x.From, x.FromNode = from(x.From, x.FromNode), 0
		out.Receipts = append(out.Receipts, x)
	}
	for _, i := range p.Listed {
		out.Listed = append(out.Listed, e.Listed[i])
	}
	for _, i := range p.Memberships {
		out.Memberships = append(out.Memberships, e.Memberships[i])
	}
	for _, i := range p.Own {
		x := e.Own[i]
		x.From, x.FromNode = from(x.From, x.FromNode), 0
		out.Own = append(out.Own, x)
	}
	return out
}

func drawPick(t *rapid.T, e *shard.Effects) *Pick {
	some := func(n int, label string) (list []uint32) {
		for i := range n {
			if rapid.IntRange(0, 3).Draw(t, label) > 0 {
				list = append(list, uint32(i))
			}
		}
		return list
	}
	return &Pick{Node: drawNode.Draw(t, "to"), Sent: some(len(e.Sent), "sent"), Refused: some(len(e.Refused), "refused"),
		Messages: some(len(e.Messages), "messages"), Receipts: some(len(e.Receipts), "receipts"), Listed: some(len(e.Listed), "listed"),
		Memberships: some(len(e.Memberships), "memberships"), Own: some(len(e.Own), "own")}
}

func sameEffects(a, b *shard.Effects) bool {
	if len(a.Messages) != len(b.Messages) {
		return false
	}
	x, y := *a, *b
	x.Messages, y.Messages = slices.Clone(a.Messages), slices.Clone(b.Messages)
	for i := range x.Messages {
		if !bytes.Equal(x.Messages[i].Content.Bytes, y.Messages[i].Content.Bytes) {
			return false
		}
		x.Messages[i].Content.Bytes, y.Messages[i].Content.Bytes = nil, nil
	}
	for _, e := range []*shard.Effects{&x, &y} { // an empty list is as good as none
		if len(e.Messages) == 0 {
			e.Messages = nil
		}
		if len(e.Receipts) == 0 {
			e.Receipts = nil
		}
		if len(e.Own) == 0 {
			e.Own = nil
		}
	}
	return reflect.DeepEqual(x, y)
}

// What was picked for a node arrives there as it was, without sessions of other nodes, in
// memory of its own; and a stretch of it is nothing.
func TestEffectsCrossAsTheyAre(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		e := drawEffects.Draw(t, "effects")
		p := drawPick(t, e)
		src := AppendEffects(nil, e, p)
		got, err := ParseEffects(bytes.Clone(src))
		if err != nil {
			t.Fatalf("%x: %v", src, err)
		}
		if want := picked(e, p); !sameEffects(got, want) {
			t.Fatalf("got\n%+v\nwant\n%+v", got, want)
		}
		if cut := src[:rapid.IntRange(0, len(src)-1).Draw(t, "cut")]; len(cut) < len(src) {
			if _, err := ParseEffects(cut); err == nil {
				t.Fatalf("%x is a part of %x and was taken", cut, src)
			}
		}
		buffer := bytes.Clone(src)
		got, _ = ParseEffects(buffer)
		clear(buffer)
		if want := picked(e, p); !sameEffects(got, want) {
			t.Fatal("contents alias the buffer that they were read from")
		}
	})
}

// all picks everything, for effects that were read: a node's own sessions are those of
// node 0 there.
func all(e *shard.Effects) *Pick {
	list := func(n int) (l []uint32) {
		for i := range n {
			l = append(l, uint32(i))
		}
		return l
	}
	return &Pick{Sent: list(len(e.Sent)), Refused: list(len(e.Refused)), Messages: list(len(e.Messages)),
		Receipts: list(len(e.Receipts)), Listed: list(len(e.Listed)), Memberships: list(len(e.Memberships)), Own: list(len(e.Own))}
}

// Whatever bytes come: either they are refused, or they are the one way to write what
// they say.
func FuzzParseFrame(f *testing.F) {
	drawn := drawEffects.Example(1)
	f.Add(appendEffectsFrame(nil, 7, drawn, all(drawn)))
	f.Add(appendFrame(nil, FrameBegin, 3, 9, 1<<40))
	f.Add(appendFrame(nil, FrameBroken, 3, 9, 0))
	f.Add(appendFrame(nil, FrameDetached, 3, 9, 2))
	f.Add(appendMembersFrame(nil, 7, 2, drawn, all(drawn)))
	f.Add(appendIntroduceFrame(nil, 7, 1, 2, drawn, all(drawn)))
	f.Fuzz(func(t *testing.T, src []byte) {
		frame, err := ParseFrame(src)
		if err != nil {
			return
		}
		var again []byte
		switch frame.Kind {
		case FrameEffects:
			again = appendEffectsFrame(nil, frame.Generation, frame.Effects, all(frame.Effects))
		case FrameMembers:
			again = appendMembersFrame(nil, frame.Generation, frame.Detached, frame.Effects, all(frame.Effects))
		case FrameIntroduce:
			again = appendIntroduceFrame(nil, frame.Generation, frame.Number, frame.Detached, frame.Effects, all(frame.Effects))
		default:
			again = appendFrame(nil, frame.Kind, frame.Shard, frame.Generation, frame.Index+frame.Detached)
		}
		if !bytes.Equal(src, again) {
			t.Fatalf("%x was read as %+v, which is %x", src, frame, again)
		}
	})
}
