package engine

import (
	"bytes"
	"context"
	"fmt"
	"testing"
	"time"

	"parley/engine/auth"
	"parley/wire"
)

func identityOf(user, device wire.ID) auth.Identity { return auth.Identity{User: user, Device: device} }

// A flush on demand leaves nothing in memory alone.
func TestFlushMakesStateDurable(t *testing.T) {
	n := start(t, Config{})
	r := n.replicaOf(user(t, n, "ada").Slot())
	applied := r.Stats().Applied
	if err := n.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	if at := r.Record().Index; at < applied || applied == 0 {
		t.Errorf("%d was applied, and %d is on disk", applied, at)
	}
}

// What was acknowledged is there after a stop and a start, and counters go on.
func TestRestartKeepsEverything(t *testing.T) {
	dir := t.TempDir()
	n := start(t, Config{Data: dir})
	ada, bob := user(t, n, "ada"), user(t, n, "bob")
	a, _ := live(t, n, "ada", 1, 100)
	for i := range 20 {
		a.text(wire.DirectRef(bob), uint64(i+1), fmt.Sprint("message ", i+1))
		a.until(wire.TypeSent)
	}
	listed(t, n, bob, 1)
	b, before := live(t, n, "bob", 1, 200)
	b.cursor(wire.DirectRef(ada), wire.Read, 7)
	a.until(wire.TypeReceipt)
	a.hangUp()
	b.hangUp()
	if err := n.Close(); err != nil {
		t.Fatal(err)
	}
	n = start(t, Config{Data: dir, Shards: 9}) // an old directory keeps its own number of shards
	if n.table.Shards() != 4 {
		t.Fatalf("%d shards", n.table.Shards())
	}
	b, after := live(t, n, "bob", 1, 200)
	if len(after.Items) != 1 || after.Items[0].Head != 20 || after.Items[0].Read != 7 || after.Items[0].Unread != 13 {
		t.Fatalf("%+v", after)
	}
	if c := b.sync(before.Token); c.Flags != 0 || len(c.Items) != 1 {
		t.Fatalf("with a token of the former life: %+v", c)
	}
	page := b.history(wire.History{Ref: wire.DirectRef(ada)})
	for i, m := range page.Messages {
		if m.Sequence != uint64(i+1) || string(m.Content.Bytes) != fmt.Sprint("message ", i+1) {
			t.Fatalf("message %d: %+v", i, m)
		}
	}
	a, _ = live(t, n, "ada", 1, 100)
	a.text(wire.DirectRef(bob), 20, "message 20")
	a.text(wire.DirectRef(bob), 21, "message 21")
	for _, want := range []uint64{20, 21} {
		if s := a.wantSentOrHead(); s.Sequence != want {
			t.Fatalf("%+v, want %d", s, want)
		}
	}
	if _, err := n.CreateUser(context.Background(), "bob", nil); err == nil {
		t.Fatal("a second bob")
	}
}

// A session that does not read gets one HEAD in place of many pushes, and stays.
func TestSlowReaderGetsHeads(t *testing.T) {
	n := start(t, Config{})
	ada, bob := user(t, n, "ada"), user(t, n, "bob")
	a, _ := live(t, n, "ada", 1, 100)
	slow, _ := live(t, n, "bob", 1, 200)
	body := string(bytes.Repeat([]byte("x"), 8<<10))
	const messages = 1_500 // 12 MB: more than the kernel takes for a reader that sleeps
	for i := range uint64(messages) {
		a.text(wire.DirectRef(bob), i+1, body)
		if i >= 32 {
			a.until(wire.TypeSent)
		}
	}
	for range 32 {
		a.until(wire.TypeSent)
	}
	pushes, head := 0, uint64(0)
	for head < messages {
		f, err := slow.Next()
		if err != nil {
			t.Fatalf("after %d pushes, head %d: %v (close code %d)", pushes, head, err, slow.Code)
		}
		switch f.Type {
		case wire.TypeMessage:
			m, err := wire.ParseMessage(f)
			if err != nil {
				t.Fatal(err)
			}
			pushes++
			head = max(head, m.Sequence)
		case wire.TypeHead:
			h, err := wire.ParseHead(f)
			if err != nil {
				t.Fatal(err)
			}
			head = max(head, h.Sequence)
		}
	}
	if pushes == messages {
		t.Fatalf("all %d messages were pushed to a session that did not read", pushes)
	}
	page := slow.history(wire.History{Ref: wire.DirectRef(ada), Mode: wire.HistoryBackward, Limit: 5})
	if page.Head != messages || len(page.Messages) != 5 {
		t.Fatalf("head %d, %d messages", page.Head, len(page.Messages))
	}
}

// A stopping node says GOAWAY, waits for the spread, and ends with the code.
func TestDrainSendsSessionsAway(t *testing.T) {
	n := start(t, Config{DrainSpread: 50 * time.Millisecond})
	user(t, n, "ada")
	a, _ := live(t, n, "ada", 1, 100)
	greeting := dial(t, n)
	drained := make(chan error, 1)
	go func() {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		drained <- n.Drain(ctx)
	}()
	g, err := wire.ParseGoAway(a.until(wire.TypeGoAway))
	if err != nil || g.Code != wire.CodeGoingAway || g.SpreadMS != 50 {
		t.Fatalf("%+v, %v", g, err)
	}
	if n.Ready() == nil {
		t.Fatal("a draining node says that it is ready")
	}
	a.wantClose(wire.CodeGoingAway.CloseCode())
	greeting.wantClose(wire.CodeGoingAway.CloseCode())
	if err := <-drained; err != nil {
		t.Fatal(err)
	}
}

// Both people's lists have a conversation after its first message, wherever the three
// shards are.
func TestFirstMessageReachesBothLists(t *testing.T) {
	n := start(t, Config{Shards: 16})
	user(t, n, "ada")
	a, _ := live(t, n, "ada", 1, 100)
	for i := range 10 {
		name := fmt.Sprint("peer", i)
		peer := user(t, n, name)
		a.text(wire.DirectRef(peer), 1, "hello")
		a.until(wire.TypeSent)
		listed(t, n, peer, 1)
	}
}
