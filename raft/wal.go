package raft

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"strconv"
	"strings"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// Pebble's recovery takes the first damaged chunk of its write-ahead log for the end of
// the log, unless a later chunk names a durable offset beyond it. That offset counts only
// the last block of each write (v2.1.7), so that behind entries above a few kilobytes a
// flipped bit would lose acknowledged entries in silence. So every batch begins with a
// stamp, and before Pebble opens a log its files are read through: a stamp that stands
// behind damage, in the same file, and counts more durable batches than were read whole,
// shows that what is missing was acknowledged. Pebble itself sees to the ends of all files
// but the last.

const (
	walBlockSize  = 32 << 10
	walHeaderSize = 4 + 2 + 1 + 4 + 8 // checksum, length, kind, log number, durable offset
	walNumberAt   = 4 + 2 + 1         // where the log number lies

	// Kinds of chunks of the format that pebbleFormat writes.
	walFull, walFirst, walLast = 9, 10, 12

	batchHeaderSize  = 12 // sequence number and count
	batchKindLogData = 3
	stampSize        = 16
)

// A stamp begins a batch: a random number that names the life of the process that wrote
// it, which no client can guess and forge, and one more than the number of batches that
// this life had made durable when it wrote this one.
type stamp struct {
	life, number uint64
}

func appendStamp(dst []byte, s stamp) []byte {
	dst = binary.LittleEndian.AppendUint64(dst, s.life)
	return binary.LittleEndian.AppendUint64(dst, s.number)
}

// parseStamp reads the stamp that a batch begins with.
func parseStamp(record []byte) (s stamp, ok bool) {
	if len(record) < batchHeaderSize+2+stampSize || record[batchHeaderSize] != batchKindLogData || record[batchHeaderSize+1] != stampSize {
		return s, false
	}
	record = record[batchHeaderSize+2:]
	return stamp{binary.LittleEndian.Uint64(record), binary.LittleEndian.Uint64(record[8:])}, true
}

// checkWAL reads the write-ahead logs in a directory through.
func checkWAL(fs vfs.FS, path string) error {
	names, err := fs.List(path)
	if err != nil {
		return fmt.Errorf("raft: open log: %w", err)
	}
	for _, name := range names {
		base, isLog := strings.CutSuffix(name, ".log")
		number, err := strconv.ParseUint(base, 10, 64)
		if !isLog || err != nil {
			continue
		}
		f, err := fs.Open(fs.PathJoin(path, name), vfs.SequentialReadsOption)
		if err != nil {
			return fmt.Errorf("raft: open log: %w", err)
		}
		err = (&walCheck{number: uint32(number)}).file(f)
		if err = errors.Join(err, f.Close()); err != nil {
			return fmt.Errorf("raft: %s: %w", name, err)
		}
	}
	return nil
}

// walCheck reads one write-ahead log through.
type walCheck struct {
	number  uint32 // of the file, which every chunk of its present life carries
	whole   stamp  // of the last batch that was read whole
	current stamp  // of the batch that is being read
	lost    bool   // damage was met, or the end
	lostAt  int64
}

func (c *walCheck) file(f io.Reader) error {
	block := make([]byte, walBlockSize)
	for offset := int64(0); ; offset += walBlockSize {
		n, err := io.ReadFull(f, block)
		if e := c.block(block[:n], offset); e != nil {
			return e
		}
		switch {
		case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
			return nil
		case err != nil:
			return err
		}
	}
}

// block reads one block. Chunks do not cross its ends.
func (c *walCheck) block(b []byte, offset int64) error {
	at := 0
	for !c.lost && len(b)-at >= walHeaderSize {
		kind, payload, ok := c.chunk(b[at:])
		if !ok {
			c.lost, c.lostAt = true, offset+int64(at)
			break
		}
		c.read(kind, payload)
		at += walHeaderSize + len(payload)
	}
	if !c.lost {
		return nil
	}
	// The length of a damaged chunk means nothing, so any place may begin the next one.
	pattern := binary.LittleEndian.AppendUint32(nil, c.number)
	for start := at; ; start++ {
		from := min(start+walNumberAt, len(b))
		next := bytes.Index(b[from:], pattern)
		if next < 0 {
			return nil
		}
		start = from + next - walNumberAt
		kind, payload, ok := c.chunk(b[start:])
		if !ok || kind != walFull && kind != walFirst {
			continue
		}
		if err := c.evidence(payload); err != nil {
			return err
		}
	}
}

// read follows an undamaged chunk.
func (c *walCheck) read(kind byte, payload []byte) {
	if kind == walFull || kind == walFirst {
		c.current, _ = parseStamp(payload)
	}
	if (kind == walFull || kind == walLast) && c.current.number != 0 {
		c.whole = c.current
	}
}

// evidence looks at a batch behind damage.
func (c *walCheck) evidence(payload []byte) error {
	s, ok := parseStamp(payload)
	if !ok || c.whole.number != 0 && (s.life != c.whole.life || s.number <= c.whole.number+1) {
		return nil
	}
	return fmt.Errorf("%w: at byte %d: batch %d was durable, but only %d can be read", ErrDamaged, c.lostAt, s.number-1, c.whole.number)
}

// chunk returns the chunk that b begins with, if there is one.
func (c *walCheck) chunk(b []byte) (kind byte, payload []byte, ok bool) {
	if len(b) < walHeaderSize {
		return 0, nil, false
	}
	end := walHeaderSize + int(binary.LittleEndian.Uint16(b[4:]))
	if b[6] < walFull || b[6] > walLast || binary.LittleEndian.Uint32(b[7:]) != c.number || end > len(b) {
		return 0, nil, false
	}
	if binary.LittleEndian.Uint32(b) != maskedCRC(b[6:end]) {
		return 0, nil, false
	}
	return b[6], b[walHeaderSize:end], true
}

// maskedCRC is the checksum of Pebble's chunks: CRC-32C, rotated and shifted.
func maskedCRC(b []byte) uint32 {
	sum := crc32.Checksum(b, castagnoli)
	return (sum>>15 | sum<<17) + 0xa282ead8
}
