package delivery

import (
	"sync"
	"unsafe"

	"parley/engine/shard"
)

// Recent keeps the effects that a replica of a shard has told last, bounded by bytes. All
// replicas apply the same, so a stream that one of them served can go on at another. Any
// goroutine may use it; effects are added in order.
type Recent struct {
	mu    sync.Mutex
	limit int
	ring  []*shard.Effects // from first on
	first int
	bytes int
	// All effects after floor, up to complete, are in the ring: batches without effects
	// leave no trace but that.
	floor, complete uint64
}

// NewRecent keeps at most limit bytes of effects. index is where the replica's state
// stands: what it told before is not known.
func NewRecent(index uint64, limit int) *Recent {
	return &Recent{limit: limit, floor: index, complete: index}
}

// Add keeps the effects of one applied batch. A batch that does not begin where the last
// one ended comes after a snapshot: what is before it is forgotten.
func (r *Recent) Add(e *shard.Effects) {
	if e.Index == 0 {
		return // refusals of entries that failed
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if e.Previous > r.complete {
		r.ring, r.first, r.bytes, r.floor = nil, 0, 0, e.Previous
	}
	r.complete = max(r.complete, e.Index)
	if e.Empty() {
		return
	}
	r.ring = append(r.ring, e)
	r.bytes += effectsBytes(e)
	for r.bytes > r.limit && r.first < len(r.ring) {
		oldest := r.ring[r.first]
		r.ring[r.first] = nil
		r.first++
		r.bytes -= effectsBytes(oldest)
		r.floor = oldest.Index
	}
	if r.first > len(r.ring)/2 {
		kept := copy(r.ring, r.ring[r.first:])
		clear(r.ring[kept:])
		r.ring, r.first = r.ring[:kept], 0
	}
}

// Complete is the index up to which effects were told.
func (r *Recent) Complete() uint64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.complete
}

// After lists the effects after an index, cut in the middle of a batch if need be, and
// the index up to which that is all; false if some of them are no longer kept. An index
// that the replica has not reached has nothing after it yet.
func (r *Recent) After(index uint64) (list []*shard.Effects, complete uint64, ok bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if index < r.floor {
		return nil, r.complete, false
	}
	kept := r.ring[r.first:]
	first := len(kept)
	for first > 0 && kept[first-1].Index > index {
		first--
	}
	for _, e := range kept[first:] {
		list = append(list, e.After(index))
	}
	return list, r.complete, true
}

// Bytes is how much memory the effects take, about.
func (r *Recent) Bytes() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.bytes
}

// effectsBytes is about what effects keep in memory: their lists, and the log entries that
// contents alias, which have about sendBytes more for each message.
func effectsBytes(e *shard.Effects) int {
	const sendBytes = 64
	n := int(unsafe.Sizeof(*e)) +
		len(e.Sent)*int(unsafe.Sizeof(shard.SentEffect{})) + len(e.Refused)*int(unsafe.Sizeof(shard.RefusedEffect{})) +
		len(e.Messages)*(int(unsafe.Sizeof(shard.MessageEffect{}))+sendBytes) +
		len(e.Receipts)*int(unsafe.Sizeof(shard.ReceiptEffect{})) + len(e.Listed)*int(unsafe.Sizeof(shard.ListedEffect{})) +
		len(e.Memberships)*int(unsafe.Sizeof(shard.MembershipEffect{})) +
		len(e.Own)*int(unsafe.Sizeof(shard.OwnEffect{})) + len(e.Marks)*int(unsafe.Sizeof(shard.Mark{}))
	for i := range e.Messages {
		n += len(e.Messages[i].Content.Bytes)
	}
	return n
}
