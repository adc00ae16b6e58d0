package storage

import (
	"errors"
	"slices"

	"parley/wire"
)

// sequenceMax is beyond any sequence, so that adding one to it cannot wrap.
const sequenceMax = wire.NumberMax

// A foundChunk is a chunk in one of a reader's buffers that holds wanted messages.
type foundChunk struct {
	number int // of the buffer
	chunk  bufferedChunk
}

// chunkValue is a chunk's bytes: as they are if they lie in one piece, else a copy of their
// own, because what a walk hands out stays valid until the view ends.
func (r *Reader) chunkValue(f *foundChunk) []byte {
	b := r.buffers[f.number]
	r.lock(f.number)
	defer r.unlock(f.number)
	if f.chunk.head == f.chunk.tail {
		return b.arena.bytes(f.chunk.head, int(f.chunk.tailUsed))[segmentHeader:]
	}
	return b.chunkValue(make([]byte, 0, f.chunk.size), &f.chunk)
}

// gatherChunks collects the buffered chunks that overlap [from, to], the last one first.
// ingested is the last sequence that may have to be read from tables, 0 if none.
func (r *Reader) gatherChunks(prefix []byte, from, to uint64) (found []foundChunk, ingested uint64) {
	found = r.chunks[:0]
	r.chunks = nil // a walk inside this one has its own
	ingested = to
	for i, b := range r.buffers {
		b.chunks(packKey(prefix), r.lock(i), func(c *bufferedChunk) bool {
			if c.first <= ingested {
				ingested = c.first - 1
			}
			if c.first <= to && c.last >= from {
				found = append(found, foundChunk{i, *c})
			}
			return c.first > from
		})
		r.unlock(i)
		if ingested < from {
			return found, 0
		}
	}
	return found, ingested
}

// chunkPrefix begins the keys of a conversation's chunks, which must be this shard's.
func (r *Reader) chunkPrefix(c wire.Conversation) ([]byte, error) {
	slot := r.conversationSlot(c)
	return appendChunkPrefix(make([]byte, 0, packedSize), slot, c), r.owns(slot)
}

// Messages calls fn for the messages from..to (both inclusive) in ascending order, until fn
// says that it wants no more. A gap inside the range is ErrDamaged, never silent.
func (r *Reader) Messages(
	c wire.Conversation, from, to uint64, fn func(Message) (more bool, err error),
) error {
	from, to = max(from, 1), min(to, sequenceMax)
	if from > to {
		return nil
	}
	prefix, err := r.chunkPrefix(c)
	if err != nil {
		return err
	}
	found, ingested := r.gatherChunks(prefix, from, to)
	defer func() { r.chunks = found[:0] }()
	walk := messageWalk{conversation: c, from: from, to: to, next: from, fn: fn}
	if ingested > 0 {
		if err := r.ingestedForward(prefix, from, ingested, &walk); err != nil || walk.done {
			return err
		}
	}
	for i := range slices.Backward(found) {
		if err := walk.chunk(r.chunkValue(&found[i])); err != nil || walk.done {
			return err
		}
	}
	return r.reaches(c, walk.next-1, to)
}

// reaches checks the upper end of a walk or count: what a conversation holds up to a
// sequence must be there up to its head. It costs a look at the record, so it is for those
// who did not find all that they wanted: mostly who asks beyond the head.
func (r *Reader) reaches(c wire.Conversation, last, wanted uint64) error {
	if last >= wanted {
		return nil
	}
	record, _, err := r.Conversation(c)
	if err == nil && last < min(wanted, record.Head) {
		err = damaged("%s: no message %d, its head is %d", conversationText(c), last+1, record.Head)
	}
	return err
}

// ingestedForward walks the tables' chunks that hold from..to.
func (r *Reader) ingestedForward(prefix []byte, from, to uint64, walk *messageWalk) error {
	it, err := r.acquire(prefix, appendSequence(slices.Clone(prefix), to+1))
	if err != nil {
		return err
	}
	defer r.release()
	// The chunk that holds from is the last one that begins at or before it.
	ok := it.SeekLT(appendSequence(slices.Clone(prefix), from+1))
	if !ok && it.Error() == nil {
		ok = it.First()
	}
	for ; ok && !walk.done; ok = it.Next() {
		value, err := it.ValueAndErr()
		if err != nil {
			return err
		}
		if err := walk.chunk(value); err != nil {
			return err
		}
	}
	return it.Error()
}

// A messageWalk hands out the wanted messages of one chunk after the other.
type messageWalk struct {
	conversation wire.Conversation
	from, to     uint64
	fn           func(Message) (more bool, err error)
	next         uint64 // sequence that must come next; 0: any may, a descending walk begins
	top          uint64 // sequence that a descending walk began with
	done         bool
	reader       chunkReader
}

// admit checks that a message is the next one; descending walks have step -1.
func (w *messageWalk) admit(sequence uint64, step uint64) error {
	if w.next != 0 && sequence != w.next {
		return damaged("%s: sequence %d where %d should be", conversationText(w.conversation), sequence, w.next)
	}
	w.next = sequence + step
	return nil
}

