//go:build linux

package bench

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// A Host is the machine that a result was seen on.
type Host struct {
	Cores     int     `json:"cores"`
	CPU       string  `json:"cpu,omitempty"`
	MemoryGiB float64 `json:"memory_gib"`
	Kernel    string  `json:"kernel"`
	Go        string  `json:"go"`
	FsyncMS   float64 `json:"fsync_p50_ms"` // of 4 KiB appended to a file in the data folder's place
}

// fsyncsMeasured is enough for a median that repeats, and takes less than a second on most disks.
const fsyncsMeasured = 200

// readHost describes this machine and measures an fsync below folder.
func readHost(folder string) (Host, error) {
	h := Host{Cores: runtime.NumCPU(), Go: runtime.Version()}
	var name unix.Utsname
	if err := unix.Uname(&name); err == nil {
		h.Kernel = unix.ByteSliceToString(name.Release[:])
	}
	if b, err := os.ReadFile("/proc/cpuinfo"); err == nil {
		h.CPU = modelName(b)
	}
	if b, err := os.ReadFile("/proc/meminfo"); err == nil {
		h.MemoryGiB = float64(field(b, "MemTotal:")>>10) / 1024
	}
	median, err := measureFsync(folder)
	h.FsyncMS = float64(median.Microseconds()) / 1000
	return h, err
}

func modelName(cpuinfo []byte) string {
	for line := range strings.Lines(string(cpuinfo)) {
		if rest, ok := strings.CutPrefix(line, "model name"); ok {
			return strings.TrimSpace(strings.TrimLeft(rest, "\t :"))
		}
	}
	return ""
}

// measureFsync is the median time of appending 4 KiB to a file and making it durable.
func measureFsync(folder string) (time.Duration, error) {
	f, err := os.Create(filepath.Join(folder, "fsync.probe"))
	if err != nil {
		return 0, fmt.Errorf("bench: measure fsync: %w", err)
	}
	defer os.Remove(f.Name())
	defer f.Close()
	block := bytes.Repeat([]byte{'p'}, 4<<10)
	times := make([]time.Duration, fsyncsMeasured)
	for i := range times {
		start := time.Now()
		if _, err := f.Write(block); err != nil {
			return 0, fmt.Errorf("bench: measure fsync: %w", err)
		}
		if err := unix.Fdatasync(int(f.Fd())); err != nil {
			return 0, fmt.Errorf("bench: measure fsync: %w", err)
		}
		times[i] = time.Since(start)
	}
	slices.Sort(times)
	return times[len(times)/2], nil
}

// commit is the revision that this program was built from, with "+changes" if the tree was not
// clean, or "unknown".
func commit() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "unknown"
	}
	revision, changed := "unknown", ""
	for _, s := range info.Settings {
		switch {
		case s.Key == "vcs.revision":
			revision = s.Value[:min(len(s.Value), 12)]
		case s.Key == "vcs.modified" && s.Value == "true":
			changed = "+changes"
		}
	}
	return revision + changed
}
