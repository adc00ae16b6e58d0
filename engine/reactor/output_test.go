package reactor

import (
	"bytes"
	"strings"
	"testing"

	"parley/engine/websocket"
)

func TestComposedOutput(t *testing.T) {
	type part struct {
		text string
		raw  bool
	}
	message := func(text string) string { return string(websocket.AppendMessage(nil, []byte(text))) }
	for _, test := range []struct {
		name     string
		parts    []part
		want     string
		messages int
	}{
		{"one", []part{{"a", false}}, message("a"), 1},
		{"joined", []part{{"a", false}, {"b", false}, {"c", false}}, message("abc"), 1},
		{"full", []part{{strings.Repeat("a", 99), false}, {"b", false}}, message(strings.Repeat("a", 99) + "b"), 1},
		{"split", []part{{strings.Repeat("a", 99), false}, {"bc", false}, {"d", false}}, message(strings.Repeat("a", 99)) + message("bcd"), 2},
		{"control first", []part{{"PONG", true}, {"a", false}}, "PONG" + message("a"), 1},
		{"control between", []part{{"a", false}, {"PONG", true}, {"b", false}}, message("a") + "PONG" + message("b"), 2},
		{"control last", []part{{"a", false}, {"b", false}, {"CLOSE", true}}, message("ab") + "CLOSE", 1},
		{"control alone", []part{{"PONG", true}, {"CLOSE", true}}, "PONGCLOSE", 0},
		{"nothing", []part{{"", false}, {"a", false}, {"", true}}, message("a"), 1},
	} {
		t.Run(test.name, func(t *testing.T) {
			var o output
			r, other := &record{}, &record{}
			bytes := 0
			for _, p := range test.parts {
				o.append(r, []byte(p.text), p.raw)
				o.append(other, []byte("another session's"), false)
				bytes += len(p.text)
			}
			if o.pending(r) != bytes {
				t.Errorf("pending %d, want %d", o.pending(r), bytes)
			}
			got, messages := o.compose(nil, &o.dirty[r.pending-1], 100)
			if string(got) != test.want || messages != test.messages {
				t.Errorf("%q in %d messages, want %q in %d", got, messages, test.want, test.messages)
			}
		})
	}
}

func TestForgottenOutputIsNotSent(t *testing.T) {
	var o output
	a, b := &record{}, &record{}
	o.append(a, []byte("a"), false)
	o.append(b, []byte("b"), false)
	o.forget(a)
	if o.dirty[0].r != nil || o.dirty[1].r != b || o.pending(a) != 0 || o.pending(b) != 1 {
		t.Errorf("%+v", o.dirty)
	}
	o.reset()
	if len(o.dirty) != 0 || len(o.arena) != 0 {
		t.Error("reset left something")
	}
}

func TestOutputGivesLargeBuffersBack(t *testing.T) {
	var o output
	r := &record{}
	o.append(r, make([]byte, arenaKept+1), false)
	o.message, _ = o.compose(nil, &o.dirty[0], 1<<30)
	r.pending = 0
	o.reset()
	if cap(o.arena) > arenaKept || cap(o.message) > messageKept {
		t.Errorf("arena %d, message %d bytes are kept", cap(o.arena), cap(o.message))
	}
}

func TestQueuingOutputAllocatesNothing(t *testing.T) {
	var o output
	records := make([]record, 100)
	push := bytes.Repeat([]byte("p"), 66)
	if n := testing.AllocsPerRun(100, func() {
		for i := range records {
			o.append(&records[i], push, false)
			o.append(&records[i], push, false)
		}
		for i := range o.dirty {
			o.message, _ = o.compose(o.message[:0], &o.dirty[i], 1000)
			o.dirty[i].r.pending = 0
		}
		o.reset()
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}
