package delivery

// lookupMin is the places of the smallest lookup.
const lookupMin = 8

// A lookup is an open-addressing table of numbers: 5 to 11 bytes for each of them, and
// nothing for the garbage collector to walk. Its owner knows what a number stands for,
// and passes the hash of that. Its zero value is empty.
type lookup struct {
	places []uint32 // a number plus 1; 0: free
	used   int
}

// find gives the place of the number that is looked for, -1 if it is not there.
func (l *lookup) find(hash uint64, is func(n uint32) bool) int {
	if l.used == 0 {
		return -1
	}
	mask := uint64(len(l.places) - 1)
	for at := hash & mask; l.places[at] != 0; at = (at + 1) & mask {
		if is(l.places[at] - 1) {
			return int(at)
		}
	}
	return -1
}

// at is the number at a place, and set puts another one of the same hash there.
func (l *lookup) at(place int) uint32     { return l.places[place] - 1 }
func (l *lookup) set(place int, n uint32) { l.places[place] = n + 1 }

// add enters a number that is not there.
func (l *lookup) add(hash uint64, n uint32, hashOf func(n uint32) uint64) {
	if (l.used+1)*4 > len(l.places)*3 {
		l.resize(max(lookupMin, 2*len(l.places)), hashOf)
	}
	l.insert(hash, n)
}

func (l *lookup) insert(hash uint64, n uint32) {
	mask := uint64(len(l.places) - 1)
	at := hash & mask
	for l.places[at] != 0 {
		at = (at + 1) & mask
	}
	l.places[at] = n + 1
	l.used++
}

func (l *lookup) resize(size int, hashOf func(n uint32) uint64) {
	old := l.places
	l.places, l.used = make([]uint32, size), 0
	for _, n := range old {
		if n != 0 {
			l.insert(hashOf(n-1), n-1)
		}
	}
}

// remove frees a place. Later numbers of its run move back over it, so that find needs no
// tombstones.
func (l *lookup) remove(place int, hashOf func(n uint32) uint64) {
	mask, hole := uint64(len(l.places)-1), uint64(place)
	for next := (hole + 1) & mask; l.places[next] != 0; next = (next + 1) & mask {
		if (next-hashOf(l.places[next]-1))&mask >= (next-hole)&mask {
			l.places[hole] = l.places[next]
			hole = next
		}
	}
	l.places[hole] = 0
	l.used--
	if len(l.places) > lookupMin && l.used*8 < len(l.places) {
		l.resize(len(l.places)/2, hashOf)
	}
}
