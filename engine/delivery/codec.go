package delivery

import (
	"encoding/binary"
	"errors"
	"fmt"

	"parley/wire"
)

// ErrBadMessage reports a message of another node that cannot be read: the two nodes run
// versions that do not know each other, or something between them is broken.
var ErrBadMessage = errors.New("delivery: not a message that one node sends another")

// A decoder reads what the append functions here write; the first error sticks. Every
// value has one encoding and only that one is taken, so what was read can be compared
// with what was written.
type decoder struct {
	src []byte
	err error
}

func (d *decoder) fail(what string) {
	if d.err == nil {
		d.err = fmt.Errorf("%w: %s", ErrBadMessage, what)
	}
	d.src = nil
}

// end is the error of what was read, also if anything is left.
func (d *decoder) end() error {
	if len(d.src) > 0 {
		d.fail("too long")
	}
	return d.err
}

func (d *decoder) byte() byte {
	if len(d.src) == 0 {
		d.fail("ends early")
		return 0
	}
	b := d.src[0]
	d.src = d.src[1:]
	return b
}

// flags reads a byte of which only the given bits may be set.
func (d *decoder) flags(known byte) byte {
	b := d.byte()
	if b&^known != 0 {
		d.fail("unknown flags")
	}
	return b
}

func (d *decoder) uint() uint64 {
	if len(d.src) > 0 && d.src[0] < 0x80 {
		n := uint64(d.src[0])
		d.src = d.src[1:]
		return n
	}
	n, size := binary.Uvarint(d.src)
	if size <= 0 || size > 1 && d.src[size-1] == 0 {
		d.fail("number")
		return 0
	}
	d.src = d.src[size:]
	return n
}

// upTo reads a number that must not be greater than limit.
func (d *decoder) upTo(limit uint64) uint64 {
	n := d.uint()
	if n > limit {
		d.fail("number too large")
		return 0
	}
	return n
}

func (d *decoder) fixed64() uint64 {
	if len(d.src) < 8 {
		d.fail("ends early")
		return 0
	}
	n := binary.LittleEndian.Uint64(d.src)
	d.src = d.src[8:]
	return n
}

// count reads the length of a list whose items take at least size bytes each, so that no
// more is allocated than was received.
func (d *decoder) count(size int) int {
	n := d.uint()
	if n > uint64(len(d.src)/size) {
		d.fail("list too long")
		return 0
	}
	return int(n)
}

func (d *decoder) bytes(n uint64) []byte {
	if n > uint64(len(d.src)) {
		d.fail("ends early")
		return nil
	}
	b := d.src[:n:n]
	d.src = d.src[n:]
	return b
}

func (d *decoder) id() wire.ID {
	id, rest, err := wire.ParseKeyID(d.src)
	if err != nil || id == 0 {
		d.fail("identifier")
		return 0
	}
	d.src = rest
	return id
}

// appendHandle appends a session's handle in its parts, most of which are small: loop,
// generation, slot.
func appendHandle(dst []byte, handle uint64) []byte {
	dst = append(dst, byte(handle>>56))
	dst = binary.AppendUvarint(dst, handle>>32&(1<<24-1))
	return binary.AppendUvarint(dst, handle&(1<<32-1))
}

// handleBytesMin is the least that a handle takes.
const handleBytesMin = 3

func (d *decoder) handle() uint64 {
	handle := uint64(d.byte()) << 56
	handle |= d.upTo(1<<24-1) << 32
	return handle | d.upTo(1<<32-1)
}

// appendSigned appends a difference, which may be negative, in zigzag form.
func appendSigned(dst []byte, difference uint64) []byte {
	return binary.AppendUvarint(dst, difference<<1^uint64(int64(difference)>>63))
}

func (d *decoder) signed() uint64 {
	n := d.uint()
	return n>>1 ^ -(n & 1)
}
