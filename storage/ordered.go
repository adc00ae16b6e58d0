package storage

import (
	"slices"
	"sort"
)

// blockEntries is how many entries a block of an ordered group may have: moving half of
// them, 2 KiB, costs less than finding the place among 100,000.
const blockEntries = 256

// orderedOverheadBytes is the memory that an entry of an ordered group takes beside the
// entry itself, as blocks are half full in the mean.
const orderedOverheadBytes = 32

// An orderedEntry is an entry of a buffer by the number that its key ends with.
type orderedEntry struct {
	key    uint64
	number uint32
}

// An ordered group keeps the entries of one prefix in order, in blocks, so that a page of
// a large group's members needs no look at all the others. One goroutine writes; others
// read only while it does not.
type orderedGroup struct {
	blocks [][]orderedEntry // none is empty
}

// block is the place of the block that a key belongs to.
func (g *orderedGroup) block(key uint64) int {
	return max(0, sort.Search(len(g.blocks), func(i int) bool { return g.blocks[i][0].key > key })-1)
}

// insert adds an entry whose key is not there.
func (g *orderedGroup) insert(key uint64, number uint32) {
	if len(g.blocks) == 0 {
		g.blocks = [][]orderedEntry{{{key, number}}}
		return
	}
	i := g.block(key)
	b := g.blocks[i]
	at := sort.Search(len(b), func(j int) bool { return b[j].key > key })
	b = slices.Insert(b, at, orderedEntry{key, number})
	g.blocks[i] = b
	if len(b) > blockEntries {
		upper := slices.Clone(b[blockEntries/2:])
		g.blocks[i] = b[:blockEntries/2]
		g.blocks = slices.Insert(g.blocks, i+1, upper)
	}
}

// after calls fn for the entries with a key greater than one, in order, until it returns false.
func (g *orderedGroup) after(key uint64, fn func(orderedEntry) bool) {
	for i := g.block(key); i < len(g.blocks); i++ {
		for _, e := range g.blocks[i] {
			if e.key > key && !fn(e) {
				return
			}
		}
	}
}
