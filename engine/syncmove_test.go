package engine

import (
	"context"
	"fmt"
	"testing"
	"time"

	"parley/wire"
)

// A conversation that was to come on the last page gets a message while that page is read.
func TestSyncTellsAConversationThatMovesWhileItsPageIsRead(t *testing.T) {
	n := start(t, Config{Shards: 1})
	ada := user(t, n, "ada")
	a, _ := live(t, n, "ada", 1, 100)
	const friends = 400
	ids := make([]wire.ID, friends)
	for i := range ids {
		ids[i] = user(t, n, fmt.Sprint("friend", i))
	}
	counters := map[wire.ID]uint64{}
	say := func(to wire.ID) {
		counters[to]++
		a.text(wire.DirectRef(to), counters[to], "hello")
	}
	for _, id := range ids {
		say(id)
		a.until(wire.TypeSent)
	}
	listed(t, n, ada, friends)
	ctx := context.Background()
	for round := range 100 {
		oldest := ids[0]
		first, err := n.answerSync(ctx, caller{user: ada}, &wire.Sync{Correlation: 1, Limit: friends - 1})
		page := conversations(t, first, err)
		for _, id := range ids {
			if !told(page, id) {
				oldest = id
			}
		}
		if page.Flags&wire.SyncMore == 0 || told(page, oldest) {
			t.Fatalf("round %d: first page %d items, flags %d", round, len(page.Items), page.Flags)
		}
		// The last page is read while its only conversation gets a message.
		go func() {
			time.Sleep(time.Duration(round%20) * 50 * time.Microsecond)
			say(oldest)
		}()
		second, err := n.answerSync(ctx, caller{user: ada}, &wire.Sync{Correlation: 2, Limit: friends - 1, Token: page.Token})
		last := conversations(t, second, err)
		a.until(wire.TypeSent)
		if last.Flags&wire.SyncMore == 0 && !told(last, oldest) {
			t.Fatalf("round %d: the sync ended (%d items) and never told conversation %v", round, len(last.Items), oldest)
		}
	}
}

func conversations(t *testing.T, b []byte, err error) wire.Conversations {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
	f, _, err := wire.NextFrame(b)
	if err != nil {
		t.Fatal(err)
	}
	c, err := wire.ParseConversations(f)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func told(c wire.Conversations, peer wire.ID) bool {
	for i := range c.Items {
		if c.Items[i].Ref == wire.DirectRef(peer) {
			return true
		}
	}
	return false
}
