package sim

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// An Operation is what a disk can be told to fail at.
type Operation uint8

// The operations that fail.
const (
	OperationWrite Operation = iota
	OperationSync
)

// String is the operation's name.
func (o Operation) String() string { return [...]string{"write", "sync"}[o] }

// A Disk is a file system in memory that keeps only what was synced when its machine
// crashes, and that fails as it is told. It implements vfs.FS.
type Disk struct {
	vfs.FS
	memory *vfs.MemFS
	// links: MemFS.Link takes a lock twice for reading, which never ends once CrashClone
	// waits for it in between, so the two take turns.
	links sync.RWMutex
	gate  *Gate

	mu       sync.Mutex
	random   *rand.Rand
	free     int64 // bytes; negative: no limit
	failing  [2]int
	slowest  time.Duration   // of a sync of the log or of a table
	hurry    chan struct{}   // closed when slowest changes: who dawdles goes on
	lost     map[string]bool // files of which a sync has failed: the kernel says it is well from then on, and keeps nothing
	Injected int             // errors given so far
	// opening, if set, gets an error instead of who runs into it. While it opens, Pebble
	// (v2.1.7) leaves a goroutine behind for some errors, which would keep a run from ending.
	// So the process dies at that point instead, and works on in the dark.
	opening func(error)
}

// NewDisk makes an empty disk without limit.
func NewDisk(random *rand.Rand) *Disk {
	return wrapDisk(vfs.NewCrashableMem(), random)
}

func wrapDisk(memory *vfs.MemFS, random *rand.Rand) *Disk {
	return &Disk{FS: memory, memory: memory, random: random, free: -1, lost: make(map[string]bool), hurry: make(chan struct{})}
}

// Crash is the disk as a crash now would leave it, with each block that was not synced there
// or not, by chance. It is as full, and has no other faults.
func (d *Disk) Crash(unsyncedPercent int) *Disk {
	d.mu.Lock()
	defer d.mu.Unlock()
	random := rand.New(rand.NewPCG(d.random.Uint64(), d.random.Uint64()))
	d.links.Lock()
	defer d.links.Unlock()
	clone := wrapDisk(d.memory.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: unsyncedPercent, RNG: random}), random)
	clone.free = d.free
	return clone
}

// SetFree says how much can be written before the disk is full; negative: no limit.
func (d *Disk) SetFree(bytes int64) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.free = bytes
}

// SetSlow makes each sync of the log and of tables take up to that long.
func (d *Disk) SetSlow(most time.Duration) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.slowest = most
	close(d.hurry)
	d.hurry = make(chan struct{})
}

// Fail makes an operation fail once, after so many of its kind.
func (d *Disk) Fail(o Operation, after int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.failing[o] = after + 1
}

// Heal takes back what Fail has planned.
func (d *Disk) Heal() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.failing = [2]int{}
}

// SetOpening says who gets errors; nil: whoever runs into them.
func (d *Disk) SetOpening(fn func(error)) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.opening = fn
}

// check gives the error of an operation that is to fail.
func (d *Disk) check(o Operation, name string, bytes int) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	err := d.fault(o, name, bytes)
	if err != nil && d.opening != nil {
		go d.opening(err)
		d.opening = func(error) {} // once
		return nil
	}
	return err
}

// fault decides whether an operation fails. mu is held.
func (d *Disk) fault(o Operation, name string, bytes int) error {
	if d.failing[o] > 0 {
		if d.failing[o]--; d.failing[o] == 0 {
			d.Injected++
			if o == OperationSync {
				d.lost[name] = true
			}
			return &fs.PathError{Op: o.String(), Path: name, Err: syscall.EIO}
		}
	}
	if d.free >= 0 && o == OperationWrite {
		if int64(bytes) > d.free {
			d.Injected++
			return &fs.PathError{Op: o.String(), Path: name, Err: syscall.ENOSPC}
		}
		d.free -= int64(bytes)
	}
	return nil
}

// dawdle is what a sync takes on a slow disk. Only where the engine holds no lock while it
// waits: virtual time stands still as long as anybody waits for a mutex.
func (d *Disk) dawdle(name string) {
	if !strings.HasSuffix(name, ".log") && !strings.Contains(name, "staging") {
		return
	}
	d.gate.Wait()
	d.mu.Lock()
	slow := time.Duration(0)
	if d.slowest > 0 {
		slow = time.Duration(d.random.Int64N(int64(d.slowest)))
	}
	hurry := d.hurry
	d.mu.Unlock()
	if slow == 0 {
		return
	}
	timer := time.NewTimer(slow)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-hurry:
	}
}

// A diskFile is an open file of a Disk.
type diskFile struct {
	vfs.File
	disk *Disk
	name string
}

func (d *Disk) file(f vfs.File, name string, err error) (vfs.File, error) {
	if err != nil {
		return nil, err
	}
	return &diskFile{File: f, disk: d, name: name}, nil
}

// Write implements vfs.File.
func (f *diskFile) Write(b []byte) (int, error) {
	if err := f.disk.check(OperationWrite, f.name, len(b)); err != nil {
		return 0, err
	}
	return f.File.Write(b)
}

