//go:build linux

package load

import (
	"fmt"

	"parley/wire"
)

// A verification reads every conversation from its beginning, as one member and as the other,
// page by page, and then compares it with all that anybody was told.
type verification struct {
	job     *crash
	answer  reply
	chat    int    // which conversation
	side    int    // as which member
	last    uint64 // the last sequence read
	history []item // as side 0 read it
	head    uint64
	gaps    [2]uint64 // as each member read it
}

func (v *verification) start() {
	v.job.result.Verified, v.job.result.Lost, v.job.result.Doubled, v.job.result.Gaps = 0, 0, 0, 0
	v.begin()
}

// begin starts to read a conversation as a member.
func (v *verification) begin() {
	v.last, v.head = 0, 0
	v.again()
}

// again asks for the next page.
func (v *verification) again() {
	s := v.stream()
	if !s.author.session.alive() {
		v.broken(fmt.Errorf("load: user %v is not connected", s.author.session.account.User))
		return
	}
	out := s.author.session.output()
	*out = wire.AppendHistory(*out, &wire.History{Ref: s.ref, Mode: wire.HistoryForward, Sequence: v.last})
}

// stream is that of the member who reads.
func (v *verification) stream() *stream { return v.job.chats[v.chat].streams[v.side] }

func (v *verification) broken(err error) {
	v.job.check = nil
	v.answer(nil, err)
}

// page takes messages, which must follow on the last one.
func (v *verification) page(f wire.Frame) error {
	p, err := wire.ParsePage(f)
	if err != nil {
		return err
	}
	reader := v.stream()
	if p.Ref != reader.ref {
		return fmt.Errorf("PAGE of %d, not of %d", p.Ref, reader.ref)
	}
	v.head = max(v.head, p.Head)
	for i := range p.Messages {
		if err := v.message(reader, &p.Messages[i]); err != nil {
			v.job.complain(reader.author.session, err)
		}
	}
	if p.Flags&wire.PageMoreAfter != 0 && len(p.Messages) > 0 {
		v.again()
		return nil
	}
	v.ended()
	return nil
}

func (v *verification) message(reader *stream, m *wire.PageMessage) error {
	result := &v.job.result
	if m.Sequence != v.last+1 {
		v.gaps[v.side] += m.Sequence - v.last - 1
	}
	for uint64(len(v.history)) < m.Sequence {
		v.history = append(v.history, item{})
	}
	v.last = m.Sequence
	result.Verified++
	author := reader
	if m.Author == 0 {
		author = reader.chat.streams[1-reader.side]
	} else if m.Author != reader.author.session.account.User {
		return fmt.Errorf("message %d is by %v", m.Sequence, m.Author)
	}
	counter, err := v.job.counterOf(author, m.Content)
	if err != nil {
		return err
	}
	x, old := item{int8(author.side), counter}, &v.history[m.Sequence-1]
	if v.side == 1 && *old != x {
		return fmt.Errorf("message %d is not the same for both members", m.Sequence)
	}
	*old = x
	return nil
}

// ended goes on to the other member, or compares and goes on to the next conversation.
func (v *verification) ended() {
	if v.last < v.head {
		v.gaps[v.side] += v.head - v.last
	}
	if v.side == 0 {
		v.side = 1
		v.begin()
		return
	}
	v.compare()
	v.job.result.Gaps += max(v.gaps[0], v.gaps[1])
	v.side, v.history, v.gaps = 0, nil, [2]uint64{}
	if v.chat++; v.chat < len(v.job.chats) {
		v.begin()
		return
	}
	v.job.check = nil
	v.answer(v.job.counts(), nil)
}

// compare holds the history of a conversation against what was told of it.
func (v *verification) compare() {
	c := v.job.chats[v.chat]
	result := &v.job.result
	var last [2]uint64 // counters of each side so far
	for i, x := range v.history {
		if x.counter == 0 {
			continue // counted as a gap
		}
		switch at := &last[x.side]; {
		case x.counter == *at+1:
			*at = x.counter
		case x.counter <= *at:
			result.Doubled++
		default:
			result.Complaints.add(fmt.Sprintf("counter %d after %d at sequence %d", x.counter, *at, i+1))
			*at = x.counter
		}
	}
	for i, x := range c.seen {
		if x.counter != 0 && (i >= len(v.history) || v.history[i] != x) {
			result.Lost++
			result.Complaints.First = fallback(result.Complaints.First,
				fmt.Sprintf("sequence %d was told as counter %d of side %d, and is not there", i+1, x.counter, x.side))
		}
	}
	for _, s := range c.streams {
		if s.covered > uint64(len(v.history)) {
			result.Lost += s.covered - uint64(len(v.history))
		}
	}
}

func fallback(text, other string) string {
	if text == "" {
		return other
	}
	return text
}
