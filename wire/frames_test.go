package wire

import (
	"bytes"
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"pgregory.net/rapid"
)

func diff(x, y any) string { return cmp.Diff(x, y, cmpopts.EquateEmpty()) }

func TestEveryTypeHasATestKind(t *testing.T) {
	if len(kinds) != len(typeNames) {
		t.Fatalf("%d kinds for %d types", len(kinds), len(typeNames))
	}
	for typ := range typeNames {
		kindByType(t, typ)
	}
}

func TestFramesRoundTripAndAreCanonical(t *testing.T) {
	for _, k := range kinds {
		t.Run(k.typ.String(), rapid.MakeCheck(func(t *rapid.T) {
			x := k.gen.Draw(t, "frame")
			prefix := rapid.SliceOfN(rapid.Byte(), 0, 3).Draw(t, "prefix")
			b := k.append(bytes.Clone(prefix), x)
			if !bytes.HasPrefix(b, prefix) {
				t.Fatal("append changed what was there before")
			}
			b = b[len(prefix):]
			f := mustFrame(t, b)
			if f.Type != k.typ {
				t.Fatalf("type %v", f.Type)
			}
			y, err := k.parse(f)
			if err != nil {
				t.Fatalf("parse: %v", err)
			}
			if d := diff(x, y); d != "" {
				t.Fatal(d)
			}
			if again := k.append(nil, y); !bytes.Equal(again, b) {
				t.Fatalf("two encodings:\n%x\n%x", b, again)
			}
		}))
	}
}

// withExtension puts a block before a frame's body, as a later version may.
func withExtension(b []byte, block []byte) []byte {
	f, _, err := NextFrame(b)
	if err != nil {
		panic(err)
	}
	dst, start := open(nil, f.Type, true)
	return closeFrame(AppendContent(dst, block, f.Body), start)
}

func TestEvenExtensionsAreSkippedAndOddOnesRefused(t *testing.T) {
	even := AppendExtension(nil, 2, []byte("later"))
	odd := AppendExtension(even, 3, nil)
	for _, k := range kinds {
		if k.typ == TypeSend || k.typ == TypeMessage {
			continue // their extensions are the content's, for who shows it
		}
		t.Run(k.typ.String(), rapid.MakeCheck(func(t *rapid.T) {
			x := k.gen.Draw(t, "frame")
			b := k.append(nil, x)
			if len(b) > FrameBytesMax-100 {
				return
			}
			y, err := k.parse(mustFrame(t, withExtension(b, even)))
			if err != nil {
				t.Fatalf("even tag: %v", err)
			}
			if d := diff(x, y); d != "" {
				t.Fatal(d)
			}
			if _, err := k.parse(mustFrame(t, withExtension(b, odd))); !errors.Is(err, ErrExtension) {
				t.Fatalf("odd tag: %v", err)
			}
		}))
	}
}

func TestContentsKeepOddExtensions(t *testing.T) {
	block := AppendExtension(nil, TagClass, []byte{1})
	c := Content{Extended: true, Bytes: AppendContent(nil, block, []byte("sealed"))}
	s, err := ParseSend(mustFrame(t, AppendSend(nil, &Send{Ref: 2, Counter: 1, Content: c})))
	if err != nil || diff(s.Content, c) != "" {
		t.Fatalf("SEND: %v, %v", s.Content, err)
	}
	m, err := ParseMessage(mustFrame(t, AppendMessage(nil, &Message{Ref: 2, Sequence: 1, Revision: 1, Content: c})))
	if err != nil || diff(m.Content, c) != "" {
		t.Fatalf("MESSAGE: %v, %v", m.Content, err)
	}
}

func TestEveryTruncationIsAnError(t *testing.T) {
	for _, k := range kinds {
		t.Run(k.typ.String(), rapid.MakeCheck(func(t *rapid.T) {
			b := k.append(nil, k.gen.Draw(t, "frame"))
			cut := rapid.IntRange(0, len(b)-1).Draw(t, "cut")
			if _, _, err := NextFrame(b[:cut]); !errors.Is(err, ErrTruncated) {
				t.Fatalf("%x: %v", b[:cut], err)
			}
		}))
	}
}

func TestABodyThatEndsEarlyIsRefused(t *testing.T) {
	for _, v := range readVectors(t) {
		k := kindByName(t, v.Frame)
		f := mustFrame(t, v.raw)
		if f.Extended || len(f.Body) == 0 {
			continue
		}
		// A frame whose last field runs to its end can lose bytes of that field only.
		fixed := len(f.Body) - restBytes(t, k, f)
		for n := range fixed {
			if _, err := k.parse(Frame{Type: f.Type, Body: f.Body[:n]}); !errors.Is(err, ErrTruncated) {
				t.Errorf("%s cut to %d bytes of body: %v", v.Name, n, err)
			}
		}
	}
}

// restBytes is the length of the field that runs to the end of a frame.
func restBytes(t *testing.T, k kind, f Frame) int {
	x, err := k.parse(f)
	if err != nil {
		t.Fatal(err)
	}
	switch x := x.(type) {
	case Hello:
		return len(x.Client)
	case Welcome:
		return len(x.Ticket)
	case Error:
		return len(x.Reason)
	case GoAway:
		return len(x.Endpoint)
	case Send:
		return len(x.Content.Bytes)
	case Message:
		return len(x.Content.Bytes)
	case Sync:
		return len(x.Token)
	case Conversations:
		return len(x.Token)
	}
	return 0
}

func TestSeveralFramesFollowEachOther(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var b []byte
		var types []Type
		for range rapid.IntRange(1, 6).Draw(t, "frames") {
			k := rapid.SampledFrom(kinds).Draw(t, "kind")
			b = k.append(b, k.gen.Draw(t, "frame"))
			types = append(types, k.typ)
		}
		for _, want := range types {
			f, rest, err := NextFrame(b)
			if err != nil || f.Type != want {
				t.Fatalf("%v, %v; want %v", f.Type, err, want)
			}
			b = rest
		}
		if len(b) != 0 {
			t.Fatalf("%d bytes left", len(b))
		}
	})
}

func TestAppendingToABodyCannotReachTheNextFrame(t *testing.T) {
	b := AppendSend(nil, &Send{Ref: 2, Counter: 1, Content: Text("one")})
	n := len(b)
	b = AppendPing(b)
	f, _, err := NextFrame(b)
	if err != nil {
		t.Fatal(err)
	}
	s, err := ParseSend(f)
	if err != nil {
		t.Fatal(err)
	}
	_ = append(s.Content.Bytes, 0xff)
	_ = append(f.Body, 0xff)
	if b[n] != byte(TypePing) {
		t.Fatal("the next frame was overwritten")
	}
}

func TestHelloOfAnotherVersionStillTellsTheVersion(t *testing.T) {
	f := Frame{Type: TypeHello, Body: []byte{9, 0xff}}
	if h, err := ParseHello(f); err == nil || h.Version != 9 {
		t.Fatalf("version %d, %v", h.Version, err)
	}
}

func TestUnknownTypesSayWhetherTheyMayBeSkipped(t *testing.T) {
	for n := range 128 {
		typ := Type(n)
		_, named := typeNames[typ]
		if typ.Known() != named || typ.Critical() != (n%2 == 1) {
			t.Errorf("type %d: known %v, critical %v", n, typ.Known(), typ.Critical())
		}
	}
	if got := Type(126).String(); got != "type 126" {
		t.Error(got)
	}
}
