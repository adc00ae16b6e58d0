package wire

import (
	"math/bits"
	"strconv"
)

func uitoa(n uint64) string { return strconv.FormatUint(n, 10) }

// appendUvarint appends the little-endian base-128 form, seven bits a byte.
func appendUvarint(dst []byte, n uint64) []byte {
	for n >= 0x80 {
		dst = append(dst, byte(n)|0x80)
		n >>= 7
	}
	return append(dst, byte(n))
}

func sizeUvarint(n uint64) int { return (bits.Len64(n|1) + 6) / 7 }

// uvarint reads one number. size is 0 if src ends early and -1 if the number is
// above NumberMax or not in its shortest form (each value has one encoding).
func uvarint(src []byte) (n uint64, size int) {
	for i, b := range src {
		if i == 8 {
			return 0, -1
		}
		n |= uint64(b&0x7f) << (7 * i)
		if b < 0x80 {
			if b == 0 && i > 0 || n > NumberMax {
				return 0, -1
			}
			return n, i + 1
		}
	}
	return 0, 0
}

// A reader takes positional fields from a frame's body. The first error sticks, and
// every later read gives zero, so that a parser checks once at its end.
type reader struct {
	src []byte
	err error
}

// fields opens a body for reading, past an extension block whose tags are all even
// (skippable): no frame but SEND and MESSAGE has an extension of its own so far.
func (f Frame) fields() reader {
	r := reader{src: f.Body}
	if f.Extended {
		block := r.bytes(ExtensionBytesMax)
		if r.err == nil {
			r.err = checkExtensions(block)
		}
	}
	return r
}

func (r *reader) fail(err error) {
	if r.err == nil {
		r.err = err
	}
	r.src = nil
}

func (r *reader) uint() uint64 {
	// Most fields are one byte.
	if len(r.src) > 0 && r.src[0] < 0x80 {
		n := uint64(r.src[0])
		r.src = r.src[1:]
		return n
	}
	n, size := uvarint(r.src)
	switch {
	case size > 0:
		r.src = r.src[size:]
		return n
	case size == 0:
		r.fail(ErrTruncated)
	default:
		r.fail(ErrMalformed)
	}
	return 0
}

// upTo reads a number with a limit.
func (r *reader) upTo(limit uint64) uint64 {
	n := r.uint()
	if n > limit {
		r.fail(ErrLimit)
		return 0
	}
	return n
}

// count reads how many items of at least itemBytes each follow. It refuses a number that
// the rest cannot hold, so that nobody allocates for items that are not there.
func (r *reader) count(limit uint64, itemBytes int) int {
	n := int(r.upTo(limit))
	if n*itemBytes > len(r.src) {
		r.fail(ErrTruncated)
		return 0
	}
	return n
}

// room makes a slice for n items, nil for none.
func room[T any](n int) []T {
	if n == 0 {
		return nil
	}
	return make([]T, 0, n)
}

// bytes reads a length and that many bytes, aliasing the source.
func (r *reader) bytes(limit int) []byte {
	n := r.upTo(uint64(limit))
	if r.err != nil {
		return nil
	}
	if n > uint64(len(r.src)) {
		r.fail(ErrTruncated)
		return nil
	}
	b := r.src[:n:n]
	r.src = r.src[n:]
	return b
}

// take reads exactly n bytes, aliasing the source.
func (r *reader) take(n int) []byte {
	if len(r.src) < n {
		r.fail(ErrTruncated)
		return nil
	}
	b := r.src[:n:n]
	r.src = r.src[n:]
	return b
}

// fixed64 reads eight bytes, little endian: for random values, which varints lengthen.
func (r *reader) fixed64() uint64 {
	if len(r.src) < 8 {
		r.fail(ErrTruncated)
		return 0
	}
	var n uint64
	for i := range 8 {
		n |= uint64(r.src[i]) << (8 * i)
	}
	r.src = r.src[8:]
	return n
}

func appendFixed64(dst []byte, n uint64) []byte {
	for i := range 8 {
		dst = append(dst, byte(n>>(8*i)))
	}
	return dst
}

func appendBytes[T string | []byte](dst []byte, b T) []byte {
	dst = appendUvarint(dst, uint64(len(b)))
	return append(dst, b...)
}

// block reads the extension block of an item in a list, which the caller keeps.
func (r *reader) block() string {
	block := r.bytes(ExtensionBytesMax)
	if err := walkExtensions(block, anyTag); err != nil {
		r.fail(err)
		return ""
	}
	return string(block)
}

func (r *reader) id() ID {
	id := ID(r.uint())
	if r.err == nil && !id.Valid() {
		r.fail(ErrMalformed)
	}
	return id
}

func (r *reader) ref() Ref {
	ref := Ref(r.uint())
	if r.err == nil && !ref.Valid() {
		r.fail(ErrMalformed)
	}
	return ref
}

// groupRef reads a reference that must name a group.
func (r *reader) groupRef() Ref {
	ref := r.ref()
	if r.err == nil && !ref.Group() {
		r.fail(ErrMalformed)
	}
	return ref
}

// rest takes everything that is left.
func (r *reader) rest() []byte {
	b := r.src
	r.src = nil
	return b[:len(b):len(b)]
}

// end reports the first error, or ErrTrailing if bytes are left.
func (r *reader) end() error {
	if r.err == nil && len(r.src) > 0 {
		return ErrTrailing
	}
	return r.err
}
