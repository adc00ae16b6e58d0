package reactor

// A Reason says why a connection ended.
type Reason uint8

// The reasons, as the Closed counters of Stats are indexed.
const (
	ReasonPeer      Reason = iota // the peer went away, or the network did
	ReasonHandler                 // Loop.Close
	ReasonUpgrade                 // refused or too slow before it was a WebSocket
	ReasonProtocol                // broke RFC 6455
	ReasonSlow                    // did not read its output
	ReasonShutdown                // Server.Close
	ReasonCount                   // how many there are
)

// String is the reason as a metric's label.
func (r Reason) String() string {
	names := [ReasonCount]string{"peer", "handler", "upgrade", "protocol", "slow", "shutdown"}
	if r < ReasonCount {
		return names[r]
	}
	return "unknown"
}
