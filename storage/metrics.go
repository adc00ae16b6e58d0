package storage

import (
	"sync/atomic"
	"time"
)

type counters struct {
	flushes          atomic.Int64
	flushedBytes     atomic.Int64
	flushNanoseconds atomic.Int64
	waits            atomic.Int64
	hurried          atomic.Int64 // flushes that somebody waits for
}

// Metrics are what an operator should see of the state store.
type Metrics struct {
	ActiveBytes     int64         // in buffers that take changes
	FrozenBytes     int64         // in buffers that wait to be written
	Flushes         int64         // since the start
	FlushedBytes    int64         // tables written by flushes
	FlushDuration   time.Duration // all flushes together
	UpdateWaits     int64         // updates that had to wait for a flush
	Tables          int64
	TableBytes      int64
	DiskBytes       int64 // with obsolete files that are not removed yet
	L0Tables        int64
	ReadAmplify     int // tables that a read may have to look into
	CompactionDebt  int64
	CompactedBytes  int64 // tables written by compactions, since the start
	CacheBytes      int64
	CacheHits       int64
	CacheMisses     int64
	IngestedBytes   int64
	CompactionCount int64
}

// Metrics reads the store's counters. It takes some microseconds.
func (s *Store) Metrics() Metrics {
	m := s.db.Metrics()
	total := m.Total()
	return Metrics{
		ActiveBytes:     s.activeBytes.Load(),
		FrozenBytes:     s.frozenBytes.Load(),
		Flushes:         s.counters.flushes.Load(),
		FlushedBytes:    s.counters.flushedBytes.Load(),
		FlushDuration:   time.Duration(s.counters.flushNanoseconds.Load()),
		UpdateWaits:     s.counters.waits.Load(),
		Tables:          total.TablesCount,
		TableBytes:      total.TablesSize,
		DiskBytes:       int64(m.DiskSpaceUsage()),
		L0Tables:        m.Levels[0].TablesCount,
		ReadAmplify:     m.ReadAmp(),
		CompactionDebt:  int64(m.Compact.EstimatedDebt),
		CompactedBytes:  int64(total.TableBytesCompacted),
		CacheBytes:      m.BlockCache.Size,
		CacheHits:       m.BlockCache.Hits,
		CacheMisses:     m.BlockCache.Misses,
		IngestedBytes:   int64(total.TableBytesIngested),
		CompactionCount: m.Compact.Count,
	}
}
