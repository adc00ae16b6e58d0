package websocket

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"strings"
	"testing"

	"github.com/gobwas/ws"
)

// raw builds a client's frame, right or wrong: first byte, length field, payload.
func raw(first byte, masked bool, length string, payload string) string {
	mask := [4]byte{0xa1, 0xb2, 0xc3, 0xd4}
	b := []byte{first}
	bit := byte(0)
	if masked {
		bit = 0x80
	}
	switch length {
	case "7":
		b = append(b, bit|byte(len(payload)))
	case "16":
		b = binary.BigEndian.AppendUint16(append(b, bit|126), uint16(len(payload)))
	case "64":
		b = binary.BigEndian.AppendUint64(append(b, bit|127), uint64(len(payload)))
	default: // the length field as it is
		b = append(append(b, bit|length[0]), length[1:]...)
	}
	body := []byte(payload)
	if masked {
		b = append(b, mask[:]...)
		ws.Cipher(body, mask, 0)
	}
	return string(append(b, body...))
}

// masked builds a client's frame with the shortest length field.
func masked(first byte, payload string) string {
	length := "7"
	if len(payload) > 125 {
		length = "16"
	}
	if len(payload) > 65535 {
		length = "64"
	}
	return raw(first, true, length, payload)
}

const (
	fin      = 0x80
	opCont   = 0x0
	opText   = 0x1
	opBinary = 0x2
	opClose  = 0x8
	opPing   = 0x9
	opPong   = 0xa
	maxLen   = 70_000
)

// decodeAll feeds the pieces one after another, as an event loop does, and writes down
// what comes out.
func decodeAll(t testing.TB, pieces ...string) (log []string) {
	t.Helper()
	d := Decoder{MessageBytesMax: maxLen}
	var f Fragments
	var data []byte
	need := 0
	for _, piece := range pieces {
		data = append(data, piece...)
		if len(data) < need {
			continue
		}
		for {
			e, err := d.Next(data, &f)
			if e.Used > len(data) {
				t.Fatalf("used %d of %d", e.Used, len(data))
			}
			if err != nil {
				return append(log, fmt.Sprintf("error %d", err.Code))
			}
			if e.Kind != KindNone && e.Used == 0 || e.Kind == KindNone && e.Need <= len(data)-e.Used {
				t.Fatalf("no progress: %+v with %d bytes", e, len(data))
			}
			payload := string(e.Payload)
			data = data[e.Used:]
			if need = e.Need; e.Kind == KindNone {
				break
			}
			log = append(log, describe(e.Kind, e.Code, payload))
			if e.Kind == KindClose {
				return log
			}
		}
	}
	return log
}

func describe(kind Kind, code uint16, payload string) string {
	name := map[Kind]string{KindMessage: "message", KindPing: "ping", KindPong: "pong", KindClose: "close"}[kind]
	if kind == KindClose {
		name = fmt.Sprintf("close %d", code)
	}
	if len(payload) > 40 {
		payload = fmt.Sprintf("%d bytes %x", len(payload), crc(payload))
	}
	return name + " " + payload
}

func crc(s string) (sum uint32) {
	for i := range len(s) {
		sum = sum*31 + uint32(s[i])
	}
	return sum
}

func closeBody(code uint16, reason string) string {
	return string(binary.BigEndian.AppendUint16(nil, code)) + reason
}

type frameTest struct {
	name  string
	input string
	want  []string
}

