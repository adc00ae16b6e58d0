package engine

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"parley/engine/shard"
	"parley/wire"
)

// A syncWorld is a user with conversations in every shard, changed by hand.
type syncWorld struct {
	t        *testing.T
	n        *Node
	user     wire.ID
	peers    []wire.ID
	counters map[wire.ID]uint64
	heads    map[wire.ID]uint64
}

func newSyncWorld(t *testing.T, peers int) *syncWorld {
	n := start(t, Config{Shards: 8})
	w := &syncWorld{t: t, n: n, user: user(t, n, "ada"), counters: map[wire.ID]uint64{}, heads: map[wire.ID]uint64{}}
	for i := range peers {
		w.peers = append(w.peers, wire.MakeID(wire.Slot(i*1117%wire.Slots), uint64(i+1)))
		w.message(i)
	}
	listed(t, n, w.user, peers)
	return w
}

// shard is where the conversation with a peer is.
func (w *syncWorld) shard(i int) uint32 {
	return w.n.routeOf(wire.DirectConversation(w.user, w.peers[i]).Slot()).id
}

// message has a peer write one more message, and waits until it is applied.
func (w *syncWorld) message(i int) {
	peer := w.peers[i]
	w.counters[peer]++
	w.heads[peer]++
	c := wire.DirectConversation(w.user, peer)
	l := w.n.replicaOf(c.Slot())
	m := shard.Send{Conversation: c, Author: peer, Device: 1, Epoch: 1, Counter: w.counters[peer], PeerKnown: true, Content: wire.Text("x")}
	if err := l.Send(&m); err != nil {
		w.t.Fatal(err)
	}
	l.Kick()
	w.await(i, func(v wire.ConversationState) bool { return v.Head == w.heads[peer] })
}

// read moves the user's read cursor to the head.
func (w *syncWorld) read(i int) {
	peer := w.peers[i]
	c := wire.DirectConversation(w.user, peer)
	l := w.n.replicaOf(c.Slot())
	if err := l.Cursor(&shard.Cursor{Conversation: c, User: w.user, Kind: wire.Read, Position: w.heads[peer]}); err != nil {
		w.t.Fatal(err)
	}
	l.Kick()
	w.await(i, func(v wire.ConversationState) bool { return v.Read == w.heads[peer] })
}

func (w *syncWorld) await(i int, done func(wire.ConversationState) bool) {
	c := wire.DirectConversation(w.user, w.peers[i])
	waitUntil(w.t, func() bool {
		v, _, err := w.n.replicaOf(c.Slot()).State(w.user, c, false)
		return err == nil && done(v)
	})
}

func (w *syncWorld) change(r *rand.Rand) {
	if i := r.IntN(len(w.peers)); r.IntN(3) == 0 {
		w.read(i)
	} else {
		w.message(i)
	}
}

func (w *syncWorld) page(token []byte, limit int) wire.Conversations {
	b, err := w.n.answerSync(w.t.Context(), caller{user: w.user}, &wire.Sync{Correlation: 1, Limit: uint64(limit), Previews: 2, Token: token})
	return conversations(w.t, b, err)
}

// A client that follows a list of pages has what the server has, whatever changes between
// two of them; pages are in order of activity, and so are all of them while nothing
// changes, without a conversation told twice.
func TestSyncPagesTellEverythingInOrder(t *testing.T) {
	w := newSyncWorld(t, 10)
	r := rand.New(rand.NewPCG(7, 7))
	known := map[wire.Ref]wire.ConversationState{}
	var token []byte
	for round := range 80 {
		for range r.IntN(16) {
			w.change(r)
		}
		still := round%2 == 0
		w.follow(r, known, &token, still)
		if c := w.page(token, 0); len(c.Items) != 0 || len(c.Token) != 0 || c.Flags != 0 {
			t.Fatalf("round %d: nothing has changed, and a sync says %+v", round, c)
		}
		fresh := w.page(nil, 0)
		if len(fresh.Items) != len(w.peers) || len(known) != len(w.peers) {
			t.Fatalf("round %d: %d conversations, %d known, want %d", round, len(fresh.Items), len(known), len(w.peers))
		}
		for _, v := range fresh.Items {
			if k := known[v.Ref]; k.Head != v.Head || k.Read != v.Read || k.Unread != v.Unread || k.Time != v.Time {
				t.Fatalf("round %d: known is %+v, the server has %+v", round, k, v)
			}
		}
	}
}

