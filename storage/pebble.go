package storage

import (
	"context"
	"fmt"
	"log/slog"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/bloom"
	"github.com/cockroachdb/pebble/v2/sstable/block"
	"github.com/cockroachdb/pebble/v2/vfs"
)

// pebbleFormat is the format of Pebble's files that format 1 of Parley uses. It is pinned,
// not "the newest": a newer library must not make directories that an older Parley, which
// reads the same FORMAT, cannot open.
const pebbleFormat = pebble.FormatValueSeparation

// pebbleOptions are the settings of the state store, for reading and for writing.
func pebbleOptions(fs vfs.FS, logger *slog.Logger, cacheBytes int64, fatal func(error)) *pebble.Options {
	o := &pebble.Options{
		FS:                    fs,
		FormatMajorVersion:    pebbleFormat,
		DisableWAL:            true,
		CacheSize:             cacheBytes,
		MemTableSize:          memTableBytes,
		MaxOpenFiles:          openFilesMax,
		BytesPerSync:          syncBytes,
		L0CompactionThreshold: l0Tables,
		L0StopWritesThreshold: 1 << 20, // writes do not go through the memtable
		LBaseMaxBytes:         baseBytesMax,
		FlushSplitBytes:       tableBytesMax,
		Logger:                pebbleLogger{logger, fatal},
	}
	for i := range o.TargetFileSizes {
		o.TargetFileSizes[i] = levelTableBytes
	}
	for i := range o.Levels {
		o.Levels[i].BlockSize = blockBytes
		o.Levels[i].FilterPolicy = bloom.FilterPolicy(bloomBits)
		o.Levels[i].FilterType = pebble.TableFilter
		o.Levels[i].Compression = func() *block.CompressionProfile { return zstdProfile }
	}
	o.CompactionConcurrencyRange = func() (int, int) { return 1, 2 }
	// An ingest that is queued behind a memtable returns before it is durable.
	o.Experimental.DisableIngestAsFlushable = func() bool { return true }
	o.Experimental.ReadSamplingMultiplier = -1 // reads do not cause writes
	o.EventListener = &pebble.EventListener{
		BackgroundError: func(err error) { fatal(fmt.Errorf("storage: background work: %w", err)) },
		DataCorruption: func(i pebble.DataCorruptionInfo) {
			fatal(fmt.Errorf("%w: %s: %w", ErrDamaged, i.Path, i.Details))
		},
	}
	return o
}

// zstdProfile compresses data blocks with zstd at its fastest level, those of a flush too: a
// faster codec there saves 0.2 µs a message, and leaves it at 56 bytes until it is compacted.
var zstdProfile = block.BalancedCompression

// A pebbleLogger passes Pebble's log on. Fatalf is its answer to a failed write of the
// manifest: a process that went on would not know what is on disk.
type pebbleLogger struct {
	logger *slog.Logger
	fatal  func(error)
}

// Infof is Pebble's own progress, which is of no interest to an operator.
func (l pebbleLogger) Infof(format string, arguments ...any) {
	if l.logger.Enabled(context.Background(), slog.LevelDebug) {
		l.logger.Debug(fmt.Sprintf(format, arguments...))
	}
}

// Errorf reports what Pebble goes on after.
func (l pebbleLogger) Errorf(format string, arguments ...any) {
	l.logger.Error(fmt.Sprintf(format, arguments...))
}

// Fatalf stops the node.
func (l pebbleLogger) Fatalf(format string, arguments ...any) {
	l.fatal(fmt.Errorf("storage: %s", fmt.Sprintf(format, arguments...)))
}
