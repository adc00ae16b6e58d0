package storage

import (
	"errors"
	"fmt"
	"log/slog"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"

	"parley/wire"
)

// ReadRecords tells of each shard that has state in a folder (DIR/state) how far that
// reaches, and changes nothing: what is looked at before a node is given up or recovered.
// The caller must hold the data directory. A nil fs is the operating system's.
func ReadRecords(path string, fs vfs.FS) (records map[uint32]Record, err error) {
	if fs == nil {
		fs = vfs.Default
	}
	settings := pebbleOptions(fs, slog.New(slog.DiscardHandler), fsckCacheBytes, func(error) {})
	settings.ReadOnly = true
	settings.ErrorIfNotExists = true
	settings.EnsureDefaults()
	db, err := pebble.Open(path, settings)
	if err != nil {
		return nil, fmt.Errorf("storage: open state in %s: %w", path, err)
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	records = make(map[uint32]Record)
	s := &Store{db: db}
	err = s.eachRecord(func(_ wire.Slot, r *shardRecord) { records[r.ID] = r.Record })
	if err != nil {
		return nil, fmt.Errorf("storage: records of %s: %w", path, err)
	}
	return records, nil
}
