//go:build linux

package hostile

import (
	"bytes"
	"fmt"
	"strings"
	"testing"
	"time"

	"parley/wire"
)

func TestRequestsThatCannotBeServedAreRefusedAndTheSessionGoesOn(t *testing.T) {
	t.Parallel()
	s := serve(t, t.TempDir())
	w := s.witness(t)
	mallory, peer := s.user(t, "mallory"), s.user(t, "peer")
	c := s.live(t, "mallory")
	send := func(ref wire.Ref, content []byte) []byte {
		return wire.AppendSend(nil, &wire.Send{Correlation: 77, Ref: ref, Counter: 1, Content: wire.Content{Bytes: content}})
	}
	cursor := func(ref wire.Ref, kind wire.CursorKind, position uint64) []byte {
		return wire.AppendCursor(nil, &wire.Cursor{Ref: ref, Kind: kind, Position: position})
	}
	for _, test := range []struct {
		name        string
		frames      []byte
		code        wire.Code
		correlation uint64
	}{
		{"SEND to an unknown user", send(wire.DirectRef(12345), []byte("hello")), wire.CodeUnknownUser, 77},
		{"SEND to user 2^48-1", send(wire.DirectRef(1<<48-1), []byte("hello")), wire.CodeUnknownUser, 77},
		{"SEND to an unknown group", send(wire.GroupRef(12345), []byte("hello")), wire.CodeNotMember, 77},
		{"SEND of nothing", send(wire.DirectRef(peer), nil), wire.CodeMalformed, 77},
		{"SEND a byte too long", send(wire.DirectRef(peer), make([]byte, wire.ContentBytesMax+1)), wire.CodeBodyTooLarge, 77},
		{"HISTORY of an unknown group", wire.AppendHistory(nil, &wire.History{Correlation: 77, Ref: wire.GroupRef(5)}), wire.CodeNotMember, 77},
		{"CURSOR in an unknown group", cursor(wire.GroupRef(5), wire.Read, 1), wire.CodeNotMember, 0},
		{"CURSOR in a conversation that is not", cursor(wire.DirectRef(12345), wire.Read, 1), wire.CodeBadCursor, 0},
		{"CURSOR in a conversation of two others", cursor(wire.DirectRef(w.will.user), wire.Read, 1), wire.CodeBadCursor, 0},
	} {
		t.Run(test.name, func(t *testing.T) {
			w.during(t, func() {
				c.send(test.frames)
				if e := c.wantError(t, test.code); e.Correlation != test.correlation {
					t.Errorf("correlation %d", e.Correlation)
				}
				c.settled(t)
			})
		})
	}
	// None of them used up the counter.
	if got := c.say(t, wire.DirectRef(peer), 1, strings.Repeat("x", wire.ContentBytesMax)); got != 1 {
		t.Errorf("sequence %d", got)
	}
	// What is not one's own cannot be read: a reference always includes oneself.
	if texts, err := c.history(wire.DirectRef(w.will.user), 0); err != nil || len(texts) != 0 {
		t.Errorf("read %q, %v", texts, err)
	}
	if state := c.sync(t, nil); len(state.Items) > 1 {
		t.Errorf("%d listed what is not theirs: %+v", mallory, state)
	}
}

func TestCountersOutOfOrderAndUsedAgainAreRefused(t *testing.T) {
	t.Parallel()
	s := serve(t, t.TempDir())
	w := s.witness(t)
	s.user(t, "mallory")
	ref := wire.DirectRef(s.user(t, "peer"))
	c := s.live(t, "mallory")
	w.during(t, func() {
		for i := range uint64(100) {
			c.say(t, ref, i+1, fmt.Sprint(i+1))
		}
		c.text(ref, 102, "102")
		c.wantError(t, wire.CodeOutOfOrder)
		c.text(ref, 100, "another 100")
		c.wantError(t, wire.CodeReused)
		c.text(ref, 1, "1")
		c.wantError(t, wire.CodeUnknownOutcome)
		if got := c.say(t, ref, 100, "100"); got != 100 {
			t.Errorf("the same again is at %d", got)
		}
		if got := c.say(t, ref, 101, "101"); got != 101 {
			t.Errorf("the next is at %d", got)
		}
	})
}

