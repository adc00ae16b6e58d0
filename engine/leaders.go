package engine

import (
	"encoding/binary"
	"errors"
	"sync"
	"time"
)

// groupsAnnouncedMax bounds an announcement: all shards and the map, with room to spare.
const groupsAnnouncedMax = 1024

var errAnnouncement = errors.New("engine: bad announcement of leaders")

// A leadership is who leads a group, as far as this node knows.
type leadership struct {
	node uint32 // 0: nobody
	term uint64
}

// leaders is what a node knows of who leads which group. A node announces what it leads,
// so that everybody knows without asking; the highest term is right.
type leaders struct {
	self func() uint32
	// announce tells all nodes; told hears what is believed, also when it is repeated. They
	// are called outside of mu, one at a time and in order.
	announce func(group uint32, term uint64)
	told     func(group uint32, l leadership, index uint64)

	telling sync.Mutex
	mu      sync.RWMutex
	known   map[uint32]leadership
	own     map[uint32]uint64 // terms of groups that are led here
}

func newLeaders(self func() uint32, announce func(uint32, uint64), told func(uint32, leadership, uint64)) *leaders {
	return &leaders{self: self, announce: announce, told: told, known: make(map[uint32]leadership), own: make(map[uint32]uint64)}
}

// of is the node that leads a group.
func (l *leaders) of(group uint32) (node uint32, ok bool) {
	l.mu.RLock()
	defer l.mu.RUnlock()
	k := l.known[group]
	return k.node, k.node != 0
}

// lead notes that this node leads a group in a term; 0: that it does not any more.
func (l *leaders) lead(group uint32, term uint64) {
	l.telling.Lock()
	defer l.telling.Unlock()
	l.mu.Lock()
	if term == 0 {
		delete(l.own, group)
	} else {
		l.own[group] = term
	}
	l.mu.Unlock()
	if term == 0 {
		l.forget(group, l.self())
		return
	}
	l.claim(group, leadership{l.self(), term}, 0)
	l.announce(group, term)
}

// heard takes what a node says that it leads, with the index that its streams have reached.
func (l *leaders) heard(node, group uint32, term, index uint64) {
	l.telling.Lock()
	defer l.telling.Unlock()
	l.claim(group, leadership{node, term}, index)
}

// lost forgets a node that cannot be reached: its groups have no leader until somebody
// says so again, in the same term or a higher one.
func (l *leaders) lost(node uint32) {
	l.telling.Lock()
	defer l.telling.Unlock()
	l.mu.RLock()
	var groups []uint32
	for group, k := range l.known {
		if k.node == node {
			groups = append(groups, group)
		}
	}
	l.mu.RUnlock()
	for _, group := range groups {
		l.forget(group, node)
	}
}

// claim takes a leadership up unless another one of that term or a higher one is known.
func (l *leaders) claim(group uint32, now leadership, index uint64) {
	l.mu.Lock()
	was := l.known[group]
	believed := now.term > was.term || now.term == was.term && (was.node == 0 || was.node == now.node)
	if believed {
		l.known[group] = now
	}
	l.mu.Unlock()
	if believed {
		l.told(group, now, index)
	}
}

// forget takes a leadership back; its term stays, so that an older one is not believed.
func (l *leaders) forget(group, node uint32) {
	l.mu.Lock()
	k := l.known[group]
	if k.node != node {
		l.mu.Unlock()
		return
	}
	k.node = 0
	l.known[group] = k
	l.mu.Unlock()
	l.told(group, k, 0)
}

// owned lists what this node leads, for an announcement.
func (l *leaders) owned() []leading {
	l.mu.RLock()
	defer l.mu.RUnlock()
	list := make([]leading, 0, len(l.own))
	for group, term := range l.own {
		list = append(list, leading{group: group, term: term})
	}
	return list
}

// A leading is one line of an announcement: the sender leads a group in a term, and has
// told the effects of a shard up to an index, on this link, before it says so.
type leading struct {
	group uint32
	term  uint64
	index uint64
}

// appendLeading encodes an announcement, with the sender's clock in milliseconds since 1970.
func appendLeading(dst []byte, clock time.Time, list []leading) []byte {
	dst = binary.AppendUvarint(dst, uint64(max(clock.UnixMilli(), 0)))
	dst = binary.AppendUvarint(dst, uint64(len(list)))
	for _, l := range list {
		dst = binary.AppendUvarint(dst, uint64(l.group))
		dst = binary.AppendUvarint(dst, l.term)
		dst = binary.AppendUvarint(dst, l.index)
	}
	return dst
}

func parseLeading(src []byte) (clock time.Time, list []leading, err error) {
	r := tokenReader{src: src}
	clock = time.UnixMilli(int64(r.uint()))
	count := r.uint()
	if count > groupsAnnouncedMax {
		return clock, nil, errAnnouncement
	}
	list = make([]leading, 0, count)
	for range count {
		list = append(list, leading{group: uint32(r.uint()), term: r.uint(), index: r.uint()})
	}
	if r.bad || len(r.src) > 0 {
		return clock, nil, errAnnouncement
	}
	return clock, list, nil
}
