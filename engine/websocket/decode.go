package websocket

import (
	"encoding/binary"

	"github.com/gobwas/ws"
)

// A Kind says what a Decoder found.
type Kind uint8

// The kinds of events.
const (
	KindNone    Kind = iota // no whole frame yet
	KindMessage             // a whole binary message
	KindPing                // to be answered with AppendPong and the same payload
	KindPong                // may be ignored
	KindClose               // to be answered with AppendClose; nothing follows
)

// An Event is one thing that a peer sent.
type Event struct {
	Kind Kind
	// Payload is the message, or the body of a ping or pong, or the reason of a close.
	// It lies in the caller's buffer or in the Fragments: use it before the next call.
	Payload []byte
	// Code is that of a close, 0 if it carries none.
	Code uint16
	// Used is how many bytes were consumed. It may be above 0 for KindNone, when
	// fragments of an unfinished message were taken in.
	Used int
	// Need is, for KindNone, how many bytes from Used on it takes to get further.
	Need int
}

// Fragments hold a message that arrives in several frames. The zero value is a message
// not begun. It is kept apart from the Decoder because hardly any connection ever has one.
type Fragments struct {
	begun bool
	data  []byte
}

// Begun says that a message has begun and not ended: the Fragments must be kept.
func (f *Fragments) Begun() bool { return f.begun }

// Bytes is how much memory the Fragments hold.
func (f *Fragments) Bytes() int { return cap(f.data) }

// Reset forgets a finished message, so that the Fragments can serve another connection.
func (f *Fragments) Reset() {
	f.begun = false
	if cap(f.data) > fragmentsKeptBytes {
		f.data = nil
	}
	f.data = f.data[:0]
}

// fragmentsKeptBytes is the buffer that Reset keeps: a message of ordinary size.
const fragmentsKeptBytes = 4 << 10

// A Decoder reads the frames of a client. It holds no state of a connection.
type Decoder struct {
	// MessageBytesMax bounds a message, whole or in fragments. A longer one is refused
	// when its header announces it, before its bytes are buffered.
	MessageBytesMax int
}

// A header is what precedes a payload.
type header struct {
	ws.Header
	size int // of the header itself
}

// Next finds the next event in data, which is all that has arrived and was not used
// yet. Payloads are unmasked in data itself, so consumed bytes must not be given again.
// An error is final: the caller sends a close frame with its code and reads no more.
func (d Decoder) Next(data []byte, f *Fragments) (Event, *CloseError) {
	used := 0
	for {
		h, need, err := d.parseHeader(data[used:], f)
		if err != nil {
			return Event{Used: used}, err
		}
		if need > 0 {
			return Event{Used: used, Need: need}, nil
		}
		start := used + h.size
		used = start + int(h.Length)
		payload := data[start:used:used]
		if len(payload) > 0 {
			ws.Cipher(payload, h.Mask, 0)
		}
		switch {
		case h.OpCode.IsControl():
			e, err := control(h.OpCode, payload)
			e.Used = used
			return e, err
		case h.Fin && !f.begun:
			return Event{Kind: KindMessage, Payload: payload, Used: used}, nil
		}
		f.begun = !h.Fin
		f.data = append(f.data, payload...)
		if h.Fin {
			payload, f.data = f.data, f.data[:0]
			return Event{Kind: KindMessage, Payload: payload, Used: used}, nil
		}
	}
}

// parseHeader reads and judges a header. need is above 0 if data does not hold the
// whole frame: then it is how many bytes it takes to know more.
func (d Decoder) parseHeader(data []byte, f *Fragments) (h header, need int, err *CloseError) {
	if len(data) < 2 {
		return h, 2, nil
	}
	h.Fin = data[0]&0x80 != 0
	h.Rsv = data[0] >> 4 & 7
	h.OpCode = ws.OpCode(data[0] & 0xf)
	h.Masked = data[1]&0x80 != 0
	h.Length = int64(data[1] & 0x7f)
	// The length of a control frame shows here already: 126 and 127 announce a longer one.
	state := ws.StateServerSide
	if f.begun {
		state = state.Set(ws.StateFragmented)
	}
	if broken := ws.CheckHeader(h.Header, state); broken != nil {
		return h, 0, &CloseError{uint16(ws.StatusProtocolError), broken.Error()}
	}
	if h.OpCode == ws.OpText {
		return h, 0, ErrText
	}
	lengthBytes := 0
	switch h.Length {
	case 126:
		lengthBytes = 2
	case 127:
		lengthBytes = 8
	}
	if len(data) < 2+lengthBytes {
		return h, 2 + lengthBytes, nil // the length may be refused before the mask has come
	}
	h.size = 2 + lengthBytes + 4
	if lengthBytes > 0 {
		if err := h.readLength(data[2 : 2+lengthBytes]); err != nil {
			return h, 0, err
		}
	}
	if h.OpCode.IsData() && h.Length > int64(d.MessageBytesMax-len(f.data)) {
		return h, 0, ErrTooBig
	}
	if total := h.size + int(h.Length); len(data) < total {
		return h, total, nil
	}
	copy(h.Mask[:], data[h.size-4:h.size])
	return h, 0, nil
}

// readLength reads an extended length, which must be as short as it can be.
func (h *header) readLength(b []byte) *CloseError {
	length, least := uint64(0), uint64(0)
	if len(b) == 2 {
		length, least = uint64(binary.BigEndian.Uint16(b)), 126
	} else {
		length, least = binary.BigEndian.Uint64(b), 1<<16
	}
	if length>>63 != 0 {
		return ErrLengthRange
	}
	if length < least {
		return ErrLengthForm
	}
	h.Length = int64(length)
	return nil
}

// control turns a control frame into an event.
func control(op ws.OpCode, payload []byte) (Event, *CloseError) {
	switch op {
	case ws.OpPing:
		return Event{Kind: KindPing, Payload: payload}, nil
	case ws.OpPong:
		return Event{Kind: KindPong, Payload: payload}, nil
	}
	switch len(payload) {
	case 0:
		return Event{Kind: KindClose}, nil
	case 1:
		return Event{}, ErrCloseShort
	}
	code, reason := ws.ParseCloseFrameDataUnsafe(payload)
	if err := checkClose(code, reason); err != nil {
		return Event{}, err
	}
	return Event{Kind: KindClose, Code: uint16(code), Payload: payload[2:]}, nil
}
