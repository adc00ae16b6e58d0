// Package router finds the shard that a key belongs to. A cluster of one node has all
// of them at hand; finding the leader's node and forwarding to it builds on this.
package router

import (
	"errors"
	"fmt"

	"parley/wire"
)

// ShardsMax bounds the shards of a cluster: beyond 256 Raft groups a node spends more on
// groups than on messages.
const ShardsMax = 256

// ErrShards reports a number of shards that cannot be.
var ErrShards = errors.New("router: the number of shards must be between 1 and 256")

// A Range is the contiguous range of slots that a shard owns, both ends included.
type Range struct {
	First, Last wire.Slot
}

// A Table maps every slot to its shard. It is immutable: any goroutine may read it.
type Table struct {
	ranges []Range
	shards [wire.Slots]uint16
}

// NewTable splits the slots evenly among shards that are numbered from 0.
func NewTable(shards int) (*Table, error) {
	if shards < 1 || shards > ShardsMax {
		return nil, fmt.Errorf("%w, not %d", ErrShards, shards)
	}
	t := &Table{ranges: make([]Range, shards)}
	for i := range shards {
		first, next := i*wire.Slots/shards, (i+1)*wire.Slots/shards
		t.ranges[i] = Range{First: wire.Slot(first), Last: wire.Slot(next - 1)}
		for slot := first; slot < next; slot++ {
			t.shards[slot] = uint16(i)
		}
	}
	return t, nil
}

// Shards is the number of shards.
func (t *Table) Shards() int { return len(t.ranges) }

// Shard is the shard that owns a slot.
func (t *Table) Shard(slot wire.Slot) int { return int(t.shards[slot%wire.Slots]) }

// Range is the slots of a shard.
func (t *Table) Range(shard int) Range { return t.ranges[shard] }
