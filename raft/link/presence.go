package link

import (
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// presence is when a node was heard of last, on any connection.
type presence struct {
	at   atomic.Int64 // of Hub.now
	gone atomic.Bool  // its machine said that nobody listens
}

// hear notes a sign of life.
func (p *presence) hear(now time.Duration) {
	p.at.Store(int64(now))
	if p.gone.Load() {
		p.gone.Store(false)
	}
}

func (h *Hub) presence(node uint32) *presence {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.presenceLocked(node)
}

func (h *Hub) presenceLocked(node uint32) *presence {
	p := h.presences[node]
	if p == nil {
		p = &presence{}
		p.hear(h.now())
		h.presences[node] = p
	}
	return p
}

// Silent tells whether nothing was heard of a node for SilentAfter, or its machine refuses
// connections. A node that this one was never told of is silent; the node itself never is.
func (h *Hub) Silent(node uint32) bool {
	if node == h.Self() {
		return false
	}
	h.mu.RLock()
	p := h.presences[node]
	h.mu.RUnlock()
	return p == nil || p.gone.Load() || h.now()-time.Duration(p.at.Load()) >= SilentAfter
}

// RTT returns a node's round trip time, smoothed over some seconds; 0 if there is no link.
func (h *Hub) RTT(node uint32) time.Duration {
	if p := h.peer(node); p != nil {
		return time.Duration(p.rtt.Load())
	}
	return 0
}

// watchers are told of changes, one at a time.
type watchers struct {
	mu  sync.Mutex
	fns []func(node uint32, up bool)
	up  []uint32
}

func (w *watchers) watch(fn func(node uint32, up bool)) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.fns = append(w.fns, fn)
	for _, node := range w.up {
		fn(node, true)
	}
}

func (w *watchers) tell(node uint32, up bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if up {
		w.up = append(w.up, node)
	} else if i := slices.Index(w.up, node); i >= 0 {
		w.up = slices.Delete(w.up, i, i+1)
	}
	for _, fn := range w.fns {
		fn(node, up)
	}
}

// Watch calls fn when the link to a node comes up and when it breaks, in order and one call at a
// time; first for the links that are up. What was sent before it broke may be lost, and what is
// sent within fn(node, true) is the first that the new connection carries, unless others send at
// the same time. fn must not block and must not call Watch.
func (h *Hub) Watch(fn func(node uint32, up bool)) { h.watchers.watch(fn) }

// WatchArrivals calls fn when a node's connection to this one begins and ends, in order with
// what comes on it: messages between two connections may have been lost. Otherwise it is like
// Watch.
func (h *Hub) WatchArrivals(fn func(node uint32, up bool)) { h.arrivals.watch(fn) }

// Up tells whether there is a link to a node.
func (h *Hub) Up(node uint32) bool {
	p := h.peer(node)
	if p == nil {
		return false
	}
	l, _ := p.current()
	return l != nil
}
