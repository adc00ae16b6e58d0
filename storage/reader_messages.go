package storage

import (
	"slices"

	"github.com/cockroachdb/pebble/v2"

	"parley/wire"
)

// sequenceMax is beyond any sequence, so that adding one to it cannot wrap.
const sequenceMax = wire.NumberMax

// A foundChunk is a chunk in a buffer that holds wanted messages.
type foundChunk struct {
	buffer *buffer
	chunk  *bufferedChunk
}

// value is the chunk's bytes: as they are if they lie in one piece, else a copy of their
// own, because what a walk hands out stays valid until the view ends.
func (f foundChunk) value() []byte {
	if f.chunk.head == f.chunk.tail {
		return f.buffer.arena.bytes(f.chunk.head, int(f.chunk.tailUsed))[segmentHeader:]
	}
	return f.buffer.chunkValue(make([]byte, 0, f.chunk.size), f.chunk)
}

// gatherChunks collects the buffered chunks that overlap [from, to], the last one first.
// ingested is the last sequence that may have to be read from tables, 0 if none.
func (r *Reader) gatherChunks(prefix []byte, from, to uint64) (found []foundChunk, ingested uint64) {
	found = r.chunks[:0]
	r.chunks = nil // a walk inside this one has its own
	ingested = to
	for _, b := range r.buffers {
		b.chunks(packKey(prefix), func(c *bufferedChunk) bool {
			if c.first <= ingested {
				ingested = c.first - 1
			}
			if c.first <= to && c.last >= from {
				found = append(found, foundChunk{b, c})
			}
			return c.first > from
		})
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
	walk := messageWalk{conversation: c, from: from, to: to, fn: fn}
	if ingested > 0 {
		if err := r.ingestedForward(prefix, from, ingested, &walk); err != nil || walk.done {
			return err
		}
	}
	for _, f := range slices.Backward(found) {
		if err := walk.chunk(f.value()); err != nil || walk.done {
			return err
		}
	}
	return nil
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
	last         uint64 // sequence that was handed out last, 0: none
	done         bool
	reader       chunkReader
}

// admit checks that a message follows the one before; descending walks have step -1.
func (w *messageWalk) admit(sequence uint64, step uint64) error {
	if w.last != 0 && sequence != w.last+step {
		return damaged("%s: sequence %d beside %d", conversationText(w.conversation), sequence, w.last)
	}
	w.last = sequence
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
	defer func() { r.chunks, r.messages = found[:0], messages }()
	walk := messageWalk{conversation: c, from: from, to: to, fn: fn}
	for _, f := range found {
		if messages, err = walk.chunkBackward(f.value(), messages); err != nil || walk.done {
			return err
		}
	}
	if ingested == 0 {
		return nil
	}
	it, err := r.acquire(prefix, appendSequence(slices.Clone(prefix), ingested+1))
	if err != nil {
		return err
	}
	defer r.release()
	for ok := it.Last(); ok && !walk.done; ok = it.Prev() {
		messages, err = walk.ingestedBackward(it, messages)
		if err != nil {
			return err
		}
		if walk.last != 0 && walk.last <= from {
			return nil
		}
	}
	return it.Error()
}

func (w *messageWalk) ingestedBackward(it *pebble.Iterator, messages []Message) ([]Message, error) {
	value, err := it.ValueAndErr()
	if err != nil {
		return messages, err
	}
	before := w.last
	messages, err = w.chunkBackward(value, messages)
	if err == nil && w.last == before {
		w.done = true // the chunk lies before the range
	}
	return messages, err
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
	var count uint64
	counted := false
	for _, b := range r.buffers {
		b.chunks(packKey(prefix), func(chunk *bufferedChunk) bool {
			if chunk.first > sequence {
				return true
			}
			count, err = sentBefore(c, b.chunkValue(nil, chunk), sequence)
			counted = true
			return false
		})
		if counted || err != nil {
			return count, err
		}
	}
	it, err := r.acquire(prefix, prefixEnd(prefix))
	if err != nil {
		return 0, err
	}
	defer r.release()
	if !it.SeekLT(appendSequence(slices.Clone(prefix), sequence+1)) {
		return 0, it.Error()
	}
	value, err := it.ValueAndErr()
	if err != nil {
		return 0, err
	}
	return sentBefore(c, value, sequence)
}

func sentBefore(c wire.Conversation, value []byte, sequence uint64) (uint64, error) {
	var walk chunkReader
	if err := walk.open(c, value); err != nil {
		return 0, err
	}
	var m Message
	for walk.state.last < sequence && walk.next(&m) {
	}
	return walk.sentA, walk.end()
}
