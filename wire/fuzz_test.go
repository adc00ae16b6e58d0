package wire

import (
	"bytes"
	"testing"
)

// What a frame can make a receiver allocate, in bytes: 18 for each of its own at worst
// (names of no bytes), and in all 512 conversations with previews and 64 KiB of extensions.
const (
	footprintPerByte = 18
	footprintMax     = 160 << 10
)

// fuzzKind checks a parser with any body: it never panics, what it reads is what append
// writes, and what it allocates is bounded by the bytes it was given.
func fuzzKind(f *testing.F, typ Type) {
	k := kindByType(f, typ)
	for _, v := range readVectors(f) {
		if v.Type != typ {
			continue
		}
		frame, _, err := NextFrame(v.raw)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(frame.Extended, frame.Body)
	}
	f.Add(true, []byte{2, 2, 0})
	f.Add(false, bytes.Repeat([]byte{0x80}, 9))
	f.Fuzz(func(t *testing.T, extended bool, body []byte) {
		if len(body) > FrameBytesMax-4 {
			return
		}
		x, err := k.parse(Frame{Type: typ, Extended: extended, Body: body})
		if held := footprint(x); held > footprintMax || held > footprintPerByte*len(body) {
			t.Fatalf("%d bytes allocated for a body of %d", held, len(body))
		}
		if err != nil {
			return
		}
		b := k.append(nil, x)
		again := mustFrame(t, b)
		y, err := k.parse(again)
		if err != nil || diff(x, y) != "" {
			t.Fatalf("not read back: %v\n%s", err, diff(x, y))
		}
		// A skipped extension block is the only thing that is not written again.
		if extended == again.Extended && !bytes.Equal(body, again.Body) {
			t.Fatalf("two encodings:\n%x\n%x", body, again.Body)
		}
	})
}

func FuzzHello(f *testing.F)         { fuzzKind(f, TypeHello) }
func FuzzWelcome(f *testing.F)       { fuzzKind(f, TypeWelcome) }
func FuzzError(f *testing.F)         { fuzzKind(f, TypeError) }
func FuzzPing(f *testing.F)          { fuzzKind(f, TypePing) }
func FuzzPong(f *testing.F)          { fuzzKind(f, TypePong) }
func FuzzGoAway(f *testing.F)        { fuzzKind(f, TypeGoAway) }
func FuzzSend(f *testing.F)          { fuzzKind(f, TypeSend) }
func FuzzSent(f *testing.F)          { fuzzKind(f, TypeSent) }
func FuzzMessage(f *testing.F)       { fuzzKind(f, TypeMessage) }
func FuzzCursor(f *testing.F)        { fuzzKind(f, TypeCursor) }
func FuzzReceipt(f *testing.F)       { fuzzKind(f, TypeReceipt) }
func FuzzTyping(f *testing.F)        { fuzzKind(f, TypeTyping) }
func FuzzHead(f *testing.F)          { fuzzKind(f, TypeHead) }
func FuzzSync(f *testing.F)          { fuzzKind(f, TypeSync) }
func FuzzConversations(f *testing.F) { fuzzKind(f, TypeConversations) }
func FuzzHistory(f *testing.F)       { fuzzKind(f, TypeHistory) }
func FuzzPage(f *testing.F)          { fuzzKind(f, TypePage) }
func FuzzUsers(f *testing.F)         { fuzzKind(f, TypeUsers) }
func FuzzUserList(f *testing.F)      { fuzzKind(f, TypeUserList) }
func FuzzResolve(f *testing.F)       { fuzzKind(f, TypeResolve) }

// FuzzMessageOfFrames splits any WebSocket message and reads every frame that is known.
func FuzzMessageOfFrames(f *testing.F) {
	var messages vectorFile[messageVector]
	readJSON(f, "messages.json", &messages)
	for _, v := range messages.Vectors {
		f.Add(unhex(f, v.Bytes))
	}
	var invalid vectorFile[invalidVector]
	readJSON(f, "invalid.json", &invalid)
	for _, v := range invalid.Vectors {
		f.Add(unhex(f, v.Bytes))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		whole := b
		for len(b) > 0 {
			frame, rest, err := NextFrame(b)
			if err != nil {
				break
			}
			if len(rest) >= len(b) || !bytes.HasSuffix(whole, rest) || cap(frame.Body) != len(frame.Body) {
				t.Fatalf("frame %v of %d bytes, rest %d of %d", frame.Type, len(frame.Body), len(rest), len(b))
			}
			size := len(b) - len(rest)
			if size > FrameBytesMax || !bytes.Equal(append(header(nil, frame.Type, frame.Extended, len(frame.Body)), frame.Body...), b[:size]) {
				t.Fatalf("a frame of %d bytes with two headers", size)
			}
			b = rest
		}
		decodeMessage(t, whole)
	})
}

