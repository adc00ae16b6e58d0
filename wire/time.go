package wire

import "time"

// Epoch is the zero of wire time: 2026-01-01 00:00:00 UTC, in Unix milliseconds.
const Epoch = 1767225600000

// Time is a moment in milliseconds since 2026-01-01 UTC.
type Time uint64

// TimeOf converts a clock reading; moments before the epoch become 0.
func TimeOf(t time.Time) Time {
	ms := t.UnixMilli() - Epoch
	if ms < 0 {
		return 0
	}
	return Time(ms)
}

// Time converts back to a time.Time in UTC.
func (t Time) Time() time.Time { return time.UnixMilli(int64(t) + Epoch).UTC() }
