package shard

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"go.uber.org/goleak"

	"parley/raft"
	"parley/storage"
	"parley/wire"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// A node is two shards on a real store and a real Raft node, over one file system that
// can lose what was not synced. It is what the engine puts together, without network.
type node struct {
	t      *testing.T
	store  *storage.Store
	raft   *raft.Node
	shards [2]*Shard
	groups [2]*raft.Group

	mu      sync.Mutex
	waiting map[Origin]chan any // SentEffect or wire.Code
	pushed  map[wire.Conversation][]uint64
	strange int // answers that nobody waits for
}

// crashFS is a file system in memory that can be cloned as after a crash while it is in
// use. MemFS.Link takes a lock twice for reading, which never ends once CrashClone waits
// for it in between, so the two take turns.
type crashFS struct {
	*vfs.MemFS
	mu sync.RWMutex
}

func newCrashFS() *crashFS { return &crashFS{MemFS: vfs.NewCrashableMem()} }

func (fs *crashFS) Link(from, to string) error {
	fs.mu.RLock()
	defer fs.mu.RUnlock()
	return fs.MemFS.Link(from, to)
}

// crash is what a crash now would leave, with some of what was not synced.
func (fs *crashFS) crash(unsyncedPercent int, seed uint64) *crashFS {
	fs.mu.Lock()
	defer fs.mu.Unlock()
	return &crashFS{MemFS: fs.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: unsyncedPercent, RNG: rand.New(rand.NewPCG(seed, 1))})}
}

func startNode(t *testing.T, fs vfs.FS) *node {
	t.Helper()
	n := &node{t: t, waiting: make(map[Origin]chan any), pushed: make(map[wire.Conversation][]uint64)}
	fatal := func(err error) { t.Errorf("the node must stop: %v", err) }
	var err error
	if n.store, err = storage.Open(storage.Options{Path: "state", FS: fs, Fatal: fatal, FlushInterval: 50 * time.Millisecond}); err != nil {
		t.Fatal(err)
	}
	if n.raft, err = raft.Open(raft.Options{Path: "log", FS: fs, Server: "a", Fatal: fatal}); err != nil {
		t.Fatal(err)
	}
	for i := range n.shards {
		first, last := wire.Slot(i*split), wire.Slot(i*split+split-1)
		state, err := n.store.Shard(uint32(i), first, last)
		if err != nil {
			t.Fatal(err)
		}
		n.shards[i], err = Open(Config{ID: uint32(i), First: first, Last: last, Store: state, Nonce: rand.Uint64(), Sink: n,
			Now:     func() wire.Time { return wire.TimeOf(time.Now()) },
			Deliver: func(slot wire.Slot, command []byte) <-chan error { return n.shard(slot).Receive(command) }})
		if err != nil {
			t.Fatal(err)
		}
	}
	for i := range n.groups {
		g, err := n.raft.Start(t.Context(), raft.GroupConfig{ID: uint32(i), Machine: n.shards[i], Source: n.shards[i], Servers: []string{"a"}})
		if err != nil {
			t.Fatal(err)
		}
		n.groups[i] = g
		n.shards[i].Attach(g.Kick)
	}
	n.await("leadership", func() bool { return n.shards[0].Leading() && n.shards[1].Leading() })
	return n
}

func (n *node) stop() {
	if err := n.raft.Close(); err != nil {
		n.t.Error(err)
	}
	for _, s := range n.shards {
		if err := s.Close(); err != nil {
			n.t.Error(err)
		}
	}
	if err := n.store.Close(); err != nil {
		n.t.Error(err)
	}
}

func (n *node) shard(slot wire.Slot) *Shard { return n.shards[slot/split] }

func (n *node) await(what string, done func() bool) {
	n.t.Helper()
	deadline := time.Now().Add(30 * time.Second)
	for !done() {
		if time.Now().After(deadline) {
			n.t.Fatalf("no %s", what)
		}
		time.Sleep(time.Millisecond)
	}
}

// Effects implements Sink.
func (n *node) Effects(e *Effects) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, x := range e.Sent {
		n.answer(x.Origin, x)
	}
	for _, x := range e.Refused {
		n.answer(x.Origin, x.Code)
	}
	for _, m := range e.Messages {
		n.pushed[m.Conversation] = append(n.pushed[m.Conversation], m.Sequence)
	}
}

