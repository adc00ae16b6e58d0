package websocket

import (
	"encoding/binary"
	"unicode/utf8"

	"github.com/gobwas/ws"
)

// HeaderBytesMax is the longest header of a server's frame: it has no mask.
const HeaderBytesMax = 10

// finBit marks the last frame of a message: a server sends each message as one.
const finBit = 0x80

func appendHeader(dst []byte, op ws.OpCode, length int) []byte {
	dst = append(dst, finBit|byte(op))
	switch {
	case length < 126:
		return append(dst, byte(length))
	case length < 1<<16:
		return binary.BigEndian.AppendUint16(append(dst, 126), uint16(length))
	}
	return binary.BigEndian.AppendUint64(append(dst, 127), uint64(length))
}

// AppendMessageHeader appends the header of a binary message; its payload, of exactly
// that length, follows.
func AppendMessageHeader(dst []byte, length int) []byte {
	return appendHeader(dst, ws.OpBinary, length)
}

// AppendMessage appends a binary message.
func AppendMessage(dst, payload []byte) []byte {
	return append(AppendMessageHeader(dst, len(payload)), payload...)
}

// AppendPong appends the answer to a ping with that payload, at most 125 bytes.
func AppendPong(dst, payload []byte) []byte {
	return append(appendHeader(dst, ws.OpPong, len(payload)), payload...)
}

// AppendClose appends a close frame: an empty one if code is 0. A reason that is too
// long, or not UTF-8, is cut where it goes wrong.
func AppendClose(dst []byte, code uint16, reason string) []byte {
	if code == 0 {
		return appendHeader(dst, ws.OpClose, 0)
	}
	reason = reason[:validPrefix(reason, closeReasonBytes)]
	dst = appendHeader(dst, ws.OpClose, 2+len(reason))
	dst = binary.BigEndian.AppendUint16(dst, code)
	return append(dst, reason...)
}

// validPrefix is how many bytes of s, at most limit, are whole runes of UTF-8.
func validPrefix(s string, limit int) int {
	n := 0
	for n < len(s) {
		r, size := utf8.DecodeRuneInString(s[n:])
		if n+size > limit || r == utf8.RuneError && size == 1 {
			break
		}
		n += size
	}
	return n
}