// rules are the cases of RFC 6455 with what must come out. Section numbers are its.
var rules = []frameTest{
	{"empty message", masked(fin|opBinary, ""), []string{"message "}},
	{"message", masked(fin|opBinary, "hello"), []string{"message hello"}},
	{"two messages", masked(fin|opBinary, "one") + masked(fin|opBinary, "two"), []string{"message one", "message two"}},
	{"125 bytes", masked(fin|opBinary, strings.Repeat("a", 125)), []string{describe(KindMessage, 0, strings.Repeat("a", 125))}},
	{"126 bytes, 16-bit length", masked(fin|opBinary, strings.Repeat("b", 126)), []string{describe(KindMessage, 0, strings.Repeat("b", 126))}},

	{"5.4 two fragments", masked(opBinary, "frag") + masked(fin|opCont, "ments"), []string{"message fragments"}},
	{"5.4 three fragments", masked(opBinary, "a") + masked(opCont, "b") + masked(fin|opCont, "c"), []string{"message abc"}},
	{"5.4 empty fragments", masked(opBinary, "") + masked(opCont, "") + masked(fin|opCont, ""), []string{"message "}},
	{"5.4 empty last fragment", masked(opBinary, "a") + masked(fin|opCont, ""), []string{"message a"}},
	{"5.4 message after fragments", masked(opBinary, "a") + masked(fin|opCont, "b") + masked(fin|opBinary, "c"), []string{"message ab", "message c"}},
	{"5.4 fragments twice", masked(opBinary, "a") + masked(fin|opCont, "b") + masked(opBinary, "c") + masked(fin|opCont, "d"), []string{"message ab", "message cd"}},
	{"5.4 ping between fragments", masked(opBinary, "a") + masked(fin|opPing, "p") + masked(fin|opCont, "b"), []string{"ping p", "message ab"}},
	{"5.4 pong between fragments", masked(opBinary, "a") + masked(fin|opPong, "p") + masked(fin|opCont, "b"), []string{"pong p", "message ab"}},
	{"5.4 close between fragments", masked(opBinary, "a") + masked(fin|opClose, closeBody(1000, "")) + masked(fin|opCont, "b"), []string{"close 1000 "}},
	{"5.4 continuation of nothing", masked(fin|opCont, "a"), []string{"error 1002"}},
	{"5.4 unfinished continuation of nothing", masked(opCont, "a"), []string{"error 1002"}},
	{"5.4 continuation after a whole message", masked(fin|opBinary, "a") + masked(fin|opCont, "b"), []string{"message a", "error 1002"}},
	{"5.4 new message among fragments", masked(opBinary, "a") + masked(fin|opBinary, "b"), []string{"error 1002"}},
	{"5.4 new fragmented message among fragments", masked(opBinary, "a") + masked(opBinary, "b"), []string{"error 1002"}},

	{"5.5 ping of 125", masked(fin|opPing, strings.Repeat("p", 125)), []string{describe(KindPing, 0, strings.Repeat("p", 125))}},
	{"5.5 empty ping and pong", masked(fin|opPing, "") + masked(fin|opPong, ""), []string{"ping ", "pong "}},
	{"5.5 ping of 126", masked(fin|opPing, strings.Repeat("p", 126)), []string{"error 1002"}},
	{"5.5 pong of 126", masked(fin|opPong, strings.Repeat("p", 126)), []string{"error 1002"}},
	{"5.5 close of 126", masked(fin|opClose, closeBody(1000, strings.Repeat("r", 124))), []string{"error 1002"}},
	{"5.5 control with a 64-bit length", raw(fin|opPing, true, "64", "p"), []string{"error 1002"}},
	{"5.5 ping in fragments", masked(opPing, "p") + masked(fin|opCont, "q"), []string{"error 1002"}},
	{"5.5 close in fragments", masked(opClose, "") + masked(fin|opCont, "q"), []string{"error 1002"}},

	{"5.2 RSV1", masked(fin|0x40|opBinary, "a"), []string{"error 1002"}},
	{"5.2 RSV2", masked(fin|0x20|opBinary, "a"), []string{"error 1002"}},
	{"5.2 RSV3", masked(fin|0x10|opBinary, "a"), []string{"error 1002"}},
	{"5.2 RSV1 on a ping", masked(fin|0x40|opPing, "a"), []string{"error 1002"}},
	{"5.2 RSV1 on a continuation", masked(opBinary, "a") + masked(fin|0x40|opCont, "b"), []string{"error 1002"}},
	{"5.2 good message, then RSV1", masked(fin|opBinary, "a") + masked(fin|0x40|opBinary, "b"), []string{"message a", "error 1002"}},

	{"5.1 unmasked message", raw(fin|opBinary, false, "7", "a"), []string{"error 1002"}},
	{"5.1 unmasked ping", raw(fin|opPing, false, "7", "a"), []string{"error 1002"}},
	{"5.1 unmasked close", raw(fin|opClose, false, "7", closeBody(1000, "")), []string{"error 1002"}},

	{"5.2 5 bytes with a 16-bit length", raw(fin|opBinary, true, "16", "hello"), []string{"error 1002"}},
	{"5.2 5 bytes with a 64-bit length", raw(fin|opBinary, true, "64", "hello"), []string{"error 1002"}},
	{"5.2 125 bytes with a 16-bit length", raw(fin|opBinary, true, "16", strings.Repeat("a", 125)), []string{"error 1002"}},
	{"5.2 65535 bytes with a 64-bit length", raw(fin|opBinary, true, "64", strings.Repeat("a", 65535)), []string{"error 1002"}},
	{"5.2 length of 2^63", raw(fin|opBinary, true, "\x7f\x80\x00\x00\x00\x00\x00\x00\x00", "a"), []string{"error 1002"}},
	{"5.2 length of 2^64-1", raw(fin|opBinary, true, "\x7f\xff\xff\xff\xff\xff\xff\xff\xff", "a"), []string{"error 1002"}},
	{"length of 2^63-1 refused by its header", raw(fin|opBinary, true, "\x7f\x7f\xff\xff\xff\xff\xff\xff\xff", ""), []string{"error 1009"}},
	{"length above the limit refused by its header", raw(fin|opBinary, true, "\x7f\x00\x00\x00\x00\x00\x01\x11\x71", ""), []string{"error 1009"}},
	{"fragments above the limit refused by the header", masked(opBinary, strings.Repeat("a", 60_000)) + raw(fin|opCont, true, "\x7e\x27\x11", ""), []string{"error 1009"}},

	{"5.6 text", masked(fin|opText, "hello"), []string{"error 1003"}},
	{"5.6 text in fragments", masked(opText, "hello"), []string{"error 1003"}},
	{"5.6 text that is not UTF-8", masked(fin|opText, "\xff"), []string{"error 1003"}},

	{"5.5.1 close without a body", masked(fin|opClose, "") + masked(fin|opBinary, "late"), []string{"close 0 "}},
	{"5.5.1 close with a reason", masked(fin|opClose, closeBody(1001, "bye")), []string{"close 1001 bye"}},
	{"5.5.1 close of 125", masked(fin|opClose, closeBody(1000, strings.Repeat("r", 123))), []string{describe(KindClose, 1000, strings.Repeat("r", 123))}},
	{"5.5.1 close of one byte", masked(fin|opClose, "\x03"), []string{"error 1002"}},
	{"5.5.1 reason in UTF-8", masked(fin|opClose, closeBody(1000, "grüße ✓")), []string{"close 1000 grüße ✓"}},
	{"8.1 reason not UTF-8", masked(fin|opClose, closeBody(1000, "\xff\xfe")), []string{"error 1007"}},
	{"8.1 reason with a cut rune", masked(fin|opClose, closeBody(1000, "\xe2\x9c")), []string{"error 1007"}},
	{"8.1 reason with a surrogate", masked(fin|opClose, closeBody(1000, "\xed\xa0\x80")), []string{"error 1007"}},
}

