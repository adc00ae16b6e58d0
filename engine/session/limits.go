package session

// Limits of a session.
const (
	// ReadsMax bounds a session's requests that wait for the disk. An answer is at most
	// 64 KiB, so four of them stay within what may be queued for a slow reader.
	ReadsMax = 4
	// HeartbeatSecondsDefault is the interval of a client that wishes for none: below the
	// 30 s after which some proxies drop a silent connection.
	HeartbeatSecondsDefault = 25
	// readRetryMS is when a request beyond ReadsMax may come again.
	readRetryMS = 100
)
