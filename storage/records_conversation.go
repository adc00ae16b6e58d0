package storage

import (
	"encoding/binary"

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
	dst = binary.AppendUvarint(dst, uint64(len(c.Outboxes)))
	for i := range c.Outboxes {
		o := &c.Outboxes[i]
		dst = wire.AppendID(dst, o.Author)
		dst = wire.AppendID(dst, o.Device)
		dst = binary.LittleEndian.AppendUint64(dst, o.Epoch)
		dst = binary.AppendUvarint(dst, o.Counter)
		dst = binary.AppendUvarint(dst, o.Sequence)
	}
	dst = binary.AppendUvarint(dst, uint64(len(c.Evicted)))
	for _, hash := range c.Evicted {
		dst = binary.LittleEndian.AppendUint32(dst, hash)
	}
	return dst
}

// outboxBytesMin is the size of the smallest outbox: a count is checked against what is
// left before anything is allocated for it.
const outboxBytesMin = 6 + 6 + 8 + 1 + 1

func parseConversation(src []byte) (c Conversation, err error) {
	d := openValue(src)
	c.Head, c.Revision, c.Time = d.uint(), d.uint(), wire.Time(d.uint())
	c.Changed, c.SentA = d.uint(), d.uint()
	if n := d.upTo(min(outboxesBound, uint64(len(d.src)/outboxBytesMin))); n > 0 {
		c.Outboxes = make([]Outbox, n)
		for i := range c.Outboxes {
			c.Outboxes[i] = Outbox{
				Author: d.id(), Device: d.id(), Epoch: d.fixed64(),
				Counter: d.uint(), Sequence: d.uint(),
			}
		}
	}
	if n := d.upTo(min(evictedBound, uint64(len(d.src)/4))); n > 0 {
		c.Evicted = make([]uint32, n)
		for i := range c.Evicted {
			c.Evicted[i] = d.fixed32()
		}
	}
	return c, d.end()
}

func appendMember(dst []byte, m *Member) []byte {
	dst = append(dst, encodingVersion)
	dst = appendCursor(dst, &m.Delivered)
	return appendCursor(dst, &m.Read)
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

func parseMember(src []byte) (m Member, err error) {
	d := openValue(src)
	d.cursor(&m.Delivered)
	d.cursor(&m.Read)
	return m, d.end()
}

func (d *decoder) cursor(c *Cursor) {
	c.Position = d.uint()
	n := d.upTo(StepsMax)
	if n == 0 {
		return
	}
	c.Steps = make([]Step, n)
	last := int(n) - 1
	position, time := c.Position, uint64(0)
	for i := last; i >= 0; i-- {
		position -= d.uint()
		if i == last {
			time = d.uint()
		} else {
			time -= d.uint()
		}
		c.Steps[i] = Step{Position: position, Time: wire.Time(time)}
	}
}
