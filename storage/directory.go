package storage

import (
	"errors"
	"fmt"
	"io"
	"os"
	"slices"

	"github.com/cockroachdb/pebble/v2/vfs"
	"golang.org/x/sys/unix"
)

// Errors of locking a data directory.
var (
	// ErrInUse reports a directory that another process, or this one, has open.
	ErrInUse = errors.New("storage: data directory is in use")
	// ErrNoDirectory reports that there is no data directory where one should be.
	ErrNoDirectory = errors.New("storage: no data directory")
)

const lockName = "LOCK"

// strangers are names that do not make a folder somebody else's: our own before the format
// file is in place, and what a fresh file system has at its root.
var strangers = []string{lockName, formatNewName, "lost+found"}

// A Directory is a locked data directory. While it is open no other process can be on it.
type Directory struct {
	fs   vfs.FS
	path string
	lock io.Closer
}

// OpenDirectory locks a data directory, and makes it (mode 0700) if there is none or the
// folder is empty. It refuses one in use (ErrInUse), of a newer format (ErrNewerFormat) and
// a folder with somebody else's files (ErrNotParley). A nil fs is the operating system's.
func OpenDirectory(path string, fs vfs.FS) (*Directory, error) {
	if fs == nil {
		fs = vfs.Default
	}
	if err := makeDirectory(fs, path); err != nil {
		return nil, fmt.Errorf("storage: make data directory: %w", err)
	}
	return openDirectory(path, fs, true)
}

// OpenExistingDirectory locks a data directory that must be there, as a check needs it: it
// writes nothing but the lock file.
func OpenExistingDirectory(path string, fs vfs.FS) (*Directory, error) {
	if fs == nil {
		fs = vfs.Default
	}
	if _, err := fs.Stat(fs.PathJoin(path, formatName)); err != nil {
		return nil, fmt.Errorf("%w: %s", ErrNoDirectory, path)
	}
	return openDirectory(path, fs, false)
}

func openDirectory(path string, fs vfs.FS, create bool) (*Directory, error) {
	fresh, err := inspect(path, fs)
	if err != nil {
		return nil, err
	}
	name := fs.PathJoin(path, lockName)
	lock, err := fs.Lock(name)
	if err != nil {
		return nil, inUse(path, name, fs, err)
	}
	d := &Directory{fs: fs, path: path, lock: lock}
	// Once more under the lock: another process may have been making it.
	if fresh, err = inspect(path, fs); err == nil && fresh && create {
		err = replaceFile(fs, path, formatName, formatNewName, appendFormat(nil, FormatVersion))
	}
	if err != nil {
		return nil, errors.Join(err, d.Close())
	}
	return d, nil
}

// inspect reports whether the folder is still to be made a data directory.
func inspect(path string, fs vfs.FS) (fresh bool, err error) {
	names, err := fs.List(path)
	if err != nil {
		return false, fmt.Errorf("storage: data directory: %w", err)
	}
	if slices.Contains(names, formatName) {
		return false, readFormat(fs, path)
	}
	for _, name := range names {
		if !slices.Contains(strangers, name) {
			return false, fmt.Errorf("%w: %s has no %s file but a %s; choose an empty folder",
				ErrNotParley, path, formatName, name)
		}
	}
	return true, nil
}

// inUse explains a failed lock.
func inUse(path, name string, fs vfs.FS, cause error) error {
	holder := 0
	system := vfs.Root(fs) == vfs.Default
	switch {
	case errors.Is(cause, os.ErrPermission) && !errors.Is(cause, unix.EACCES),
		errors.Is(cause, unix.EROFS), errors.Is(cause, unix.ENOSPC):
		return fmt.Errorf("storage: lock %s: %w", name, cause)
	case system && (errors.Is(cause, unix.EAGAIN) || errors.Is(cause, unix.EACCES)):
		holder = lockHolder(name)
	case system:
		holder = os.Getpid() // the lock is one of this process's own
	}
	if holder > 0 {
		return fmt.Errorf("%w: %s, by process %d", ErrInUse, path, holder)
	}
	return fmt.Errorf("%w: %s: %v", ErrInUse, path, cause)
}

// lockHolder asks the kernel which other process has a file locked; 0 if it does not know.
// It must not be called on a lock of this process: closing the file would release it.
func lockHolder(name string) int {
	f, err := os.OpenFile(name, os.O_RDWR, 0)
	if err != nil {
		return 0
	}
	defer f.Close()
	query := unix.Flock_t{Type: unix.F_WRLCK, Whence: io.SeekStart}
	if err := unix.FcntlFlock(f.Fd(), unix.F_GETLK, &query); err != nil || query.Type == unix.F_UNLCK {
		return 0
	}
	return int(query.Pid)
}

// Path names something in the directory.
func (d *Directory) Path(elem ...string) string {
	return d.fs.PathJoin(append([]string{d.path}, elem...)...)
}

// ReadFile reads a small file of the directory; fs.ErrNotExist if there is none.
func (d *Directory) ReadFile(name string) ([]byte, error) {
	f, err := d.fs.Open(d.Path(name))
	if err != nil {
		return nil, err
	}
	b, err := io.ReadAll(f)
	return b, errors.Join(err, f.Close())
}

// WriteFile makes a file of the directory appear whole or not at all, crash or no crash.
// Only the owner can read it.
func (d *Directory) WriteFile(name string, content []byte) error {
	if vfs.Root(d.fs) == vfs.Default {
		// Pebble's Create has no mode: the file is there before, with ours.
		f, err := os.OpenFile(d.Path(name+".new"), os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
		if err != nil {
			return err
		}
		_, err = f.Write(content)
		if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
			return err
		}
		if err := os.Rename(d.Path(name+".new"), d.Path(name)); err != nil {
			return err
		}
		return syncDirectory(d.fs, d.path)
	}
	return replaceFile(d.fs, d.path, name, name+".new", content)
}

// FS is the file system that the directory is on.
func (d *Directory) FS() vfs.FS { return d.fs }

// Close releases the lock. Everything in the directory must be closed before.
func (d *Directory) Close() error { return d.lock.Close() }

// FreeBytes tells how much an unprivileged process can still write to the file system that
// holds the directory, so that a node can refuse sends before the disk is full.
func (d *Directory) FreeBytes() (uint64, error) {
	usage, err := d.fs.GetDiskUsage(d.path)
	if err != nil {
		return 0, fmt.Errorf("storage: free space of %s: %w", d.path, err)
	}
	return usage.AvailBytes, nil
}
