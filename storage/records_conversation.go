package storage

import (
	"encoding/binary"
	"slices"

	"parley/wire"
)

// Bounds of what a conversation's record may hold, so that a damaged count cannot ask for memory.
const (
	outboxesBound = 1 << 16
	evictedBound  = 1 << 20
)

func appendConversation(dst []byte, c *Conversation) []byte {
	dst = append(dst, encodingVersion)
	dst = binary.AppendUvarint(dst, c.Head)
	dst = binary.AppendUvarint(dst, c.Revision)
	dst = binary.AppendUvarint(dst, uint64(c.Time))
	dst = binary.AppendUvarint(dst, c.Changed)
	dst = binary.AppendUvarint(dst, c.SentA)
	return appendMemory(dst, &c.Memory)
}

// appendMemory appends the outboxes of a direct conversation, with their authors.
func appendMemory(dst []byte, m *Memory) []byte {
	dst = binary.AppendUvarint(dst, uint64(len(m.Outboxes)))
	for i := range m.Outboxes {
		o := &m.Outboxes[i]
		dst = wire.AppendID(dst, o.Author)
		dst = appendOutbox(dst, o)
	}
	return appendEvicted(dst, m.Evicted)
}

func appendOutbox(dst []byte, o *Outbox) []byte {
	dst = wire.AppendID(dst, o.Device)
	dst = binary.LittleEndian.AppendUint64(dst, o.Epoch)
	dst = binary.AppendUvarint(dst, o.Counter)
	return binary.AppendUvarint(dst, o.Sequence)
}

func appendEvicted(dst []byte, evicted []uint32) []byte {
	dst = binary.AppendUvarint(dst, uint64(len(evicted)))
	for _, hash := range evicted {
		dst = binary.LittleEndian.AppendUint32(dst, hash)
	}
	return dst
}

// outboxBytesMin is the size of the smallest outbox without its author: a count is
// checked against what is left before anything is allocated for it.
const outboxBytesMin = 6 + 8 + 1 + 1

func parseConversation(src []byte) (c Conversation, err error) {
	d := openValue(src)
	c.Head, c.Revision, c.Time = d.uint(), d.uint(), wire.Time(d.uint())
	c.Changed, c.SentA = d.uint(), d.uint()
	if n := d.upTo(min(outboxesBound, uint64(len(d.src)/(idSize+outboxBytesMin)))); n > 0 {
		c.Outboxes = make([]Outbox, n)
		for i := range c.Outboxes {
			author := d.id()
			c.Outboxes[i] = d.outbox(author)
		}
	}
	c.Evicted = d.evicted(nil)
	return c, d.end()
}

func (d *decoder) outbox(author wire.ID) Outbox {
	return Outbox{Author: author, Device: d.id(), Epoch: d.fixed64(), Counter: d.uint(), Sequence: d.uint()}
}

// evicted reads hashes into room that is reused.
func (d *decoder) evicted(room []uint32) []uint32 {
	n := d.upTo(min(evictedBound, uint64(len(d.src)/4)))
	if n > 0 {
		room = slices.Grow(room[:0], int(n))
	}
	for range n {
		room = append(room, d.fixed32())
	}
	return room
}

// appendOutboxes appends the outboxes of one member of a group, whom the key names.
func appendOutboxes(dst []byte, m *Memory) []byte {
	dst = binary.AppendUvarint(append(dst, encodingVersion), uint64(len(m.Outboxes)))
	for i := range m.Outboxes {
		dst = appendOutbox(dst, &m.Outboxes[i])
	}
	return appendEvicted(dst, m.Evicted)
}

// parseOutboxes reads into the room that m has.
func parseOutboxes(user wire.ID, src []byte, m *Memory) error {
	d := openValue(src)
	m.Outboxes, m.Evicted = m.Outboxes[:0], m.Evicted[:0]
	for n := d.upTo(min(outboxesBound, uint64(len(d.src)/outboxBytesMin))); n > 0; n-- {
		m.Outboxes = append(m.Outboxes, d.outbox(user))
	}
	m.Evicted = d.evicted(m.Evicted)
	return d.end()
}

// appendCursor writes the steps as differences, newest first and beginning at the
// position: they are small, and a fresh step then changes few bytes.
func appendCursor(dst []byte, c *Cursor) []byte {
	dst = binary.AppendUvarint(dst, c.Position)
	dst = binary.AppendUvarint(dst, uint64(len(c.Steps)))
	last := len(c.Steps) - 1
	position, time := c.Position, uint64(0)
	for i := last; i >= 0; i-- {
		s := &c.Steps[i]
		dst = binary.AppendUvarint(dst, position-s.Position)
		if i == last {
			dst = binary.AppendUvarint(dst, uint64(s.Time))
		} else {
			dst = binary.AppendUvarint(dst, time-uint64(s.Time))
		}
		position, time = s.Position, uint64(s.Time)
	}
	return dst
}

func (d *decoder) cursor(c *Cursor) {
	c.Position = d.uint()
	n := int(d.upTo(StepsMax))
	if n == 0 {
		c.Steps = c.Steps[:0]
		return
	}
	c.Steps = slices.Grow(c.Steps[:0], n)[:n]
	position, time := c.Position, uint64(0)
	for i := n - 1; i >= 0; i-- {
		position -= d.uint()
		if i == n-1 {
			time = d.uint()
		} else {
			time -= d.uint()
		}
		c.Steps[i] = Step{Position: position, Time: wire.Time(time)}
	}
}
