package engine

import (
	"fmt"
	"testing"

	"parley/wire"
)

// Two people: sent, pushed, delivered, read, and receipts, on the author's other device too.
func TestTwoPeopleChat(t *testing.T) {
	n := start(t, Config{})
	ada, bob := user(t, n, "ada"), user(t, n, "bob")
	a, _ := live(t, n, "ada", 1, 100)
	tablet, _ := live(t, n, "ada", 2, 101)
	b, _ := live(t, n, "bob", 1, 200)

	a.text(wire.DirectRef(bob), 1, "hello")
	if s := a.wantSent(); s.Correlation != 1 || s.Sequence != 1 || s.Time == 0 {
		t.Fatalf("sent %+v", s)
	}
	m := b.wantMessage()
	if m.Ref != wire.DirectRef(ada) || m.Author != 0 || m.Sequence != 1 || m.Revision != 1 || string(m.Content.Bytes) != "hello" {
		t.Fatalf("push %+v", m)
	}
	if m := tablet.wantMessage(); m.Ref != wire.DirectRef(bob) || m.Author != ada || string(m.Content.Bytes) != "hello" {
		t.Fatalf("own push %+v", m)
	}

	b.cursor(wire.DirectRef(ada), wire.Delivered, 1)
	for _, r := range []*raw{a, tablet} {
		f := r.until(wire.TypeReceipt)
		c, err := wire.ParseReceipt(f)
		if err != nil || c.Ref != wire.DirectRef(bob) || c.Kind != wire.Delivered || c.Position != 1 || c.Time == 0 {
			t.Fatalf("receipt %+v, %v", c, err)
		}
	}
	b.text(wire.DirectRef(ada), 1, "hi")
	b.until(wire.TypeSent)
	a.until(wire.TypeMessage)
	a.cursor(wire.DirectRef(bob), wire.Read, 2)
	kinds := map[wire.CursorKind]bool{}
	for !kinds[wire.Read] {
		c, err := wire.ParseReceipt(b.until(wire.TypeReceipt))
		if err != nil {
			t.Fatal(err)
		}
		kinds[c.Kind] = true
	}
	own := map[wire.CursorKind]bool{}
	for !own[wire.OwnRead] {
		c, err := wire.ParseReceipt(tablet.until(wire.TypeReceipt))
		if err != nil {
			t.Fatal(err)
		}
		own[c.Kind] = true
	}
}

// A session that was away is told what changed, how much is unread, and where the cursors are.
func TestSyncAfterAbsence(t *testing.T) {
	n := start(t, Config{})
	ada, bob := user(t, n, "ada"), user(t, n, "bob")
	a, first := live(t, n, "ada", 1, 100)
	if len(first.Items) != 0 || len(first.Token) == 0 {
		t.Fatalf("the first sync: %+v", first)
	}
	for i := range 5 {
		a.text(wire.DirectRef(bob), uint64(i+1), fmt.Sprint("message ", i+1))
		a.until(wire.TypeSent)
	}
	listed(t, n, ada, 1)
	listed(t, n, bob, 1)
	b, c := live(t, n, "bob", 1, 200)
	if len(c.Items) != 1 {
		t.Fatalf("bob's list: %+v", c)
	}
	item := c.Items[0]
	if item.Ref != wire.DirectRef(ada) || item.Head != 5 || item.Unread != 5 || item.Read != 0 || item.Time == 0 {
		t.Fatalf("bob's conversation: %+v", item)
	}
	b.cursor(wire.DirectRef(ada), wire.Read, 3)
	a.until(wire.TypeReceipt)
	if c = b.sync(c.Token); len(c.Items) != 1 || c.Items[0].Unread != 2 || c.Items[0].Read != 3 || c.Items[0].Delivered != 3 {
		t.Fatalf("after reading three: %+v", c)
	}
	if c = b.sync(c.Token); len(c.Items) != 0 || c.Flags != 0 {
		t.Fatalf("nothing has changed: %+v", c)
	}
	c = a.sync(nil)
	if len(c.Items) != 1 || c.Items[0].OtherRead != 3 || c.Items[0].Unread != 0 {
		t.Fatalf("ada's list: %+v", c)
	}
	page := b.history(wire.History{Correlation: 9, Ref: wire.DirectRef(ada), Mode: wire.HistoryForward, Sequence: 1, Limit: 3})
	if page.Correlation != 9 || len(page.Messages) != 3 || page.Messages[0].Sequence != 2 || page.Head != 5 || page.Flags != wire.PageMoreBefore|wire.PageMoreAfter {
		t.Fatalf("forward: %+v", page)
	}
	page = b.history(wire.History{Ref: wire.DirectRef(ada), Mode: wire.HistoryBackward})
	if len(page.Messages) != 5 || string(page.Messages[4].Content.Bytes) != "message 5" {
		t.Fatalf("backward: %+v", page)
	}
	page = b.history(wire.History{Ref: wire.DirectRef(ada), Mode: wire.HistoryAround, Sequence: 3, Limit: 3})
	if len(page.Messages) != 3 || page.Messages[1].Sequence != 3 {
		t.Fatalf("around: %+v", page)
	}
}

