package reactor

import (
	"encoding/binary"
	"io"
	"net"
	"net/http"
	"testing"
	"time"

	"parley/wire/wiretest"
)

// testTimeout bounds every wait of the tests; nothing is measured against it.
const testTimeout = 20 * time.Second

const request = wiretest.Request

// A client is the other end of a connection: blocking and simple.
type client struct {
	t testing.TB
	*wiretest.Client
}

func dial(t testing.TB, s *Server) *client {
	t.Helper()
	return dialAddress(t, s.Address().String())
}

func dialAddress(t testing.TB, address string) *client {
	t.Helper()
	conn, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	_ = conn.SetDeadline(time.Now().Add(testTimeout))
	return &client{t, wiretest.New(conn)}
}

// connect dials and upgrades.
func connect(t testing.TB, s *Server) *client {
	t.Helper()
	c := dial(t, s)
	c.send([]byte(request))
	c.upgraded()
	return c
}

func (c *client) send(b []byte) {
	c.t.Helper()
	if _, err := c.Write(b); err != nil {
		c.t.Fatal(err)
	}
}

func (c *client) response() *http.Response {
	c.t.Helper()
	r, err := http.ReadResponse(c.In, nil)
	if err != nil {
		c.t.Fatal(err)
	}
	return r
}

func (c *client) upgraded() {
	c.t.Helper()
	if err := c.Upgraded(); err != nil {
		c.t.Fatal(err)
	}
}

const (
	opBinary = 2
	opClose  = 8
	opPing   = 9
	opPong   = 10
)

// frame is a masked frame.
func frame(op byte, payload string) []byte { return wiretest.Message(0x80|op, []byte(payload)) }

// read is the next frame.
func (c *client) read() (op byte, payload string, err error) {
	first, b, err := c.ReadMessage()
	return first & 0xf, string(b), err
}

func (c *client) expect(op byte, payload string) {
	c.t.Helper()
	gotOp, got, err := c.read()
	if err != nil || gotOp != op || got != payload {
		c.t.Fatalf("got op %d %.80q %v, want op %d %.80q", gotOp, got, err, op, payload)
	}
}

// expectClose reads up to a close frame with the code, then the end of the connection.
func (c *client) expectClose(code uint16) {
	c.t.Helper()
	for {
		op, payload, err := c.read()
		if err != nil {
			c.t.Fatalf("no close frame: %v", err)
		}
		if op != opClose {
			continue
		}
		if len(payload) < 2 || binary.BigEndian.Uint16([]byte(payload)) != code {
			c.t.Fatalf("close frame %q, want code %d", payload, code)
		}
		break
	}
	c.expectEnd()
}

func (c *client) expectEnd() {
	c.t.Helper()
	if n, err := io.Copy(io.Discard, c.In); err != nil || n != 0 {
		c.t.Fatalf("connection did not end cleanly: %d bytes, %v", n, err)
	}
}