func (n *node) answer(o Origin, what any) {
	c := n.waiting[o]
	if c == nil {
		n.strange++
		return
	}
	delete(n.waiting, o)
	c <- what
}

// send sends and waits for the answer, like a session would.
func (n *node) send(m *Send) (SentEffect, wire.Code) {
	answer := make(chan any, 1)
	n.mu.Lock()
	n.waiting[m.Origin] = answer
	n.mu.Unlock()
	s := n.shard(m.Conversation.Slot())
	if err := s.Send(m); err != nil {
		n.mu.Lock()
		defer n.mu.Unlock()
		delete(n.waiting, m.Origin)
		return SentEffect{}, CodeOf(err)
	}
	s.Kick()
	switch x := (<-answer).(type) {
	case SentEffect:
		return x, 0
	case wire.Code:
		return SentEffect{}, x
	}
	panic("neither sent nor refused")
}

// TestNodeKeepsItsPromises lets pairs write to each other on real parts and crashes the
// node under them, with unsynced data lost in part, again and again. What was
// acknowledged before the crash is there, what was in flight is sent again: in the end
// each message is there once, in its author's order, and both lists hold the conversation.
func TestNodeKeepsItsPromises(t *testing.T) {
	fs := newCrashFS()
	n := startNode(t, fs)
	const pairs, lives = 8, 6
	var acknowledged [pairs]uint64
	for life := range uint64(lives) {
		var counters [pairs]atomic.Uint64
		stop := make(chan struct{})
		var writers sync.WaitGroup
		for pair := range pairs {
			counters[pair].Store(acknowledged[pair])
			writers.Go(func() {
				// The last answer was lost, says the client, and sends it again.
				for counter := max(1, acknowledged[pair]); !closed(stop); counter++ {
					n.write(pair, counter, life)
					counters[pair].Store(counter)
				}
			})
		}
		n.await("progress", func() bool { return counters[0].Load() > acknowledged[0]+20 })
		for pair := range pairs {
			acknowledged[pair] = counters[pair].Load()
		}
		fs = fs.crash(int(life)*20, life)
		close(stop)
		writers.Wait()
		n.stop()
		n = startNode(t, fs)
		for pair := range pairs {
			n.check(pair, acknowledged[pair])
		}
	}
	defer n.stop()
	n.await("delivery of rows", func() bool { return n.shards[0].Stats().Outgoing+n.shards[1].Stats().Outgoing == 0 })
	for pair := range pairs {
		for _, u := range pairUsers(pair) {
			list, err := listOf(n.shard(u.Slot()), u)
			if err != nil || len(list) != 1 {
				t.Fatalf("pair %d: list is %v, %v", pair, list, err)
			}
		}
	}
	if n.strange != 0 {
		t.Fatalf("%d answers to nobody", n.strange)
	}
}

