package router

import (
	"errors"
	"testing"

	"parley/wire"
)

func TestEverySlotHasOneShardAndRangesAreContiguous(t *testing.T) {
	for _, shards := range []int{1, 2, 3, 7, 8, 100, ShardsMax} {
		table, err := NewTable(shards)
		if err != nil {
			t.Fatal(err)
		}
		next := wire.Slot(0)
		for i := range table.Shards() {
			r := table.Range(i)
			if r.First != next || r.Last < r.First {
				t.Fatalf("%d shards: shard %d has %v, want it to begin at %d", shards, i, r, next)
			}
			for slot := r.First; slot <= r.Last; slot++ {
				if table.Shard(slot) != i {
					t.Fatalf("%d shards: slot %d is in shard %d, not %d", shards, slot, table.Shard(slot), i)
				}
			}
			next = r.Last + 1
		}
		if next != wire.Slots {
			t.Fatalf("%d shards end at slot %d", shards, next)
		}
	}
}

func TestNumberOfShardsIsBounded(t *testing.T) {
	for _, shards := range []int{-1, 0, ShardsMax + 1} {
		if _, err := NewTable(shards); !errors.Is(err, ErrShards) {
			t.Errorf("%d shards: %v", shards, err)
		}
	}
}
