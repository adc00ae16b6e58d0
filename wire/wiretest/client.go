// Package wiretest is the other end of a connection for tests of servers: a client that writes whatever a test wants,
// wrong things included, and reads what comes back without trusting it.
package wiretest

import (
	"bufio"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"net/http"

	"parley/wire"
)

// Request is a good opening handshake, with the key of RFC 6455, section 1.3.
const Request = "GET " + wire.Path + " HTTP/1.1\r\nHost: test\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n" +
	"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Protocol: " + wire.Subprotocol + "\r\n\r\n"

// accept is what that section wants as answer to the key.
const accept = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="

// The first bytes of whole WebSocket messages: FIN and the opcode.
const (
	Text   = 0x81
	Binary = 0x82
	Close  = 0x88
	Ping   = 0x89
	Pong   = 0x8A
)

// noCode is the close code that stands for a close without one.
const noCode = 1005

// A Client is one connection. It belongs to one goroutine, but another may write.
type Client struct {
	net.Conn
	In   *bufio.Reader // what the server has sent
	Left []byte        // frames of the last message that Next has not given yet
	Code uint16        // the server's close code once it came, 1005 if it had none
}

// New takes a connection that nothing was read from.
func New(conn net.Conn) *Client { return &Client{Conn: conn, In: bufio.NewReader(conn)} }

// Upgrade makes a WebSocket of the connection.
func (c *Client) Upgrade() error {
	if _, err := io.WriteString(c.Conn, Request); err != nil {
		return err
	}
	return c.Upgraded()
}

// Upgraded reads the answer to a handshake that was written already.
func (c *Client) Upgraded() error {
	response, err := http.ReadResponse(c.In, nil)
	if err != nil {
		return err
	}
	if response.StatusCode != http.StatusSwitchingProtocols || response.Header.Get("Sec-WebSocket-Accept") != accept {
		return fmt.Errorf("wiretest: not upgraded: %s", response.Status)
	}
	return nil
}

// Message is a masked WebSocket frame with the first byte given.
func Message(first byte, payload []byte) []byte {
	b := []byte{first}
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
	for i, x := range payload {
		b = append(b, x^mask[i%4])
	}
	return b
}

// ReadMessage reads a WebSocket frame; servers send whole messages in one.
func (c *Client) ReadMessage() (first byte, payload []byte, err error) {
	var header [2]byte
	if _, err := io.ReadFull(c.In, header[:]); err != nil {
		return 0, nil, err
	}
	size := uint64(header[1])
	switch size {
	case 126:
		var b [2]byte
		_, err = io.ReadFull(c.In, b[:])
		size = uint64(binary.BigEndian.Uint16(b[:]))
	case 127:
		var b [8]byte
		_, err = io.ReadFull(c.In, b[:])
		size = binary.BigEndian.Uint64(b[:])
	}
	if err == nil && size > wire.ServerMessageBytesMax {
		err = fmt.Errorf("wiretest: the server sends a message of %d bytes", size)
	}
	if err != nil {
		return 0, nil, err
	}
	payload = make([]byte, size)
	_, err = io.ReadFull(c.In, payload)
	return header[0], payload, err
}

// Next reads the next protocol frame. It answers the server's close, and gives io.EOF from then on.
func (c *Client) Next() (wire.Frame, error) {
	for len(c.Left) == 0 {
		if c.Code != 0 {
			return wire.Frame{}, io.EOF
		}
		first, payload, err := c.ReadMessage()
		if err != nil {
			return wire.Frame{}, err
		}
		switch first {
		case Binary:
			c.Left = payload
		case Close:
			c.Code = noCode
			if len(payload) >= 2 {
				c.Code = binary.BigEndian.Uint16(payload)
			}
			_, _ = c.Write(Message(Close, payload[:min(2, len(payload))])) // the server may have hung up already
		case Pong:
		default:
			return wire.Frame{}, fmt.Errorf("wiretest: the server sends a message that begins with %#x", first)
		}
	}
	f, rest, err := wire.NextFrame(c.Left)
	c.Left = rest
	return f, err
}
