package websocket

import (
	"bytes"
	"errors"
	"fmt"
	"testing"
	"unicode/utf8"

	"github.com/gobwas/ws"
)

// reference reads the same bytes with gobwas' own blocking reader and writes down what
// a Decoder must find. Where gobwas is more lenient than RFC 6455, the difference is
// spelled out here once more, in other words than in the Decoder.
func reference(input []byte) (log []string) {
	padded := append(bytes.Clone(input), make([]byte, ws.MaxHeaderSize)...) // a header that is cut off can be read
	state := ws.StateServerSide
	var message []byte
	for at := 0; len(input)-at >= 2; {
		h, err := ws.ReadHeader(bytes.NewReader(padded[at:]))
		size, refusal := referenceHeader(h, err, input[at:], state, len(message))
		if refusal != "" {
			return append(log, refusal)
		}
		if size == 0 || int64(len(input)-at-size) < h.Length {
			return log
		}
		payload := padded[at+size : at+size+int(h.Length)]
		at += size + int(h.Length)
		ws.Cipher(payload, h.Mask, 0)
		if h.OpCode.IsControl() {
			event, end := referenceControl(h.OpCode, payload)
			if log = append(log, event); end {
				return log
			}
			continue
		}
		message = append(message, payload...)
		state = ws.StateServerSide | ws.StateFragmented
		if h.Fin {
			log = append(log, describe(KindMessage, 0, string(message)))
			state, message = ws.StateServerSide, nil
		}
	}
	return log
}

// referenceHeader judges a header. Two bytes are enough to refuse most; a size of 0
// means that the rest of it has not come.
func referenceHeader(h ws.Header, err error, rest []byte, state ws.State, message int) (size int, refusal string) {
	field := rest[1] & 127
	first := h
	first.Length, first.Masked = int64(field), rest[1]>>7 == 1
	if ws.CheckHeader(first, state) != nil {
		return 0, "error 1002"
	}
	if h.OpCode == ws.OpText {
		return 0, "error 1003"
	}
	lengthBytes := map[byte]int{126: 2, 127: 8}[field]
	if len(rest) < 2+lengthBytes {
		return 0, ""
	}
	if errors.Is(err, ws.ErrHeaderLengthMSB) || ws.HeaderSize(h) != 2+lengthBytes+4 {
		return 0, "error 1002"
	}
	if h.OpCode.IsData() && h.Length > int64(maxLen-message) {
		return 0, "error 1009"
	}
	return 2 + lengthBytes + 4, ""
}

func referenceControl(op ws.OpCode, payload []byte) (event string, end bool) {
	switch op {
	case ws.OpPing:
		return describe(KindPing, 0, string(payload)), false
	case ws.OpPong:
		return describe(KindPong, 0, string(payload)), false
	}
	if len(payload) == 0 {
		return describe(KindClose, 0, ""), true
	}
	code, reason := ws.ParseCloseFrameData(payload)
	registered := code == 1012 || code == 1013 || code == 1014
	switch {
	case len(payload) == 1:
		return "error 1002", true
	case !utf8.ValidString(reason):
		return "error 1007", true
	case registered:
	case code >= 5000 || ws.CheckCloseFrameData(code, reason) != nil:
		return "error 1002", true
	}
	return describe(KindClose, uint16(code), reason), true
}

// FuzzDecoder compares the Decoder, fed in two pieces, with gobwas' reader.
func FuzzDecoder(f *testing.F) {
	for i, test := range rules {
		if len(test.input) < 1000 {
			f.Add([]byte(test.input), i)
		}
	}
	f.Fuzz(func(t *testing.T, input []byte, cut int) {
		cut = min(max(cut, 0), len(input))
		want := reference(input)
		if got := decodeAll(t, string(input[:cut]), string(input[cut:])); !equal(got, want) {
			t.Errorf("got %q, want %q", got, want)
		}
	})
}

// FuzzHandshake checks that every request is waited for, refused or answered, and that
// more bytes behind a whole request change nothing.
func FuzzHandshake(f *testing.F) {
	f.Add([]byte(ask(get)))
	f.Add([]byte(ask(get, "Sec-WebSocket-Key:")))
	f.Add([]byte("GET / HTTP/1.1\r\n\r\n"))
	f.Add([]byte("\x16\x03\x01"))
	f.Fuzz(func(t *testing.T, request []byte) {
		h := NewHandshaker("parley.v1", nil)
		response, used, err := h.Upgrade(nil, bytes.Clone(request))
		switch {
		case used > len(request):
			t.Fatalf("used %d of %d", used, len(request))
		case err == nil && used == 0:
			if len(response) > 0 || len(request) >= RequestBytesMax {
				t.Fatalf("neither waited for nor answered: %q", response)
			}
			return
		case err == nil && !bytes.HasPrefix(response, []byte("HTTP/1.1 101 ")):
			t.Fatalf("response %q without an error", response)
		case err != nil && !bytes.HasPrefix(response, fmt.Appendf(nil, "HTTP/1.1 %d ", err.Status)):
			t.Fatalf("response %q for %v", response, err)
		}
		if used == 0 {
			return
		}
		again, usedAgain, errAgain := h.Upgrade(nil, append(bytes.Clone(request[:used]), "more"...))
		if !bytes.Equal(again, response) || usedAgain != used || (errAgain == nil) != (err == nil) {
			t.Fatalf("with more behind it: %q %d %v, want %q %d %v", again, usedAgain, errAgain, response, used, err)
		}
	})
}
