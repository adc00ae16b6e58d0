package shard

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"parley/raft"
	"parley/storage"
	"parley/wire"
)

// A benchGroup is a shard with one group of a size, all of it in tables, led here.
type benchGroup struct {
	testing.TB
	store   *storage.Store
	shard   *Shard
	index   uint64
	counter uint64
	ref     wire.ID
	users   []wire.ID // members; users[0] is the owner
	others  []wire.ID // people who are none
}

func newBenchGroup(b testing.TB, size int, sink Sink) *benchGroup {
	store, err := storage.Open(storage.Options{Path: "state", FS: vfs.NewMem(), BufferBytesMax: 4 << 30})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { store.Close() })
	state, err := store.Shard(0, 0, wire.Slots-1)
	if err != nil {
		b.Fatal(err)
	}
	s, err := Open(Config{Last: wire.Slots - 1, Store: state, Nonce: 1 << 40, Now: func() wire.Time { return 5 }, Sink: sink})
	if err != nil {
		b.Fatal(err)
	}
	s.Lead(1)
	g := &benchGroup{TB: b, store: store, shard: s, ref: wire.MakeID(7, 7)}
	r := rand.New(rand.NewPCG(1, 1))
	for len(g.users) < size+20_000 {
		g.users = append(g.users, wire.ID(1+r.Uint64N(1<<wire.IDBits-1)))
	}
	g.users, g.others = g.users[:size], g.users[size:]
	g.change(wire.Event{Kind: wire.EventCreate, Text: "bench"})
	for part := range slices.Chunk(g.users[1:], wire.EventUsersMax) {
		g.change(wire.Event{Kind: wire.EventAdd, Users: part})
	}
	g.flush()
	return g
}

func (g *benchGroup) flush() {
	if err := g.store.Flush(g.Context()); err != nil {
		g.Fatal(err)
	}
}

// queue puts something of the owner into the shard's queue.
func (g *benchGroup) queue(event bool, content wire.Content) {
	g.counter++
	err := g.shard.Send(&Send{Origin: Origin{Session: 1, Correlation: g.counter}, Conversation: wire.GroupRef(g.ref).Conversation(g.users[0]),
		Author: g.users[0], Device: 5, Epoch: 77, Counter: max(1, g.counter-1), PeerKnown: true, Event: event, Content: content})
	if err != nil {
		g.Fatal(err)
	}
}

func (g *benchGroup) queueEvent(e wire.Event) {
	e.Users = slices.Clone(e.Users)
	slices.Sort(e.Users)
	g.queue(true, wire.EventContent(wire.AppendEvent(nil, &e)))
}

// pack makes an entry of what is queued, as Raft would.
func (g *benchGroup) pack() []raft.Entry {
	data, _, _ := g.shard.Next(nil)
	g.index++
	return []raft.Entry{{Index: g.index, Term: 1, Data: data}}
}

func (g *benchGroup) apply(entries []raft.Entry) {
	if err := g.shard.Apply(entries); err != nil {
		g.Fatal(err)
	}
}

func (g *benchGroup) change(e wire.Event) {
	g.queueEvent(e)
	g.apply(g.pack())
}

// check fails the benchmark if something was refused, or the group is not as large as it should be.
func (g *benchGroup) check(size int) {
	list, err := g.shard.Members(g.users[0], wire.Members{Ref: wire.GroupRef(g.ref), Limit: 1})
	if refused := g.shard.Stats().Refused; err != nil || refused > 0 || list.Total != uint64(size) {
		g.Fatalf("%d members, want %d; %d refused; %v", list.Total, size, refused, err)
	}
}

// BenchmarkGroup is what a message, a new member (and the end of the membership) and a page of
// members cost the shard in a group of 100 and in one of 100,000, whose members are in
// tables: the size must not matter.
func BenchmarkGroup(b *testing.B) {
	for _, size := range []int{100, 99_999} {
		g := newBenchGroup(b, size, discard{})
		b.Run(fmt.Sprintf("members=%d/page", size), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				list, err := g.shard.Members(g.users[0], wire.Members{Ref: wire.GroupRef(g.ref), Limit: 50})
				if err != nil || len(list.Members) != 50 {
					b.Fatal(len(list.Members), err)
				}
			}
		})
		b.Run(fmt.Sprintf("members=%d/send", size), func(b *testing.B) {
			g.TB = b
			body := wire.Content{Bytes: make([]byte, 64)}
			g.benchmark(b, func(int) { g.queue(false, body) })
		})
		b.Run(fmt.Sprintf("members=%d/add", size), func(b *testing.B) {
			g.TB = b
			g.benchmark(b, func(i int) {
				kind := wire.EventAdd
				if i%2 == 1 {
					kind = wire.EventRemove
				}
				g.queueEvent(wire.Event{Kind: kind, Users: g.others[i/2%len(g.others):][:1]})
			})
		})
	}
}

// benchmark applies b.N commands, one an entry; an even number, so that the group ends as it began.
func (g *benchGroup) benchmark(b *testing.B, queue func(i int)) {
	list, err := g.shard.Members(g.users[0], wire.Members{Ref: wire.GroupRef(g.ref), Limit: 1})
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	b.ResetTimer()
	for i := range (b.N + 1) / 2 * 2 {
		b.StopTimer()
		queue(i)
		entry := g.pack()
		if i%4096 == 4095 {
			g.flush()
		}
		b.StartTimer()
		g.apply(entry)
	}
	b.StopTimer()
	g.check(int(list.Total))
}

// TestAGroupIsFull has a group of as many members as there may be: who leaves makes room, and
// an event that would make too many changes nothing.
func TestAGroupIsFull(t *testing.T) {
	sink := &recorder{}
	g := newBenchGroup(t, wire.GroupMembersMax-1, sink)
	sink.take()
	change := func(kind wire.EventKind, users ...wire.ID) wire.Code {
		g.change(wire.Event{Kind: kind, Users: users})
		e := sink.take()[0]
		if len(e.Refused) > 0 {
			g.counter-- // is used again
			return e.Refused[0].Code
		}
		return 0
	}
	for i, step := range []struct {
		kind  wire.EventKind
		users []wire.ID
		want  wire.Code
	}{
		{wire.EventAdd, g.others[:2], wire.CodeGroupFull},
		{wire.EventAdd, g.others[:1], 0},
		{wire.EventAdd, g.others[1:2], wire.CodeGroupFull},
		{wire.EventAdd, g.others[:1], 0}, // is a member already
		{wire.EventRemove, g.users[1:2], 0},
		{wire.EventAdd, g.others[1:2], 0},
		{wire.EventAdd, g.users[1:2], wire.CodeGroupFull},
	} {
		if code := change(step.kind, step.users...); code != step.want {
			t.Errorf("step %d: code %v, want %v", i, code, step.want)
		}
	}
	list, err := g.shard.Members(g.users[0], wire.Members{Ref: wire.GroupRef(g.ref), Limit: 1})
	if err != nil || list.Total != wire.GroupMembersMax {
		t.Errorf("%d members, %v", list.Total, err)
	}
}
