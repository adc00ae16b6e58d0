package storage

import (
	"encoding/binary"

	"parley/wire"
)

// chunkBytesMax is where a chunk ends: about 50 short messages. A longer message has a
// chunk of its own.
const chunkBytesMax = 4 << 10

// Flags of a message in a chunk, in the low four bits of its first number; the author's
// place in the chunk's table is above them. The fourth bit is reserved for changes.
const (
	messageExtended = 1 << 0 // the content begins with an extension block
	messagePrevious = 1 << 1 // the distance to the outbox's previous message follows
	messageRevision = 1 << 2 // the revision skipped: by how much follows
	messageReserved = 1 << 3
	authorShift     = 4
)

// headerBytesMax and messageBytesMax bound what a chunk's header and a message without its
// content take.
const (
	headerBytesMax  = 1 + 4*binary.MaxVarintLen64
	messageBytesMax = 5*binary.MaxVarintLen64 + 6
)

// A chunkState is the end of a chunk that is being written: all that appending needs to
// know. It holds no pointers, so that a million of them cost the garbage collector nothing.
type chunkState struct {
	first, last uint64 // sequences; first 0: no chunk
	time        uint64 // of the last message
	revision    uint64 // of the last message
}

// follows reports whether a message can go into the same chunk: differences are unsigned.
func (s *chunkState) follows(m *Message) bool {
	return s.first != 0 && m.Sequence == s.last+1 &&
		uint64(m.Time) >= s.time && m.Revision > s.revision
}

// appendChunkHeader begins a chunk whose first message is m. sentA is how many messages user
// A wrote before it; only direct conversations have it.
func appendChunkHeader(dst []byte, s *chunkState, direct bool, sentA uint64, m *Message) []byte {
	*s = chunkState{
		first: m.Sequence, last: m.Sequence - 1,
		time: uint64(m.Time), revision: m.Revision - 1,
	}
	dst = append(dst, encodingVersion)
	dst = binary.AppendUvarint(dst, m.Sequence)
	dst = binary.AppendUvarint(dst, uint64(m.Time))
	dst = binary.AppendUvarint(dst, m.Revision-m.Sequence)
	if direct {
		dst = binary.AppendUvarint(dst, sentA)
	}
	return dst
}

// appendMessageHead appends all of a message but its content, which must follow. Its author
// has the given place in the chunk's table; fresh says that it is new there, so that the
// identifier follows.
func appendMessageHead(dst []byte, s *chunkState, author int, fresh bool, m *Message) []byte {
	head := uint64(author) << authorShift
	skipped := m.Revision - s.revision - 1
	if m.Content.Extended {
		head |= messageExtended
	}
	if m.Previous != 0 {
		head |= messagePrevious
	}
	if skipped != 0 {
		head |= messageRevision
	}
	dst = binary.AppendUvarint(dst, head)
	if fresh {
		dst = wire.AppendID(dst, m.Author)
	}
	if m.Previous != 0 {
		dst = binary.AppendUvarint(dst, m.Sequence-m.Previous)
	}
	dst = binary.AppendUvarint(dst, uint64(m.Time)-s.time)
	if skipped != 0 {
		dst = binary.AppendUvarint(dst, skipped)
	}
	dst = binary.AppendUvarint(dst, uint64(len(m.Content.Bytes)))
	s.last, s.time, s.revision = m.Sequence, uint64(m.Time), m.Revision
	return dst
}

// A chunkReader walks the messages of one chunk from its first.
type chunkReader struct {
	decoder
	state   chunkState
	direct  bool
	sentA   uint64 // messages of user A before the next one
	userA   wire.ID
	authors []wire.ID
	pair    [2]wire.ID // backs authors of a direct conversation
}

// open reads the header. The reader may be used again for the next chunk.
func (r *chunkReader) open(c wire.Conversation, value []byte) error {
	r.decoder = openValue(value)
	r.direct = c.Kind == wire.Direct
	first, time := r.uint(), r.uint()
	revision := first + r.uint()
	r.sentA, r.authors = 0, r.authors[:0]
	if r.direct {
		r.sentA = r.uint()
		r.userA = c.A
		r.pair = [2]wire.ID{c.A, c.B}
		r.authors = r.pair[:]
	}
	if r.err == nil && (first == 0 || revision < first || len(r.src) == 0) {
		r.fail("chunk header")
	}
	r.state = chunkState{first: first, last: first - 1, time: time, revision: revision - 1}
	return r.err
}

// next reads one message; its content aliases the chunk. false means the end or an error.
func (r *chunkReader) next(m *Message) bool {
	if len(r.src) == 0 || r.err != nil {
		return false
	}
	head := r.uint()
	author := r.author(head >> authorShift)
	m.Sequence = r.state.last + 1
	m.Previous = 0
	if head&messagePrevious != 0 {
		distance := r.uint()
		if distance == 0 || distance >= m.Sequence {
			r.fail("previous message of sequence %d", m.Sequence)
		}
		m.Previous = m.Sequence - distance
	}
	m.Time = wire.Time(r.state.time + r.uint())
	m.Revision = r.state.revision + 1
	if head&messageRevision != 0 {
		skipped := r.uint()
		m.Revision += skipped
		if skipped == 0 {
			r.fail("revision of sequence %d", m.Sequence)
		}
	}
	m.Content.Extended = head&messageExtended != 0
	m.Content.Bytes = r.take(r.upTo(wire.ContentBytesMax))
	begins := m.Sequence == r.state.first // the header has its time and revision
	if head&messageReserved != 0 || uint64(m.Time) < r.state.time || m.Revision <= r.state.revision ||
		begins && (uint64(m.Time) != r.state.time || head&messageRevision != 0) {
		r.fail("flags, time or revision of sequence %d", m.Sequence)
	}
	if r.err != nil {
		return false
	}
	m.Author = author
	r.state.last, r.state.time, r.state.revision = m.Sequence, uint64(m.Time), m.Revision
	if r.direct && author == r.userA {
		r.sentA++
	}
	return true
}

// author looks up the chunk's table; the next free place announces a new author.
func (r *chunkReader) author(place uint64) wire.ID {
	if place < uint64(len(r.authors)) {
		return r.authors[place]
	}
	if r.direct || place > uint64(len(r.authors)) {
		r.fail("author %d of a chunk", place)
		return 0
	}
	id := r.id()
	if r.err != nil {
		return 0
	}
	for _, known := range r.authors {
		if known == id {
			r.fail("author %v twice in a chunk", id)
			return 0
		}
	}
	r.authors = append(r.authors, id)
	return id
}

// end reports why next stopped: nil at the end of a whole chunk.
func (r *chunkReader) end() error { return r.err }