func closed(c chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

func pairUsers(pair int) []wire.ID {
	slot := wire.Slot(pair % 8 * 500)
	return []wire.ID{wire.MakeID(slot, uint64(pair+1)), wire.MakeID(wire.Slots-1-slot, uint64(pair+1))}
}

// write sends one message until it is accepted.
func (n *node) write(pair int, counter, session uint64) {
	users := pairUsers(pair)
	m := &Send{Origin: Origin{Session: session<<16 | uint64(pair+1), Correlation: counter}, Conversation: wire.DirectConversation(users[0], users[1]), Author: users[0],
		Device: 1, Epoch: 7, Counter: counter, PeerKnown: true, Content: wire.Text(fmt.Sprintf("message %d", counter))}
	for {
		sent, code := n.send(m)
		if code == 0 {
			if sent.Sequence != counter {
				n.t.Errorf("message %d of pair %d is #%d", counter, pair, sent.Sequence)
			}
			return
		}
		if code.Class() != wire.ClassRetry {
			n.t.Errorf("message %d of pair %d: %v", counter, pair, code)
			return
		}
		time.Sleep(time.Millisecond)
	}
}

// check reads all messages of a pair: at least those that were acknowledged.
func (n *node) check(pair int, acknowledged uint64) {
	n.t.Helper()
	users := pairUsers(pair)
	c := wire.DirectConversation(users[0], users[1])
	for after, more := uint64(0), true; more; {
		page, err := n.shard(c.Slot()).Page(users[1], wire.History{Ref: wire.DirectRef(users[0]), Sequence: after})
		if err != nil || page.Head < acknowledged {
			n.t.Fatalf("pair %d has %d messages, %d were acknowledged, %v", pair, page.Head, acknowledged, err)
		}
		for _, m := range page.Messages {
			if after++; m.Sequence != after || string(m.Content.Bytes) != fmt.Sprintf("message %d", after) {
				n.t.Fatalf("pair %d: #%d is %q, want %d", pair, m.Sequence, m.Content.Bytes, after)
			}
		}
		more = page.Flags&wire.PageMoreAfter != 0
	}
}

// TestNodeUnderLoad has many writers, cursors and readers at once, and checks that every
// reader sees states that only move forward and pushes without gaps.
func TestNodeUnderLoad(t *testing.T) {
	n := startNode(t, vfs.NewMem())
	defer n.stop()
	const pairs, messages = 16, 60
	stop := make(chan struct{})
	var readers, writers sync.WaitGroup
	for pair := range pairs {
		writers.Go(func() {
			for i := range uint64(messages) {
				n.write(pair, i+1, 1)
			}
		})
		users := pairUsers(pair)
		readers.Go(func() { n.read(users[1], users[0], stop) })
	}
	writers.Wait()
	close(stop)
	readers.Wait()
	n.mu.Lock()
	defer n.mu.Unlock()
	for c, sequences := range n.pushed {
		want := make([]uint64, len(sequences))
		for i := range want {
			want[i] = uint64(i + 1)
		}
		if !slices.Equal(sequences, want) {
			t.Fatalf("pushes of %v are %v", c, sequences)
		}
	}
}

// read syncs, reads and moves cursors until stop.
func (n *node) read(self, peer wire.ID, stop chan struct{}) {
	c := wire.DirectConversation(self, peer)
	s := n.shard(c.Slot())
	var since, head, read uint64
	for {
		select {
		case <-stop:
			return
		default:
		}
		var changed []wire.Conversation
		index, err := s.Changed(n.t.Context(), self, since, func(x Changed) { changed = append(changed, x.Conversation) })
		if err != nil || index < since {
			n.t.Errorf("changed since %d: index %d, %v", since, index, err)
			return
		}
		since = index
		err = s.States(n.t.Context(), self, changed, 0, func(x wire.ConversationState) {
			if x.Head < head || x.Read < read || x.Unread != x.Head-x.Read {
				n.t.Errorf("state went from %d, %d to %+v", head, read, x)
			}
			head, read = x.Head, x.Read
		})
		if err != nil {
			n.t.Errorf("states: %v", err)
			return
		}
		if err := s.Cursor(&Cursor{Session: 9, Conversation: c, User: self, Kind: wire.Read, Position: head}); err != nil {
			n.t.Errorf("cursor: %v", err)
			return
		}
		s.Kick()
		if _, err := s.Page(self, wire.History{Ref: wire.DirectRef(peer), Mode: wire.HistoryBackward, Limit: 20}); err != nil {
			n.t.Errorf("page: %v", err)
			return
		}
		time.Sleep(time.Millisecond)
	}
}

// TestNodeCreatesUsers creates accounts on real parts, many at once with the same name.
func TestNodeCreatesUsers(t *testing.T) {
	n := startNode(t, vfs.NewMem())
	defer n.stop()
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	slot := wire.SlotOf([]byte("zoe"))
	results := make(chan error, 10)
	for i := range uint64(10) {
		go func() { results <- n.shard(slot).CreateUser(ctx, wire.MakeID(slot, i+1), "zoe", "hash") }()
	}
	created := 0
	for range 10 {
		switch err := <-results; {
		case err == nil:
			created++
		case !errors.Is(err, ErrNameTaken):
			t.Fatal(err)
		}
	}
	u, ok, err := n.shard(slot).UserByName("zoe")
	if created != 1 || !ok || err != nil || u.Name != "zoe" || u.Version != 1 {
		t.Fatalf("%d were created: %+v %v", created, u, err)
	}
	ended, cancel := context.WithCancel(ctx)
	cancel()
	if err := n.shard(slot).CreateUser(ended, wire.MakeID(slot, 99), "zoe", ""); err == nil {
		t.Fatal("a call that was given up succeeded")
	}
}
