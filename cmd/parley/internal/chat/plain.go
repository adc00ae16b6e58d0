package chat

import (
	"bytes"
	"fmt"
	"io"
	"strings"
)

// plainLineBytesMax bounds a line of input: longer ones are cut, and then refused as
// messages, because they are beyond wire.ContentBytesMax.
const plainLineBytesMax = 64 << 10

// Plain is the View for pipes and scripts. Each event is a line that begins with its kind:
//
//	[2026-11-24 12:03:05] #7 bob: a message, with its sequence
//	#8 sent                            our own message 8: sent, delivered, read
//	* what the chat itself has to say
//
// Further lines of a message begin with four spaces.
type Plain struct {
	w    io.Writer
	rest []byte
	last string // status
}

// NewPlain makes a view that writes to w.
func NewPlain(w io.Writer) *Plain { return &Plain{w: w} }

// Show writes a message or notice.
func (p *Plain) Show(l *Line) {
	text := strings.ReplaceAll(clean(l.Text), "\n", "\n    ")
	switch {
	case l.Author == "":
		fmt.Fprintf(p.w, "* %s\n", text)
	case l.Sequence != 0:
		fmt.Fprintf(p.w, "[%s] #%d %s: %s\n", l.Time.Format("2006-01-02 15:04:05"), l.Sequence, clean(l.Author), text)
		if l.Status != None {
			p.Update(l)
		}
	}
	// A message of our own without a sequence is shown by Update when it has one: what
	// was written is known to who wrote it.
}

// Update writes the new state of a message of our own.
func (p *Plain) Update(l *Line) {
	switch {
	case l.Status == Failed:
		fmt.Fprintf(p.w, "! failed: %s\n", strings.ReplaceAll(clean(l.Text), "\n", "\n    "))
	case l.Sequence != 0:
		fmt.Fprintf(p.w, "#%d %s\n", l.Sequence, l.Status)
	}
}

// Status writes what is so now, once.
func (p *Plain) Status(text string) {
	if text != "" && text != p.last {
		fmt.Fprintf(p.w, "* %s\n", clean(text))
	}
	p.last = text
}

// Input splits what comes into lines.
func (p *Plain) Input(b []byte) (actions []Action) {
	p.rest = append(p.rest, b...)
	for {
		i := bytes.IndexByte(p.rest, '\n')
		if i < 0 {
			break
		}
		actions = append(actions, Action{Kind: Entered, Text: strings.TrimSuffix(string(p.rest[:i]), "\r")})
		p.rest = p.rest[i+1:]
	}
	p.rest = p.rest[:min(len(p.rest), plainLineBytesMax)]
	if len(b) == 0 {
		if len(p.rest) > 0 {
			actions = append(actions, Action{Kind: Entered, Text: string(p.rest)})
			p.rest = nil
		}
		actions = append(actions, Action{Kind: Ended})
	}
	return actions
}

// Resize does nothing: lines are as long as they are.
func (p *Plain) Resize(int, int) {}

// Close does nothing.
func (p *Plain) Close() {}
