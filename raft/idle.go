package raft

import "sync"

// An idleMutex is a mutex to be held over a write of the log. Who waits for it is idle in
// the eyes of a simulation, whose time stands still as long as anybody waits for a
// sync.Mutex. Its zero value is free.
type idleMutex struct {
	mu   sync.Mutex
	free *sync.Cond
	held bool
}

// Lock waits for the mutex and takes it.
func (m *idleMutex) Lock() {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.free == nil {
		m.free = sync.NewCond(&m.mu)
	}
	for m.held {
		m.free.Wait()
	}
	m.held = true
}

// Unlock gives it back.
func (m *idleMutex) Unlock() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.held = false
	m.free.Signal()
}
