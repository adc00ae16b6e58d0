package client

import (
	"bytes"
	"encoding/binary"
	"errors"
	"hash/crc32"

	"parley/wire"
)

// The file of an outbox is a header and records, one for each Write:
//
//	+----------+---------+       +---------+---------+-----------+------------+-------------+---------+
//	| "parley  | version |       | "rec\n" | length  | synced    | CRC-32C of | CRC-32C of  | changes |
//	|  outbox" | 1 byte  | then  |         | 4 bytes | 8 bytes   | the fields | the changes |         |
//	+----------+---------+       +---------+---------+-----------+------------+-------------+---------+
//
// Numbers are little endian. synced is how much of the file was known to be on disk when
// the record was written: a record that is unreadable before that offset was damaged,
// and one behind it may be what a crash has left of a write.
const (
	outboxMagic       = "parley outbox"
	outboxVersion     = 1
	outboxHeaderBytes = len(outboxMagic) + 1
	recordMagic       = "rec\n"
	recordFieldBytes  = len(recordMagic) + 4 + 8
	recordHeaderBytes = recordFieldBytes + 4 + 4
	// recordBytesMax bounds a record's changes: a whole outbox with its counters.
	recordBytesMax = OutboxBytesMax + 64*(OutboxMessagesMax+2*OutboxConversationsMax) + 4096
	// sectorBytes is what a disk writes as one.
	sectorBytes = 512
)

var (
	castagnoli = crc32.MakeTable(crc32.Castagnoli)

	errRecordTorn    = errors.New("client: a record was not written whole")
	errRecordDamaged = errors.New("client: a record is damaged")
)

func appendOutboxHeader(dst []byte) []byte { return append(append(dst, outboxMagic...), outboxVersion) }

// appendRecord appends one record.
func appendRecord(dst []byte, synced int64, changes []OutboxChange) []byte {
	start := len(dst)
	dst = append(dst, make([]byte, recordHeaderBytes)...)
	for i := range changes {
		dst = appendChange(dst, &changes[i])
	}
	header, body := dst[start:start+recordHeaderBytes], dst[start+recordHeaderBytes:]
	copy(header, recordMagic)
	binary.LittleEndian.PutUint32(header[4:], uint32(len(body)))
	binary.LittleEndian.PutUint64(header[8:], uint64(synced))
	binary.LittleEndian.PutUint32(header[recordFieldBytes:], crc32.Checksum(header[:recordFieldBytes], castagnoli))
	binary.LittleEndian.PutUint32(header[recordFieldBytes+4:], crc32.Checksum(body, castagnoli))
	return dst
}

// parseRecord reads the record that begins at an offset of a file.
func parseRecord(file []byte, offset int) (synced int64, changes []OutboxChange, end int, err error) {
	src := file[offset:]
	if len(src) < recordHeaderBytes {
		return 0, nil, 0, errRecordTorn
	}
	fields, body := src[:recordFieldBytes], src[recordHeaderBytes:]
	if string(fields[:len(recordMagic)]) != recordMagic || crc32.Checksum(fields, castagnoli) != binary.LittleEndian.Uint32(src[recordFieldBytes:]) {
		return 0, nil, 0, tornOrDamaged(file, offset, offset+recordHeaderBytes)
	}
	length := int(binary.LittleEndian.Uint32(fields[4:]))
	synced = int64(binary.LittleEndian.Uint64(fields[8:]))
	if length > recordBytesMax {
		return 0, nil, 0, errRecordDamaged
	}
	if length > len(body) {
		return 0, nil, 0, errRecordTorn
	}
	end = offset + recordHeaderBytes + length
	body = body[:length]
	if crc32.Checksum(body, castagnoli) != binary.LittleEndian.Uint32(src[recordFieldBytes+4:]) {
		return 0, nil, 0, tornOrDamaged(file, offset, end)
	}
	if changes, err = parseChanges(body); err != nil {
		return 0, nil, 0, err
	}
	return synced, changes, end, nil
}

