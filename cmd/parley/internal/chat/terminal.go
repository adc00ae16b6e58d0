package chat

import (
	"fmt"
	"io"
	"strings"
	"time"
)

// Geometry of the screen. The two lowest rows are the footer: what is so now, and the line
// that is being written. The last column stays empty, so that no terminal wraps by itself.
const (
	footerRows = 2
	timeCells  = len("15:04 ")
	tickCells  = 3
	shownMax   = 1000 // lines that can be painted again after a change of size
)

// Escape sequences (ECMA-48, and xterm's for pasting).
const (
	clearBelow   = "\x1b[J"
	clearAll     = "\x1b[H\x1b[2J"
	pasteModeOn  = "\x1b[?2004h"
	pasteModeOff = "\x1b[?2004l"
	styleReset   = "\x1b[0m"
	styleBold    = "\x1b[1m"
	styleDim     = "\x1b[2m"
	styleRed     = "\x1b[31m"
	styleRead    = "\x1b[1;36m"
)

// Terminal is the View for a person at a terminal in raw mode. Lines scroll up like
// any output, so that the terminal's own scrolling works; ticks are changed in place as
// long as their line is on the screen.
type Terminal struct {
	w             io.Writer
	width, height int
	colour        bool
	keys          keyReader
	editor        editor
	status        string
	lines         []shownLine
	rows          int    // that were printed above the footer so far
	day           string // of the last line
	drawn         bool   // the footer is on the screen, the cursor in its last row
}

// A shownLine is a line and where it is, in rows since the beginning.
type shownLine struct {
	line *Line
	row  int
}

// NewTerminal makes a view of the given size that writes to w. Without colour, which NO_COLOR
// asks for, the states of messages are words.
func NewTerminal(w io.Writer, width, height int, colour bool) *Terminal {
	t := &Terminal{w: w, width: width, height: height, colour: colour}
	t.paint(func(b *strings.Builder) { b.WriteString(pasteModeOn) })
	return t
}

// Show puts a line below the others.
func (t *Terminal) Show(l *Line) {
	if len(t.lines) == shownMax {
		t.lines = t.lines[shownMax/2:]
	}
	t.paint(func(b *strings.Builder) { t.print(b, l) })
}

// Update paints the tick of a line again, where it is.
func (t *Terminal) Update(l *Line) {
	for i := len(t.lines) - 1; i >= 0; i-- {
		if t.lines[i].line != l {
			continue
		}
		up := t.rows - t.lines[i].row
		if up > t.height-footerRows {
			return // scrolled out
		}
		t.paint(func(b *strings.Builder) {
			fmt.Fprintf(b, "\x1b[%dA\r\x1b[%dC%s\x1b[%dB\r", up, timeCells, t.tick(l.Status), up)
		})
		return
	}
}

// Status changes the row above the input.
func (t *Terminal) Status(text string) {
	if text == t.status {
		return
	}
	t.status = text
	t.paint(func(*strings.Builder) {})
}

// Resize paints everything again: terminals differ in what they do to long lines.
func (t *Terminal) Resize(width, height int) {
	t.width, t.height = max(width, 20), max(height, footerRows+1)
	t.repaint()
}

// Close takes the footer away and leaves the cursor below the last line.
func (t *Terminal) Close() {
	var b strings.Builder
	t.eraseFooter(&b)
	b.WriteString(pasteModeOff)
	io.WriteString(t.w, b.String()) // the terminal may be gone
	t.drawn = false
}

// Input does what keys say and shows it.
func (t *Terminal) Input(b []byte) (actions []Action) {
	if len(b) == 0 {
		return []Action{{Kind: Ended}}
	}
	for _, k := range t.keys.read(b) {
		switch {
		case k.kind == keyInterrupt, k.kind == keyEOF && len(t.editor.text) == 0:
			actions = append(actions, Action{Kind: Left})
			continue
		case k.kind == keyEOF:
			k.kind = keyDelete
		case k.kind == keyRepaint:
			t.repaint()
			continue
		}
		line, entered := t.editor.press(k)
		switch {
		case entered:
			actions = append(actions, Action{Kind: Entered, Text: line})
		case k.kind == keyRune && !strings.HasPrefix(string(t.editor.text), "/"):
			actions = append(actions, Action{Kind: Typed})
		}
	}
	t.paint(func(*strings.Builder) {})
	return actions
}

