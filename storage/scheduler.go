package storage

import (
	"sync"
	"time"

	"github.com/cockroachdb/pebble/v2"
)

// schedulerInterval is how often a scheduler looks whether Pebble allows more compactions than
// before. What it allows grows with ingests, which tell nobody.
const schedulerInterval = time.Second

// A scheduler lets Pebble compact, as many at a time as Pebble allows itself, but not before the
// store is open: Pebble's Open begins compactions and then waits for them, so that a node that was
// killed in the middle of a large one would serve only after its end, some seconds later.
type scheduler struct {
	kick   chan struct{} // capacity 1: there may be room for a compaction
	stop   chan struct{}
	worker sync.WaitGroup

	mu      sync.Mutex // comes after Pebble's own
	db      pebble.DBForCompaction
	opened  bool
	closed  bool
	running int
}

var (
	_ pebble.CompactionScheduler   = (*scheduler)(nil)
	_ pebble.CompactionGrantHandle = (*scheduler)(nil)
)

func newScheduler() *scheduler {
	return &scheduler{kick: make(chan struct{}, 1), stop: make(chan struct{})}
}

// open begins what has waited, on a goroutine that ends with Unregister.
func (s *scheduler) open() {
	s.mu.Lock()
	s.opened = true
	s.mu.Unlock()
	s.wake()
	s.worker.Go(s.work)
}

func (s *scheduler) wake() {
	select {
	case s.kick <- struct{}{}:
	default:
	}
}

// work begins compactions that Pebble could not begin when it wanted to. Pebble's mutexes come
// before the scheduler's, so only a goroutine that holds none can.
func (s *scheduler) work() {
	ticker := time.NewTicker(schedulerInterval)
	defer ticker.Stop()
	for {
		select {
		case <-s.kick:
		case <-ticker.C:
		case <-s.stop:
			return
		}
		for s.begin() {
		}
	}
}

// begin begins one compaction, if one waits and there is room for it.
func (s *scheduler) begin() bool {
	if !s.reserve() {
		return false
	}
	if waits, _ := s.db.GetWaitingCompaction(); waits && s.db.Schedule(s) {
		return true
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.running--
	return false
}

// reserve takes room for one compaction.
func (s *scheduler) reserve() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.opened || s.closed || s.running >= s.db.GetAllowedWithoutPermission() {
		return false
	}
	s.running++
	return true
}

// Register is called once, by Pebble's Open.
func (s *scheduler) Register(_ int, db pebble.DBForCompaction) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.db = db
}

// Unregister ends granting; compactions that run go on.
func (s *scheduler) Unregister() {
	s.mu.Lock()
	s.closed = true
	s.mu.Unlock()
	close(s.stop)
	s.worker.Wait()
}

// TrySchedule grants a compaction that Pebble has picked.
func (s *scheduler) TrySchedule() (bool, pebble.CompactionGrantHandle) {
	if !s.reserve() {
		return false, nil
	}
	return true, s
}

// UpdateGetAllowedWithoutPermission says that Pebble may allow more now.
func (s *scheduler) UpdateGetAllowedWithoutPermission() { s.wake() }

// Started is a compaction's news that it begins.
func (s *scheduler) Started() {}

// MeasureCPU would let a compaction's CPU time be measured.
func (s *scheduler) MeasureCPU(pebble.CompactionGoroutineKind) {}

// CumulativeStats is a compaction's progress.
func (s *scheduler) CumulativeStats(pebble.CompactionGrantHandleStats) {}

// Done ends a compaction: there is room for another one.
func (s *scheduler) Done() {
	s.mu.Lock()
	s.running--
	s.mu.Unlock()
	s.wake()
}
