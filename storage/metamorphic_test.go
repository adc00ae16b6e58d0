package storage

import (
	"math/rand/v2"
	"testing"

	"pgregory.net/rapid"

	"parley/wire"
)

const testPath = "/data/state"

// A machine is a store of two shards beside their models and their logs, which stand for
// Raft: after a crash what was lost is applied again.
type machine struct {
	t      *rapid.T
	tb     testing.TB
	fs     *crashFS
	store  *Store
	shards []*Shard
	models []*model
	logs   [][]logEntry
	u      *universe
	buffer int64
}

type logEntry struct {
	index  uint64
	update func(w *Writer) error
	seed   uint64
}

var machineRanges = [][2]wire.Slot{{0, 2047}, {2048, wire.Slots - 1}}

func newMachine(t *rapid.T, tb testing.TB) *machine {
	m := &machine{t: t, tb: tb, fs: newCrashFS(), u: newUniverse(2), logs: make([][]logEntry, 2)}
	// A small buffer is flushed in the background all the time, so that crashes fall into it.
	m.buffer = rapid.SampledFrom([]int64{16 << 10, 1 << 20}).Draw(t, "buffer")
	for _, r := range machineRanges {
		m.models = append(m.models, newModel(m.u, r[0], r[1]))
	}
	m.open()
	return m
}

func (m *machine) open() {
	s, err := Open(Options{Path: testPath, FS: m.fs, Logger: quiet(), BufferBytesMax: m.buffer,
		Fatal: func(err error) { m.tb.Errorf("fatal: %v", err) }})
	if err != nil {
		m.t.Fatalf("open: %v", err)
	}
	m.store, m.shards = s, nil
	for i, r := range machineRanges {
		shard, err := s.Shard(uint32(i+1), r[0], r[1])
		if err != nil {
			m.t.Fatalf("shard: %v", err)
		}
		m.shards = append(m.shards, shard)
	}
}

func (m *machine) check() {
	for i, shard := range m.shards {
		if err := shard.View(m.models[i].compare); err != nil {
			m.t.Fatalf("shard %d: %v", i, err)
		}
	}
}

func (m *machine) update() {
	i := rapid.IntRange(0, 1).Draw(m.t, "shard")
	seed := rapid.Uint64().Draw(m.t, "seed")
	update := m.models[i].step(seed)
	m.logs[i] = append(m.logs[i], logEntry{m.models[i].record.Index, update, seed})
	err := m.shards[i].Update(func(w *Writer) error {
		if err := update(w); err != nil {
			return err
		}
		if seed%4 == 0 { // a writer reads its own writes
			return m.models[i].compare(&w.Reader)
		}
		return nil
	})
	if err != nil {
		m.t.Fatalf("update: %v", err)
	}
}

func (m *machine) flush() {
	if err := m.store.Flush(m.tb.Context()); err != nil {
		m.t.Fatalf("flush: %v", err)
	}
	for i, shard := range m.shards {
		if got := shard.Record().Index; got != m.models[i].record.Index {
			m.t.Fatalf("after a flush shard %d is durable up to %d, want %d", i, got, m.models[i].record.Index)
		}
	}
}

func (m *machine) reopen() {
	if err := m.store.Close(); err != nil {
		m.t.Fatalf("close: %v", err)
	}
	m.open()
}

// crash goes on with what a power failure leaves: every file synced, and a random share of
// what was not. Each shard must be exactly as it was at its record; then the log is replayed.
func (m *machine) crash() {
	seed := rapid.Uint64().Draw(m.t, "crash")
	percent := rapid.IntRange(0, 100).Draw(m.t, "unsynced percent")
	durable := []uint64{m.shards[0].Record().Index, m.shards[1].Record().Index}
	crashed := m.fs.crash(percent, rand.New(rand.NewPCG(seed, 1)))
	if err := m.store.Close(); err != nil {
		m.t.Fatalf("close: %v", err)
	}
	m.fs = crashed
	m.open()
	for i, shard := range m.shards {
		index := shard.Record().Index
		if index < durable[i] {
			m.t.Fatalf("shard %d is at %d after a crash, %d was durable", i, index, durable[i])
		}
		m.rebuild(i, index)
	}
	m.check()
	for i, shard := range m.shards {
		for _, e := range m.logs[i] {
			if e.index > shard.Record().Index {
				if err := shard.Update(m.models[i].step(e.seed)); err != nil {
					m.t.Fatalf("replay: %v", err)
				}
			}
		}
	}
}

// rebuild makes the model of a shard as it was at a log index.
func (m *machine) rebuild(i int, index uint64) {
	old := m.models[i]
	m.models[i] = newModel(m.u, old.first, old.last)
	for _, e := range m.logs[i] {
		if e.index > index {
			break
		}
		m.models[i].step(e.seed)
	}
	if got := m.models[i].record.Index; got != index {
		m.t.Fatalf("shard %d came back at index %d, between two entries", i, index)
	}
}

// TestMetamorphic plays random updates, flushes, restarts and crashes and compares all that
// can be read with a model every few steps.
func TestMetamorphic(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		m, steps := newMachine(rt, t), 0
		rt.Repeat(map[string]func(*rapid.T){
			"update": func(*rapid.T) {
				for range 4 {
					m.update()
				}
			},
			"flush":  func(*rapid.T) { m.flush() },
			"reopen": func(*rapid.T) { m.reopen() },
			"crash":  func(*rapid.T) { m.crash() },
			"": func(*rapid.T) { // reading everything costs more than doing it
				if steps++; steps%4 == 0 {
					m.check()
				}
			},
		})
		m.check()
		if err := m.store.Close(); err != nil {
			rt.Fatalf("close: %v", err)
		}
		sum, err := Fsck(t.Context(), testPath, m.fs, func(f Finding) { rt.Errorf("fsck: %v", f) })
		if err != nil {
			rt.Fatalf("fsck: %v", err)
		}
		want := 0
		for _, model := range m.models {
			for _, list := range model.messages {
				want += len(list)
			}
		}
		if sum.Messages != int64(want) {
			rt.Fatalf("fsck saw %d messages, want %d", sum.Messages, want)
		}
	})
}
