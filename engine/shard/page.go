package shard

import (
	"parley/storage"
	"parley/wire"
)

// pageBytesMax bounds the messages of one page, so that it fits into one frame.
const pageBytesMax = wire.FrameBytesMax - wire.PageHeaderBytes

// Page reads a page of a conversation as HISTORY asks for it, bounded by the limit that
// it names and by the frame that has to carry it. A conversation without messages gives
// an empty page; somebody else's, NOT_MEMBER. Of a group nothing is shown from before what
// its member sees.
func (s *Shard) Page(user wire.ID, h wire.History) (wire.Page, error) {
	c := h.Ref.Conversation(user)
	p := pager{page: wire.Page{Correlation: h.Correlation, Ref: h.Ref}, first: 1}
	if c.Kind == wire.Group {
		err := s.viewGroup(user, h.Ref, h.Correlation, func(r *storage.Reader, c wire.Conversation, m *storage.Member) error {
			record, _, err := r.Conversation(c)
			if err != nil {
				return err
			}
			p.page.Head, p.first = record.Head, m.From
			return p.read(r, c, h)
		})
		return p.page, err
	}
	if !c.Member(user) {
		return p.page, notMember(h.Correlation)
	}
	err := s.view(c.Slot(), func(r *storage.Reader) error {
		record, ok, err := r.Conversation(c)
		if err != nil || !ok {
			return err
		}
		p.page.Head = record.Head
		return p.read(r, c, h)
	})
	return p.page, err
}

// pager fills a page. Sequences have no gaps, so that what to read is arithmetic.
type pager struct {
	page  wire.Page
	first uint64 // that is shown
	bytes int
	arena []byte // contents, which must outlive the view
}

func (p *pager) read(r *storage.Reader, c wire.Conversation, h wire.History) error {
	limit := h.Limit
	if limit == 0 || limit > wire.HistoryMessagesMax {
		limit = wire.HistoryMessagesMax
	}
	head, from, to := p.page.Head, p.first, uint64(0)
	switch h.Mode {
	case wire.HistoryForward:
		from, to = max(min(h.Sequence, head)+1, p.first), head
		to = min(to, from+limit-1)
		if err := p.forward(r, c, from, to, pageBytesMax); err != nil {
			return err
		}
	case wire.HistoryBackward:
		to = h.Sequence - 1
		if h.Sequence == 0 || to > head {
			to = head
		}
		from = max(to-min(to, limit)+1, p.first)
		if err := p.backward(r, c, from, to, pageBytesMax); err != nil {
			return err
		}
	case wire.HistoryAround:
		if err := p.around(r, c, min(max(h.Sequence, p.first), head), limit); err != nil {
			return err
		}
	}
	p.flag(from)
	return nil
}

// around reads half of the limit, and of the bytes, before the middle and gives the rest
// to the middle and what follows; near an end the other side gets what is not used.
func (p *pager) around(r *storage.Reader, c wire.Conversation, middle, limit uint64) error {
	head := p.page.Head
	shown := middle - min(middle, p.first) // before the middle
	before := min(limit/2, shown)
	after := min(limit-before, head-middle+1)
	before = min(limit-after, shown)
	if err := p.backward(r, c, middle-before, middle-1, pageBytesMax/2); err != nil {
		return err
	}
	return p.forward(r, c, middle, middle+after-1, pageBytesMax)
}

// flag tells whether there is more on either side. An empty page lies before from.
func (p *pager) flag(from uint64) {
	first, last := from, from-1
	if n := len(p.page.Messages); n > 0 {
		first, last = p.page.Messages[0].Sequence, p.page.Messages[n-1].Sequence
	}
	if first > p.first {
		p.page.Flags |= wire.PageMoreBefore
	}
	if last < p.page.Head {
		p.page.Flags |= wire.PageMoreAfter
	}
}

func (p *pager) forward(r *storage.Reader, c wire.Conversation, from, to uint64, limit int) error {
	if from > to {
		return nil
	}
	return r.Messages(c, from, to, func(m storage.Message) (bool, error) { return p.add(&m, limit), nil })
}

func (p *pager) backward(r *storage.Reader, c wire.Conversation, from, to uint64, limit int) error {
	if from > to {
		return nil
	}
	start := len(p.page.Messages)
	err := r.MessagesBackward(c, from, to, func(m storage.Message) (bool, error) { return p.add(&m, limit), nil })
	added := p.page.Messages[start:]
	for i, j := 0, len(added)-1; i < j; i, j = i+1, j-1 {
		added[i], added[j] = added[j], added[i]
	}
	return err
}

// add adds a message if the page stays within limit bytes. The first always fits.
func (p *pager) add(m *storage.Message, limit int) bool {
	message := wire.PageMessage{Sequence: m.Sequence, Author: authorFor(p.page.Ref, m.Author),
		Revision: m.Revision, Time: m.Time, Content: m.Content}
	size := wire.PageMessageBytes(&message)
	if p.bytes+size > limit {
		return false
	}
	p.bytes += size
	start := len(p.arena)
	p.arena = append(p.arena, m.Content.Bytes...)
	message.Content.Bytes = p.arena[start:len(p.arena):len(p.arena)]
	p.page.Messages = append(p.page.Messages, message)
	return true
}