// chunk hands out a chunk's messages in ascending order.
func (w *messageWalk) chunk(value []byte) error {
	if err := w.reader.open(w.conversation, value); err != nil {
		return err
	}
	var m Message
	for w.reader.next(&m) {
		if m.Sequence < w.from {
			continue
		}
		if m.Sequence > w.to {
			w.done = true
			return nil
		}
		if err := w.admit(m.Sequence, 1); err != nil {
			return err
		}
		more, err := w.fn(m)
		if err != nil || !more {
			w.done = true
			return err
		}
	}
	return w.reader.end()
}

// chunkBackward hands out a chunk's messages in descending order. messages is memory for
// them, which it returns.
func (w *messageWalk) chunkBackward(value []byte, messages []Message) ([]Message, error) {
	messages = messages[:0]
	if err := w.reader.open(w.conversation, value); err != nil {
		return messages, err
	}
	var m Message
	for w.reader.next(&m) {
		if m.Sequence >= w.from && m.Sequence <= w.to {
			messages = append(messages, m)
		}
	}
	if err := w.reader.end(); err != nil {
		return messages, err
	}
	for _, m := range slices.Backward(messages) {
		w.top = max(w.top, m.Sequence)
		if err := w.admit(m.Sequence, ^uint64(0)); err != nil {
			return messages, err
		}
		more, err := w.fn(m)
		if err != nil || !more {
			w.done = true
			return messages, err
		}
	}
	return messages, nil
}

// MessagesBackward calls fn for the messages to..from (both inclusive) in descending order,
// until fn says that it wants no more. A gap inside the range is ErrDamaged, never silent.
func (r *Reader) MessagesBackward(
	c wire.Conversation, from, to uint64, fn func(Message) (more bool, err error),
) error {
	from, to = max(from, 1), min(to, sequenceMax)
	if from > to {
		return nil
	}
	prefix, err := r.chunkPrefix(c)
	if err != nil {
		return err
	}
	found, ingested := r.gatherChunks(prefix, from, to)
	messages := r.messages
	r.messages = nil
	walk := messageWalk{conversation: c, from: from, to: to, fn: fn}
	for i := 0; i < len(found) && err == nil && !walk.done; i++ {
		messages, err = walk.chunkBackward(r.chunkValue(&found[i]), messages)
	}
	if err == nil && ingested > 0 && !walk.done {
		messages, err = r.ingestedBackward(prefix, ingested, &walk, messages)
	}
	r.chunks, r.messages = found[:0], messages
	if err != nil {
		return err
	}
	if walk.top != 0 && walk.next >= from && !walk.done {
		return damaged("%s: no message %d", conversationText(c), walk.next)
	}
	return r.reaches(c, max(walk.top, from-1), to)
}

// ingestedBackward walks the tables' chunks that hold walk.from..to, the last one first.
func (r *Reader) ingestedBackward(prefix []byte, to uint64, walk *messageWalk, messages []Message) ([]Message, error) {
	it, err := r.acquire(prefix, appendSequence(slices.Clone(prefix), to+1))
	if err != nil {
		return messages, err
	}
	defer r.release()
	for ok := it.Last(); ok && !walk.done; ok = it.Prev() {
		value, err := it.ValueAndErr()
		if err != nil {
			return messages, err
		}
		before := walk.next
		messages, err = walk.chunkBackward(value, messages)
		// A chunk without a wanted message lies before the range.
		if err != nil || walk.next == before || walk.next < walk.from {
			return messages, err
		}
	}
	return messages, it.Error()
}

// SentBefore counts the messages up to and including a sequence that user A of a direct
// conversation wrote: the count in the chunk's header, and a walk in the chunk.
func (r *Reader) SentBefore(c wire.Conversation, sequence uint64) (uint64, error) {
	if sequence == 0 {
		return 0, nil
	}
	sequence = min(sequence, sequenceMax)
	prefix, err := r.chunkPrefix(c)
	if err != nil {
		return 0, err
	}
	for i, b := range r.buffers {
		found := foundChunk{number: i}
		b.chunks(packKey(prefix), r.lock(i), func(chunk *bufferedChunk) bool {
			if chunk.first > sequence {
				return true
			}
			found.chunk = *chunk
			return false
		})
		r.unlock(i)
		if found.chunk.first != 0 {
			return r.sentBefore(c, r.chunkValue(&found), sequence)
		}
	}
	it, err := r.acquire(prefix, prefixEnd(prefix))
	if err != nil {
		return 0, err
	}
	defer r.release()
	if !it.SeekLT(appendSequence(slices.Clone(prefix), sequence+1)) {
		return 0, errors.Join(it.Error(), r.reaches(c, 0, sequence))
	}
	value, err := it.ValueAndErr()
	if err != nil {
		return 0, err
	}
	return r.sentBefore(c, value, sequence)
}

// sentBefore counts in the chunk that begins at the sequence or is the last one before it.
func (r *Reader) sentBefore(c wire.Conversation, value []byte, sequence uint64) (uint64, error) {
	var walk chunkReader
	if err := walk.open(c, value); err != nil {
		return 0, err
	}
	var m Message
	for walk.state.last < sequence && walk.next(&m) {
	}
	if err := walk.end(); err != nil {
		return 0, err
	}
	return walk.sentA, r.reaches(c, walk.state.last, sequence)
}