func TestCursorsBeyondTheHeadOrBackwardsMoveNothing(t *testing.T) {
	t.Parallel()
	s := serve(t, t.TempDir())
	w := s.witness(t)
	mallory, peer := s.user(t, "mallory"), s.user(t, "peer")
	c, p := s.live(t, "mallory"), s.live(t, "peer")
	for i := range uint64(3) {
		p.say(t, wire.DirectRef(mallory), i+1, "read me")
	}
	at := func(kind wire.CursorKind, position uint64) {
		c.send(wire.AppendCursor(nil, &wire.Cursor{Ref: wire.DirectRef(peer), Kind: kind, Position: position}))
	}
	w.during(t, func() {
		for _, kind := range []wire.CursorKind{wire.Delivered, wire.Read} {
			for _, position := range []uint64{4, 1 << 32, 1<<51 - 1} {
				at(kind, position)
				c.wantError(t, wire.CodeBadCursor)
			}
		}
		at(wire.Read, 2)
		p.want(t, wire.TypeReceipt)
		for _, back := range []uint64{1, 0, 2} {
			at(wire.Read, back)
			at(wire.Delivered, back)
		}
		c.say(t, wire.DirectRef(peer), 1, "after the cursors, in the same shard")
	})
	eventually(t, "the conversation is in the list", func() bool { return len(c.sync(t, nil).Items) == 1 })
	if state := c.sync(t, nil).Items[0]; state.Read != 2 || state.Delivered != 2 || state.Unread != 1 {
		t.Errorf("the cursors moved: %+v", state)
	}
	if state := p.sync(t, nil).Items[0]; state.OtherRead != 2 || state.OtherDelivered != 2 {
		t.Errorf("the other side sees %+v", state)
	}
}

// Numbers as they must not be, and the greatest that may be.
var (
	number2to53    = []byte{0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x10}
	number2to63    = []byte{0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x01}
	number2to64    = []byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01} // less 1
	numberTooLong  = []byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f}
	numberNotShort = []byte{0x85, 0x80, 0x00}
	numberMax      = []byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x0f} // 2^53-1
)

// A form is a client's frame, field by field; blob fields are not numbers.
type form struct {
	name   string
	typ    wire.Type
	fields [][]byte
	blob   int // index of a field that is no number; -1: none
	last   []byte
}

func forms(peer wire.ID) []form {
	n := func(values ...uint64) (fields [][]byte) {
		for _, v := range values {
			fields = append(fields, number(v))
		}
		return fields
	}
	ref := uint64(wire.DirectRef(peer))
	return []form{
		{"SEND correlation ref counter", wire.TypeSend, n(5, ref, 1), -1, []byte("text")},
		{"CURSOR ref position", wire.TypeCursor, n(ref, 4), -1, nil},
		{"TYPING ref author", wire.TypeTyping, n(ref, 0), -1, nil},
		{"SYNC correlation limit previews", wire.TypeSync, n(5, 1, 1), -1, nil},
		{"HISTORY correlation ref mode sequence limit", wire.TypeHistory, n(5, ref, 0, 1, 1), -1, nil},
		{"USERS correlation count id version", wire.TypeUsers, n(5, 1, uint64(peer), 0), -1, nil},
		{"RESOLVE correlation count length", wire.TypeResolve, n(5, 1, 1), -1, []byte("x")},
		{"HELLO version flags heartbeat features epoch kind length", wire.TypeHello, append(n(1, 0, 0, 0), []byte("8 bytes."), number(0), number(1)), 4, []byte("x")},
	}
}

