package delivery

import "parley/wire"

const (
	pairsMin = 8  // places of the smallest table
	tagBits  = 16 // below a user's 48 bits
)

// pairs is a set of (user, tag) as an open-addressing table of integers: 8 bytes a place,
// 11 to 21 a pair, and nothing for the garbage collector to walk. All pairs of a user lie
// in one run of places. Its owner's mutex guards it; its zero value is empty.
type pairs struct {
	places []uint64 // user, then tag; 0: free
	used   int
}

func pairOf(user wire.ID, tag uint16) uint64 { return uint64(user)<<tagBits | uint64(tag) }
func userOf(pair uint64) wire.ID             { return wire.ID(pair >> tagBits) }

func (p *pairs) home(user wire.ID) uint64 { return mix(user) & uint64(len(p.places)-1) }

// find gives the place of a pair, or the free one at the end of its user's run.
func (p *pairs) find(pair uint64) (at uint64, ok bool) {
	mask := uint64(len(p.places) - 1)
	for at = p.home(userOf(pair)); p.places[at] != 0; at = (at + 1) & mask {
		if p.places[at] == pair {
			return at, true
		}
	}
	return at, false
}

// add enters a pair and reports whether it is new.
func (p *pairs) add(user wire.ID, tag uint16) bool {
	if (p.used+1)*4 > len(p.places)*3 {
		p.resize(max(pairsMin, 2*len(p.places)))
	}
	at, ok := p.find(pairOf(user, tag))
	if ok {
		return false
	}
	p.places[at] = pairOf(user, tag)
	p.used++
	return true
}

// remove takes a pair out and reports whether it was there.
func (p *pairs) remove(user wire.ID, tag uint16) bool {
	if p.used == 0 {
		return false
	}
	hole, ok := p.find(pairOf(user, tag))
	if !ok {
		return false
	}
	// Later pairs of the run move back over the hole, so that find needs no tombstones.
	mask := uint64(len(p.places) - 1)
	for next := (hole + 1) & mask; p.places[next] != 0; next = (next + 1) & mask {
		if (next-p.home(userOf(p.places[next])))&mask >= (next-hole)&mask {
			p.places[hole] = p.places[next]
			hole = next
		}
	}
	p.places[hole] = 0
	p.used--
	if len(p.places) > pairsMin && p.used*8 < len(p.places) {
		p.resize(len(p.places) / 2)
	}
	return true
}

func (p *pairs) has(user wire.ID, tag uint16) bool {
	if p.used == 0 {
		return false
	}
	_, ok := p.find(pairOf(user, tag))
	return ok
}

// dropTag takes out all pairs of a tag.
func (p *pairs) dropTag(tag uint16) {
	kept := pairs{}
	kept.resize(len(p.places))
	for _, pair := range p.places {
		if pair != 0 && uint16(pair) != tag {
			kept.insert(pair)
		}
	}
	*p = kept
	for len(p.places) > pairsMin && p.used*8 < len(p.places) {
		p.resize(len(p.places) / 2)
	}
}

func (p *pairs) resize(size int) {
	old := p.places
	p.places, p.used = make([]uint64, size), 0
	for _, pair := range old {
		if pair != 0 {
			p.insert(pair)
		}
	}
}

// insert enters a pair that is not there, where there is room.
func (p *pairs) insert(pair uint64) {
	at, _ := p.find(pair)
	p.places[at] = pair
	p.used++
}
