package reactor

import (
	"bufio"
	"encoding/binary"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"
)

// testTimeout bounds every wait of the tests; nothing is measured against it.
const testTimeout = 20 * time.Second

const request = "GET /v1/socket HTTP/1.1\r\nHost: test\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n" +
	"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Protocol: parley.v1\r\n\r\n"

// A client is the other end of a connection: blocking and simple.
type client struct {
	t testing.TB
	net.Conn
	r *bufio.Reader
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
	return &client{t, conn, bufio.NewReader(conn)}
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
	r, err := http.ReadResponse(c.r, nil)
	if err != nil {
		c.t.Fatal(err)
	}
	return r
}

func (c *client) upgraded() {
	c.t.Helper()
	if r := c.response(); r.StatusCode != http.StatusSwitchingProtocols || r.Header.Get("Sec-WebSocket-Accept") != "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=" {
		c.t.Fatalf("not upgraded: %v", r)
	}
}

const (
	opBinary = 2
	opClose  = 8
	opPing   = 9
	opPong   = 10
)

// frame is a masked frame.
func frame(op byte, payload string) []byte {
	b := []byte{0x80 | op}
	switch n := len(payload); {
	case n < 126:
		b = append(b, 0x80|byte(n))
	case n < 1<<16:
		b = binary.BigEndian.AppendUint16(append(b, 0x80|126), uint16(n))
	default:
		b = binary.BigEndian.AppendUint64(append(b, 0x80|127), uint64(n))
	}
	mask := [4]byte{0x12, 0x34, 0x56, 0x78}
	b = append(b, mask[:]...)
	for i := range len(payload) {
		b = append(b, payload[i]^mask[i%4])
	}
	return b
}

// read is the next frame.
func (c *client) read() (op byte, payload string, err error) {
	var head [2]byte
	if _, err = io.ReadFull(c.r, head[:]); err != nil {
		return 0, "", err
	}
	n := uint64(head[1])
	switch n {
	case 126:
		var b [2]byte
		_, err = io.ReadFull(c.r, b[:])
		n = uint64(binary.BigEndian.Uint16(b[:]))
	case 127:
		var b [8]byte
		_, err = io.ReadFull(c.r, b[:])
		n = binary.BigEndian.Uint64(b[:])
	}
	if err != nil {
		return 0, "", err
	}
	var body strings.Builder
	_, err = io.CopyN(&body, c.r, int64(n))
	return head[0] & 0xf, body.String(), err
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
	if n, err := io.Copy(io.Discard, c.r); err != nil || n != 0 {
		c.t.Fatalf("connection did not end cleanly: %d bytes, %v", n, err)
	}
}
