package engine

import (
	"encoding/binary"
	"errors"

	"parley/engine/router"
	"parley/wire"
)

// errTokenTooOld says that a sync token is not of this cluster, or damaged: start over.

var errTokenTooOld = errors.New("engine: sync token of another time")

// syncTokenVersion is the first byte of a sync token.
const syncTokenVersion = 1

// A mark is how far a device has seen a shard.
type mark struct {
	since   uint64 // raft index up to which everything was told before this sync began
	reached uint64 // index of the last page's view; since, if no page was sent yet
}

// A syncToken is what a client gives back to be told only what changed. It is opaque to
// clients: version (1 byte), cluster epoch (6), number of shards, then shard, since and
// reached-since for each and, between two pages, the time and reference of the last
// conversation sent. All but the first two are varints.
type syncToken struct {
	cluster uint64
	marks   map[int]mark
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

func (t *syncToken) append(dst []byte) []byte {
	dst = append(dst, syncTokenVersion)
	dst = wire.AppendID(dst, wire.ID(t.cluster))
	dst = binary.AppendUvarint(dst, uint64(len(t.marks)))
	for shard := range router.ShardsMax {
		if m, ok := t.marks[shard]; ok {
			dst = binary.AppendUvarint(dst, uint64(shard))
			dst = binary.AppendUvarint(dst, m.since)
			dst = binary.AppendUvarint(dst, m.reached-m.since)
		}
	}
	if t.paging {
		dst = binary.AppendUvarint(dst, uint64(t.bound.time))
		dst = binary.AppendUvarint(dst, uint64(t.bound.ref))
	}
	return dst
}

func parseSyncToken(src []byte, cluster uint64) (t syncToken, err error) {
	if len(src) < 7 || src[0] != syncTokenVersion {
		return t, errTokenTooOld
	}
	id, rest, err := wire.ParseKeyID(src[1:])
	if err != nil || uint64(id) != cluster {
		return t, errTokenTooOld
	}
	bad := false
	next := func() uint64 {
		n, size := binary.Uvarint(rest)
		if size <= 0 {
			bad = true
			return 0
		}
		rest = rest[size:]
		return n
	}
	t = syncToken{cluster: cluster, marks: make(map[int]mark)}
	count := next()
	if count > router.ShardsMax {
		return t, errTokenTooOld
	}
	for range count {
		shard, since := next(), next()
		if shard >= router.ShardsMax {
			return t, errTokenTooOld
		}
		t.marks[int(shard)] = mark{since: since, reached: since + next()}
	}
	if t.paging = len(rest) > 0; t.paging {
		t.bound = place{time: wire.Time(next()), ref: wire.Ref(next())}
	}
	if bad || len(rest) > 0 {
		return t, errTokenTooOld
	}
	return t, nil
}