func init() {
	for op := byte(3); op < 16; op++ {
		if op <= 7 || op >= 11 {
			rules = append(rules,
				frameTest{fmt.Sprintf("5.2 reserved opcode %d", op), masked(fin|op, ""), []string{"error 1002"}},
				frameTest{fmt.Sprintf("5.2 reserved opcode %d with a body", op), masked(fin|op, "a"), []string{"error 1002"}})
		}
	}
	for _, code := range []uint16{1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 1012, 1013, 1014, 3000, 3999, 4000, 4999} {
		rules = append(rules, frameTest{fmt.Sprintf("7.4 code %d", code), masked(fin|opClose, closeBody(code, "")), []string{fmt.Sprintf("close %d ", code)}})
	}
	for _, code := range []uint16{0, 1, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, 65535} {
		rules = append(rules, frameTest{fmt.Sprintf("7.4 bad code %d", code), masked(fin|opClose, closeBody(code, "")), []string{"error 1002"}})
	}
}

func TestRulesOfRFC6455(t *testing.T) {
	for _, test := range rules {
		t.Run(test.name, func(t *testing.T) {
			if got := decodeAll(t, test.input); !equal(got, test.want) {
				t.Errorf("got %q, want %q", got, test.want)
			}
		})
	}
}

func TestEverySplitGivesTheSameEvents(t *testing.T) {
	for _, test := range rules {
		if len(test.input) > 1000 {
			continue
		}
		for i := 0; i <= len(test.input); i++ {
			if got := decodeAll(t, test.input[:i], test.input[i:]); !equal(got, test.want) {
				t.Fatalf("%s, split at %d: got %q, want %q", test.name, i, got, test.want)
			}
		}
		for i := 0; i <= len(test.input) && len(test.input) < 60; i++ {
			for j := i; j <= len(test.input); j++ {
				if got := decodeAll(t, test.input[:i], test.input[i:j], test.input[j:]); !equal(got, test.want) {
					t.Fatalf("%s, split at %d and %d: got %q, want %q", test.name, i, j, got, test.want)
				}
			}
		}
		if got := decodeAll(t, strings.Split(test.input, "")...); !equal(got, test.want) {
			t.Fatalf("%s, byte by byte: got %q, want %q", test.name, got, test.want)
		}
	}
}

func TestLongMessagesAtSomeSplits(t *testing.T) {
	for _, n := range []int{65535, 65536, maxLen} {
		payload := strings.Repeat("0123456789", n/10+1)[:n]
		input := masked(fin|opBinary, payload) + masked(fin|opPing, "after")
		want := []string{describe(KindMessage, 0, payload), "ping after"}
		for _, cut := range []int{1, 2, 3, 4, 9, 10, 13, 14, 15, 1000, n, n + 13, n + 14, n + 15, len(input)} {
			if got := decodeAll(t, input[:cut], input[cut:]); !equal(got, want) {
				t.Errorf("%d bytes, split at %d: got %q, want %q", n, cut, got, want)
			}
		}
	}
}

