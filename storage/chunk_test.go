package storage

import (
	"bytes"
	"errors"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"parley/wire"
)

var (
	pair  = wire.DirectConversation(wire.MakeID(1, 5), wire.MakeID(2, 6))
	group = wire.Conversation{Kind: wire.Group, A: wire.MakeID(3, 7)}
)

// appendChunk writes messages as one chunk; parse(append(x)) == x is tested through it.
func appendChunk(dst []byte, c wire.Conversation, sentA uint64, messages []Message) []byte {
	var s chunkState
	authors := []wire.ID{}
	if c.Kind == wire.Direct {
		authors = []wire.ID{c.A, c.B}
	}
	for i := range messages {
		m := &messages[i]
		if i == 0 {
			dst = appendChunkHeader(dst, &s, c.Kind == wire.Direct, sentA, m)
		}
		place := slices.Index(authors, m.Author)
		fresh := place < 0
		if fresh {
			place = len(authors)
			authors = append(authors, m.Author)
		}
		dst = appendMessageHead(dst, &s, place, fresh, m)
		dst = append(dst, m.Content.Bytes...)
	}
	return dst
}

func parseChunk(c wire.Conversation, value []byte) (sentA uint64, messages []Message, err error) {
	var r chunkReader
	if err := r.open(c, value); err != nil {
		return 0, nil, err
	}
	sentA = r.sentA
	var m Message
	for r.next(&m) {
		messages = append(messages, m)
	}
	return sentA, messages, r.end()
}

func genMessages(t *rapid.T, c wire.Conversation) []Message {
	var list []Message
	sequence := rapid.Uint64Range(1, 1<<50).Draw(t, "first")
	revision := sequence + rapid.Uint64Range(0, 1<<40).Draw(t, "changes")
	time := wire.Time(rapid.Uint64Range(0, 1<<50).Draw(t, "time"))
	for range rapid.IntRange(1, 30).Draw(t, "messages") {
		m := Message{Sequence: sequence, Revision: revision, Time: time}
		if c.Kind == wire.Direct {
			m.Author = rapid.SampledFrom([]wire.ID{c.A, c.B}).Draw(t, "author")
		} else {
			m.Author = wire.MakeID(9, rapid.Uint64Range(1, 40).Draw(t, "author"))
		}
		if sequence > 1 && rapid.Bool().Draw(t, "linked") {
			m.Previous = rapid.Uint64Range(1, sequence-1).Draw(t, "previous")
		}
		m.Content = wire.Content{Extended: rapid.Bool().Draw(t, "extended"), Bytes: rapid.SliceOfN(rapid.Byte(), 0, 400).Draw(t, "content")}
		list = append(list, m)
		sequence++
		revision += rapid.SampledFrom([]uint64{1, 1, 1, 2, 500}).Draw(t, "revision")
		time += wire.Time(rapid.SampledFrom([]int{0, 1, 900, 1 << 30}).Draw(t, "later"))
	}
	return list
}

func TestChunksParseToWhatTheyWereMadeOf(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		c := rapid.SampledFrom([]wire.Conversation{pair, group}).Draw(t, "conversation")
		messages := genMessages(t, c)
		sentA := rapid.Uint64().Draw(t, "sent")
		if c.Kind == wire.Group {
			sentA = 0
		}
		value := appendChunk(nil, c, sentA, messages)
		gotSent, got, err := parseChunk(c, value)
		if err != nil || gotSent != sentA {
			t.Fatalf("sent %d, want %d: %v", gotSent, sentA, err)
		}
		if diff := differ(messages, got); diff != "" {
			t.Fatal(diff)
		}
		if _, got, err := parseChunk(c, value[:len(value)-1]); err == nil && len(got) == len(messages) {
			t.Fatal("a chunk that ends early parses whole")
		}
	})
}

