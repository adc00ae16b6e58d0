package wiretest

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"testing"

	"parley/wire"
)

// pipe gives a client that reads what a server has written before it hung up.
func pipe(t *testing.T, written []byte) *Client {
	t.Helper()
	here, there := net.Pipe()
	t.Cleanup(func() { here.Close() })
	go func() {
		defer there.Close()
		there.Write(written)
		io.Copy(io.Discard, there)
	}()
	return New(here)
}

func TestMessagesOfAllLengthsAreReadAsTheyWereWritten(t *testing.T) {
	for _, size := range []int{0, 1, 125, 126, 1<<16 - 1, 1 << 16} {
		payload := bytes.Repeat([]byte{0xA5}, size)
		b := Message(Text, payload)
		// A server's message is a client's without the mask.
		header := len(b) - size - 4
		mask := b[header : header+4]
		unmasked := append(bytes.Clone(b[:header]), b[header+4:]...)
		unmasked[1] &^= 0x80
		for i := range size {
			unmasked[header+i] ^= mask[i%4]
		}
		first, got, err := pipe(t, unmasked).ReadMessage()
		if err != nil || first != Text || !bytes.Equal(got, payload) {
			t.Errorf("%d bytes: first byte %#x, %d bytes, %v", size, first, len(got), err)
		}
	}
}

func TestNextGivesFramesUpToTheClose(t *testing.T) {
	frames := wire.AppendPong(wire.AppendPong(nil))
	written := append([]byte{Binary, byte(len(frames))}, frames...)
	written = append(written, Pong, 0, Binary, 0)
	written = append(written, Close, 2)
	written = binary.BigEndian.AppendUint16(written, 4301)
	c := pipe(t, written)
	for range 2 {
		if f, err := c.Next(); err != nil || f.Type != wire.TypePong {
			t.Fatalf("%v, %v", f.Type, err)
		}
	}
	for range 2 {
		if _, err := c.Next(); !errors.Is(err, io.EOF) || c.Code != 4301 {
			t.Errorf("%v, close code %d", err, c.Code)
		}
	}
	if _, err := pipe(t, []byte{Text, 1, 'x'}).Next(); err == nil || errors.Is(err, io.EOF) {
		t.Errorf("a text was read as frames: %v", err)
	}
	if _, _, err := pipe(t, []byte{Binary, 127, 0, 0, 1, 0, 0, 0, 0, 0}).ReadMessage(); err == nil || errors.Is(err, io.EOF) {
		t.Errorf("a message of 2^40 bytes: %v", err)
	}
}
