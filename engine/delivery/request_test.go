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

// memberOf makes a user a member of a drawn conversation, as an edge does.
func memberOf(c wire.Conversation, user wire.ID) wire.Conversation {
	if c.Kind == wire.Group {
		return c
	}
	return wire.DirectConversation(user, c.B)
}

var drawSend = rapid.Custom(func(t *rapid.T) shard.Send {
	m := shard.Send{Origin: drawOrigin.Draw(t, "origin"), Author: drawID.Draw(t, "author"), Device: drawID.Draw(t, "device"),
		Epoch: rapid.Uint64Range(0, 2).Draw(t, "epoch"), Counter: drawNumber.Draw(t, "counter"), PeerKnown: rapid.Bool().Draw(t, "known"),
		Event: rapid.IntRange(0, 3).Draw(t, "event") == 0, Content: drawContent(t)}
	m.Conversation = memberOf(drawConversation.Draw(t, "conversation"), m.Author)
	switch rapid.IntRange(0, 9).Draw(t, "large, a link or an ask") {
	case 2:
		m.Event, m.Counter, m.Content = false, 0, wire.Content{}
		m.Ask = &shard.Ask{Kind: shard.AskSettings, Version: drawNumber.Draw(t, "version"), Flags: wire.OwnMuted | wire.OwnPinned, MutedUntil: drawTime(t)}
	case 1:
		m.Event, m.Content, m.Secret = false, wire.Content{}, []byte("0123456789abcdef")
	case 0:
		m.Content.Bytes = bytes.Repeat([]byte{'x'}, wire.ContentBytesMax+rapid.IntRange(0, 1).Draw(t, "beyond"))
	}
	return m
})

var drawCursor = rapid.Custom(func(t *rapid.T) shard.Cursor {
	c := shard.Cursor{Session: drawHandle.Draw(t, "session"), User: drawID.Draw(t, "user"), Kind: drawKind.Draw(t, "kind"), Position: drawNumber.Draw(t, "position")}
	c.Conversation = memberOf(drawConversation.Draw(t, "conversation"), c.User)
	return c
})

// Sends and cursors arrive as they were, from the node that sent them and under their
// tickets; of a content beyond its limit only that it is beyond it.
func TestForwardedCommandsCrossAsTheyAre(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		sends := rapid.SliceOfN(drawSend, 0, 6).Draw(t, "sends")
		cursors := rapid.SliceOfN(drawCursor, 0, 6).Draw(t, "cursors")
		const first, node = 1 << 30, 5
		src := AppendForward(nil, first, sends, cursors)
		gotSends, gotCursors, err := ParseForward(nil, nil, src, node)
		if err != nil || len(gotSends) != len(sends) || len(gotCursors) != len(cursors) {
			t.Fatalf("%x: %d sends, %d cursors: %v", src, len(gotSends), len(gotCursors), err)
		}
		for i := range sends {
			want, got := sends[i], gotSends[i]
			want.Correlation, want.Node = uint64(first+i), node
			if large := len(want.Content.Bytes) > wire.ContentBytesMax; large != (len(got.Content.Bytes) > wire.ContentBytesMax) || !large && !bytes.Equal(want.Content.Bytes, got.Content.Bytes) {
				t.Fatalf("content of send %d: %d bytes, want %d", i, len(got.Content.Bytes), len(want.Content.Bytes))
			}
			want.Content.Bytes, got.Content.Bytes = nil, nil
			if !reflect.DeepEqual(got, want) {
				t.Fatalf("send %d: %+v, want %+v", i, got, want)
			}
		}
		for i := range cursors {
			want := cursors[i]
			want.Node = node
			if gotCursors[i] != want {
				t.Fatalf("cursor %d: %+v, want %+v", i, gotCursors[i], want)
			}
		}
		if _, _, err := ParseForward(nil, nil, src[:rapid.IntRange(0, len(src)-1).Draw(t, "cut")], node); err == nil {
			t.Fatalf("a part of %x was taken", src)
		}
	})
}

// A request is read into memory that is used again, and stays what it was.
func TestRequestsCrossAsTheyAre(t *testing.T) {
	users := []wire.ID{1, 1 << 47, 3}
	requests := []Request{
		{Kind: RequestOpen, Shard: 200, Generation: 1 << 60, Since: 77, Users: users, Groups: users[1:]},
		{Kind: RequestOpen, Generation: 2, Fresh: true, More: true, Users: []wire.ID{}},
		{Kind: RequestAttach, Generation: 2, Number: 1, More: true, Users: users},
		{Kind: RequestForward, Generation: 2, Number: 2, Users: []wire.ID{}, Sends: []shard.Send{{Origin: shard.Origin{Session: 9, Correlation: 70, Node: 4},
			Conversation: wire.DirectConversation(1, 2), Author: 2, Device: 3, Epoch: 4, Counter: 5, Content: wire.Text("hello")}},
			Cursors: []shard.Cursor{{Session: 9, Node: 4, Conversation: wire.DirectConversation(1, 2), User: 2, Kind: wire.Read, Position: 6}}},
		{Kind: RequestDetach, Generation: 2, Number: 3, Users: users[:1]},
		{Kind: RequestDetach, Generation: 2, Number: 3, Since: 99, Groups: users[1:]},
		{Kind: RequestClose, Generation: 2, Number: 4, Users: []wire.ID{}},
	}
	var got Request
	for _, want := range requests {
		src := AppendRequest(nil, &want, 70)
		if err := got.Parse(src, 4); err != nil {
			t.Fatalf("%+v: %v", want, err)
		}
		if again := AppendRequest(nil, &got, 70); !bytes.Equal(src, again) {
			t.Errorf("%+v was read as %+v", want, got)
		}
		if len(want.Sends) > 0 && !reflect.DeepEqual(got.Sends, want.Sends) || len(want.Cursors) > 0 && !reflect.DeepEqual(got.Cursors, want.Cursors) ||
			!slices.Equal(got.Users, want.Users) || !slices.Equal(got.Groups, want.Groups) {
			t.Errorf("%+v was read as %+v", want, got)
		}
	}
}

func FuzzParseRequest(f *testing.F) {
	r := Request{Kind: RequestForward, Generation: 3, Sends: []shard.Send{drawSend.Example(1), drawSend.Example(2)}, Cursors: []shard.Cursor{drawCursor.Example(3)}}
	f.Add(AppendRequest(nil, &r, 8))
	f.Add(AppendRequest(nil, &Request{Kind: RequestOpen, More: true, Users: []wire.ID{4, 5}, Groups: []wire.ID{6}}, 0))
	f.Add(AppendRequest(nil, &Request{Kind: RequestDetach, Since: 9, Groups: []wire.ID{6, 7}}, 0))
	f.Fuzz(func(t *testing.T, src []byte) {
		var r Request
		if r.Parse(src, 1) != nil {
			return
		}
		if r.Kind == RequestForward && len(r.Sends) == 0 {
			return // the ticket of its first send is lost, and means nothing
		}
		var first uint64
		if len(r.Sends) > 0 {
			first = r.Sends[0].Correlation
		}
		if again := AppendRequest(nil, &r, first); !bytes.Equal(src, again) {
			t.Fatalf("%x was read as %+v, which is %x", src, r, again)
		}
	})
}
