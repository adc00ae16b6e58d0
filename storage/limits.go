package storage

import "time"

// Limits and settings of the state store.
const (
	// BufferBytesDefault is how much the shards' buffers may hold before they are written.
	BufferBytesDefault = 64 << 20
	// FlushIntervalDefault is how long a change may stay in memory alone. It bounds the
	// replay after a crash together with BufferBytesDefault.
	FlushIntervalDefault = 30 * time.Second
	// CacheBytesDefault is the size of the block cache: uncompressed blocks.
	CacheBytesDefault = 128 << 20
	// StepsMax bounds the steps that a cursor remembers; older times are answered "by".
	StepsMax = 16
)
