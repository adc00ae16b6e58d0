package delivery

import (
	"sync"

	"parley/wire"
)

// stripes spread the directory's locks: 64 event loops seldom meet in one.
const stripes = 256

// An Entry is one session of a user.
type Entry struct {
	Device wire.ID
	Handle uint64
}

// A Directory knows the sessions of every user at this node. It holds no pointer per
// session, only flat tables: about 40 bytes a session, and nothing for the garbage
// collector to walk. Any goroutine may use it.
type Directory struct {
	stripes [stripes]stripe
}

// A stripe is an open-addressing table from a user to the first of a chain of nodes.
type stripe struct {
	mu    sync.Mutex
	table []uint32 // index of a node plus 1; 0: free
	used  int
	nodes []node
	free  uint32 // head of the chain of unused nodes, plus 1
}

type node struct {
	user   wire.ID
	device wire.ID
	handle uint64
	next   uint32 // plus 1
}

// NewDirectory makes an empty directory.
func NewDirectory() *Directory { return &Directory{} }

// mix spreads a user's bits (the finalizer of MurmurHash3).
func mix(user wire.ID) uint64 {
	h := uint64(user)
	h ^= h >> 33
	h *= 0xff51afd7ed558ccd
	h ^= h >> 33
	h *= 0xc4ceb9fe1a85ec53
	return h ^ h>>33
}

func (d *Directory) stripe(user wire.ID) (*stripe, uint64) {
	h := mix(user)
	return &d.stripes[h%stripes], h / stripes
}

// Put enters a session and returns the handle of the one that it replaces: the same
// device has one session. 0: none.
func (d *Directory) Put(user, device wire.ID, handle uint64) (replaced uint64) {
	s, h := d.stripe(user)
	s.mu.Lock()
	defer s.mu.Unlock()
	at := s.find(user, h)
	if at >= 0 {
		for i := s.table[at]; i != 0; i = s.nodes[i-1].next {
			if n := &s.nodes[i-1]; n.device == device {
				replaced, n.handle = n.handle, handle
				return replaced
			}
		}
		i := s.alloc(node{user: user, device: device, handle: handle, next: s.table[at]})
		s.table[at] = i
		return 0
	}
	if (s.used+1)*4 > len(s.table)*3 {
		s.grow()
	}
	i := s.alloc(node{user: user, device: device, handle: handle})
	s.insert(i, h)
	return 0
}

// Remove takes a session out, unless another one has replaced it meanwhile.
func (d *Directory) Remove(user, device wire.ID, handle uint64) {
	s, h := d.stripe(user)
	s.mu.Lock()
	defer s.mu.Unlock()
	at := s.find(user, h)
	if at < 0 {
		return
	}
	for link := &s.table[at]; *link != 0; link = &s.nodes[*link-1].next {
		i := *link
		n := &s.nodes[i-1]
		if n.device != device || n.handle != handle {
			continue
		}
		*link = n.next
		*n = node{next: s.free}
		s.free = i
		break
	}
	if s.table[at] == 0 {
		s.vacate(at)
	}
}

// Append appends the sessions of a user to dst.
func (d *Directory) Append(dst []Entry, user wire.ID) []Entry {
	s, h := d.stripe(user)
	s.mu.Lock()
	defer s.mu.Unlock()
	at := s.find(user, h)
	if at < 0 {
		return dst
	}
	for i := s.table[at]; i != 0; i = s.nodes[i-1].next {
		dst = append(dst, Entry{Device: s.nodes[i-1].device, Handle: s.nodes[i-1].handle})
	}
	return dst
}

// Has reports whether a user has a session.
func (d *Directory) Has(user wire.ID) bool {
	s, h := d.stripe(user)
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.find(user, h) >= 0
}

// find gives the place of a user in the table, -1 if there is none.
func (s *stripe) find(user wire.ID, h uint64) int {
	if len(s.table) == 0 {
		return -1
	}
	mask := uint64(len(s.table) - 1)
	for at := h & mask; ; at = (at + 1) & mask {
		i := s.table[at]
		if i == 0 {
			return -1
		}
		if s.nodes[i-1].user == user {
			return int(at)
		}
	}
}

func (s *stripe) alloc(n node) uint32 {
	if s.free == 0 {
		if len(s.nodes) == cap(s.nodes) {
			// A quarter at a time: append would double a stripe of 64, and half of all nodes
			// would stand empty at 18,000 sessions.
			s.nodes = append(make([]node, 0, len(s.nodes)+max(8, len(s.nodes)/4)), s.nodes...)
		}
		s.nodes = append(s.nodes, n)
		return uint32(len(s.nodes))
	}
	i := s.free
	s.free = s.nodes[i-1].next
	s.nodes[i-1] = n
	return i
}

func (s *stripe) insert(i uint32, h uint64) {
	mask := uint64(len(s.table) - 1)
	at := h & mask
	for s.table[at] != 0 {
		at = (at + 1) & mask
	}
	s.table[at] = i
	s.used++
}

func (s *stripe) grow() {
	old := s.table
	s.table, s.used = make([]uint32, max(8, 2*len(old))), 0
	for _, i := range old {
		if i != 0 {
			s.insert(i, mix(s.nodes[i-1].user)/stripes)
		}
	}
}

// vacate frees a place and moves later ones of its run back over it, so that find needs
// no tombstones.
func (s *stripe) vacate(at int) {
	mask := uint64(len(s.table) - 1)
	hole := uint64(at)
	for next := (hole + 1) & mask; s.table[next] != 0; next = (next + 1) & mask {
		home := mix(s.nodes[s.table[next]-1].user) / stripes & mask
		if (next-home)&mask >= (next-hole)&mask {
			s.table[hole] = s.table[next]
			hole = next
		}
	}
	s.table[hole] = 0
	s.used--
}
