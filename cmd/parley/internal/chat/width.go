package chat

import (
	"strings"
	"unicode"

	"golang.org/x/text/width"
)

// cells is how many columns of a terminal a character takes: none for marks that join the
// one before, two for East Asian wide ones and most emoji.
func cells(r rune) int {
	switch {
	case unicode.In(r, unicode.Mn, unicode.Me, unicode.Cf):
		return 0
	case width.LookupRune(r).Kind() == width.EastAsianWide, width.LookupRune(r).Kind() == width.EastAsianFullwidth:
		return 2
	}
	return 1
}

func textCells(s string) int {
	n := 0
	for _, r := range s {
		n += cells(r)
	}
	return n
}

// clean takes out of a text what would move the cursor, change colours or turn the
// direction of what follows: a message is somebody else's, and a terminal obeys. Lines
// stay lines.
func clean(s string) string {
	s = strings.ReplaceAll(s, "\r\n", "\n")
	return strings.Map(func(r rune) rune {
		switch {
		case r == '\n', r == '\u200d', unicode.Is(unicode.Mn, r): // joiners make emoji and letters whole
			return r
		case r == '\t':
			return ' '
		case !unicode.IsPrint(r) && !unicode.IsSpace(r), unicode.Is(unicode.Zl, r), unicode.Is(unicode.Zp, r), r < ' ':
			return unicode.ReplacementChar
		}
		return r
	}, strings.ToValidUTF8(s, "\ufffd"))
}

// wrap breaks a text into rows of at most limit cells, at spaces where it can.
func wrap(s string, limit int) []string {
	limit = max(limit, 2) // a wide character fits
	var rows []string
	for paragraph := range strings.SplitSeq(s, "\n") {
		rows = append(rows, wrapParagraph([]rune(paragraph), limit)...)
	}
	return rows
}

func wrapParagraph(text []rune, limit int) (rows []string) {
	for {
		n, used, space := 0, 0, 0
		for n < len(text) && used+cells(text[n]) <= limit {
			if text[n] == ' ' && n > 0 {
				space = n
			}
			used += cells(text[n])
			n++
		}
		if n == len(text) {
			return append(rows, string(text))
		}
		cut, skip := n, 0
		switch {
		case text[n] == ' ':
			skip = 1
		case space > 0:
			cut, skip = space, 1
		}
		rows = append(rows, string(text[:cut]))
		text = text[cut+skip:]
	}
}
