package shard

import (
	"fmt"
	"testing"

	"parley/raft"
	"parley/storage"
	"parley/wire"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// discard is a Sink without sessions.
type discard struct{}

func (discard) Effects(*Effects) {}

// BenchmarkApply applies sends that are in entries already, as a leader does: what a
// message costs between the log and the write buffer. Flushes are not in the figure: the
// buffer is emptied outside of the timer.
func BenchmarkApply(b *testing.B) {
	for _, size := range []int{8, 64, 512} {
		b.Run(fmt.Sprintf("sends=%d", size), func(b *testing.B) { benchmarkApply(b, size, 100) })
	}
	b.Run("sends=64/pairs=20000", func(b *testing.B) { benchmarkApply(b, 64, 20_000) })
}

func benchmarkApply(b *testing.B, size, pairs int) {
	store, err := storage.Open(storage.Options{Path: "state", FS: vfs.NewMem(), BufferBytesMax: 4 << 30})
	if err != nil {
		b.Fatal(err)
	}
	defer store.Close()
	state, err := store.Shard(0, 0, wire.Slots-1)
	if err != nil {
		b.Fatal(err)
	}
	s, err := Open(Config{Last: wire.Slots - 1, Store: state, Nonce: 1 << 40, Now: func() wire.Time { return 5 }, Sink: discard{}})
	if err != nil {
		b.Fatal(err)
	}
	s.Lead(1)
	body := make([]byte, 64)
	counters := make([]uint64, pairs)
	index, next := uint64(0), 0
	b.ReportAllocs()
	b.ResetTimer()
	for done := 0; done < b.N; done += size {
		b.StopTimer()
		for range size {
			pair := next % pairs
			next++
			counters[pair]++
			x, y := wire.MakeID(wire.Slot(pair%wire.Slots), uint64(2*pair+1)), wire.MakeID(wire.Slot(pair%wire.Slots), uint64(2*pair+2))
			err := s.Send(&Send{Origin: Origin{1, uint64(next)}, Conversation: wire.DirectConversation(x, y), Author: x, Device: 5,
				Epoch: 77, Counter: counters[pair], PeerKnown: true, Content: wire.Content{Bytes: body}})
			if err != nil {
				b.Fatal(err)
			}
		}
		data, _, _ := s.Next(nil)
		index++
		entries := []raft.Entry{{Index: index, Term: 1, Data: data}}
		if index%4096 == 0 {
			if err := store.Flush(b.Context()); err != nil {
				b.Fatal(err)
			}
		}
		b.StartTimer()
		if err := s.Apply(entries); err != nil {
			b.Fatal(err)
		}
	}
	b.StopTimer()
	if refused := s.Stats().Refused; refused > 0 {
		b.Fatalf("%d sends were refused", refused)
	}
}
