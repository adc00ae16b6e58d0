package link

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"slices"
)

// Errors of what a peer sent. The connection is closed after each.
var (
	// ErrFrame is wrapped by what is wrong with a frame.
	ErrFrame = errors.New("link: bad frame")
	// ErrFrameTooLarge means a frame above FrameBytesMax.
	ErrFrameTooLarge = errors.New("link: frame too large")
)

// A frameKind says what the body of a frame is. The numbers are frozen.
type frameKind byte

const (
	framePing        frameKind = 1  // token, epoch
	framePong        frameKind = 2  // token, epoch
	frameRoute       frameKind = 3  // route, group, source, target
	frameAppend      frameKind = 4  // correlation, route, flags, AppendEntries with entries
	frameAppendEmpty frameKind = 5  // the same without entries
	frameAppended    frameKind = 6  // correlation, flags, term, last index
	frameVote        frameKind = 7  // correlation, route, RequestVote
	frameVoted       frameKind = 8  // correlation, flags, term
	framePreVote     frameKind = 9  // correlation, route, RequestPreVote
	framePreVoted    frameKind = 10 // correlation, flags, term
	frameTimeoutNow  frameKind = 11 // correlation, route, protocol version
	frameTimedOut    frameKind = 12 // correlation
	frameRefused     frameKind = 13 // correlation, text: Raft's question was not answered
	frameMessage     frameKind = 14 // kind, payload
	frameCall        frameKind = 15 // correlation, kind, payload
	frameAnswer      frameKind = 16 // correlation, payload
	frameFailure     frameKind = 17 // correlation, code, text
	frameRequest     frameKind = 18 // first on a transfer, group, source, target, InstallSnapshot, or a join: payload
	frameProceed     frameKind = 19 // on a transfer: the replica is ready
	frameInstalled   frameKind = 20 // on a transfer: flags, term
)

// headerBytes are a frame's length, in 4 bytes, and its kind, which the length includes.
const headerBytes = 5

// openFrame appends a header whose length closeFrame fills in.
func openFrame(dst []byte, kind frameKind) []byte { return append(dst, 0, 0, 0, 0, byte(kind)) }

// closeFrame ends the frame that began at start.
func closeFrame(dst []byte, start int) ([]byte, error) {
	n := len(dst) - start - 4
	if n > FrameBytesMax {
		return dst[:start], ErrFrameTooLarge
	}
	binary.LittleEndian.PutUint32(dst[start:], uint32(n))
	return dst, nil
}

// A frameReader splits what a connection brings into frames.
type frameReader struct {
	in      *bufio.Reader
	header  [headerBytes]byte
	scratch []byte
}

// next returns the next frame. Its body is good until the next call, except that of an
// AppendEntries with entries, which belongs to who gets it.
func (r *frameReader) next() (frameKind, []byte, error) {
	if _, err := io.ReadFull(r.in, r.header[:]); err != nil {
		return 0, nil, err
	}
	size := binary.LittleEndian.Uint32(r.header[:])
	kind := frameKind(r.header[4])
	switch {
	case size > FrameBytesMax:
		return 0, nil, fmt.Errorf("%w: %d bytes of kind %d", ErrFrameTooLarge, size, kind)
	case size == 0:
		return 0, nil, fmt.Errorf("%w: empty", ErrFrame)
	}
	body, err := r.body(int(size)-1, kind == frameAppend)
	return kind, body, err
}

// bodyStep is how much memory a length is believed before bytes have come for it.
const bodyStep = 256 << 10

func (r *frameReader) body(size int, own bool) ([]byte, error) {
	var body []byte
	if !own {
		if cap(r.scratch) > keepBytesMax && size <= keepBytesMax {
			r.scratch = nil
		}
		body = r.scratch[:0]
	}
	for len(body) < size {
		step := min(bodyStep, size-len(body))
		if body == nil {
			body = make([]byte, 0, step)
		}
		body = slices.Grow(body, step)[:len(body)+step]
		if _, err := io.ReadFull(r.in, body[len(body)-step:]); err != nil {
			return nil, noEOF(err)
		}
	}
	if !own {
		r.scratch = body
	}
	return body, nil
}

// noEOF makes an end in the middle an error of its own.
func noEOF(err error) error {
	if err == io.EOF {
		return io.ErrUnexpectedEOF
	}
	return err
}

// A decoder takes a body apart. After the first error all it gives is zero.
type decoder struct {
	b   []byte
	bad bool
}

func (d *decoder) uvarint() uint64 {
	v, n := binary.Uvarint(d.b)
	if n <= 0 {
		d.bad, d.b = true, nil
		return 0
	}
	d.b = d.b[n:]
	return v
}

// uint32 is a uvarint of at most 32 bits.
func (d *decoder) uint32() uint32 {
	v := d.uvarint()
	if v > 1<<32-1 {
		d.bad, d.b = true, nil
		return 0
	}
	return uint32(v)
}

func (d *decoder) byte() byte {
	if len(d.b) == 0 {
		d.bad = true
		return 0
	}
	v := d.b[0]
	d.b = d.b[1:]
	return v
}

// bytes takes a length and that many bytes, at most limit. They alias the body.
func (d *decoder) bytes(limit int) []byte {
	n := d.uvarint()
	if n > uint64(len(d.b)) || n > uint64(limit) {
		d.bad, d.b = true, nil
		return nil
	}
	v := d.b[:n:n]
	d.b = d.b[n:]
	return v
}

// rest takes all that is left.
func (d *decoder) rest() []byte {
	v := d.b
	d.b = nil
	return v
}

// end returns an error unless the body was whole and nothing is left of it.
func (d *decoder) end(kind frameKind) error {
	if d.bad || len(d.b) > 0 {
		return fmt.Errorf("%w: body of kind %d", ErrFrame, kind)
	}
	return nil
}

func appendBytes[T ~string | ~[]byte](dst []byte, v T) []byte {
	dst = binary.AppendUvarint(dst, uint64(len(v)))
	return append(dst, v...)
}
