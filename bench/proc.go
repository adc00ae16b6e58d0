//go:build linux

package bench

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// ticksPerSecond is the unit of CPU times in /proc: USER_HZ, which is 100 on every
// architecture that Go runs Linux on.
const ticksPerSecond = 100

// errProc reports a file of /proc in a form that this package does not know.
var errProc = errors.New("bench: cannot read /proc")

// A usage is what a process has taken from the machine so far.
type usage struct {
	CPU           time.Duration // user and system
	RSS           uint64        // bytes now
	Anonymous     uint64        // of them, those that are no file's
	IOCalls       uint64        // read and write system calls, those on sockets included
	WrittenBytes  uint64        // that reached the page cache of a disk
	VoluntaryWait uint64        // context switches
}

// add adds another process's.
func (u *usage) add(v usage) {
	u.CPU += v.CPU
	u.RSS += v.RSS
	u.Anonymous += v.Anonymous
	u.IOCalls += v.IOCalls
	u.WrittenBytes += v.WrittenBytes
	u.VoluntaryWait += v.VoluntaryWait
}

// readUsage reads a process's figures.
func readUsage(pid int) (u usage, err error) {
	stat, err := readProc(pid, "stat")
	if err != nil {
		return u, err
	}
	if u.CPU, err = parseCPU(stat); err != nil {
		return u, err
	}
	status, err := readProc(pid, "status")
	if err != nil {
		return u, err
	}
	u.RSS = field(status, "VmRSS:") << 10
	u.Anonymous = field(status, "RssAnon:") << 10
	u.VoluntaryWait = field(status, "voluntary_ctxt_switches:")
	if u.RSS == 0 {
		return u, fmt.Errorf("%w: process %d has no VmRSS", errProc, pid)
	}
	// A sandbox may hide io; the figures made of it are then left out.
	if io, err := readProc(pid, "io"); err == nil {
		u.IOCalls = field(io, "syscr:") + field(io, "syscw:")
		u.WrittenBytes = field(io, "write_bytes:")
	}
	return u, nil
}

func readProc(pid int, name string) ([]byte, error) {
	b, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), name))
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errProc, err)
	}
	return b, nil
}

// parseCPU takes utime and stime, fields 14 and 15, counted after the command's name, which may
// hold spaces and parentheses.
func parseCPU(stat []byte) (time.Duration, error) {
	fields := bytes.Fields(stat[bytes.LastIndexByte(stat, ')')+1:])
	if len(fields) < 13 {
		return 0, fmt.Errorf("%w: stat has %d fields", errProc, len(fields))
	}
	user, userErr := strconv.ParseUint(string(fields[11]), 10, 64)
	system, systemErr := strconv.ParseUint(string(fields[12]), 10, 64)
	if userErr != nil || systemErr != nil {
		return 0, fmt.Errorf("%w: stat: %w", errProc, errors.Join(userErr, systemErr))
	}
	return time.Duration(user+system) * time.Second / ticksPerSecond, nil
}

// field finds "name  123" at the beginning of a line; 0 if it is not there.
func field(text []byte, name string) uint64 {
	for line := range strings.Lines(string(text)) {
		if rest, ok := strings.CutPrefix(line, name); ok {
			if words := strings.Fields(rest); len(words) > 0 {
				n, _ := strconv.ParseUint(words[0], 10, 64)
				return n
			}
		}
	}
	return 0
}

// diskBytes adds up the lengths of the files below a folder.
func diskBytes(root string) (uint64, error) {
	var sum uint64
	err := filepath.WalkDir(root, func(path string, d os.DirEntry, err error) error {
		switch {
		case errors.Is(err, os.ErrNotExist):
			return nil // removed meanwhile
		case err != nil:
			return err
		case !d.Type().IsRegular():
			return nil
		}
		info, err := d.Info()
		if err == nil {
			sum += uint64(info.Size())
		}
		if errors.Is(err, os.ErrNotExist) {
			return nil
		}
		return err
	})
	return sum, err
}
