package storage

import "sync"

// slabSize is the unit in which buffers take memory: 64 KiB, so that 64 shards with little
// to do hold 4 MiB, and one holds some 15 chunks.
const slabSize = 64 << 10

// blockSizes are the sizes that a growing chunk goes through, powers of two.
const (
	blockSizeMin   = 128
	blockSizeCount = 6 // 128, 256, … 4096
)

// A ref is a place in an arena: slab in the upper half, offset in the lower.
type ref uint64

func makeRef(slab, offset int) ref { return ref(slab)<<32 | ref(offset) }

// A slabPool keeps slabs for the next buffer, so that a busy store does not have the
// garbage collector clear 64 MiB for each. Safe for concurrent use.
type slabPool struct {
	mu       sync.Mutex
	free     [][]byte
	slabsMax int
}

func (p *slabPool) get() []byte {
	p.mu.Lock()
	defer p.mu.Unlock()
	if n := len(p.free); n > 0 {
		slab := p.free[n-1]
		p.free = p.free[:n-1]
		return slab
	}
	return make([]byte, slabSize)
}

func (p *slabPool) put(slabs [][]byte) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, slab := range slabs {
		if len(slab) == slabSize && len(p.free) < p.slabsMax {
			p.free = append(p.free, slab)
		}
	}
}

// An arena holds the bytes of one buffer without a pointer for each piece. One goroutine
// writes; once frozen any number may read.
type arena struct {
	pool  *slabPool
	slabs [][]byte
	rest  int // free bytes at the end of the last slab
	used  int64
	free  [blockSizeCount][]ref // blocks that chunks grew out of
}

// alloc takes n bytes, which it does not clear.
func (a *arena) alloc(n int) ref {
	a.used += int64(n)
	if n > slabSize {
		a.slabs = append(a.slabs, make([]byte, n))
		a.rest = 0
		return makeRef(len(a.slabs)-1, 0)
	}
	if n > a.rest {
		a.used += int64(a.rest)
		a.slabs = append(a.slabs, a.pool.get())
		a.rest = slabSize
	}
	offset := slabSize - a.rest
	a.rest -= n
	return makeRef(len(a.slabs)-1, offset)
}

// bytes is the memory at a ref.
func (a *arena) bytes(r ref, size int) []byte {
	offset := int(uint32(r))
	return a.slabs[r>>32][offset : offset+size : offset+size]
}

// allocBlock takes a block for a chunk: the least size of the series that n fits, or just n.
func (a *arena) allocBlock(n int) (r ref, room int) {
	class, size := 0, blockSizeMin
	for size < n && class < blockSizeCount {
		class, size = class+1, size*2
	}
	if class == blockSizeCount {
		return a.alloc(n), n
	}
	if list := a.free[class]; len(list) > 0 {
		r = list[len(list)-1]
		a.free[class] = list[:len(list)-1]
		return r, size
	}
	return a.alloc(size), size
}

// freeBlock gives a block back for the next chunk of its size.
func (a *arena) freeBlock(r ref, room int) {
	for class, size := 0, blockSizeMin; class < blockSizeCount; class, size = class+1, size*2 {
		if size == room {
			a.free[class] = append(a.free[class], r)
			return
		}
	}
}

// release gives the slabs back. Nothing may hold bytes of the arena any more.
func (a *arena) release() {
	a.pool.put(a.slabs)
	*a = arena{pool: a.pool}
}
