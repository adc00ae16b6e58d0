package reactor

import "github.com/panjf2000/gnet/v2"

// A state is where a connection is in its life.
type state uint8

const (
	stateFree state = iota
	// stateUpgrading is before the handshake is done. A proxy's header (PROXY v2) or
	// TLS, once they are spoken here, are states before this one.
	stateUpgrading
	stateOpen
	stateClosing // our last bytes are queued; waiting for them to leave and for the peer
	stateGone    // gnet has closed it; Closed is still to be called
)

// Flags of a record.
const (
	flagOpened     uint8 = 1 << iota // the Handler knows it
	flagBlocked                      // in the loop's blocked list
	flagFragmented                   // in the loop's table of fragments
	flagDeaf                         // closing, and what it sends makes no sense any more
	flagPeerClosed                   // closing, and its close frame has come
	flagHalfClosed                   // our side of the connection is shut down
	flagDoomed                       // to be dropped at the end of the turn
)

// A record is one connection: 64 bytes. It holds one pointer, because gnet offers no
// other way back to a connection.
type record struct {
	conn       gnet.Conn
	slot       uint32
	generation uint32
	pending    uint32 // 1 + its place in the loop's dirty list, 0: nothing pending
	need       uint32 // bytes of input that it takes to get further
	held       uint32 // bytes of input that it keeps buffered
	deadline   uint32 // second, 0: none
	due        uint32 // second of its place on the wheel, 0: not there
	next, prev uint32 // neighbours there, 1 + slot; next also links free records
	loop       uint8
	state      state
	flags      uint8
	reason     Reason
}

func (r *record) handle() Handle { return makeHandle(int(r.loop), r.generation, r.slot) }

func (r *record) is(flag uint8) bool { return r.flags&flag != 0 }

const (
	chunkShift   = 10
	chunkRecords = 1 << chunkShift // 64 KiB: a small server has one, a large one few objects
)

// A slab holds a loop's records. It grows by chunks, which never move: gnet's
// connections point into them.
type slab struct {
	loop   uint8
	chunks []*[chunkRecords]record
	used   uint32 // slots that have been taken at least once
	free   uint32 // 1 + slot of the last one given back
}

// at is the record of a slot that has been taken.
func (s *slab) at(slot uint32) *record {
	return &s.chunks[slot>>chunkShift][slot&(chunkRecords-1)]
}

// take finds a free record: the one given back last, whose memory is warm.
func (s *slab) take() *record {
	if s.free != 0 {
		r := s.at(s.free - 1)
		s.free, r.next = r.next, 0
		return r
	}
	if s.used == uint32(len(s.chunks))<<chunkShift {
		s.chunks = append(s.chunks, new([chunkRecords]record))
	}
	r := s.at(s.used)
	r.slot, r.generation, r.loop = s.used, 1, s.loop
	s.used++
	return r
}

// give takes a record back. Its next user gets another handle.
func (s *slab) give(r *record) {
	generation := r.generation + 1
	if generation > generationMax {
		generation = 1
	}
	*r = record{slot: r.slot, generation: generation, loop: r.loop, next: s.free}
	s.free = r.slot + 1
}

// find is the record that a handle names, nil if its session has ended.
func (s *slab) find(h Handle) *record {
	slot := h.Slot()
	if h.Loop() != int(s.loop) || slot >= s.used {
		return nil
	}
	r := s.at(slot)
	if r.generation != h.Generation() || r.state != stateOpen && r.state != stateClosing {
		return nil
	}
	return r
}
