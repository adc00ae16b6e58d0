package chat

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"parley/cmd/parley/internal/vt"
)

var noon = time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC)

func say(author, text string, status Status) *Line {
	return &Line{Sequence: 1, Time: noon, Author: author, Text: text, Status: status}
}

func expect(t *testing.T, s *vt.Screen, want string) {
	t.Helper()
	if got := s.String(); got != strings.Trim(want, "\n") {
		t.Errorf("the screen is\n%s\nnot\n%s", got, want)
	}
	if len(s.Unknown) > 0 || s.Wrapped > 0 {
		t.Errorf("unknown sequences %q, %d rows wrapped by the terminal", s.Unknown, s.Wrapped)
	}
}

func TestScreenHasMessagesThenWhatIsSoThenTheLine(t *testing.T) {
	s := vt.New(40, 10)
	v := NewTerminal(s, 40, 10, true)
	v.Show(&Line{Time: noon, Text: "ada and bob"})
	v.Show(say("bob", "a message that is longer than one row of the screen", None))
	v.Input([]byte("half a li"))
	v.Show(say("ada", "hi", Sent))
	v.Status("bob is writing …")
	expect(t, s, `
      ada and bob
── Tuesday, 24 November 2026 ──
12:00    bob: a message that is longer
         than one row of the screen
12:00 ✓  ada: hi
bob is writing …
> half a li`)
	if row, column := s.Cursor(); row != 6 || column != len("> half a li") {
		t.Errorf("the cursor is at %d, %d", row, column)
	}
	v.Close()
	expect(t, s, `
      ada and bob
── Tuesday, 24 November 2026 ──
12:00    bob: a message that is longer
         than one row of the screen
12:00 ✓  ada: hi`)
	if row, column := s.Cursor(); row != 5 || column != 0 {
		t.Errorf("after Close the cursor is at %d, %d", row, column)
	}
}

func TestTicksChangeWhereTheyStand(t *testing.T) {
	s := vt.New(40, 8)
	v := NewTerminal(s, 40, 8, true)
	first := say("ada", "first", Queued)
	v.Show(first)
	v.Show(say("bob", "between", None))
	v.Input([]byte("typing"))
	for _, c := range []struct {
		status Status
		tick   string
		style  string
	}{{Queued, "… ", "2"}, {Sent, "✓ ", "2"}, {Delivered, "✓✓", "2"}, {Read, "✓✓", "1;36"}, {Failed, "✗ ", "31"}} {
		first.Status = c.status
		v.Update(first)
		expect(t, s, "── Tuesday, 24 November 2026 ──\n12:00 "+c.tick+" ada: first\n12:00    bob: between\n\n> typing")
		if style, _ := s.Style(strings.TrimSpace(c.tick)); style != c.style {
			t.Errorf("%v has style %q, want %q", c.status, style, c.style)
		}
	}
	// Scrolled out, it cannot be reached, and nothing else is touched.
	for i := range 8 {
		v.Show(say("bob", fmt.Sprint("more ", i), None))
	}
	before := s.String()
	first.Status = Sent
	v.Update(first)
	if s.String() != before {
		t.Errorf("the screen became\n%s", s)
	}
}

func TestTheUppermostRowIsStillReached(t *testing.T) {
	s := vt.New(40, 6)
	v := NewTerminal(s, 40, 6, false)
	v.Show(say("bob", "a", None))
	mine := say("ada", "b", Delivered)
	v.Show(mine)
	for _, text := range []string{"c", "d", "e"} {
		v.Show(say("bob", text, None))
	}
	mine.Status = Read
	v.Update(mine)
	expect(t, s, "12:00 ✓R ada: b\n12:00    bob: c\n12:00    bob: d\n12:00    bob: e\n\n>")
}

func TestANewSizePaintsWhatFits(t *testing.T) {
	s := vt.New(60, 20)
	v := NewTerminal(s, 60, 20, true)
	mine := say("ada", "mine", Sent)
	for i := range 10 {
		v.Show(say("bob", fmt.Sprint("message ", i), None))
	}
	v.Show(mine)
	s2 := vt.New(30, 7)
	v.w = s2
	v.Resize(30, 7)
	mine.Status = Read
	v.Update(mine)
	if rows := s2.Rows(); rows[len(rows)-3] != "12:00 ✓✓ ada: mine" || rows[len(rows)-1] != ">" {
		t.Errorf("the screen is\n%s", s2)
	}
	if len(s2.Unknown) > 0 {
		t.Errorf("%q", s2.Unknown)
	}
	v.Resize(1, 1) // and does not panic
	v.Show(say("bob", "small", None))
}

func TestMessagesCannotTouchTheScreen(t *testing.T) {
	s := vt.New(60, 10)
	v := NewTerminal(s, 60, 10, true)
	v.Show(say("b\x1b[31mob", "\x1b[2J\x1b[H\x07\r\u202ehidden\x00", None))
	v.Status("\x1b[2J") // comes from our own texts, and from errors
	expect(t, s, "── Tuesday, 24 November 2026 ──\n12:00    b\ufffd[31mob: \ufffd[2J\ufffd[H\ufffd\ufffd\ufffdhidden\ufffd\n\ufffd[2J\n>")
}

func TestKeysOfLeaving(t *testing.T) {
	v := NewTerminal(vt.New(40, 5), 40, 5, true)
	kinds := func(keys string) (kinds []ActionKind) {
		for _, a := range v.Input([]byte(keys)) {
			kinds = append(kinds, a.Kind)
		}
		return kinds
	}
	for _, c := range []struct {
		keys string
		want []ActionKind
	}{
		{"\x03", []ActionKind{Left}},
		{"\x04", []ActionKind{Left}},
		{"a\x04", []ActionKind{Typed}}, // deletes, as in a shell
		{"b\r", []ActionKind{Typed, Entered}},
		{"/q", nil}, // a command is nobody's business
		{"\x15", nil},
	} {
		if got := kinds(c.keys); fmt.Sprint(got) != fmt.Sprint(c.want) {
			t.Errorf("%q: %v, want %v", c.keys, got, c.want)
		}
	}
}