// tornOrDamaged judges bytes that are no record: a write that was cut short has left at
// least one sector unwritten, which reads as zeros.
func tornOrDamaged(file []byte, from, to int) error {
	for sector := from - from%sectorBytes; sector < to; sector += sectorBytes {
		zeros := true
		for _, b := range file[max(sector, from):min(sector+sectorBytes, to)] {
			zeros = zeros && b == 0
		}
		if zeros {
			return errRecordTorn
		}
	}
	return errRecordDamaged
}

func appendChange(dst []byte, c *OutboxChange) []byte {
	dst = append(dst, byte(c.Kind))
	switch c.Kind {
	case OutboxAdd:
		dst = appendKey(dst, c.Entry.Key)
		dst = binary.AppendUvarint(dst, c.Entry.After)
		size := uint64(len(c.Entry.Content.Bytes)) << 1
		if c.Entry.Content.Extended {
			size |= 1
		}
		dst = binary.AppendUvarint(dst, size)
		dst = append(dst, c.Entry.Content.Bytes...)
	case OutboxRenumber:
		dst = binary.LittleEndian.AppendUint64(appendKey(dst, c.Key), c.From)
	case OutboxIdentity:
		dst = binary.AppendUvarint(dst, uint64(c.User))
		dst = binary.AppendUvarint(dst, uint64(c.Device))
		dst = binary.AppendUvarint(dst, c.ClusterEpoch)
	default:
		dst = appendKey(dst, c.Key)
	}
	return dst
}

func appendKey(dst []byte, k Key) []byte {
	dst = binary.LittleEndian.AppendUint64(dst, k.Epoch)
	dst = binary.AppendUvarint(dst, uint64(k.Ref))
	return binary.AppendUvarint(dst, k.Counter)
}

// parseChanges reads a record's changes. Its checksum was good, so an error means that
// whoever wrote it was wrong.
func parseChanges(src []byte) ([]OutboxChange, error) {
	var changes []OutboxChange
	for r := (changeReader{src: src}); len(r.src) > 0; {
		c := OutboxChange{Kind: OutboxChangeKind(r.src[0])}
		r.src = r.src[1:]
		switch c.Kind {
		case OutboxAdd:
			c.Entry.Key, c.Entry.After = r.key(), r.uint()
			size := r.uint()
			c.Entry.Content = wire.Content{Extended: size&1 == 1, Bytes: bytes.Clone(r.bytes(size >> 1))}
		case OutboxRenumber:
			c.Key, c.From = r.key(), r.fixed64()
		case OutboxIdentity:
			c.User, c.Device, c.ClusterEpoch = wire.ID(r.uint()), wire.ID(r.uint()), r.uint()
		case OutboxRemove, OutboxRenew, OutboxCounter, OutboxHole, OutboxSwitch, OutboxRefuse:
			c.Key = r.key()
		default:
			r.bad = true
		}
		if r.bad {
			return nil, errRecordDamaged
		}
		changes = append(changes, c)
	}
	return changes, nil
}

// A changeReader takes fields from a record.
type changeReader struct {
	src []byte
	bad bool
}

func (r *changeReader) uint() uint64 {
	n, size := binary.Uvarint(r.src)
	if size <= 0 {
		r.bad, r.src = true, nil
		return 0
	}
	r.src = r.src[size:]
	return n
}

func (r *changeReader) bytes(n uint64) []byte {
	if n > uint64(len(r.src)) {
		r.bad, r.src = true, nil
		return nil
	}
	b := r.src[:n:n]
	r.src = r.src[n:]
	return b
}

func (r *changeReader) fixed64() uint64 {
	if len(r.src) < 8 {
		r.bad, r.src = true, nil
		return 0
	}
	n := binary.LittleEndian.Uint64(r.src)
	r.src = r.src[8:]
	return n
}

func (r *changeReader) key() Key {
	return Key{Epoch: r.fixed64(), Ref: wire.Ref(r.uint()), Counter: r.uint()}
}
