package raft

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"

	hraft "github.com/hashicorp/raft"
)

// ErrDamaged is wrapped by everything that says that the log is damaged: restore the node
// from its peers or from a backup; it is never cut short to fit.
var ErrDamaged = errors.New("raft: the log is damaged")

// Keys are group (4 bytes), kind (1 byte) and, for entries, index (8 bytes), big endian,
// so that a group's entries lie together in the order of their indexes.
const (
	kindFormat byte = 0x00 // of nodeGroup: the version of these records
	kindBallot byte = 0x01
	kindEntry  byte = 0x02
	kindBase   byte = 0x03

	// nodeGroup holds what belongs to the store as a whole. No group has this id.
	nodeGroup = 1<<32 - 1

	entryKeySize  = 4 + 1 + 8
	ballotKeySize = 4 + 1
	checksumSize  = 4
)

// recordVersion is the version of keys and values in this file.
const recordVersion = 1

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

func putEntryKey(dst []byte, group uint32, index uint64) {
	binary.BigEndian.PutUint32(dst, group)
	dst[4] = kindEntry
	binary.BigEndian.PutUint64(dst[5:], index)
}

func entryKey(group uint32, index uint64) []byte {
	key := make([]byte, entryKeySize)
	putEntryKey(key, group, index)
	return key
}

// entriesEnd is the first key behind all entries of a group.
func entriesEnd(group uint32) []byte {
	key := binary.BigEndian.AppendUint32(make([]byte, 0, ballotKeySize), group)
	return append(key, kindEntry+1)
}

func plainKey(group uint32, kind byte) []byte {
	key := binary.BigEndian.AppendUint32(make([]byte, 0, ballotKeySize), group)
	return append(key, kind)
}

func parseEntryKey(key []byte) (group uint32, index uint64, ok bool) {
	if len(key) != entryKeySize || key[4] != kindEntry {
		return 0, 0, false
	}
	return binary.BigEndian.Uint32(key), binary.BigEndian.Uint64(key[5:]), true
}

// checksum covers the key too, so that a value under a wrong key is found.
func checksum(key, value []byte) uint32 {
	return crc32.Update(crc32.Update(0, castagnoli, key), castagnoli, value)
}

func uvarintSize(v uint64) int {
	n := 1
	for v >= 0x80 {
		v >>= 7
		n++
	}
	return n
}

// entrySize is the size of an entry's value: checksum, type (1 byte), term and length of
// the extensions (varints), extensions, data.
func entrySize(l *hraft.Log) int {
	return checksumSize + 1 + uvarintSize(l.Term) + uvarintSize(uint64(len(l.Extensions))) + len(l.Extensions) + len(l.Data)
}

// putEntry writes an entry's value into dst, which is entrySize long.
func putEntry(dst, key []byte, l *hraft.Log) {
	body := append(dst[:checksumSize], byte(l.Type))
	body = binary.AppendUvarint(body, l.Term)
	body = binary.AppendUvarint(body, uint64(len(l.Extensions)))
	body = append(body, l.Extensions...)
	body = append(body, l.Data...)
	binary.LittleEndian.PutUint32(body, checksum(key, body[checksumSize:]))
}

// parseEntry reads an entry's value into l, which gets its own copy of the data.
func parseEntry(key, value []byte, index uint64, l *hraft.Log) error {
	if len(value) < checksumSize+3 || binary.LittleEndian.Uint32(value) != checksum(key, value[checksumSize:]) {
		return fmt.Errorf("%w: checksum of entry %d of group %d", ErrDamaged, index, binary.BigEndian.Uint32(key))
	}
	kind, body := hraft.LogType(value[checksumSize]), value[checksumSize+1:]
	term, n := binary.Uvarint(body)
	if n <= 0 {
		return fmt.Errorf("%w: term of entry %d", ErrDamaged, index)
	}
	body = body[n:]
	size, n := binary.Uvarint(body)
	if n <= 0 || size > uint64(len(body)-n) {
		return fmt.Errorf("%w: extensions of entry %d", ErrDamaged, index)
	}
	body = append([]byte(nil), body[n:]...)
	*l = hraft.Log{Index: index, Term: term, Type: kind, Data: body[size:]}
	if size > 0 {
		l.Extensions = body[:size:size]
	}
	return nil
}

// A ballot is what a replica must not forget of elections: the term it has seen, and whom
// it voted for in which term. It is one record, so that a vote is never half written.
type ballot struct {
	term      uint64
	voteTerm  uint64
	candidate []byte
}

func appendBallot(dst, key []byte, b *ballot) []byte {
	start := len(dst)
	dst = append(dst, 0, 0, 0, 0)
	dst = binary.AppendUvarint(dst, b.term)
	dst = binary.AppendUvarint(dst, b.voteTerm)
	dst = append(dst, b.candidate...)
	binary.LittleEndian.PutUint32(dst[start:], checksum(key, dst[start+checksumSize:]))
	return dst
}

func parseBallot(key, value []byte) (ballot, error) {
	var b ballot
	if len(value) < checksumSize || binary.LittleEndian.Uint32(value) != checksum(key, value[checksumSize:]) {
		return b, fmt.Errorf("%w: checksum of a vote", ErrDamaged)
	}
	body := value[checksumSize:]
	var n, m int
	if b.term, n = binary.Uvarint(body); n <= 0 {
		return b, fmt.Errorf("%w: term of a vote", ErrDamaged)
	}
	if b.voteTerm, m = binary.Uvarint(body[n:]); m <= 0 {
		return b, fmt.Errorf("%w: term of a vote", ErrDamaged)
	}
	if rest := body[n+m:]; len(rest) > 0 {
		b.candidate = append([]byte(nil), rest...)
	}
	return b, nil
}

// A base says where a log begins that followed an install: behind index, whose entry had
// term. pending is the index of an install that was under way when it was written: the
// machine's record says whether it came about.
type base struct {
	index   uint64
	term    uint64
	pending uint64
}

func appendBase(dst, key []byte, b *base) []byte {
	start := len(dst)
	dst = append(dst, 0, 0, 0, 0)
	dst = binary.AppendUvarint(dst, b.index)
	dst = binary.AppendUvarint(dst, b.term)
	dst = binary.AppendUvarint(dst, b.pending)
	binary.LittleEndian.PutUint32(dst[start:], checksum(key, dst[start+checksumSize:]))
	return dst
}

func parseBase(key, value []byte) (b base, err error) {
	if len(value) < checksumSize || binary.LittleEndian.Uint32(value) != checksum(key, value[checksumSize:]) {
		return b, fmt.Errorf("%w: checksum of a base", ErrDamaged)
	}
	rest := value[checksumSize:]
	for _, field := range []*uint64{&b.index, &b.term, &b.pending} {
		v, n := binary.Uvarint(rest)
		if n <= 0 {
			return b, fmt.Errorf("%w: base", ErrDamaged)
		}
		*field, rest = v, rest[n:]
	}
	return b, nil
}
