package chat

import "slices"

// Limits of the line that is being written.
const (
	// lineRunesMax bounds it, in characters: 4,000 of four bytes are below ContentBytesMax.
	lineRunesMax = 4000
	// historyLinesMax bounds the lines that the arrow keys bring back.
	historyLinesMax = 200
)

// An editor is the line that is being written, and those written before. It knows nothing
// of the screen.
type editor struct {
	text    []rune
	at      int // the cursor is before text[at]
	history []string
	recall  int    // of history: which line is shown; len(history): the one being written
	draft   string // what was written before the arrow keys
}

// press does what a key says. entered is true for Enter, with the finished line.
func (e *editor) press(k key) (line string, entered bool) {
	switch k.kind {
	case keyRune:
		if len(e.text) < lineRunesMax {
			e.text = slices.Insert(e.text, e.at, k.char)
			e.at++
		}
	case keyEnter:
		return e.enter(), true
	case keyBackspace:
		e.remove(e.at-1, e.at)
	case keyDelete:
		e.remove(e.at, e.at+1)
	case keyLeft:
		e.at = max(e.at-1, 0)
	case keyRight:
		e.at = min(e.at+1, len(e.text))
	case keyWordLeft:
		e.at = e.wordLeft()
	case keyWordRight:
		e.at = e.wordRight()
	case keyHome:
		e.at = 0
	case keyEnd:
		e.at = len(e.text)
	case keyKillWord:
		e.remove(e.wordLeft(), e.at)
	case keyKillStart:
		e.remove(0, e.at)
	case keyKillEnd:
		e.remove(e.at, len(e.text))
	case keyUp:
		e.show(e.recall - 1)
	case keyDown:
		e.show(e.recall + 1)
	}
	return "", false
}

func (e *editor) enter() string {
	line := string(e.text)
	if line != "" && (len(e.history) == 0 || e.history[len(e.history)-1] != line) {
		e.history = append(e.history, line)
	}
	if len(e.history) > historyLinesMax {
		e.history = e.history[1:]
	}
	e.text, e.at, e.draft = nil, 0, ""
	e.recall = len(e.history)
	return line
}

func (e *editor) remove(from, to int) {
	from, to = max(from, 0), min(to, len(e.text))
	if from < to {
		e.text = slices.Delete(e.text, from, to)
		e.at = from
	}
}

func (e *editor) wordLeft() int {
	at := e.at
	for at > 0 && e.text[at-1] == ' ' {
		at--
	}
	for at > 0 && e.text[at-1] != ' ' {
		at--
	}
	return at
}

func (e *editor) wordRight() int {
	at := e.at
	for at < len(e.text) && e.text[at] == ' ' {
		at++
	}
	for at < len(e.text) && e.text[at] != ' ' {
		at++
	}
	return at
}

// show brings back a line of the history.
func (e *editor) show(i int) {
	if i < 0 || i > len(e.history) {
		return
	}
	if e.recall == len(e.history) {
		e.draft = string(e.text)
	}
	e.recall = i
	line := e.draft
	if i < len(e.history) {
		line = e.history[i]
	}
	e.text = []rune(line)
	e.at = len(e.text)
}

// view is the part of the line that fits into limit cells, with the cursor's column in
// it. A line end in the text is shown as a sign.
func (e *editor) view(limit int) (visible string, column int) {
	limit = max(limit, 2)
	first := 0
	for used(e.text[first:e.at]) >= limit {
		first++
	}
	last := e.at
	for last < len(e.text) && used(e.text[first:last+1]) <= limit-1 {
		last++
	}
	shown := slices.Clone(e.text[first:last])
	for i, r := range shown {
		if r == '\n' {
			shown[i] = '↵'
		}
	}
	return string(shown), used(e.text[first:e.at])
}

func used(text []rune) int {
	n := 0
	for _, r := range text {
		n += cells(r)
	}
	return n
}
