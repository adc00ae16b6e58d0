package sim

import (
	"bytes"
	"encoding/binary"
	"net"
	"time"

	"parley/wire"
)

// A tap listens to what a server sends on one connection, below the client, which would
// make good for much: a message that comes twice, or too late, must not come at all.
type tap struct {
	net.Conn
	device  *device
	number  int // of the connection
	upgrade bool
	left    []byte
}

// Read implements net.Conn.
func (t *tap) Read(b []byte) (int, error) {
	n, err := t.Conn.Read(b)
	t.left = append(t.left, b[:n]...)
	t.listen()
	return n, err
}

// listen takes whole WebSocket frames from what has come.
func (t *tap) listen() {
	if !t.upgrade {
		end := bytes.Index(t.left, []byte("\r\n\r\n"))
		if end < 0 {
			return
		}
		t.left, t.upgrade = t.left[end+4:], true
	}
	for len(t.left) >= 2 {
		size, header := int(t.left[1]&0x7f), 2
		switch {
		case size == 126 && len(t.left) >= 4:
			size, header = int(binary.BigEndian.Uint16(t.left[2:])), 4
		case size == 127 && len(t.left) >= 10:
			size, header = int(binary.BigEndian.Uint64(t.left[2:])), 10
		case size >= 126:
			return
		}
		if len(t.left) < header+size {
			return
		}
		if t.left[0] == 0x82 {
			t.message(t.left[header : header+size])
		}
		t.left = t.left[header+size:]
	}
}

// message takes the frames of a binary message.
func (t *tap) message(payload []byte) {
	for len(payload) > 0 {
		f, rest, err := wire.NextFrame(payload)
		if err != nil {
			t.device.gap("connection %d: a broken frame: %v", t.number, err)
			return
		}
		payload = rest
		t.frame(f)
	}
}

func (t *tap) frame(f wire.Frame) {
	d, now := t.device, t.device.recorder.Now()
	switch f.Type {
	case wire.TypeMessage:
		m, err := wire.ParseMessage(f)
		if err != nil {
			d.gap("connection %d: a broken message: %v", t.number, err)
			return
		}
		author := m.Author
		if author == 0 {
			author = m.Ref.ID()
		}
		seen := Seen{Entry: Entry{m.Sequence, author, m.Time, bodyOf(m.Content)}, Device: d.name, Life: t.number,
			User: d.user, Conversation: m.Ref.Conversation(d.user), At: now}
		d.recorder.Add(func(h *History) { h.Pushed = append(h.Pushed, seen) })
	case wire.TypeReceipt:
		r, err := wire.ParseReceipt(f)
		if err != nil {
			d.gap("connection %d: a broken receipt: %v", t.number, err)
			return
		}
		moved := Moved{Device: d.name, Life: t.number, User: d.user, Conversation: r.Ref.Conversation(d.user), Kind: r.Kind, Position: r.Position, At: now}
		d.recorder.Add(func(h *History) { h.Receipts = append(h.Receipts, moved) })
	case wire.TypeConversations:
		c, err := wire.ParseConversations(f)
		if err != nil {
			d.gap("connection %d: a broken list: %v", t.number, err)
			return
		}
		t.listed(&c, now)
	}
}

// listed notes what a sync told.
func (t *tap) listed(c *wire.Conversations, now time.Duration) {
	d := t.device
	d.recorder.Add(func(h *History) {
		for _, state := range c.Items {
			state.Preview = nil
			h.Listed = append(h.Listed, Listed{Device: d.name, Life: t.number, User: d.user,
				Conversation: state.Ref.Conversation(d.user), State: state, At: now})
		}
	})
}
