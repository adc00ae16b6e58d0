package session

// Limits of a session.
const (
	// HeartbeatSecondsDefault is the interval of a client that wishes for none: below the
	// 30 s after which some proxies drop a silent connection.
	HeartbeatSecondsDefault = 25
	// readRetryMS is when a request beyond wire.RequestsMax may come again.
	readRetryMS = 100
)
