package storage

import "time"

// Limits and settings of the state store.
const (
	// BufferBytesDefault is how much the shards' buffers may hold before they are written.
	BufferBytesDefault = 64 << 20
	// FlushIntervalDefault is how long a change may stay in memory alone. It bounds the
	// replay after a crash together with BufferBytesDefault.
	FlushIntervalDefault = 30 * time.Second
	// FrozenMax bounds the frozen generations of buffers that wait to be written. With the
	// active one, buffers take at most three times their limit; then updates wait.
	FrozenMax = 2
	// CacheBytesDefault is the size of the block cache: uncompressed blocks.
	CacheBytesDefault = 128 << 20
	// StepsMax bounds the steps that a cursor remembers; older times are answered "by".
	StepsMax = 16

	// blockBytes is the size of a table's blocks before compression. Chunks of one
	// conversation lie side by side, so a block holds some 400 messages of it.
	blockBytes = 32 << 10
	// bloomBits is the size of the filters that let a Get skip a table: 1 % false answers.
	bloomBits = 10
	// tableBytesMin and tableBytesMax bound the tables of one flush. A table ends at a
	// shard's border once it has the least size, so that compactions take columns of few
	// shards and not the whole store.
	tableBytesMin = 2 << 20
	tableBytesMax = 16 << 20
	// levelTableBytes is the size of the tables that compactions write.
	levelTableBytes = 16 << 20
	// l0Tables is how many overlapping tables make a compaction: each compaction rewrites
	// the level below, so it should bring much at once.
	l0Tables = 12
	// baseBytesMax is the size of the first sorted level: below it there is only one, and
	// every flush is rewritten once.
	baseBytesMax = 1 << 30
	// memTableBytes is the size of Pebble's own memtable, which nothing is ever written to.
	memTableBytes = 256 << 10
	// syncBytes is how much of a table is written before the disk is asked to begin: the
	// log's fsync waits behind whatever is queued.
	syncBytes = 512 << 10
	// pacedBytesPerSecond is how fast flushes and compactions write while nothing waits for them.
	pacedBytesPerSecond = 64 << 20
	// openFilesMax bounds the tables that are held open.
	openFilesMax = 1000
)
