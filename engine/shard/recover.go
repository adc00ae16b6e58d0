package shard

import "parley/wire"

// EntryTime is when an entry was proposed, by its leader's clock: what an operator is told
// about the end of a log.
func EntryTime(entry []byte) (wire.Time, error) {
	_, time, _, err := parseEntry(nil, entry)
	return time, err
}
