package client

import (
	"fmt"
	"net"
	"net/url"

	"parley/wire"
)

// An address is where a server listens.
type address struct {
	url    *url.URL
	secure bool   // TLS below the WebSocket
	host   string // without the port
	dial   string // host:port
}

func parseAddress(text string) (address, error) {
	u, err := url.Parse(text)
	if err != nil {
		return address{}, fmt.Errorf("%w: %w", ErrAddress, err)
	}
	port := ""
	switch u.Scheme {
	case "ws":
		port = "80"
	case "wss":
		port = "443"
	default:
		return address{}, fmt.Errorf("%w: %q: want ws://host:port or wss://host:port", ErrAddress, text)
	}
	if u.Hostname() == "" || u.User != nil || u.Fragment != "" {
		return address{}, fmt.Errorf("%w: %q: want a host, no user and no fragment", ErrAddress, text)
	}
	if u.Port() != "" {
		port = u.Port()
	}
	if u.Path == "" || u.Path == "/" {
		u.Path = wire.Path
	}
	return address{url: u, secure: u.Scheme == "wss", host: u.Hostname(), dial: net.JoinHostPort(u.Hostname(), port)}, nil
}