// paint takes the footer away, lets fn print above it, and draws it again: one write, so
// that nothing flickers.
func (t *Terminal) paint(fn func(b *strings.Builder)) {
	var b strings.Builder
	t.eraseFooter(&b)
	fn(&b)
	status := strings.ReplaceAll(clean(t.status), "\n", " ")
	if textCells(status) > t.width-1 {
		status = wrap(status, t.width-2)[0] + "…"
	}
	b.WriteString(t.styled(styleDim, status) + "\r\n")
	const prompt = "> "
	visible, column := t.editor.view(t.width - 1 - len(prompt))
	fmt.Fprintf(&b, "%s%s\r\x1b[%dC", prompt, visible, len(prompt)+column)
	io.WriteString(t.w, b.String()) // a terminal that is gone ends the input, too
	t.drawn = true
}

func (t *Terminal) eraseFooter(b *strings.Builder) {
	if t.drawn {
		fmt.Fprintf(b, "\x1b[%dA", footerRows-1)
	}
	b.WriteString("\r" + clearBelow)
}

// repaint prints as many of the last lines as the screen holds.
func (t *Terminal) repaint() {
	old := t.lines
	t.lines, t.rows, t.day, t.drawn = nil, 0, "", false
	first := t.firstThatFits(old)
	t.paint(func(b *strings.Builder) {
		b.WriteString(clearAll)
		for _, s := range old[first:] {
			t.print(b, s.line)
		}
	})
}

// firstThatFits is the index of the first line from which on all fit on the screen.
func (t *Terminal) firstThatFits(lines []shownLine) int {
	room := t.height - footerRows - 1 // the heading of the first day
	day := ""
	for i := len(lines) - 1; i >= 0; i-- {
		l := lines[i].line
		room -= len(t.format(l))
		if l.Author != "" {
			if date := l.Time.Format(time.DateOnly); date != day {
				if day != "" {
					room-- // the heading of the day that follows
				}
				day = date
			}
		}
		if room < 0 {
			return i + 1
		}
	}
	return 0
}

// print writes a line's rows, after a heading if it begins a day.
func (t *Terminal) print(b *strings.Builder, l *Line) {
	if day := l.Time.Format(time.DateOnly); l.Author != "" && day != t.day {
		t.day = day
		t.row(b, t.styled(styleDim, "── "+l.Time.Format("Monday, 2 January 2006")+" ──"))
	}
	t.lines = append(t.lines, shownLine{line: l, row: t.rows})
	for _, row := range t.format(l) {
		t.row(b, row)
	}
}

func (t *Terminal) row(b *strings.Builder, text string) {
	b.WriteString(text + "\r\n")
	t.rows++
}

// format gives the rows of a line: time, tick, author and text; what does not fit into the
// first row is indented below.
func (t *Terminal) format(l *Line) []string {
	if l.Author == "" {
		rows := wrap(clean(l.Text), t.width-1-timeCells)
		for i := range rows {
			rows[i] = strings.Repeat(" ", timeCells) + t.styled(styleDim, rows[i])
		}
		return rows
	}
	indent := timeCells + tickCells
	author := clean(l.Author) + ": "
	rows := wrap(author+clean(l.Text), t.width-1-indent)
	for i := range rows {
		if i > 0 {
			rows[i] = strings.Repeat(" ", indent) + rows[i]
			continue
		}
		// The author may be cut when the terminal is very narrow; then it is not bold.
		if text, ok := strings.CutPrefix(rows[0], author); ok {
			rows[0] = t.styled(styleBold, strings.TrimSuffix(author, " ")) + " " + text
		}
		rows[0] = l.Time.Format("15:04 ") + t.tick(l.Status) + rows[0]
	}
	return rows
}

// tick is the sign of a state, tickCells wide: one tick sent, two delivered, two in colour
// read. Without colour a letter says it.
func (t *Terminal) tick(s Status) string {
	sign := map[Status]string{None: "   ", Queued: "…  ", Sent: "✓  ", Delivered: "✓✓ ", Read: "✓✓ ", Failed: "✗  "}[s]
	style := map[Status]string{Queued: styleDim, Sent: styleDim, Delivered: styleDim, Read: styleRead, Failed: styleRed}[s]
	if s == Read && !t.colour {
		return "✓R "
	}
	return t.styled(style, sign)
}

func (t *Terminal) styled(style, text string) string {
	if !t.colour || style == "" || text == "" {
		return text
	}
	return style + text + styleReset
}
