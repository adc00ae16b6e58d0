package storage

import (
	"encoding/binary"
	"sync"
)

// slabSize is the unit in which buffers take memory: 64 KiB, so that 64 shards with little
// to do hold 4 MiB, and one holds some 15 chunks.
const slabSize = 64 << 10

// Sizes of the segments that a growing chunk is made of. Each is half of what the chunk has
// so far, so that a third of the memory is lost at most, and none of it to moves.
const (
	segmentHeader   = 8 // the ref of the next one
	segmentBytesMin = 128
	segmentBytesMax = 1024
)

// A ref is a place in an arena: slab above, 17 bits of offset below (a slab of its own begins
// at 0), 48 bits in all, so that a segment's size fits beside one.
type ref uint64

const offsetBits = 17

func makeRef(slab, offset int) ref { return ref(slab)<<offsetBits | ref(offset) }

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
	if size == 0 {
		return nil // a tombstone has no place
	}
	offset := int(r & (1<<offsetBits - 1))
	return a.slabs[r>>offsetBits][offset : offset+size : offset+size]
}

// A rope is the bytes of one chunk, in segments that are linked forward. It holds no pointers.
type rope struct {
	head, tail ref
	size       uint32 // bytes in all segments
	tailUsed   uint16 // of the tail, with its header
	tailSize   uint16
}

// appendRope appends bytes to a rope; it splits them where a segment ends.
func (a *arena) appendRope(r *rope, p []byte) {
	for len(p) > 0 {
		if r.tailUsed == r.tailSize {
			a.lengthen(r)
		}
		n := copy(a.bytes(r.tail, int(r.tailSize))[r.tailUsed:], p)
		r.tailUsed += uint16(n)
		r.size += uint32(n)
		p = p[n:]
	}
}

func (a *arena) lengthen(r *rope) {
	size := min(max(int(r.size)/2, segmentBytesMin), segmentBytesMax) &^ 7
	segment := a.alloc(size)
	binary.LittleEndian.PutUint64(a.bytes(segment, segmentHeader), uint64(size)<<48)
	if r.size == 0 {
		r.head = segment
	} else {
		header := a.bytes(r.tail, segmentHeader)
		binary.LittleEndian.PutUint64(header, binary.LittleEndian.Uint64(header)|uint64(segment))
	}
	r.tail, r.tailUsed, r.tailSize = segment, segmentHeader, uint16(size)
}

// appendTo appends the bytes of a rope to dst.
func (a *arena) appendTo(dst []byte, r *rope) []byte {
	segment := r.head
	for left := int(r.size); left > 0; {
		header := binary.LittleEndian.Uint64(a.bytes(segment, segmentHeader))
		size := int(header >> 48)
		n := min(left, size-segmentHeader)
		dst = append(dst, a.bytes(segment, size)[segmentHeader:segmentHeader+n]...)
		segment, left = ref(header&(1<<48-1)), left-n
	}
	return dst
}

// release gives the slabs back. Nothing may hold bytes of the arena any more.
func (a *arena) release() {
	a.pool.put(a.slabs)
	*a = arena{pool: a.pool}
}
