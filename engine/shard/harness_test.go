package shard

import (
	"context"
	"errors"
	"slices"
	"sync"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"parley/raft"
	"parley/storage"
	"parley/wire"
)

// recorder is a Sink that keeps what it gets.
type recorder struct {
	mu      sync.Mutex
	effects []*Effects
}

func (r *recorder) Effects(e *Effects) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.effects = append(r.effects, e)
}

func (r *recorder) take() []*Effects {
	r.mu.Lock()
	defer r.mu.Unlock()
	e := r.effects
	r.effects = nil
	return e
}

// A replica is a shard over a real store, fed by hand: what its queue packs goes to a log
// that the test keeps, so that entries can be lost, failed, replayed and shown to others.
type replica struct {
	t           testing.TB
	id          uint32
	first, last wire.Slot
	fs          *vfs.MemFS
	store       *storage.Store
	shard       *Shard
	sink        *recorder
	clock       wire.Time
	nonce       uint64
	log         []raft.Entry
	deliver     func(wire.Slot, []byte) <-chan error
}

func newReplica(t testing.TB, id uint32, first, last wire.Slot) *replica {
	r := &replica{t: t, id: id, first: first, last: last, fs: vfs.NewCrashableMem(), sink: &recorder{}}
	r.open()
	t.Cleanup(r.close)
	return r
}

// open opens store and shard and applies what the store lacks of the log.
func (r *replica) open() {
	r.t.Helper()
	store, err := storage.Open(storage.Options{Path: "state", FS: r.fs, BufferBytesMax: 1 << 20,
		Fatal: func(err error) { r.t.Errorf("storage stopped: %v", err) }})
	if err != nil {
		r.t.Fatal(err)
	}
	state, err := store.Shard(r.id, r.first, r.last)
	if err != nil {
		r.t.Fatal(err)
	}
	r.nonce += 1 << 32
	s, err := Open(Config{ID: r.id, First: r.first, Last: r.last, Store: state, Nonce: r.nonce | uint64(r.id+1)<<48,
		Now: func() wire.Time { return r.clock }, Sink: r.sink, Deliver: r.deliver})
	if err != nil {
		r.t.Fatal(err)
	}
	r.store, r.shard = store, s
	from := s.Record().Index
	for i := range r.log {
		if e := r.log[i]; e.Index > from {
			r.apply(e)
		}
	}
}

func (r *replica) close() {
	if r.store == nil {
		return
	}
	r.shard.Follow()
	if err := errors.Join(r.shard.Close(), r.store.Close()); err != nil {
		r.t.Error(err)
	}
	r.store = nil
}

// crash loses what was not synced, and comes back.
func (r *replica) crash() {
	r.t.Helper()
	clone := r.fs.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: 0})
	r.close()
	r.fs = clone
	r.sink.take()
	r.open()
}

// restart stops in good order, which flushes, and comes back.
func (r *replica) restart() {
	r.t.Helper()
	r.close()
	r.sink.take()
	r.open()
}

func (r *replica) flush() {
	r.t.Helper()
	if err := r.store.Flush(context.Background()); err != nil {
		r.t.Fatal(err)
	}
}

func (r *replica) lead() { r.shard.Lead(1) }

// pack makes an entry of what waits, and adds it to the log; nil if nothing waits.
func (r *replica) pack() (entry []raft.Entry, handle any) {
	data, handle, ok := r.shard.Next(nil)
	if !ok {
		return nil, nil
	}
	return r.propose(data), handle
}

// propose adds an entry to the log.
func (r *replica) propose(data []byte) []raft.Entry {
	r.log = append(r.log, raft.Entry{Index: r.index() + 1, Term: 1, Data: data})
	return r.log[len(r.log)-1:]
}

func (r *replica) index() uint64 {
	if len(r.log) == 0 {
		return 0
	}
	return r.log[len(r.log)-1].Index
}

func (r *replica) apply(entries ...raft.Entry) {
	r.t.Helper()
	if err := r.shard.Apply(entries); err != nil {
		r.t.Fatal(err)
	}
}

// run packs and applies until nothing waits, and returns the effects.
func (r *replica) run() []*Effects {
	r.t.Helper()
	for {
		entries, _ := r.pack()
		if entries == nil {
			return r.sink.take()
		}
		r.apply(entries...)
	}
}

func (r *replica) send(m *Send) {
	r.t.Helper()
	if err := r.shard.Send(m); err != nil {
		r.t.Fatal(err)
	}
}

func (r *replica) messages(c wire.Conversation) (all []storage.Message) {
	r.t.Helper()
	err := r.shard.config.Store.View(func(reader *storage.Reader) error {
		return reader.Messages(c, 1, 1<<40, func(m storage.Message) (bool, error) {
			m.Content.Bytes = slices.Clone(m.Content.Bytes)
			all = append(all, m)
			return true, nil
		})
	})
	if err != nil {
		r.t.Fatal(err)
	}
	return all
}

// listOf is a user's own list, as the shard of the user's home has it.
func listOf(s *Shard, user wire.ID) (list []Listed, err error) {
	_, err = s.Listed(context.Background(), user, 0, func(l Listed) { list = append(list, l) })
	return list, err
}
