package storage

import (
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cockroachdb/pebble/v2"
)

// fakeCompactor is Pebble as a scheduler sees it.
type fakeCompactor struct {
	mu      sync.Mutex
	allowed int
	waiting int
	begun   int
}

func (c *fakeCompactor) change(allowed, waiting int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.allowed, c.waiting = allowed, waiting
}

func (c *fakeCompactor) GetAllowedWithoutPermission() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.allowed
}

func (c *fakeCompactor) GetWaitingCompaction() (bool, pebble.WaitingCompaction) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.waiting > 0, pebble.WaitingCompaction{}
}

func (c *fakeCompactor) Schedule(pebble.CompactionGrantHandle) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.waiting == 0 {
		return false
	}
	c.waiting--
	c.begun++
	return true
}

func (c *fakeCompactor) want(t *testing.T, what string, begun, waiting int) {
	t.Helper()
	synctest.Wait()
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.begun != begun || c.waiting != waiting {
		t.Errorf("%s: %d began and %d wait, want %d and %d", what, c.begun, c.waiting, begun, waiting)
	}
}

func TestCompactionsWaitForTheStoreToOpen(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, c := newScheduler(), &fakeCompactor{allowed: 1, waiting: 3}
		s.Register(2, c)
		if granted, _ := s.TrySchedule(); granted {
			t.Error("granted before the store is open")
		}
		s.UpdateGetAllowedWithoutPermission()
		c.want(t, "before", 0, 3)
		s.open()
		c.want(t, "open", 1, 2)
		if granted, _ := s.TrySchedule(); granted {
			t.Error("granted beyond what is allowed")
		}
		s.Done()
		c.want(t, "done", 2, 1)
		c.change(2, 1)
		time.Sleep(schedulerInterval)
		c.want(t, "more is allowed", 3, 0)
		s.Done()
		granted, handle := s.TrySchedule()
		if !granted {
			t.Error("not granted with room for one")
		}
		handle.Done()
		s.Unregister()
		c.change(2, 1)
		s.Done()
		if granted, _ := s.TrySchedule(); granted {
			t.Error("granted after the end")
		}
		c.want(t, "after the end", 3, 1)
	})
}
