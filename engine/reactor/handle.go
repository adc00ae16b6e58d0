package reactor

// A Handle names a session on this node for as long as it lives: loop in 8 bits,
// generation in 24, slot in 32. A handle of a session that ended names nothing, even
// when its slot is in use again. 0 is no handle.
type Handle uint64

const (
	loopShift       = 56
	generationShift = 32
	// LoopsMax bounds the loops of a server: a handle has 8 bits for them.
	LoopsMax = 256
	// generationMax is the last generation of a slot; 1 follows, because 0 would allow
	// a handle of 0.
	generationMax = 1<<24 - 1
)

func makeHandle(loop int, generation, slot uint32) Handle {
	return Handle(uint64(loop)<<loopShift | uint64(generation)<<generationShift | uint64(slot))
}

// Loop is the index of the session's loop.
func (h Handle) Loop() int { return int(h >> loopShift) }

// Generation counts the sessions that have used the slot.
func (h Handle) Generation() uint32 { return uint32(h>>generationShift) & generationMax }

// Slot is the session's place in its loop's slab: small, dense and used again, so that
// a caller can keep its own sessions in a slab beside it.
func (h Handle) Slot() uint32 { return uint32(h) }
