package chat

import (
	"slices"
	"strings"
	"testing"
)

func TestWrapBreaksAtSpacesAndFits(t *testing.T) {
	for _, c := range []struct {
		text  string
		limit int
		want  []string
	}{
		{"", 10, []string{""}},
		{"one two three", 20, []string{"one two three"}},
		{"one two three", 8, []string{"one two", "three"}},
		{"one two three", 7, []string{"one two", "three"}},
		{"one two three", 6, []string{"one", "two", "three"}},
		{"abcdefghij", 4, []string{"abcd", "efgh", "ij"}},
		{"a\nb\n\nc", 4, []string{"a", "b", "", "c"}},
		{"李小龙李小龙", 5, []string{"李小", "龙李", "小龙"}},
		{"e\u0301e\u0301e\u0301", 2, []string{"e\u0301e\u0301", "e\u0301"}},
	} {
		if got := wrap(c.text, c.limit); !slices.Equal(got, c.want) {
			t.Errorf("%q in %d: %q, want %q", c.text, c.limit, got, c.want)
		}
	}
}

func FuzzWrap(f *testing.F) {
	f.Add("one two  three", 5)
	f.Add("李 小 龙\n\n", 3)
	f.Fuzz(func(t *testing.T, text string, limit int) {
		limit = min(max(limit, 2), 200)
		text = clean(text)
		rows := wrap(text, limit)
		for _, row := range rows {
			if textCells(row) > limit {
				t.Fatalf("%q in %d: the row %q has %d cells", text, limit, row, textCells(row))
			}
		}
		strip := strings.NewReplacer(" ", "", "\n", "")
		if got, want := strip.Replace(strings.Join(rows, "")), strip.Replace(text); got != want {
			t.Fatalf("%q became %q", want, got)
		}
	})
}

func TestCleanTakesAwayWhatATerminalWouldObey(t *testing.T) {
	for in, want := range map[string]string{
		"plain text":             "plain text",
		"two\nlines\r\nor three": "two\nlines\nor three",
		"a\tb":                   "a b",
		"\x1b[2Jboo":             "\ufffd[2Jboo",
		"\x1b]0;title\x07":       "\ufffd]0;title\ufffd",
		"\u009b31m":              "\ufffd31m",
		"over\rwrite\b\b":        "over\ufffdwrite\ufffd\ufffd",
		"\u202eevil":             "\ufffdevil",
		"a\u2028b":               "a\ufffdb",
		"\xff\xfe":               "\ufffd",
		"👩\u200d🚀 e\u0301 李小龙 \u00a0": "👩\u200d🚀 e\u0301 李小龙 \u00a0",
	} {
		if got := clean(in); got != want {
			t.Errorf("%q becomes %q, want %q", in, got, want)
		}
	}
}