func number(n uint64) (b []byte) {
	for ; n >= 0x80; n >>= 7 {
		b = append(b, byte(n)|0x80)
	}
	return append(b, byte(n))
}

// with is the frame with one field replaced.
func (f *form) with(field int, value []byte) []byte {
	var body []byte
	for i, b := range f.fields {
		if i == field {
			b = value
		}
		body = append(body, b...)
	}
	body = append(body, f.last...)
	return append(append([]byte{byte(f.typ)}, number(uint64(len(body)))...), body...)
}

func TestNumbersOutOfRangeAreMalformedInEveryField(t *testing.T) {
	t.Parallel()
	s := serve(t, t.TempDir())
	w := s.witness(t)
	s.user(t, "mallory")
	token := s.token(t, "mallory", 7, time.Hour)
	w.during(t, func() {
		for _, f := range forms(s.user(t, "peer")) {
			names := strings.Fields(f.name)
			for i := range f.fields {
				if i == f.blob {
					continue
				}
				for _, value := range [][]byte{number2to53, number2to63, number2to64, numberTooLong, numberNotShort} {
					t.Run(fmt.Sprintf("%s %s %x", names[0], names[1+i], value), func(t *testing.T) {
						c := s.dial(t)
						if f.typ != wire.TypeHello {
							c.greet(t, &wire.Hello{Version: wire.Version, Credential: token})
						}
						c.send(f.with(i, value))
						c.wantRefusal(t, wire.CodeMalformed)
						c.Close()
					})
				}
			}
		}
	})
}

// The greatest number that is allowed is served or refused in every field, with a code, and does
// nothing to others.
func TestTheGreatestNumberIsJudgedInEveryField(t *testing.T) {
	t.Parallel()
	s := serve(t, t.TempDir())
	w := s.witness(t)
	s.user(t, "mallory")
	token := s.token(t, "mallory", 7, time.Hour)
	malformed := wire.CodeMalformed
	want := map[string]wire.Code{ // 0: served
		"SEND correlation": 0, "SEND ref": malformed, "SEND counter": wire.CodeOutOfOrder,
		"CURSOR ref": malformed, "CURSOR position": malformed, // of kind 3, which only servers send
		"TYPING ref": malformed, "TYPING author": malformed,
		"SYNC correlation": 0, "SYNC limit": malformed, "SYNC previews": malformed,
		"HISTORY correlation": 0, "HISTORY ref": malformed, "HISTORY mode": malformed, "HISTORY sequence": 0, "HISTORY limit": malformed,
		"USERS correlation": 0, "USERS count": malformed, "USERS id": malformed, "USERS version": 0,
		"RESOLVE correlation": 0, "RESOLVE count": malformed, "RESOLVE length": malformed,
		"HELLO version": wire.CodeUnsupportedVersion, "HELLO flags": wire.CodeUnauthenticated, "HELLO heartbeat": wire.CodeUnauthenticated,
		"HELLO features": wire.CodeUnauthenticated, "HELLO kind": malformed, "HELLO length": malformed,
	}
	for _, f := range forms(s.user(t, "peer")) {
		names := strings.Fields(f.name)
		for i := range f.fields {
			if i == f.blob {
				continue
			}
			name := names[0] + " " + names[1+i]
			code, named := want[name]
			if !named {
				t.Fatalf("what should become of %s?", name)
			}
			t.Run(name, func(t *testing.T) {
				w.during(t, func() {
					c := s.dial(t)
					if f.typ != wire.TypeHello {
						c.greet(t, &wire.Hello{Version: wire.Version, OutboxEpoch: uint64(i + 100), Credential: token})
					}
					c.send(f.with(i, numberMax))
					switch {
					case code == 0 || code == wire.CodeOutOfOrder:
						if got := answer(t, c); got.code != code || names[1+i] == "correlation" && got.correlation != wire.NumberMax {
							t.Errorf("answered %+v, want code %d", got, code)
						}
						c.settled(t)
					default:
						c.wantRefusal(t, code)
					}
				})
			})
		}
	}
}

