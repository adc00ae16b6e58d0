package storage

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"testing"

	"pgregory.net/rapid"
)

// A follower is a store that follows, and the one that it follows: by entries, as Raft sends them, or
// by snapshots. What it holds must be the leader's state as of its own index, always.
type follower struct {
	t      *rapid.T
	tb     testing.TB
	u      *universe
	fs     [2]*crashFS
	stores [2]*Store
	shards [2][]*Shard
	logs   [2][]logEntry // of each shard
	latest [2]*model     // the leader's
}

func newFollower(t *rapid.T, tb testing.TB) *follower {
	p := &follower{t: t, tb: tb, u: newUniverse(2)}
	for i, r := range machineRanges {
		p.latest[i] = newModel(p.u, r[0], r[1])
	}
	for side := range p.fs {
		p.fs[side] = newCrashFS()
		p.open(side)
	}
	return p
}

func (p *follower) open(side int) {
	s, err := Open(Options{Path: testPath, FS: p.fs[side], Logger: quiet(), BufferBytesMax: 32 << 10,
		Fatal: func(err error) { p.tb.Errorf("fatal: %v", err) }})
	if err != nil {
		p.t.Fatalf("open: %v", err)
	}
	p.stores[side], p.shards[side] = s, nil
	for i, r := range machineRanges {
		shard, err := s.Shard(uint32(i+1), r[0], r[1])
		if err != nil {
			p.t.Fatalf("shard: %v", err)
		}
		p.shards[side] = append(p.shards[side], shard)
	}
}

func (p *follower) shard() int { return rapid.IntRange(0, 1).Draw(p.t, "shard") }

// lead applies entries at the leader.
func (p *follower) lead() {
	i := p.shard()
	for range rapid.IntRange(1, 6).Draw(p.t, "entries") {
		seed := rapid.Uint64().Draw(p.t, "seed")
		update := p.latest[i].step(seed)
		p.logs[i] = append(p.logs[i], logEntry{p.latest[i].record.Index, update, seed})
		if err := p.shards[0][i].Update(update); err != nil {
			p.t.Fatalf("update: %v", err)
		}
	}
}

// follow applies some of the entries that the follower lacks.
func (p *follower) follow() {
	i := p.shard()
	left := rapid.IntRange(0, 8).Draw(p.t, "entries")
	m := p.modelAt(i, p.shards[1][i].applied.Load())
	for _, e := range p.logs[i] {
		if left == 0 || e.index <= m.record.Index {
			continue
		}
		left--
		if err := p.shards[1][i].Update(m.step(e.seed)); err != nil {
			p.t.Fatalf("follow: %v", err)
		}
	}
}

// send sends a snapshot, whole or damaged.
func (p *follower) send() {
	i := p.shard()
	from, to := p.shards[0][i], p.shards[1][i]
	if from.applied.Load() == 0 {
		return
	}
	record, stream := exported(p.tb, from)
	want := error(nil)
	if to.applied.Load() >= record.Index {
		want = ErrStaleSnapshot
	} else if rapid.IntRange(0, 3).Draw(p.t, "damage") == 0 {
		stream, want = stream[:rapid.IntRange(0, len(stream)-1).Draw(p.t, "cut")], ErrSnapshot
	}
	if err := to.Install(record, bytes.NewReader(stream)); !errors.Is(err, want) {
		p.t.Fatalf("install: %v", err)
	}
}

func (p *follower) flush() {
	if err := p.stores[rapid.IntRange(0, 1).Draw(p.t, "side")].Flush(p.tb.Context()); err != nil {
		p.t.Fatalf("flush: %v", err)
	}
}

// drop takes a shard away from the follower.
func (p *follower) drop() {
	i := p.shard()
	if err := p.stores[1].DropShard(uint32(i + 1)); err != nil {
		p.t.Fatalf("drop: %v", err)
	}
	shard, err := p.stores[1].Shard(uint32(i+1), machineRanges[i][0], machineRanges[i][1])
	if err != nil {
		p.t.Fatalf("shard: %v", err)
	}
	p.shards[1][i] = shard
}

// crash goes on with what a power failure leaves of the follower.
func (p *follower) crash() {
	seed := rapid.Uint64().Draw(p.t, "crash")
	durable := [2]uint64{p.shards[1][0].Record().Index, p.shards[1][1].Record().Index}
	crashed := p.fs[1].crash(rapid.IntRange(0, 100).Draw(p.t, "unsynced percent"), rand.New(rand.NewPCG(seed, 1)))
	if err := p.stores[1].Close(); err != nil {
		p.t.Fatalf("close: %v", err)
	}
	p.fs[1] = crashed
	p.open(1)
	for i, shard := range p.shards[1] {
		if index := shard.Record().Index; index < durable[i] {
			p.t.Fatalf("shard %d is at %d after a crash, %d was durable", i, index, durable[i])
		}
	}
}

// modelAt makes the model of a shard as of an index.
func (p *follower) modelAt(i int, index uint64) *model {
	m := newModel(p.u, machineRanges[i][0], machineRanges[i][1])
	for _, e := range p.logs[i] {
		if e.index <= index {
			m.step(e.seed)
		}
	}
	if m.record.Index != index {
		p.t.Fatalf("shard %d is at %d, between two entries", i, index)
	}
	return m
}

func (p *follower) check() {
	for i, shard := range p.shards[1] {
		if err := shard.View(p.modelAt(i, shard.applied.Load()).compare); err != nil {
			p.t.Fatalf("follower's shard %d: %v", i, err)
		}
	}
}

// TestFollowerIsTheLeaderAsOfItsIndex plays entries, snapshots, drops, flushes and crashes
// in any order.
func TestFollowerIsTheLeaderAsOfItsIndex(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		p, steps := newFollower(rt, t), 0
		rt.Repeat(map[string]func(*rapid.T){
			"lead":   func(*rapid.T) { p.lead() },
			"follow": func(*rapid.T) { p.follow() },
			"send":   func(*rapid.T) { p.send() },
			"flush":  func(*rapid.T) { p.flush() },
			"drop":   func(*rapid.T) { p.drop() },
			"crash":  func(*rapid.T) { p.crash() },
			"": func(*rapid.T) {
				if steps++; steps%4 == 0 {
					p.check()
				}
			},
		})
		p.check()
		for i, shard := range p.shards[0] {
			if err := shard.View(p.latest[i].compare); err != nil {
				rt.Fatalf("leader's shard %d: %v", i, err)
			}
		}
		for side, s := range p.stores {
			if err := s.Close(); err != nil {
				rt.Fatalf("close: %v", err)
			}
			if _, err := Fsck(t.Context(), testPath, p.fs[side], func(f Finding) { rt.Errorf("fsck: %v", f) }); err != nil {
				rt.Fatalf("fsck: %v", err)
			}
		}
	})
}
