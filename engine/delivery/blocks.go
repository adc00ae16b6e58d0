package delivery

const (
	// blockMin is the class of the smallest block: two numbers, a pair of people.
	blockMin = 1
	blockEnd = 32
)

// blocks are lists of numbers in one piece of memory, so that a loop with a million small
// groups has no million objects. A block has room for two to the power of its class.
// What is given back is used again for blocks of the same class. Its zero value is empty.
type blocks struct {
	arena []uint32
	free  [blockEnd]uint32 // by class: the first free block plus 1, which names the next
}

// A block is where a list lies.
type block struct {
	at     uint32
	length uint32
	class  uint8 // 0: nothing is set aside
}

// list is what is in a block, until anything is added or removed.
func (m *blocks) list(b block) []uint32 { return m.arena[b.at : b.at+b.length] }

// add puts a number at the end of a block, which may move.
func (m *blocks) add(b *block, n uint32) {
	if b.class == 0 || b.length == 1<<b.class {
		m.move(b, max(blockMin, b.class+1))
	}
	m.arena[b.at+b.length] = n
	b.length++
}

// remove takes the number at a position out and puts the last one there, which it returns.
func (m *blocks) remove(b *block, position uint32) (moved uint32) {
	b.length--
	moved = m.arena[b.at+b.length]
	m.arena[b.at+position] = moved
	switch {
	case b.length == 0:
		m.give(*b)
		*b = block{}
	case b.class > blockMin && b.length <= 1<<b.class/4:
		m.move(b, b.class-1)
	}
	return moved
}

// move gives a block another class.
func (m *blocks) move(b *block, class uint8) {
	moved := block{at: m.take(class), length: b.length, class: class}
	copy(m.arena[moved.at:], m.list(*b))
	if b.class != 0 {
		m.give(*b)
	}
	*b = moved
}

func (m *blocks) take(class uint8) (at uint32) {
	if at = m.free[class]; at != 0 {
		m.free[class] = m.arena[at-1]
		return at - 1
	}
	at = uint32(len(m.arena))
	size := 1 << class
	if need := len(m.arena) + size; need > cap(m.arena) {
		// A quarter at a time: append would double, and half would stand empty.
		grown := make([]uint32, len(m.arena), need+max(1<<8, need/4))
		copy(grown, m.arena)
		m.arena = grown
	}
	m.arena = m.arena[:len(m.arena)+size]
	return at
}

func (m *blocks) give(b block) {
	m.arena[b.at] = m.free[b.class]
	m.free[b.class] = b.at + 1
}
