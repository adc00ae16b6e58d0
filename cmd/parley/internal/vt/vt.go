// Package vt is a terminal's screen for tests: what was written to it, as rows of
// characters with their styles. It knows the few control sequences that Parley uses and
// reports any other, so that a test notices what a real terminal might not understand.
package vt

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/text/width"
)

// A cell is one column of a row. The right half of a wide character has char 0.
type cell struct {
	char  rune
	marks string // that join the character
	style string
}

// A Screen is a terminal of a fixed size. It is not safe for concurrent use.
type Screen struct {
	width, height int
	rows          [][]cell
	row, column   int
	style         string
	rest          []byte
	// Unknown are the control sequences that it did not understand.
	Unknown []string
	// Wrapped counts the rows that the terminal broke by itself.
	Wrapped int
}

// New makes an empty screen with the cursor at its upper left.
func New(width, height int) *Screen {
	s := &Screen{width: width, height: height}
	for range height {
		s.rows = append(s.rows, s.blank())
	}
	return s
}

func (s *Screen) blank() []cell {
	row := make([]cell, s.width)
	for i := range row {
		row[i].char = ' '
	}
	return row
}

// sequence is ESC [ parameters letter.
var sequence = regexp.MustCompile(`^\x1b\[(\??[0-9;]*)([A-Za-z])`)

// Write obeys what a program writes.
func (s *Screen) Write(b []byte) (int, error) {
	s.rest = append(s.rest, b...)
	for len(s.rest) > 0 {
		if s.rest[0] == 0x1b {
			m := sequence.FindSubmatch(s.rest)
			if m == nil {
				if len(s.rest) < 16 {
					break // more may come
				}
				s.Unknown = append(s.Unknown, fmt.Sprintf("%q", s.rest[:2]))
				s.rest = s.rest[1:]
				continue
			}
			s.control(string(m[1]), m[2][0])
			s.rest = s.rest[len(m[0]):]
			continue
		}
		if !utf8.FullRune(s.rest) {
			break
		}
		r, n := utf8.DecodeRune(s.rest)
		s.rest = s.rest[n:]
		s.put(r)
	}
	return len(b), nil
}

func (s *Screen) control(parameters string, letter byte) {
	n, err := strconv.Atoi(parameters)
	if err != nil {
		n = 1
	}
	switch {
	case letter == 'A':
		s.row = max(s.row-n, 0)
	case letter == 'B':
		s.row = min(s.row+n, s.height-1)
	case letter == 'C':
		s.column = min(s.column+n, s.width-1)
	case letter == 'H' && parameters == "":
		s.row, s.column = 0, 0
	case letter == 'J' && parameters == "":
		s.erase(s.row, s.column)
	case letter == 'J' && parameters == "2":
		s.erase(0, 0)
	case letter == 'm' && (parameters == "0" || parameters == ""):
		s.style = ""
	case letter == 'm':
		s.style = parameters
	case parameters == "?2004" && (letter == 'h' || letter == 'l'): // pasting
	default:
		s.Unknown = append(s.Unknown, "ESC["+parameters+string(letter))
	}
}

// erase clears from a position to the end of the screen.
func (s *Screen) erase(row, column int) {
	for c := column; c < s.width; c++ {
		s.rows[row][c] = cell{char: ' '}
	}
	for r := row + 1; r < s.height; r++ {
		s.rows[r] = s.blank()
	}
}

func (s *Screen) put(r rune) {
	switch {
	case r == '\r':
		s.column = 0
	case r == '\n':
		s.lineFeed()
	case r < ' ':
		s.Unknown = append(s.Unknown, fmt.Sprintf("%q", r))
	case unicode.In(r, unicode.Mn, unicode.Me, unicode.Cf):
		if s.column > 0 {
			s.rows[s.row][s.column-1].marks += string(r)
		}
	default:
		wide := 1
		if k := width.LookupRune(r).Kind(); k == width.EastAsianWide || k == width.EastAsianFullwidth {
			wide = 2
		}
		if s.column+wide > s.width {
			s.Wrapped++
			s.column = 0
			s.lineFeed()
		}
		s.rows[s.row][s.column] = cell{char: r, style: s.style}
		if wide == 2 {
			s.rows[s.row][s.column+1] = cell{style: s.style}
		}
		s.column += wide
	}
}

func (s *Screen) lineFeed() {
	if s.row < s.height-1 {
		s.row++
		return
	}
	s.rows = append(s.rows[1:], s.blank())
}

// Rows are the lines of the screen, without the spaces at their ends.
func (s *Screen) Rows() []string {
	var rows []string
	for _, row := range s.rows {
		var b strings.Builder
		for _, c := range row {
			if c.char != 0 {
				b.WriteString(string(c.char) + c.marks)
			}
		}
		rows = append(rows, strings.TrimRight(b.String(), " "))
	}
	return rows
}

// String is the screen's text, without empty rows at its end.
func (s *Screen) String() string { return strings.TrimRight(strings.Join(s.Rows(), "\n"), "\n") }

// Style is the SGR parameters of the first place where text stands on the screen; ok is
// false if it does not.
func (s *Screen) Style(text string) (style string, ok bool) {
	for i, row := range s.Rows() {
		if at := strings.Index(row, text); at >= 0 {
			return s.rows[i][utf8.RuneCountInString(row[:at])].style, true
		}
	}
	return "", false
}

// Cursor is where the cursor stands, from 0.
func (s *Screen) Cursor() (row, column int) { return s.row, s.column }