// WriteAt implements vfs.File.
func (f *diskFile) WriteAt(b []byte, at int64) (int, error) {
	if err := f.disk.check(OperationWrite, f.name, len(b)); err != nil {
		return 0, err
	}
	return f.File.WriteAt(b, at)
}

// Sync implements vfs.File.
func (f *diskFile) Sync() error {
	f.disk.dawdle(f.name)
	if err := f.disk.check(OperationSync, f.name, 0); err != nil || f.disk.isLost(f.name) {
		return err
	}
	return f.File.Sync()
}

// SyncData implements vfs.File.
func (f *diskFile) SyncData() error { return f.Sync() }

func (d *Disk) isLost(name string) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.lost[name]
}

// SyncTo implements vfs.File: nothing is promised, so nothing is done.
func (f *diskFile) SyncTo(int64) (fullSync bool, err error) { return false, nil }

// Create implements vfs.FS.
func (d *Disk) Create(name string, category vfs.DiskWriteCategory) (vfs.File, error) {
	if err := d.check(OperationWrite, name, 0); err != nil {
		return nil, err
	}
	f, err := d.FS.Create(name, category)
	return d.file(f, name, err)
}

// Link implements vfs.FS.
func (d *Disk) Link(from, to string) error {
	d.links.RLock()
	defer d.links.RUnlock()
	return d.FS.Link(from, to)
}

// Open implements vfs.FS.
func (d *Disk) Open(name string, options ...vfs.OpenOption) (vfs.File, error) {
	f, err := d.FS.Open(name, options...)
	return d.file(f, name, err)
}

// OpenReadWrite implements vfs.FS.
func (d *Disk) OpenReadWrite(name string, category vfs.DiskWriteCategory, options ...vfs.OpenOption) (vfs.File, error) {
	f, err := d.FS.OpenReadWrite(name, category, options...)
	return d.file(f, name, err)
}

// OpenDir implements vfs.FS.
func (d *Disk) OpenDir(name string) (vfs.File, error) {
	f, err := d.FS.OpenDir(name)
	return d.file(f, name, err)
}

// ReuseForWrite implements vfs.FS.
func (d *Disk) ReuseForWrite(from, to string, category vfs.DiskWriteCategory) (vfs.File, error) {
	f, err := d.FS.ReuseForWrite(from, to, category)
	return d.file(f, to, err)
}

// GetDiskUsage implements vfs.FS.
func (d *Disk) GetDiskUsage(string) (vfs.DiskUsage, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	const total = 1 << 40
	free := uint64(total)
	if d.free >= 0 {
		free = uint64(d.free)
	}
	return vfs.DiskUsage{AvailBytes: free, TotalBytes: total, UsedBytes: total - free}, nil
}

// Unwrap implements vfs.FS.
func (d *Disk) Unwrap() vfs.FS { return d.FS }

// A Flip is a bit of a file that is not what was written.
type Flip struct {
	Name string
	At   int64
	Bit  uint8
}

// String says where it is.
func (f Flip) String() string { return fmt.Sprintf("%s at %d, bit %d", f.Name, f.At, f.Bit) }

// DrawFlip picks a bit of a file below a folder, each byte as likely as any other.
func (d *Disk) DrawFlip(folder string, random *rand.Rand) (Flip, error) {
	type candidate struct {
		name string
		size int64
	}
	var files []candidate
	total := int64(0)
	err := d.walk(folder, func(name string, size int64) {
		if size > 0 {
			files = append(files, candidate{name, size})
			total += size
		}
	})
	if err != nil || total == 0 {
		return Flip{}, errors.Join(err, os.ErrNotExist)
	}
	at := random.Int64N(total)
	for _, f := range files {
		if at < f.size {
			return Flip{f.name, at, uint8(random.IntN(8))}, nil
		}
		at -= f.size
	}
	return Flip{}, os.ErrNotExist
}

// walk visits the files below a folder in the order of their names.
func (d *Disk) walk(folder string, fn func(name string, size int64)) error {
	names, err := d.FS.List(folder)
	if err != nil {
		return err
	}
	slices.Sort(names)
	for _, name := range names {
		path := d.FS.PathJoin(folder, name)
		info, err := d.FS.Stat(path)
		switch {
		case err != nil:
			return err
		case !info.IsDir():
			fn(path, info.Size())
		default:
			if err := d.walk(path, fn); err != nil {
				return err
			}
		}
	}
	return nil
}

// Flip turns a bit over; a second time turns it back. It does nothing if the file is gone
// or shorter. The disk must not be in use.
func (d *Disk) Flip(f Flip) error {
	if _, err := d.FS.Stat(f.Name); errors.Is(err, os.ErrNotExist) {
		return nil
	}
	file, err := d.FS.OpenReadWrite(f.Name, vfs.WriteCategoryUnspecified)
	if err != nil {
		return err
	}
	var b [1]byte
	if _, err := file.ReadAt(b[:], f.At); err != nil {
		err = errors.Join(err, file.Close())
		if errors.Is(err, io.EOF) {
			return nil
		}
		return err
	}
	b[0] ^= 1 << f.Bit
	_, err = file.WriteAt(b[:], f.At)
	return errors.Join(err, file.Sync(), file.Close())
}
