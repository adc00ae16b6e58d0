package raft

import (
	"errors"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"
	hraft "github.com/hashicorp/raft"
)

var errDisk = errors.New("the disk has failed")

// TestAWriteAheadLogThatCannotEndOrBegin fills one write-ahead log and has what comes when the
// next one begins fail: Pebble by itself would end the process with a panic.
func TestAWriteAheadLogThatCannotEndOrBegin(t *testing.T) {
	if testing.Short() {
		t.Skip("writes 64 MiB four times")
	}
	for name, fails := range map[string]func(op errorfs.Op) bool{
		"create": func(op errorfs.Op) bool { return op.Kind == errorfs.OpCreate && strings.HasSuffix(op.Path, ".log") },
		"reuse":  func(op errorfs.Op) bool { return op.Kind == errorfs.OpReuseForWrite },
		"sync": func(op errorfs.Op) bool {
			return op.Kind == errorfs.OpFileSyncData || op.Kind == errorfs.OpFileSync
		},
		"write": func(op errorfs.Op) bool { return op.Kind == errorfs.OpFileWrite },
	} {
		t.Run(name, func(t *testing.T) { failLog(t, fails, name == "reuse") })
	}
}

func failLog(t *testing.T, fails func(op errorfs.Op) bool, recycled bool) {
	var on atomic.Bool
	var failure atomic.Pointer[error]
	fs := errorfs.Wrap(vfs.NewMem(), errorfs.InjectorFunc(func(op errorfs.Op) error {
		if on.Load() && fails(op) {
			return errDisk
		}
		return nil
	}))
	s, err := openPebble(&pebbleConfig{path: "log", fs: fs, logger: &pebbleLogger{testLogger(), func(error) {}},
		fail: func(err error) { failure.CompareAndSwap(nil, &err) },
		broken: func() error {
			if err := failure.Load(); err != nil {
				return *err
			}
			return nil
		}})
	if err != nil {
		t.Fatal(err)
	}
	index := uint64(0)
	write := func() error {
		o := newOperation(1)
		for range 16 {
			index++
			o.logs = append(o.logs, &hraft.Log{Index: index, Term: 1, Data: make([]byte, EntryBytesMax-1024)})
		}
		return s.write([]*operation{o})
	}
	// Most of a log; for one that is recycled, a few of them.
	rounds := memTableBytes>>20 - 4
	if recycled {
		rounds = 3*memTableBytes>>20 - 4
	}
	for range rounds {
		if err := write(); err != nil {
			t.Fatal(err)
		}
	}
	on.Store(true)
	for i := 0; ; i++ {
		err := write()
		if err != nil {
			if !errors.Is(err, errDisk) {
				t.Errorf("failed with %v", err)
			}
			break
		}
		if i == 2*memTableBytes>>20 {
			t.Fatal("nothing has failed")
		}
	}
	if err := write(); !errors.Is(err, errDisk) {
		t.Errorf("then: %v", err)
	}
	_ = s.close() // whatever is left of it
}