// Promise 2: a resent message is answered again, a changed one is refused, a gap is said.
func TestRetriesAreAnsweredAgainAndNeverDoubled(t *testing.T) {
	n := start(t, Config{})
	bob := user(t, n, "bob")
	user(t, n, "ada")
	ref := wire.DirectRef(bob)
	a, _ := live(t, n, "ada", 1, 100)
	a.text(ref, 1, "one")
	first := a.wantSent()
	a.text(ref, 1, "one")
	if again := a.wantSentOrHead(); again.Sequence != first.Sequence || again.Time != first.Time {
		t.Fatalf("answered %+v, then %+v", first, again)
	}
	a.text(ref, 1, "another")
	a.wantErrorAfterHead(wire.CodeReused)
	a.text(ref, 3, "three")
	a.wantErrorAfterHead(wire.CodeOutOfOrder)
	a.text(ref, 2, "two")
	if s := a.wantSentOrHead(); s.Sequence != 2 {
		t.Fatalf("got %+v", s)
	}
	// The same device with its outbox on a new connection, everything in one message.
	again := dial(t, n)
	frames := wire.AppendHello(nil, &wire.Hello{Version: 1, OutboxEpoch: 100, Credential: token(t, n, "ada", 1)})
	frames = wire.AppendSync(frames, &wire.Sync{Correlation: 7})
	for counter, text := range []string{"one", "two", "three"} {
		frames = wire.AppendSend(frames, &wire.Send{Correlation: uint64(counter + 1), Ref: ref, Counter: uint64(counter + 1), Content: wire.Text(text)})
	}
	again.send(frames)
	sequences := map[uint64]uint64{}
	for len(sequences) < 3 {
		s, err := wire.ParseSent(again.until(wire.TypeSent))
		if err != nil {
			t.Fatal(err)
		}
		sequences[s.Correlation] = s.Sequence
	}
	for counter := range uint64(3) {
		if sequences[counter+1] != counter+1 {
			t.Fatalf("sequences %v", sequences)
		}
	}
	a.wantClose(wire.CodeReplaced.CloseCode())
	// An outbox that begins beyond 1 has something before it that has not come.
	stranger, _ := live(t, n, "ada", 2, 555)
	stranger.text(ref, 9, "the ninth of an outbox")
	stranger.wantErrorAfterHead(wire.CodeOutOfOrder)
}

// wantSentOrHead skips the HEAD that tells of a new conversation.
func (r *raw) wantSentOrHead() wire.Sent {
	r.t.Helper()
	s, err := wire.ParseSent(r.skipHead())
	if err != nil {
		r.t.Fatal(err)
	}
	return s
}

func (r *raw) wantErrorAfterHead(code wire.Code) {
	r.t.Helper()
	e, err := wire.ParseError(r.skipHead())
	if err != nil || e.Code != code {
		r.t.Fatalf("got %v (%v), want %v", e, err, code)
	}
}

func (r *raw) skipHead() wire.Frame {
	r.t.Helper()
	for {
		f, err := r.Next()
		if err != nil {
			r.t.Fatalf("%v (close code %d)", err, r.Code)
		}
		if f.Type != wire.TypeHead {
			return f
		}
	}
}