func TestBufferedChunksAreWhatTheyWouldBeOnDisk(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		c := rapid.SampledFrom([]wire.Conversation{pair, group}).Draw(t, "conversation")
		b := newBuffer(&slabPool{slabsMax: 4}, nil)
		prefix := packChunkPrefix(c.Slot(), c)
		messages := genMessages(t, c)
		sentA := uint64(0)
		for i := range messages {
			author := 0
			if messages[i].Author != c.A {
				author = 1
			}
			if !b.appendMessage(prefix, c.Kind == wire.Direct, author, sentA, &messages[i]) {
				t.Fatal("refused")
			}
			if c.Kind == wire.Direct && author == 0 {
				sentA++
			}
		}
		var got []Message
		for _, chunk := range b.logChunks(0) {
			value := b.chunkValue(nil, chunk)
			if len(value) > chunkBytesMax {
				t.Fatalf("chunk of %d bytes", len(value))
			}
			_, list, err := parseChunk(c, value)
			if err != nil {
				t.Fatal(err)
			}
			got = append(got, list...)
		}
		if diff := differ(messages, got); diff != "" {
			t.Fatal(diff)
		}
		again := messages[len(messages)-1]
		if b.appendMessage(prefix, c.Kind == wire.Direct, 0, 0, &again) {
			t.Fatal("the same sequence was taken twice")
		}
	})
}

// TestMessagesThatCannotFollowBeginAChunk: differences are unsigned, so a time or revision
// that went backward must not be written as one.
func TestMessagesThatCannotFollowBeginAChunk(t *testing.T) {
	b := newBuffer(&slabPool{}, nil)
	prefix := packChunkPrefix(pair.Slot(), pair)
	first := Message{Sequence: 1, Revision: 9, Time: 100, Author: pair.A}
	earlier := Message{Sequence: 2, Revision: 10, Time: 99, Author: pair.A}
	lower := Message{Sequence: 3, Revision: 10, Time: 99, Author: pair.A}
	for _, m := range []Message{first, earlier, lower} {
		if !b.appendMessage(prefix, true, 0, m.Sequence-1, &m) {
			t.Fatal("refused")
		}
	}
	if n := len(b.logChunks(0)); n != 3 {
		t.Fatalf("%d chunks, want 3", n)
	}
}

func TestBadChunksAreDamage(t *testing.T) {
	message := Message{Sequence: 4, Revision: 4, Time: 7, Author: pair.A, Previous: 2, Content: wire.Text("hello")}
	whole := appendChunk(nil, pair, 1, []Message{message})
	change := func(at int, b byte) []byte {
		bad := slices.Clone(whole)
		bad[at] = b
		return bad
	}
	// whole: 01 | 04 | 07 | 00 | 01 | 02 (flags) | 02 (distance) | 00 | 05 | hello
	for name, bad := range map[string][]byte{
		"no message":      whole[:5],
		"ends early":      whole[:len(whole)-1],
		"trailing":        append(slices.Clone(whole), 0xff),
		"version":         change(0, 9),
		"sequence 0":      change(1, 0),
		"reserved flag":   change(5, 2|messageReserved),
		"third author":    change(5, 2|2<<authorShift),
		"previous 0":      change(6, 4),
		"distance 0":      change(6, 0),
		"long number":     append(append(slices.Clone(whole[:6]), 0x82, 0), whole[7:]...),
		"content too big": append(append(slices.Clone(whole[:8]), 0x81, 0x80, 1), make([]byte, wire.ContentBytesMax+1)...),
	} {
		if _, _, err := parseChunk(pair, bad); !errors.Is(err, ErrDamaged) {
			t.Errorf("%s: %v, want ErrDamaged", name, err)
		}
	}
	twice := appendChunk(nil, group, 0, []Message{{Sequence: 1, Revision: 1, Author: 5}, {Sequence: 2, Revision: 2, Author: 6}})
	twice[len(twice)-3] = 5 // the second new author is the first
	if _, _, err := parseChunk(group, twice); !errors.Is(err, ErrDamaged) {
		t.Errorf("an author twice: %v", err)
	}
}

func FuzzParseChunk(f *testing.F) {
	f.Add(true, appendChunk(nil, pair, 7, []Message{
		{Sequence: 8, Revision: 9, Time: 5, Author: pair.B, Content: wire.Text("a")},
		{Sequence: 9, Revision: 12, Time: 5, Author: pair.A, Previous: 8, Content: wire.Text("b")},
	}))
	f.Add(false, appendChunk(nil, group, 0, []Message{
		{Sequence: 8, Revision: 9, Time: 5, Author: 77, Content: wire.Text("a")},
		{Sequence: 9, Revision: 12, Time: 5, Author: 78, Previous: 8, Content: wire.Text("b")},
	}))
	f.Fuzz(func(t *testing.T, direct bool, value []byte) {
		c := group
		if direct {
			c = pair
		}
		sentA, messages, err := parseChunk(c, value)
		if err != nil {
			return
		}
		if form := appendChunk(nil, c, sentA, messages); !bytes.Equal(form, value) {
			t.Fatalf("%x is written %x", value, form)
		}
	})
}
