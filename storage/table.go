package storage

import "slices"

// A table maps packed keys to small numbers, in the order in which the keys came. It holds
// no pointers, and finds a key with two cache misses; a Go map of the same keys costs twice
// the memory and three times the time. One goroutine writes; once frozen any number may read.
type table struct {
	slots []uint64 // upper half: of the hash; lower half: number + 1; 0: free
	keys  []packedKey
}

// Odd constants from the fractional parts of square roots, as in many mixing functions.
const (
	mixA = 0x9e3779b97f4a7c15
	mixB = 0xbb67ae8584caa73b
	mixC = 0x3c6ef372fe94f82b
)

func (k packedKey) hash() uint64 {
	h := k.a*mixA ^ (k.b+mixC)*mixB
	h ^= h >> 29
	h = (h ^ k.c*mixC) * mixA
	return h ^ h>>32
}

const tableSlotsMin = 64

// find returns the number of a key.
func (t *table) find(k packedKey) (int, bool) {
	if len(t.slots) == 0 {
		return 0, false
	}
	h := k.hash()
	mask := uint64(len(t.slots) - 1)
	for i := h & mask; ; i = (i + 1) & mask {
		slot := t.slots[i]
		if slot == 0 {
			return 0, false
		}
		if n := int(uint32(slot)) - 1; slot>>32 == h>>32 && t.keys[n] == k {
			return n, true
		}
	}
}

// insert adds a key that is not there and returns its number.
func (t *table) insert(k packedKey) int {
	if len(t.keys)*8 >= len(t.slots)*5 {
		t.grow()
	}
	t.keys = append(t.keys, k)
	t.place(k.hash(), len(t.keys))
	return len(t.keys) - 1
}

func (t *table) place(h uint64, numberPlusOne int) {
	mask := uint64(len(t.slots) - 1)
	i := h & mask
	for t.slots[i] != 0 {
		i = (i + 1) & mask
	}
	t.slots[i] = h>>32<<32 | uint64(numberPlusOne)
}

func (t *table) grow() {
	t.slots = make([]uint64, max(tableSlotsMin, 2*len(t.slots)))
	for i := range t.keys {
		t.place(t.keys[i].hash(), i+1)
	}
}

func (t *table) len() int { return len(t.keys) }

// sorted are the numbers of all keys in the order of the keys.
func (t *table) sorted() []uint32 {
	order := make([]uint32, len(t.keys))
	for i := range order {
		order[i] = uint32(i)
	}
	slices.SortFunc(order, func(x, y uint32) int { return t.keys[x].compare(t.keys[y]) })
	return order
}