func TestTypingReachesThePeerOnlyInAConversation(t *testing.T) {
	n := start(t, Config{})
	ada, bob := user(t, n, "ada"), user(t, n, "bob")
	a, _ := live(t, n, "ada", 1, 100)
	b, _ := live(t, n, "bob", 1, 200)
	a.send(wire.AppendTyping(nil, &wire.Typing{Ref: wire.DirectRef(bob)})) // strangers so far
	a.text(wire.DirectRef(bob), 1, "hello")
	a.until(wire.TypeSent)
	b.until(wire.TypeMessage)
	c, _ := live(t, n, "ada", 2, 101)
	c.send(wire.AppendTyping(nil, &wire.Typing{Ref: wire.DirectRef(bob)}))
	typing, err := wire.ParseTyping(b.until(wire.TypeTyping))
	if err != nil || typing.Ref != wire.DirectRef(ada) {
		t.Fatalf("%+v, %v", typing, err)
	}
}

func TestUsersAndNamesResolve(t *testing.T) {
	n := start(t, Config{})
	ada, bob := user(t, n, "ada"), user(t, n, "bob")
	a, _ := live(t, n, "ada", 1, 100)
	a.send(wire.AppendResolve(nil, &wire.Resolve{Correlation: 3, Names: []string{"bob", "nobody"}}))
	l, err := wire.ParseUserList(a.want(wire.TypeUserList))
	if err != nil || l.Correlation != 3 || len(l.Users) != 1 || l.Users[0].ID != bob || l.Users[0].Name != "bob" {
		t.Fatalf("%+v, %v", l, err)
	}
	a.send(wire.AppendUsers(nil, &wire.Users{Correlation: 4, Queries: []wire.UserQuery{{ID: ada}, {ID: bob, Version: l.Users[0].Version}, {ID: 12345}}}))
	l, err = wire.ParseUserList(a.want(wire.TypeUserList))
	if err != nil || l.Correlation != 4 || len(l.Users) != 1 || l.Users[0].ID != ada {
		t.Fatalf("%+v, %v", l, err)
	}
}

// A list longer than a page comes whole, and what changes between two pages is not lost.
func TestSyncInPages(t *testing.T) {
	n := start(t, Config{})
	ada := user(t, n, "ada")
	a, _ := live(t, n, "ada", 1, 100)
	const peers = 25
	ids := make([]wire.ID, peers)
	for i := range ids {
		ids[i] = user(t, n, fmt.Sprint("peer", i))
		a.text(wire.DirectRef(ids[i]), 1, "hello")
		a.until(wire.TypeSent)
	}
	listed(t, n, ada, peers)
	heads := map[wire.Ref]uint64{}
	var token []byte
	for page := 0; ; page++ {
		a.send(wire.AppendSync(nil, &wire.Sync{Correlation: 1, Limit: 4, Previews: 2, Token: token}))
		c, err := wire.ParseConversations(a.until(wire.TypeConversations))
		if err != nil {
			t.Fatal(err)
		}
		for i, item := range c.Items {
			heads[item.Ref] = max(heads[item.Ref], item.Head)
			if (item.Preview != nil) != (page == 0 && i < 2) {
				t.Fatalf("page %d, item %d: preview %v", page, i, item.Preview)
			}
		}
		token = append([]byte(nil), c.Token...)
		if page == 1 { // a conversation of the first page changes
			a.text(wire.DirectRef(ids[peers-1]), 2, "again")
			a.until(wire.TypeSent)
		}
		if c.Flags&wire.SyncMore == 0 {
			break
		}
		if len(c.Items) == 0 || page > 2*peers {
			t.Fatalf("page %d: %+v", page, c)
		}
	}
	if len(heads) != peers || heads[wire.DirectRef(ids[peers-1])] != 2 {
		t.Fatalf("%d conversations, %v", len(heads), heads)
	}
	if c := a.sync(token); len(c.Items) != 0 {
		t.Fatalf("after all pages: %+v", c)
	}
}

// A conversation with oneself is a place for notes.
func TestNotesToOneself(t *testing.T) {
	n := start(t, Config{})
	ada := user(t, n, "ada")
	a, _ := live(t, n, "ada", 1, 100)
	tablet, _ := live(t, n, "ada", 2, 101)
	a.text(wire.DirectRef(ada), 1, "milk")
	a.until(wire.TypeSent)
	m, err := wire.ParseMessage(tablet.until(wire.TypeMessage))
	if err != nil || string(m.Content.Bytes) != "milk" {
		t.Fatalf("%+v, %v", m, err)
	}
	listed(t, n, ada, 1)
	c := a.sync(nil)
	if len(c.Items) != 1 || c.Items[0].Unread != 0 {
		t.Fatalf("%+v", c)
	}
}
