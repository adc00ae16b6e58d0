package cluster

import (
	"sync"
	"sync/atomic"
)

// A View is the newest map that a node knows, from wherever it came. Any goroutine may
// use it. The zero View holds the zero Map.
type View struct {
	newest atomic.Pointer[Map]
	mu     sync.Mutex // of Offer and listeners: listeners see maps in order
	told   listeners
}

// Map returns the newest map. It must not be changed.
func (v *View) Map() *Map {
	if m := v.newest.Load(); m != nil {
		return m
	}
	return &Map{}
}

// Offer takes a map up if it is newer than the one there is, and tells the listeners. A
// map of another cluster is never newer.
func (v *View) Offer(m *Map) (taken bool) {
	v.mu.Lock()
	defer v.mu.Unlock()
	now := v.Map()
	if m.Epoch <= now.Epoch || now.Founded() && m.Cluster != now.Cluster {
		return false
	}
	v.newest.Store(m)
	v.told.tell(m)
	return true
}

// Subscribe calls fn now and with each newer map, in order, one call at a time. fn must
// not block and must not use Offer or Subscribe. The returned function ends it; fn may
// still run when it returns.
func (v *View) Subscribe(fn func(*Map)) (cancel func()) {
	v.mu.Lock()
	defer v.mu.Unlock()
	fn(v.Map())
	return v.told.add(fn)
}

// listeners are told of new maps. Their owner takes care that one is told at a time.
type listeners struct {
	mu   sync.Mutex
	next int
	list []listener
}

type listener struct {
	id int
	fn func(*Map)
}

func (l *listeners) add(fn func(*Map)) (cancel func()) {
	l.mu.Lock()
	defer l.mu.Unlock()
	id := l.next
	l.next++
	l.list = append(l.list[:len(l.list):len(l.list)], listener{id, fn})
	return func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		var rest []listener
		for _, other := range l.list {
			if other.id != id {
				rest = append(rest, other)
			}
		}
		l.list = rest
	}
}

func (l *listeners) tell(m *Map) {
	l.mu.Lock()
	list := l.list
	l.mu.Unlock()
	for _, one := range list {
		one.fn(m)
	}
}