// FuzzContent takes any content apart and cuts it at any length.
func FuzzContent(f *testing.F) {
	for _, c := range []Content{replyTo, unknownEven, sealed, noBlock, Text(greeting)} {
		f.Add(c.Extended, c.Bytes, 7)
	}
	f.Fuzz(func(t *testing.T, extended bool, b []byte, limit int) {
		c := Content{Extended: extended, Bytes: b}
		block, body, err := c.Body()
		if err == nil && extended && !bytes.Equal(AppendContent(nil, block, body), b) {
			t.Fatalf("%x: block %x, body %x", b, block, body)
		}
		if err == nil {
			checkBlockIsRebuilt(t, block)
		}
		if limit < 0 {
			return
		}
		cut, ok := c.Cut(limit)
		if !ok {
			return
		}
		if len(cut.Bytes) > limit || !bytes.HasPrefix(b, cut.Bytes) {
			t.Fatalf("cut to %d bytes, limit %d", len(cut.Bytes), limit)
		}
		if _, _, cutErr := cut.Body(); (cutErr == nil) != (err == nil) {
			t.Fatalf("before the cut %v, after it %v", err, cutErr)
		}
	})
}

func checkBlockIsRebuilt(t *testing.T, block []byte) {
	var rebuilt []byte
	last := Tag(0)
	err := Extensions(block, func(tag Tag, value []byte) error {
		if tag <= last {
			t.Fatalf("tag %d after %d", tag, last)
		}
		last = tag
		rebuilt = AppendExtension(rebuilt, tag, value)
		return nil
	})
	if err != nil || !bytes.Equal(rebuilt, block) {
		t.Fatalf("%v: %x rebuilt as %x", err, block, rebuilt)
	}
}

// FuzzConversationKey reads any bytes as the key of a conversation.
func FuzzConversationKey(f *testing.F) {
	f.Add(AppendConversation(nil, DirectConversation(alice, bob)))
	f.Add(AppendConversation(nil, Conversation{Kind: Group, A: friends}))
	f.Fuzz(func(t *testing.T, b []byte) {
		c, rest, err := ParseConversation(b)
		if err != nil {
			return
		}
		key := AppendConversation(nil, c)
		if !bytes.Equal(append(key, rest...), b) {
			t.Fatalf("%x read as %v", b, c)
		}
		if c.Slot() >= Slots || !c.Ref(c.A).Valid() {
			t.Fatalf("%v: slot %d", c, c.Slot())
		}
	})
}

// FuzzID reads any text as an identifier, and any bytes as its key form.
func FuzzID(f *testing.F) {
	f.Add("198050142792944")
	f.Add("0")
	f.Fuzz(func(t *testing.T, text string) {
		if id, err := ParseID(text); err == nil && !id.Valid() {
			t.Fatalf("%q read as %d", text, id)
		}
		if id, rest, err := ParseKeyID([]byte(text)); err == nil && string(append(AppendID(nil, id), rest...)) != text {
			t.Fatalf("%q read as %d", text, id)
		}
	})
}

// FuzzNumber reads any bytes as a number, which has one encoding only.
func FuzzNumber(f *testing.F) {
	f.Add([]byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x0f})
	f.Add([]byte{0x80, 0})
	f.Fuzz(func(t *testing.T, b []byte) {
		n, size := uvarint(b)
		if size <= 0 {
			return
		}
		if n > NumberMax || size != sizeUvarint(n) || !bytes.Equal(appendUvarint(nil, n), b[:size]) {
			t.Fatalf("%x read as %d of %d bytes", b, n, size)
		}
	})
}
