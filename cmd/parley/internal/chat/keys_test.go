package chat

import (
	"slices"
	"strings"
	"testing"
	"unicode/utf8"
)

// press feeds bytes to a fresh reader and editor.
func press(chunks ...string) (e editor, lines []string) {
	var keys keyReader
	for _, c := range chunks {
		for _, k := range keys.read([]byte(c)) {
			if line, entered := e.press(k); entered {
				lines = append(lines, line)
			}
		}
	}
	return e, lines
}

func TestEditing(t *testing.T) {
	const left, right, up, down, home, end, del = "\x1b[D", "\x1b[C", "\x1b[A", "\x1b[B", "\x1b[H", "\x1b[F", "\x1b[3~"
	for name, c := range map[string]struct {
		keys string
		want string // the line, with | at the cursor
	}{
		"write":                     {"abc", "abc|"},
		"write in the middle":       {"ac" + left + "b", "ab|c"},
		"left stops":                {"a" + left + left + left + "b", "b|a"},
		"right stops":               {"a" + right + right + "b", "ab|"},
		"backspace":                 {"abc\x7f\x7f", "a|"},
		"backspace at the start":    {"abc" + home + "\x7f", "|abc"},
		"delete":                    {"abc" + home + del + del, "|c"},
		"delete at the end":         {"abc" + del, "abc|"},
		"home and end":              {"b" + home + "a" + end + "c", "abc|"},
		"Ctrl-A and Ctrl-E":         {"b\x01a\x05c", "abc|"},
		"Ctrl-W":                    {"one two  \x17", "one |"},
		"Ctrl-U":                    {"one two" + left + left + "\x15", "|wo"},
		"Ctrl-K":                    {"one two" + left + left + "\x0b", "one t|"},
		"word left":                 {"one two\x1bb", "one |two"},
		"word right":                {"one two" + home + "\x1bf", "one| two"},
		"Ctrl-right":                {"one two" + home + "\x1b[1;5C\x1b[1;5C", "one two|"},
		"history":                   {"one\rtwo\r" + up + up, "one|"},
		"history ends":              {"one\r" + up + up + up, "one|"},
		"history and back to draft": {"one\rtwo\rthr" + up + up + down + down, "thr|"},
		"a line twice is one":       {"one\rone\rtwo\r" + up + up + up, "one|"},
		"accents and wide":          {"é李😀" + left, "é李|😀"},
		"unknown keys do nothing":   {"a\x1b[15~\x1bOP\x1b[200;5u\x1bxb\x00\x1f", "ab|"},
		"pasted line ends are text": {"\x1b[200~one\r\ntwo\nthree\x1b[201~", "one\ntwo\nthree|"},
		"controls are not pasted":   {"\x1b[200~a\x03\x04\x15b\x1b[201~", "ab|"},
	} {
		e, _ := press(c.keys)
		got := string(e.text[:e.at]) + "|" + string(e.text[e.at:])
		if got != c.want {
			t.Errorf("%s: %q, want %q", name, got, c.want)
		}
		// However the terminal's output is cut, it means the same.
		for i := range len(c.keys) {
			e, _ := press(c.keys[:i], c.keys[i:])
			if cut := string(e.text[:e.at]) + "|" + string(e.text[e.at:]); cut != got {
				t.Errorf("%s: cut at %d: %q, want %q", name, i, cut, got)
			}
		}
	}
}

func TestEnterGivesTheLineAndBeginsAnother(t *testing.T) {
	e, lines := press("one\rtwo\n\rthr")
	if want := []string{"one", "two", ""}; !slices.Equal(lines, want) || string(e.text) != "thr" {
		t.Errorf("%q and %q", lines, string(e.text))
	}
}

func TestALineIsBounded(t *testing.T) {
	e, _ := press(strings.Repeat("x", lineRunesMax+10))
	if len(e.text) != lineRunesMax {
		t.Errorf("%d characters", len(e.text))
	}
	for range historyLinesMax + 10 {
		e.press(key{keyRune, rune('a' + len(e.history)%2)})
		e.press(key{kind: keyEnter})
	}
	if len(e.history) != historyLinesMax {
		t.Errorf("%d lines of history", len(e.history))
	}
}

func TestTheVisiblePartOfALineHasTheCursorAndFits(t *testing.T) {
	for _, text := range []string{"", "short", strings.Repeat("long ", 30), strings.Repeat("李", 50), "a\nb", strings.Repeat("e\u0301", 40)} {
		var e editor
		e.text = []rune(text)
		for _, limit := range []int{0, 2, 3, 10, 77} {
			for e.at = 0; e.at <= len(e.text); e.at++ {
				visible, column := e.view(limit)
				if n := textCells(visible); n > max(limit, 2) || column < 0 || column >= max(limit, 2) {
					t.Fatalf("%.10q at %d in %d cells: %q has %d, the cursor is at %d", text, e.at, limit, visible, n, column)
				}
				if strings.Contains(visible, "\n") {
					t.Fatalf("a line end is shown: %q", visible)
				}
			}
		}
	}
}

func FuzzKeys(f *testing.F) {
	f.Add("a\x1b[A\x1b[200~x\r\n\x1b[201~\x7f", 3)
	f.Add("\x1b[999999999999999999999999", 1)
	f.Fuzz(func(t *testing.T, s string, cut int) {
		whole, wholeLines := press(s)
		cut = min(max(cut, 0), len(s))
		parts, partLines := press(s[:cut], s[cut:])
		if string(whole.text) != string(parts.text) || whole.at != parts.at || !slices.Equal(wholeLines, partLines) {
			t.Fatalf("%q cut at %d: %q, not %q", s, cut, string(parts.text), string(whole.text))
		}
		if whole.at < 0 || whole.at > len(whole.text) || !utf8.ValidString(string(whole.text)) {
			t.Fatalf("%q: %q at %d", s, string(whole.text), whole.at)
		}
	})
}
