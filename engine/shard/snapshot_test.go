package shard

import (
	"bytes"
	"errors"
	"io"
	"testing"

	"parley/raft"
	"parley/storage"
	"parley/wire"
)

// export is what a replica would be sent.
func (r *replica) export() (raft.Record, []byte) {
	r.t.Helper()
	e, err := r.shard.Export(r.t.Context())
	if err != nil {
		r.t.Fatal(err)
	}
	b, err := io.ReadAll(e.Reader)
	if err = errors.Join(err, e.Reader.Close()); err != nil || int64(len(b)) != e.Size {
		r.t.Fatalf("%d bytes of %d: %v", len(b), e.Size, err)
	}
	return e.Record, b
}

// install brings a replica to where another one is, if that is further.
func (r *replica) install(from *replica) {
	r.t.Helper()
	if from.shard.Stats().Applied <= r.shard.Stats().Applied {
		return
	}
	record, b := from.export()
	if err := r.shard.Install(record, bytes.NewReader(b)); err != nil {
		r.t.Fatal(err)
	}
	if got := r.shard.Stats().Applied; got != record.Index {
		r.t.Fatalf("applied is %d after the install of %d", got, record.Index)
	}
}

// TestInstallForgetsWhatWasCached installs a state over one of which conversations are
// cached, and rows of the cross-shard outbox are known: what comes next is applied to the
// new state, by both replicas alike.
func TestInstallForgetsWhatWasCached(t *testing.T) {
	l, f := newReplica(t, 0, 0, split-1), newReplica(t, 0, 0, split-1)
	l.lead()
	a, b := wire.MakeID(1, 1), wire.MakeID(2, 2)
	c := wire.DirectConversation(a, b)
	for c.Slot() >= split {
		b++
		c = wire.DirectConversation(a, b)
	}
	counter := uint64(0)
	send := func(n int) {
		for range n {
			counter++
			l.send(&Send{Origin: Origin{Session: 1, Correlation: counter}, Conversation: c, Author: a, Device: 1, Epoch: 7, Counter: counter, PeerKnown: true, Content: wire.Text("text")})
			l.run()
		}
	}
	send(3)
	f.apply(l.log...) // the conversation is cached with three messages
	if f.shard.Stats().Cached == 0 {
		t.Fatal("nothing is cached")
	}
	send(10)
	outgoing := l.shard.Stats().Outgoing
	f.install(l)
	if got := f.shard.Stats(); got.Outgoing != outgoing || got.Cached != 0 {
		t.Errorf("after the install %+v; %d rows are outgoing", got, outgoing)
	}
	before := len(l.log)
	send(5)
	f.sink.take()
	f.apply(l.log[before:]...)
	if l, f := len(l.messages(c)), len(f.messages(c)); l != 18 || f != 18 {
		t.Errorf("%d and %d messages", l, f)
	}
	l.restart()
	f.restart()
	if l, f := len(l.messages(c)), len(f.messages(c)); l != 18 || f != 18 {
		t.Errorf("%d and %d messages after a restart", l, f)
	}
}

// TestRefusedInstallLeavesTheShardUsable installs garbage, and an old state.
func TestRefusedInstallLeavesTheShardUsable(t *testing.T) {
	l := newReplica(t, 0, 0, split-1)
	l.lead()
	done := l.shard.queue.control(appendList(nil, &command{kind: commandListAdd, user: wire.MakeID(1, 1), conversation: wire.DirectConversation(wire.MakeID(1, 1), wire.MakeID(2, 2)), version: 1}), 1)
	l.run()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	record, b := l.export()
	if err := l.shard.Install(record, bytes.NewReader(b)); !errors.Is(err, storage.ErrStaleSnapshot) {
		t.Errorf("what is applied: %v", err)
	}
	record.Index += 100
	if err := l.shard.Install(record, bytes.NewReader(b)); !errors.Is(err, storage.ErrSnapshot) {
		t.Errorf("under another record: %v", err)
	}
	if err := l.shard.Install(record, bytes.NewReader(b[:100])); !errors.Is(err, storage.ErrSnapshot) {
		t.Errorf("cut short: %v", err)
	}
	if got := l.shard.Stats().Applied; got != record.Index-100 {
		t.Errorf("applied is %d", got)
	}
}
