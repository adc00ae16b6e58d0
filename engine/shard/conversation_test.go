package shard

import (
	"testing"

	"parley/wire"
)

// TestCacheKeepsTheLastUsed fills a small cache: those used longest ago go, but none with
// changes that are not written, and what went comes back from the store.
func TestCacheKeepsTheLastUsed(t *testing.T) {
	r := newReplica(t, 0, 0, wire.Slots-1)
	r.lead()
	m := &r.shard.machine
	m.cache = newConversationCache(4)
	counters := make(map[wire.ID]uint64)
	send := func(peer wire.ID) {
		counters[peer]++
		r.send(&Send{Origin: Origin{Session: 1, Correlation: counters[peer]}, Conversation: wire.DirectConversation(1, peer), Author: 1, Device: 1, Epoch: 1,
			Counter: counters[peer], PeerKnown: true, Content: wire.Text("x")})
	}
	cached := func() (peers []wire.ID) {
		for v := m.cache.ends.older; v != &m.cache.ends; v = v.older {
			peers = append(peers, v.key.B)
		}
		return peers
	}
	for _, step := range []struct{ peers, want []wire.ID }{
		{[]wire.ID{2, 3, 4, 5}, []wire.ID{5, 4, 3, 2}},
		{[]wire.ID{2}, []wire.ID{2, 5, 4, 3}},
		{[]wire.ID{6}, []wire.ID{6, 2, 5, 4}},
		{[]wire.ID{3, 3}, []wire.ID{3, 6, 2, 5}},
		// More than fit are changed in one batch: all stay until they are written.
		{[]wire.ID{2, 3, 4, 5, 6, 7}, []wire.ID{7, 6, 5, 4, 3, 2}},
		{[]wire.ID{8}, []wire.ID{8, 7, 6, 5}},
	} {
		for _, peer := range step.peers {
			send(peer)
		}
		r.run()
		got := cached()
		if len(got) != len(step.want) || len(got) != len(m.cache.values) {
			t.Fatalf("after %v the cache holds %v (%d), want %v", step.peers, got, len(m.cache.values), step.want)
		}
		for i := range got {
			if got[i] != step.want[i] {
				t.Fatalf("after %v the cache holds %v, want %v", step.peers, got, step.want)
			}
		}
	}
	for peer, n := range counters {
		if got := r.messages(wire.DirectConversation(1, peer)); uint64(len(got)) != n {
			t.Fatalf("conversation with %d has %d messages, want %d", peer, len(got), n)
		}
	}
}
