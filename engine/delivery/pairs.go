package delivery

import (
	"iter"

	"parley/wire"
)

const (
	pairsMin = 8  // places of the smallest table
	tagBits  = 16 // below a user's 48 bits
)

// pairs is a set of (user, tag) as an open-addressing table of integers: 8 bytes a place,
// 11 to 21 a pair, and nothing for the garbage collector to walk. All pairs of a user lie
// in one run of places. Its owner's mutex guards it; its zero value is empty. A group is as
// good as a user, and a pair may have a number.
type pairs struct {
	places  []uint64 // user, then tag; 0: free
	numbers []uint64 // by place; nil: pairs have none
	used    int
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
			if p.numbers != nil {
				p.numbers[hole] = p.numbers[next]
			}
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
	if p.used == 0 {
		return
	}
	old := *p
	p.clear(len(old.places), old.numbers != nil)
	for at, pair := range old.places {
		if pair != 0 && uint16(pair) != tag {
			p.insert(pair, &old, at)
		}
	}
	for len(p.places) > pairsMin && p.used*8 < len(p.places) {
		p.resize(len(p.places) / 2)
	}
}

func (p *pairs) resize(size int) {
	old := *p
	p.clear(size, old.numbers != nil)
	for at, pair := range old.places {
		if pair != 0 {
			p.insert(pair, &old, at)
		}
	}
}

// clear makes an empty table.
func (p *pairs) clear(size int, numbers bool) {
	*p = pairs{places: make([]uint64, size)}
	if numbers {
		p.numbers = make([]uint64, size)
	}
}

// insert enters a pair that is not there, where there is room, with the number that it has
// at a place of another table.
func (p *pairs) insert(pair uint64, from *pairs, place int) {
	at, _ := p.find(pair)
	p.places[at] = pair
	if p.numbers != nil {
		p.numbers[at] = from.numbers[place]
	}
	p.used++
}

// number is what a pair has, nil if it is not there.
func (p *pairs) number(user wire.ID, tag uint16) *uint64 {
	if p.used == 0 {
		return nil
	}
	at, ok := p.find(pairOf(user, tag))
	if !ok {
		return nil
	}
	return &p.numbers[at]
}

// addNumber enters a pair that has a number, or raises it.
func (p *pairs) addNumber(user wire.ID, tag uint16, number uint64) {
	if p.numbers == nil {
		p.clear(pairsMin, true)
	}
	if p.add(user, tag) {
		*p.number(user, tag) = number
	} else if n := p.number(user, tag); *n < number {
		*n = number
	}
}

// tags yields the tags of a user.
func (p *pairs) tags(user wire.ID) iter.Seq[uint16] {
	return func(yield func(uint16) bool) {
		if p.used == 0 {
			return
		}
		mask := uint64(len(p.places) - 1)
		for at := p.home(user); p.places[at] != 0; at = (at + 1) & mask {
			if pair := p.places[at]; userOf(pair) == user && !yield(uint16(pair)) {
				return
			}
		}
	}
}

// any reports whether a user has a tag, and which one comes first.
func (p *pairs) any(user wire.ID) (tag uint16, ok bool) {
	for tag := range p.tags(user) {
		return tag, true
	}
	return 0, false
}
