package storage

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"

	"parley/wire"
)

// ErrDamaged reports state that is not what was written: a record that does not parse, a
// gap in a conversation, a lost ingest. The replica is wiped and seeded again; it is never
// repaired by leaving things out.
var ErrDamaged = errors.New("storage: damaged state")

// encodingVersion is the first byte of every value, so that a later release can change the
// form of one kind and still read the old one.
const encodingVersion = 1

func damaged(format string, arguments ...any) error {
	return fmt.Errorf("%w: %s", ErrDamaged, fmt.Sprintf(format, arguments...))
}

// A decoder takes positional fields from a value. The first error sticks and every later
// read gives zero, so that a parser checks once at its end.
type decoder struct {
	src []byte
	err error
}

// openValue checks the version that every value begins with.
func openValue(src []byte) decoder {
	d := decoder{src: src}
	d.version(encodingVersion)
	return d
}

// version reads the version of a value of which there are several.
func (d *decoder) version(last byte) byte {
	version := d.byte()
	if d.err == nil && (version < encodingVersion || version > last) {
		d.fail("encoding %d", version)
	}
	return version
}

func (d *decoder) fail(format string, arguments ...any) {
	if d.err == nil {
		d.err = damaged(format, arguments...)
	}
	d.src = nil
}

// uint reads one number in its shortest form: each value has one encoding, so that parsing
// what was appended gives the same bytes back.
func (d *decoder) uint() uint64 {
	if len(d.src) > 0 && d.src[0] < 0x80 {
		n := uint64(d.src[0])
		d.src = d.src[1:]
		return n
	}
	n, size := binary.Uvarint(d.src)
	if size <= 0 || d.src[size-1] == 0 {
		d.fail("number ends early or is not in its shortest form")
		return 0
	}
	d.src = d.src[size:]
	return n
}

// upTo reads a number with a limit.
func (d *decoder) upTo(limit uint64) uint64 {
	n := d.uint()
	if n > limit {
		d.fail("number %d above its limit %d", n, limit)
		return 0
	}
	return n
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

// take reads n bytes, aliasing the source.
func (d *decoder) take(n uint64) []byte {
	if n > uint64(len(d.src)) {
		d.fail("ends early")
		return nil
	}
	b := d.src[:n:n]
	d.src = d.src[n:]
	return b
}

func (d *decoder) fixed32() uint32 {
	b := d.take(4)
	if b == nil {
		return 0
	}
	return binary.LittleEndian.Uint32(b)
}

func (d *decoder) fixed64() uint64 {
	b := d.take(8)
	if b == nil {
		return 0
	}
	return binary.LittleEndian.Uint64(b)
}

func (d *decoder) bigEndian64() uint64 {
	b := d.take(8)
	if b == nil {
		return 0
	}
	return binary.BigEndian.Uint64(b)
}

func (d *decoder) id() wire.ID {
	id, rest, err := wire.ParseKeyID(d.src)
	if err != nil || !id.Valid() {
		d.fail("identifier")
		return 0
	}
	d.src = rest
	return id
}

// maybeID reads an identifier or 0, for nobody.
func (d *decoder) maybeID() wire.ID {
	if len(d.src) >= idSize && bytes.Equal(d.src[:idSize], make([]byte, idSize)) {
		d.src = d.src[idSize:]
		return 0
	}
	return d.id()
}

// text reads a length and as many bytes.
func (d *decoder) text(limit uint64) string { return string(d.take(d.upTo(limit))) }

func (d *decoder) conversation() wire.Conversation {
	c, rest, err := wire.ParseConversation(d.src)
	if err != nil {
		d.fail("conversation key")
		return wire.Conversation{}
	}
	d.src = rest
	return c
}

// rest takes everything that is left.
func (d *decoder) rest() []byte {
	b := d.src
	d.src = nil
	return b[:len(b):len(b)]
}

// end reports the first error, or one if bytes are left.
func (d *decoder) end() error {
	if d.err == nil && len(d.src) > 0 {
		d.fail("%d bytes too many", len(d.src))
	}
	return d.err
}

func appendBytes[T string | []byte](dst []byte, b T) []byte {
	dst = binary.AppendUvarint(dst, uint64(len(b)))
	return append(dst, b...)
}
