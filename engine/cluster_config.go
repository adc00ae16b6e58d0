package engine

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"time"

	"parley/engine/cluster"
)

// A ClusterConfig is what a node needs to be one of several. The zero value of a field
// means its default.
type ClusterConfig struct {
	// Listen is the address for links from other nodes, host:port; port 0 picks a free one.
	Listen string
	// Advertise is the address that other nodes are told; empty: where Listen listens.
	Advertise string
	// Join are the addresses of nodes of a cluster to become part of. It matters for an
	// empty data directory only; one that has joined knows its cluster.
	Join []string
	// Token is the invitation that a member gave (`parley node add`).
	Token string
	// Name is what operators call the node; empty: node-N.
	Name string
	// Zone is what fails together with this node.
	Zone string
	// Weight is the node's share of replicas; 0: cluster.WeightDefault.
	Weight int
	// Client is the address that clients are told for this node; it may be empty.
	Client string
	// TLS authenticates links, both ways. nil: links are open to whoever reaches the
	// address, which only a simulation or a loopback cluster can afford.
	TLS *tls.Config
	// Bind and Dial take the place of TCP, for simulations. Bind is called again when a node
	// with damaged data begins anew.
	Bind func() (net.Listener, error)
	Dial func(ctx context.Context, address string) (net.Conn, error)
}

func (c *ClusterConfig) check() error {
	switch {
	case c.Bind == nil && c.Listen == "":
		return fmt.Errorf("%w: a node of a cluster needs an address for links", ErrConfig)
	case c.Weight < 0 || c.Weight > cluster.WeightMax:
		return fmt.Errorf("%w: the weight must be between 1 and %d, not %d", ErrConfig, cluster.WeightMax, c.Weight)
	case c.TLS == nil && c.Bind == nil && !isLoopback(c.Listen):
		return fmt.Errorf("%w: links on %s need certificates (`parley node cert` makes them): without, everybody who reaches it is a member", ErrConfig, c.Listen)
	}
	return nil
}

func isLoopback(address string) bool {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return false
	}
	if host == "localhost" {
		return true
	}
	ip := net.ParseIP(host)
	return ip != nil && ip.IsLoopback()
}

func (c *ClusterConfig) dial(ctx context.Context, address string) (net.Conn, error) {
	if c.Dial != nil {
		return c.Dial(ctx, address)
	}
	d := net.Dialer{Timeout: dialTimeout}
	return d.DialContext(ctx, "tcp", address)
}

// dialTimeout bounds the attempt to reach another node.
const dialTimeout = 2 * time.Second
