package admin

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"syscall"
	"time"

	"parley/wire"
)

// responseBytesMax bounds an answer of the socket: the longest is the list of 1,024
// nodes.
const responseBytesMax = 4 << 20

// A Client talks to the operator's socket of a server on this machine. Any goroutine
// may use it. It is an Operator.
type Client struct {
	path string
	http http.Client
}

// NewClient makes a client for the socket at path. It does not connect yet.
func NewClient(path string) *Client {
	c := &Client{path: path}
	c.http.Transport = &http.Transport{
		DialContext:       c.dial,
		DisableKeepAlives: true, // a command asks once
	}
	return c
}

func (c *Client) dial(ctx context.Context, _, _ string) (net.Conn, error) {
	address, done, err := socketAddress(c.path)
	if err != nil {
		return nil, err
	}
	defer done()
	var d net.Dialer
	return d.DialContext(ctx, "unix", address)
}

// CreateUser makes a user. Besides an Operator's errors it gives ErrNoServer when
// nobody listens on the socket.
func (c *Client) CreateUser(ctx context.Context, name string, password []byte) (wire.ID, error) {
	var a createUserResponse
	if err := c.post(ctx, "/v1/users", createUserRequest{Name: name, Password: password}, &a); err != nil {
		return 0, err
	}
	return wire.ParseID(a.ID)
}

// Token signs a token; a lifetime is cut to whole seconds. Besides an Operator's errors
// it gives ErrNoServer when nobody listens on the socket.
func (c *Client) Token(ctx context.Context, name string, device wire.ID, lifetime time.Duration) (Token, error) {
	q := tokenRequest{Name: name, LifetimeSeconds: int64(lifetime / time.Second)}
	if device != 0 {
		q.Device = device.String()
	}
	var a tokenResponse
	if err := c.post(ctx, "/v1/tokens", q, &a); err != nil {
		return Token{}, err
	}
	user, userErr := wire.ParseID(a.User)
	device, deviceErr := wire.ParseID(a.Device)
	t := Token{Text: a.Token, User: user, Device: device, Expires: wire.TimeOf(a.Expires)}
	return t, errors.Join(userErr, deviceErr)
}

// Flush has the server write its state to disk. Besides an Operator's errors it gives
// ErrNoServer when nobody listens on the socket.
func (c *Client) Flush(ctx context.Context) error {
	return c.post(ctx, "/v1/flush", flushRequest{}, &flushResponse{})
}

func (c *Client) post(ctx context.Context, path string, q, a any) error {
	body, err := json.Marshal(q)
	if err != nil {
		return fmt.Errorf("admin: %w", err)
	}
	// The host is not looked at: every request goes to the socket.
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://parley"+path, bytes.NewReader(body))
	if err != nil {
		return fmt.Errorf("admin: %w", err)
	}
	response, err := c.http.Do(r)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ECONNREFUSED) {
		return fmt.Errorf("%w %s", ErrNoServer, c.path)
	}
	if err != nil {
		return fmt.Errorf("admin: %w", err)
	}
	defer response.Body.Close()
	b, err := io.ReadAll(io.LimitReader(response.Body, responseBytesMax))
	if err != nil {
		return fmt.Errorf("admin: %w", err)
	}
	if response.StatusCode != http.StatusOK {
		var e errorResponse
		if json.Unmarshal(b, &e) != nil || e.Code == "" {
			return fmt.Errorf("admin: the server answered %s", response.Status)
		}
		return (*Error)(&e)
	}
	if err := json.Unmarshal(b, a); err != nil {
		return fmt.Errorf("admin: read the answer: %w", err)
	}
	return nil
}