func TestUnfinishedFrameSaysHowMuchItNeeds(t *testing.T) {
	long := masked(fin|opBinary, strings.Repeat("a", 300))
	for have, want := range map[int]int{0: 2, 1: 2, 2: 4, 3: 4, 4: len(long), 100: len(long), len(long) - 1: len(long)} {
		var f Fragments
		e, err := Decoder{MessageBytesMax: maxLen}.Next([]byte(long[:have]), &f)
		if err != nil || e.Kind != KindNone || e.Used != 0 || e.Need != want {
			t.Errorf("with %d bytes: %+v %v, want need %d", have, e, err, want)
		}
	}
}

func TestFragmentsAreForgottenAndBounded(t *testing.T) {
	d := Decoder{MessageBytesMax: maxLen}
	var f Fragments
	if _, err := d.Next([]byte(masked(opBinary, strings.Repeat("a", 60_000))), &f); err != nil || !f.Begun() || f.Bytes() < 60_000 {
		t.Fatalf("begun %v, %d bytes, %v", f.Begun(), f.Bytes(), err)
	}
	f.Reset()
	if f.Begun() || f.Bytes() != 0 {
		t.Errorf("after Reset: begun %v, %d bytes", f.Begun(), f.Bytes())
	}
	if _, err := d.Next([]byte(masked(fin|opCont, "b")), &f); err == nil {
		t.Error("a continuation of a forgotten message was accepted")
	}
}

func TestDecodingAllocatesNothing(t *testing.T) {
	d := Decoder{MessageBytesMax: maxLen}
	var f Fragments
	frame := []byte(masked(fin|opBinary, strings.Repeat("a", 64)))
	closing := masked(fin|opClose, closeBody(1000, "bye"))
	data := make([]byte, len(frame)+len(closing))
	if n := testing.AllocsPerRun(100, func() {
		copy(data, frame)
		copy(data[len(frame):], closing)
		e, _ := d.Next(data, &f)
		if e, _ = d.Next(data[e.Used:], &f); e.Kind != KindClose {
			t.Fatal("no close")
		}
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func equal(a, b []string) bool {
	return fmt.Sprintf("%q", a) == fmt.Sprintf("%q", b)
}

func TestAppendedFramesReadBack(t *testing.T) {
	for _, n := range []int{0, 1, 125, 126, 65535, 65536, 100_000} {
		payload := bytes.Repeat([]byte{7}, n)
		f, err := ws.ReadFrame(bytes.NewReader(AppendMessage([]byte{}, payload)))
		if err != nil || f.Header.OpCode != ws.OpBinary || !f.Header.Fin || f.Header.Masked || !bytes.Equal(f.Payload, payload) {
			t.Errorf("%d bytes: %+v %v", n, f.Header, err)
		}
		header := AppendMessageHeader(nil, n)
		if len(header) > HeaderBytesMax || !bytes.HasPrefix(AppendMessage(nil, payload), header) {
			t.Errorf("%d bytes: header %x", n, header)
		}
	}
	if f, err := ws.ReadFrame(bytes.NewReader(AppendPong(nil, []byte("p")))); err != nil || f.Header.OpCode != ws.OpPong || string(f.Payload) != "p" {
		t.Errorf("%+v %v", f, err)
	}
}

func TestAppendedClosesAreValid(t *testing.T) {
	for _, test := range []struct {
		code         uint16
		reason, want string
	}{
		{0, "ignored", ""},
		{1000, "", closeBody(1000, "")},
		{4410, "replaced", closeBody(4410, "replaced")},
		{1001, strings.Repeat("r", 200), closeBody(1001, strings.Repeat("r", 123))},
		{1001, strings.Repeat("r", 122) + "ü", closeBody(1001, strings.Repeat("r", 122))},
		{1001, strings.Repeat("r", 121) + "ü", closeBody(1001, strings.Repeat("r", 121)+"ü")},
		{1001, "good\xffbad", closeBody(1001, "good")},
		{1001, "\uFFFD is a rune", closeBody(1001, "\uFFFD is a rune")},
	} {
		f, err := ws.ReadFrame(bytes.NewReader(AppendClose(nil, test.code, test.reason)))
		if err != nil || f.Header.OpCode != ws.OpClose || string(f.Payload) != test.want {
			t.Errorf("%d %q: %q %v", test.code, test.reason, f.Payload, err)
		}
	}
}
