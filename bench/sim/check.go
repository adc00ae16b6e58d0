package sim

import (
	"cmp"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"parley/wire"
)

// A Violation is a promise that a history breaks.
type Violation struct {
	Promise      string
	Conversation wire.Conversation // the zero value: none in particular
	Text         string
}

// String is the violation as a report shows it.
func (v Violation) String() string {
	where := ""
	if v.Conversation != (wire.Conversation{}) {
		where = " in " + conversationName(v.Conversation)
	}
	return fmt.Sprintf("VIOLATION of %q%s: %s", v.Promise, where, v.Text)
}

// A checker looks for breaches of one promise.
type checker struct {
	promise string
	check   func(h *History, report func(c wire.Conversation, format string, args ...any))
}

// checkers are one for each promise, those first whose breach explains others.
var checkers = []checker{
	{"members only", checkMembers},
	{"the same at the same sequence", checkSame},
	{"no gaps", checkGaps},
	{"exactly once", checkOnce},
	{"nothing acknowledged is lost", checkDurable},
	{"refused is refused", checkRefused},
	{"what was sent lately is known", checkKnown},
	{"times do not go back", checkTimes},
	{"a device's order", checkOrder},
	{"pushed once, in order", checkPushes},
	{"receipts move forward", checkReceipts},
	{"linearizable", checkLinear},
	{"online members are served", checkServed},
	{"it commits again", checkLive},
	{"replicas are equal", checkReplicas},
}

// Check gives all that a history breaks.
func Check(h *History) []Violation {
	var violations []Violation
	for _, c := range checkers {
		c.check(h, func(conversation wire.Conversation, format string, args ...any) {
			violations = append(violations, Violation{c.promise, conversation, fmt.Sprintf(format, args...)})
		})
	}
	return violations
}

// A sighting is a message as somebody saw it, somewhere.
type sighting struct {
	Entry
	conversation wire.Conversation
	who          string
}

// sightings visits every message that anybody saw.
func (h *History) sightings(fn func(s sighting)) {
	for i := range h.Finals {
		f := &h.Finals[i]
		for _, e := range f.Entries {
			fn(sighting{e, f.Conversation, fmt.Sprintf("%d %s", f.User, f.Stage)})
		}
	}
	for i := range h.Reads {
		r := &h.Reads[i]
		for _, e := range r.Entries {
			fn(sighting{e, r.Conversation, "a page of " + string(r.Device)})
		}
	}
	for i := range h.Handed {
		s := &h.Handed[i]
		fn(sighting{s.Entry, s.Conversation, fmt.Sprintf("%s life %d", s.Device, s.Life)})
	}
	for i := range h.Pushed {
		s := &h.Pushed[i]
		fn(sighting{s.Entry, s.Conversation, fmt.Sprintf("%s connection %d", s.Device, s.Life)})
	}
}

// bodies finds sends by their bodies.
func (h *History) bodies() map[string]*Send {
	bodies := make(map[string]*Send, len(h.Sends))
	for i := range h.Sends {
		bodies[h.Sends[i].Body] = &h.Sends[i]
	}
	return bodies
}

// conversations lists those that anybody wrote in, in order.
func (h *History) conversations() []wire.Conversation {
	seen := make(map[wire.Conversation]bool)
	var list []wire.Conversation
	add := func(c wire.Conversation) {
		if !seen[c] {
			seen[c] = true
			list = append(list, c)
		}
	}
	for i := range h.Sends {
		add(h.Sends[i].Conversation)
	}
	for i := range h.Finals {
		add(h.Finals[i].Conversation)
	}
	slices.SortFunc(list, func(a, b wire.Conversation) int { return cmp.Or(cmp.Compare(a.A, b.A), cmp.Compare(a.B, b.B)) })
	return list
}

// last gives the last reading of each conversation by each member.
func (h *History) last() []*Final {
	type key struct {
		user wire.ID
		c    wire.Conversation
	}
	places := make(map[key]int)
	var list []*Final
	for i := range h.Finals {
		f := &h.Finals[i]
		k := key{f.User, f.Conversation}
		if at, ok := places[k]; ok {
			list[at] = f
			continue
		}
		places[k] = len(list)
		list = append(list, f)
	}
	return list
}

// short is a body as a report shows it.
func short(body string) string {
	id, _, _ := strings.Cut(body, " ")
	return id
}

// Tell writes what happened in a conversation, in the order of time.
func (h *History) Tell(w io.Writer, c wire.Conversation) {
	type line struct {
		at   time.Duration
		text string
	}
	var lines []line
	add := func(at time.Duration, format string, args ...any) {
		lines = append(lines, line{at, fmt.Sprintf(format, args...)})
	}
	for i := range h.Sends {
		if s := &h.Sends[i]; s.Conversation == c {
			add(s.Called, "%s life %d sends %s", s.Device, s.Life, short(s.Body))
			if s.Returned != 0 {
				add(s.Returned, "%s life %d hears of %s: %v #%d %s", s.Device, s.Life, short(s.Body), s.Outcome, s.Sequence, s.Error)
			}
		}
	}
	for i := range h.Handed {
		if s := &h.Handed[i]; s.Conversation == c {
			add(s.At, "%s life %d is handed #%d %s", s.Device, s.Life, s.Sequence, short(s.Body))
		}
	}
	for i := range h.Pushed {
		if s := &h.Pushed[i]; s.Conversation == c {
			add(s.At, "%s connection %d is pushed #%d %s", s.Device, s.Life, s.Sequence, short(s.Body))
		}
	}
	for i := range h.Receipts {
		if m := &h.Receipts[i]; m.Conversation == c {
			add(m.At, "%s connection %d hears of cursor %d at %d", m.Device, m.Life, m.Kind, m.Position)
		}
	}
	for i := range h.Listed {
		if l := &h.Listed[i]; l.Conversation == c {
			add(l.At, "%s connection %d syncs: head %d, own %d %d, other %d %d", l.Device, l.Life, l.State.Head,
				l.State.Delivered, l.State.Read, l.State.OtherDelivered, l.State.OtherRead)
		}
	}
	slices.SortStableFunc(lines, func(a, b line) int { return cmp.Compare(a.at, b.at) })
	skipped := max(0, len(lines)-tellMax)
	fmt.Fprintf(w, "history of %s (the last %d lines of %d)\n", conversationName(c), len(lines)-skipped, len(lines))
	for _, l := range lines[skipped:] {
		fmt.Fprintf(w, "%9.3fs %s\n", l.at.Seconds(), l.text)
	}
	for _, f := range h.last() {
		if f.Conversation == c {
			fmt.Fprintf(w, "%d reads %s: head %d:", f.User, f.Stage, f.State.Head)
			for _, e := range f.Entries {
				fmt.Fprintf(w, " #%d %s", e.Sequence, short(e.Body))
			}
			fmt.Fprintln(w)
		}
	}
}

// tellMax bounds the lines of a conversation's history in a report.
const tellMax = 400
