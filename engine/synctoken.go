package engine

import (
	"encoding/binary"
	"errors"

	"parley/engine/router"
	"parley/wire"
)

// errTokenTooOld says that a sync token is not of this cluster, or damaged: start over.
var errTokenTooOld = errors.New("engine: sync token of another time")

// syncTokenVersion is the first byte of a sync token: 2 since it has a mark of the user's
// home always. The next one has a flag: the list is not told to its end.
const (
	syncTokenVersion = 2
	syncTokenPaging  = 1 << 0
	syncTokenGroups  = 1 << 1 // it was given to a session that is told of groups
	// syncTokenBytesMax bounds a token: 256 shards, two numbers of at most six bytes (4 trillion) each.
	syncTokenBytesMax = 5 + router.ShardsMax/8 + router.ShardsMax*2*6 + 16
)

// A mark is how far a device has seen a shard.
type mark struct {
	since   uint64 // raft index up to which everything was told before this sync began
	reached uint64 // index of the last page's view; since, if no page was sent yet
}

// A syncToken is what a client gives back to be told only what changed. It is opaque to
// clients and travels both ways with every resume, so it is short: 28 bytes for a user
// in all of 8 shards whose logs are below 2 million entries.
//
//	version 2 | flags 1 | cluster epoch, low 16 bits 2 | bitmap bytes n 1 | bitmap of the shards n
//	for each of them: since (varint) and, while paging, reached - since (varint)
//	while paging: time and reference of the last conversation told (varints)
//
// The cluster's 16 bits are a second look only: a client drops its tokens when the
// cluster epoch in WELCOME changes.
type syncToken struct {
	cluster uint64
	marks   map[int]mark
	groups  bool
	paging  bool
	bound   place
}

// A place is where a conversation stands in the order of activity.
type place struct {
	time wire.Time
	ref  wire.Ref
}

// before reports whether p comes before q: the later activity first.
func (p place) before(q place) bool {
	if p.time != q.time {
		return p.time > q.time
	}
	return p.ref > q.ref
}

func newSyncToken(cluster uint64, groups bool) syncToken {
	return syncToken{cluster: cluster, groups: groups, marks: make(map[int]mark)}
}

func (t *syncToken) append(dst []byte) []byte {
	flags := byte(0)
	if t.paging {
		flags |= syncTokenPaging
	}
	if t.groups {
		flags |= syncTokenGroups
	}
	dst = append(dst, syncTokenVersion, flags)
	dst = binary.LittleEndian.AppendUint16(dst, uint16(t.cluster))
	var bitmap [router.ShardsMax / 8]byte
	bytes := 0
	for shard := range t.marks {
		bitmap[shard/8] |= 1 << (shard % 8)
		bytes = max(bytes, shard/8+1)
	}
	dst = append(append(dst, byte(bytes)), bitmap[:bytes]...)
	for shard := range bytes * 8 {
		if m, ok := t.marks[shard]; ok {
			dst = binary.AppendUvarint(dst, m.since)
			if t.paging {
				dst = binary.AppendUvarint(dst, m.reached-m.since)
			}
		}
	}
	if t.paging {
		dst = binary.AppendUvarint(dst, uint64(t.bound.time))
		dst = binary.AppendUvarint(dst, uint64(t.bound.ref))
	}
	return dst
}

// parseSyncToken reads a token of a cluster with so many shards.
func parseSyncToken(src []byte, cluster uint64, shards int) (t syncToken, err error) {
	if len(src) < 5 || src[0] != syncTokenVersion || src[1]&^(syncTokenPaging|syncTokenGroups) != 0 || binary.LittleEndian.Uint16(src[2:]) != uint16(cluster) {
		return t, errTokenTooOld
	}
	bytes := int(src[4])
	if bytes > router.ShardsMax/8 || len(src) < 5+bytes {
		return t, errTokenTooOld
	}
	bitmap, r := src[5:5+bytes], tokenReader{src: src[5+bytes:]}
	t = syncToken{cluster: cluster, marks: make(map[int]mark), paging: src[1]&syncTokenPaging != 0,
		groups: src[1]&syncTokenGroups != 0}
	for shard := range bytes * 8 {
		if bitmap[shard/8]&(1<<(shard%8)) == 0 {
			continue
		}
		m := mark{since: r.uint()}
		if m.reached = m.since; t.paging {
			m.reached += r.uint()
		}
		if shard >= shards || m.reached > wire.NumberMax {
			return t, errTokenTooOld
		}
		t.marks[shard] = m
	}
	if t.paging {
		t.bound = place{time: wire.Time(r.uint()), ref: wire.Ref(r.uint())}
	}
	if r.bad || len(r.src) > 0 {
		return t, errTokenTooOld
	}
	return t, nil
}

// A tokenReader reads varints; the first bad one sticks.
type tokenReader struct {
	src []byte
	bad bool
}

func (r *tokenReader) uint() uint64 {
	n, size := binary.Uvarint(r.src)
	if size <= 0 || n > wire.NumberMax {
		r.bad, r.src = true, nil
		return 0
	}
	r.src = r.src[size:]
	return n
}