// An answered is the code, 0 if it was served, and the correlation of an answer.
type answered struct {
	code        wire.Code
	correlation uint64
}

func answer(t *testing.T, c *client) (a answered) {
	t.Helper()
	f, err := c.Next()
	switch {
	case err != nil:
	case f.Type == wire.TypeError:
		var e *wire.Error
		if e, err = wire.ParseError(f); err == nil {
			a = answered{e.Code, e.Correlation}
		}
	default: // in SENT, CONVERSATIONS, PAGE and USER_LIST it comes first
		body := bytes.Clone(f.Body)
		for i := 0; i < len(body); i++ {
			a.correlation |= uint64(body[i]&0x7f) << (7 * i)
			if body[i] < 0x80 {
				break
			}
		}
	}
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// Every direction of HISTORY from every odd place.
func TestHistoryFromAnywhereIsBounded(t *testing.T) {
	t.Parallel()
	s := serve(t, t.TempDir())
	w := s.witness(t)
	s.user(t, "mallory")
	ref := wire.DirectRef(s.user(t, "peer"))
	c := s.live(t, "mallory")
	for i := range uint64(5) {
		c.say(t, ref, i+1, "x")
	}
	w.during(t, func() {
		for mode, wants := range map[wire.HistoryMode]map[uint64]int{
			wire.HistoryForward:  {0: 5, 3: 2, 5: 0, 6: 0, wire.NumberMax: 0},
			wire.HistoryBackward: {0: 5, 1: 0, 3: 2, 6: 5, wire.NumberMax: 5},
			wire.HistoryAround:   {0: 5, 3: 5, 6: 5, wire.NumberMax: 5},
		} {
			for sequence, want := range wants {
				c.send(wire.AppendHistory(nil, &wire.History{Correlation: 1, Ref: ref, Mode: mode, Sequence: sequence}))
				p, err := wire.ParsePage(c.want(t, wire.TypePage))
				if err != nil || p.Head != 5 || len(p.Messages) != want && mode != wire.HistoryAround || len(p.Messages) > 5 {
					t.Errorf("mode %d from %d: %d messages, want %d: %v", mode, sequence, len(p.Messages), want, err)
				}
			}
		}
	})
}

func TestSyncTokensThatAreNotGoodStartOver(t *testing.T) {
	t.Parallel()
	s := serve(t, t.TempDir())
	w := s.witness(t)
	s.user(t, "mallory")
	c := s.live(t, "mallory")
	c.say(t, wire.DirectRef(s.user(t, "peer")), 1, "x")
	eventually(t, "the conversation is in the list", func() bool { return len(c.sync(t, nil).Items) == 1 })
	good := bytes.Clone(c.sync(t, nil).Token)
	w.during(t, func() {
		bad := [][]byte{{9}, []byte("no token at all"), bytes.Repeat([]byte{1}, wire.SyncTokenBytesMax), bytes.Repeat([]byte{0xff}, wire.SyncTokenBytesMax),
			good[:len(good)-1], append(bytes.Clone(good), 0)}
		for i := range good {
			b := bytes.Clone(good)
			b[i] ^= 0x40
			bad = append(bad, b)
		}
		for _, token := range bad {
			// A token is the client's own: changed, it may tell the client too little, but
			// nothing of others, and it never breaks the session.
			if answer := c.sync(t, token); len(answer.Items) > 1 {
				t.Fatalf("token %x: %+v", token, answer)
			}
		}
		for _, token := range bad[:4] {
			if answer := c.sync(t, token); answer.Flags&wire.SyncReset == 0 || len(answer.Items) != 1 {
				t.Errorf("token %x: %+v", token[:1], answer)
			}
		}
	})
}