// follow reads pages to the end; still: nothing changes meanwhile.
func (w *syncWorld) follow(r *rand.Rand, known map[wire.Ref]wire.ConversationState, token *[]byte, still bool) {
	told, last := map[wire.Ref]bool{}, place{}
	for page := 0; ; page++ {
		c := w.page(*token, 1+r.IntN(3))
		for i, v := range c.Items {
			at := place{v.Time, v.Ref}
			if i > 0 && !(place{c.Items[i-1].Time, c.Items[i-1].Ref}).before(at) {
				w.t.Fatalf("page %d is not in order: %+v", page, c.Items)
			}
			if still && (told[v.Ref] || last != (place{}) && !last.before(at)) {
				w.t.Fatalf("page %d tells %v again or late", page, v.Ref)
			}
			if page > 0 && v.Preview != nil {
				w.t.Fatalf("page %d has a preview", page)
			}
			told[v.Ref], last, known[v.Ref] = true, at, v
		}
		if len(c.Token) > 0 {
			*token = append([]byte(nil), c.Token...)
		}
		if c.Flags&wire.SyncReset != 0 || page > 50*len(w.peers) {
			w.t.Fatalf("page %d: flags %d", page, c.Flags)
		}
		if c.Flags&wire.SyncMore == 0 {
			return
		}
		if !still && r.IntN(3) > 0 && page < len(w.peers) {
			w.change(r)
		}
	}
}

// A conversation that comes to the list after a token was given is found by the list's
// rows since, in whatever shard it is.
func TestSyncFindsShardsThatTheTokenDoesNotName(t *testing.T) {
	w := newSyncWorld(t, 1)
	token := w.page(nil, 0).Token
	shards := map[uint32]bool{w.shard(0): true}
	for i := 0; len(shards) < 8; i++ { // the identifier of ada, and with it where a conversation goes, is random
		w.peers = append(w.peers, wire.MakeID(wire.Slot((i+1)*1117%wire.Slots), uint64(i+100)))
		w.message(len(w.peers) - 1)
		shards[w.shard(len(w.peers)-1)] = true
		listed(t, w.n, w.user, len(w.peers))
		c := w.page(token, 0)
		if len(c.Items) != 1 || c.Items[0].Ref != wire.DirectRef(w.peers[len(w.peers)-1]) {
			t.Fatalf("conversation %d: %+v", i, c)
		}
		token = c.Token
	}
	parsed, err := parseSyncToken(token, w.n.identity.Cluster, 8)
	if err != nil || len(parsed.marks) != 8 {
		t.Fatalf("%+v, %v", parsed, err)
	}
}

// What shards of other nodes are asked and answer survives the way, and nothing else does.
func TestSyncQuestionsRoundTrip(t *testing.T) {
	q := changedQuery{caller: caller{user: 5, groups: true}, mark: mark{7, 9}, paging: true, bound: place{11, 13}, limit: 513}
	if got, err := parseChangedQuery(q.append(nil)); err != nil || got != q {
		t.Errorf("%+v, %v", got, err)
	}
	for _, limit := range []int{0, wire.SyncItemsMax + 2} {
		q.limit = limit
		if _, err := parseChangedQuery(q.append(nil)); err == nil {
			t.Errorf("limit %d was taken", limit)
		}
	}
	rows := []place{{9, 3}, {8, 4}}
	got, index, err := parsePlaces(appendPlaces(nil, rows, 77), 2)
	if err != nil || index != 77 || fmt.Sprint(got) != fmt.Sprint(rows) {
		t.Errorf("%v, %d, %v", got, index, err)
	}
	if _, _, err := parsePlaces(appendPlaces(nil, rows, 77), 1); err == nil {
		t.Error("more places than were asked for were taken")
	}
	s := statesQuery{user: 5, previews: 1, refs: []wire.Ref{2, 4, 6}}
	if got, err := parseStatesQuery(s.append(nil)); err != nil || fmt.Sprint(got) != fmt.Sprint(s) {
		t.Errorf("%+v, %v", got, err)
	}
	s.refs = make([]wire.Ref, wire.SyncItemsMax+1)
	if _, err := parseStatesQuery(s.append(nil)); err == nil {
		t.Error("too many conversations were taken")
	}
	states := make([]wire.ConversationState, 3*statesChunk)
	for i := range states {
		states[i] = wire.ConversationState{Ref: wire.Ref(2*i + 2), Head: 3, Revision: 3}
	}
	list, err := parseStates(appendStates(nil, states), len(states))
	if err != nil || len(list) != len(states) || list[len(list)-1].Ref != states[len(states)-1].Ref {
		t.Errorf("%d states, %v", len(list), err)
	}
	if _, err := parseStates(appendStates(nil, states), len(states)-1); err == nil {
		t.Error("more states than were asked for were taken")
	}
}

// A selection has the first of many, in order.
func TestSelectionKeepsTheFirst(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for _, n := range []int{0, 1, 9, 10, 11, 500} {
		s := selection[int]{keep: 10, before: func(a, b int) bool { return a < b }}
		for _, x := range r.Perm(n) {
			s.add(x)
		}
		list := s.take()
		if len(list) != min(n, 10) {
			t.Fatalf("%d of %d", len(list), n)
		}
		for i, x := range list {
			if i != x {
				t.Fatalf("of %d: %v", n, list)
			}
		}
	}
}
