package storage

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"

	"parley/wire"
)

// ErrSnapshot reports a snapshot that is damaged, cut short or not this shard's.
var ErrSnapshot = errors.New("storage: snapshot is damaged or of another shard")

// A snapshot's stream is frames: kind, length, payload, and the CRC-32C of the whole stream
// up to there without the checksums, so that a frame that is lost, repeated or in another
// place is found as a flipped bit is. KEYS.md has it to the byte.
const (
	frameHeader byte = 1 // what the snapshot is of
	frameData   byte = 2 // bytes of a table
	frameTable  byte = 3 // the table's end, with its size
	frameEnd    byte = 4 // the snapshot's end, with the number of tables
)

const (
	snapshotVersion = 1
	// frameBytesMax bounds what a receiver holds in memory.
	frameBytesMax  = 128 << 10
	frameHeadBytes = 1 + 4
)

var snapshotMagic = []byte("parleysnap")

// snapshotHeader says what a snapshot is of.
type snapshotHeader struct {
	first  wire.Slot
	record shardRecord
}

func appendSnapshotHeader(dst []byte, h *snapshotHeader) []byte {
	dst = append(append(dst, snapshotMagic...), snapshotVersion)
	dst = binary.AppendUvarint(dst, uint64(h.first))
	return appendShardRecord(dst, &h.record)
}

func parseSnapshotHeader(src []byte) (h snapshotHeader, err error) {
	n := len(snapshotMagic)
	if len(src) <= n || string(src[:n]) != string(snapshotMagic) {
		return h, fmt.Errorf("%w: no header", ErrSnapshot)
	}
	if src[n] != snapshotVersion {
		return h, fmt.Errorf("%w: version %d", ErrSnapshot, src[n])
	}
	d := decoder{src: src[n+1:]}
	h.first = wire.Slot(d.upTo(wire.Slots - 1))
	rest := d.rest()
	if d.err == nil {
		h.record, d.err = parseShardRecord(rest)
	}
	if d.err != nil {
		return h, fmt.Errorf("%w: header: %w", ErrSnapshot, d.err)
	}
	return h, nil
}

// A frameWriter writes a snapshot's stream. Written data is gathered into frames.
type frameWriter struct {
	w       io.Writer
	sum     uint32
	written int64
	data    []byte // with room for a frame's head before it
	scratch []byte
}

func newFrameWriter(w io.Writer) *frameWriter {
	return &frameWriter{w: w, data: make([]byte, 0, frameBytesMax)}
}

// frame writes one frame.
func (f *frameWriter) frame(kind byte, payload []byte) error {
	b := append(f.scratch[:0], kind)
	b = binary.LittleEndian.AppendUint32(b, uint32(len(payload)))
	b = append(b, payload...)
	f.sum = crc32.Update(f.sum, sealTable, b)
	b = binary.LittleEndian.AppendUint32(b, f.sum)
	f.scratch = b
	size := int64(len(b))
	if _, err := f.w.Write(b); err != nil {
		return err
	}
	f.written += size
	return nil
}

// Write gathers a table's bytes.
func (f *frameWriter) Write(p []byte) (int, error) {
	for rest := p; len(rest) > 0; {
		n := min(len(rest), frameBytesMax-len(f.data))
		f.data = append(f.data, rest[:n]...)
		rest = rest[n:]
		if len(f.data) == frameBytesMax {
			if err := f.flush(); err != nil {
				return 0, err
			}
		}
	}
	return len(p), nil
}

func (f *frameWriter) flush() error {
	if len(f.data) == 0 {
		return nil
	}
	err := f.frame(frameData, f.data)
	f.data = f.data[:0]
	return err
}

// number writes a frame that holds a number, behind the data gathered before.
func (f *frameWriter) number(kind byte, n uint64) error {
	if err := f.flush(); err != nil {
		return err
	}
	return f.frame(kind, binary.AppendUvarint(nil, n))
}

// A frameReader reads a snapshot's stream.
type frameReader struct {
	r   io.Reader
	sum uint32
	buf []byte
}

// next returns the next frame, whose payload dies at the next call.
func (f *frameReader) next() (kind byte, payload []byte, err error) {
	f.buf = append(f.buf[:0], make([]byte, frameHeadBytes)...)
	if _, err := io.ReadFull(f.r, f.buf); err != nil {
		return 0, nil, fmt.Errorf("%w: %w", ErrSnapshot, err)
	}
	kind = f.buf[0]
	size := binary.LittleEndian.Uint32(f.buf[1:])
	if kind < frameHeader || kind > frameEnd || size > frameBytesMax {
		return 0, nil, fmt.Errorf("%w: frame of kind %d with %d bytes", ErrSnapshot, kind, size)
	}
	end := frameHeadBytes + int(size)
	if cap(f.buf) < end+crc32.Size {
		f.buf = append(make([]byte, 0, end+crc32.Size), f.buf...)
	}
	f.buf = f.buf[:end+crc32.Size]
	if _, err := io.ReadFull(f.r, f.buf[frameHeadBytes:]); err != nil {
		return 0, nil, fmt.Errorf("%w: %w", ErrSnapshot, err)
	}
	f.sum = crc32.Update(f.sum, sealTable, f.buf[:end])
	if f.sum != binary.LittleEndian.Uint32(f.buf[end:]) {
		return 0, nil, fmt.Errorf("%w: checksum", ErrSnapshot)
	}
	return kind, f.buf[frameHeadBytes:end], nil
}

// frameNumber reads the number that a frame holds.
func frameNumber(payload []byte) (uint64, error) {
	d := decoder{src: payload}
	n := d.uint()
	if err := d.end(); err != nil {
		return 0, fmt.Errorf("%w: %w", ErrSnapshot, err)
	}
	return n, nil
}

// end checks that nothing follows the last frame.
func (f *frameReader) end() error {
	var one [1]byte
	if _, err := io.ReadFull(f.r, one[:]); !errors.Is(err, io.EOF) {
		return fmt.Errorf("%w: bytes behind the end", ErrSnapshot)
	}
	return nil
}
