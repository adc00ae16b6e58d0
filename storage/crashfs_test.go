package storage

import (
	"math/rand/v2"
	"sync"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// crashFS is a file system in memory that can be cloned as after a crash while it is in
// use. MemFS.Link takes a lock twice for reading, which never ends once CrashClone waits
// for it in between, so the two take turns.
type crashFS struct {
	*vfs.MemFS
	mu sync.RWMutex
}

func newCrashFS() *crashFS { return &crashFS{MemFS: vfs.NewCrashableMem()} }

func (fs *crashFS) Link(from, to string) error {
	fs.mu.RLock()
	defer fs.mu.RUnlock()
	return fs.MemFS.Link(from, to)
}

// crash is what a crash now would leave, with some of what was not synced.
func (fs *crashFS) crash(unsyncedPercent int, r *rand.Rand) *crashFS {
	fs.mu.Lock()
	defer fs.mu.Unlock()
	return &crashFS{MemFS: fs.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: unsyncedPercent, RNG: r})}
}
