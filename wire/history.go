package wire

// A HistoryMode says which messages around a sequence are asked for.
type HistoryMode uint8

// The modes of HISTORY. Forward from 0 is the beginning; Backward from 0, the end.
const (
	HistoryForward  HistoryMode = 0 // after Sequence, oldest first
	HistoryBackward HistoryMode = 1 // before Sequence (0: from the head)
	HistoryAround   HistoryMode = 2 // half before, Sequence itself, half after
)

// A History asks for a page of a conversation's messages.
type History struct {
	Correlation uint64
	Ref         Ref
	Mode        HistoryMode
	Sequence    uint64
	Limit       uint64 // messages; 0: HistoryMessagesMax
}

// AppendHistory appends a HISTORY frame.
func AppendHistory(dst []byte, h *History) []byte {
	dst, start := open(dst, TypeHistory, false)
	dst = appendUvarint(dst, h.Correlation)
	dst = appendUvarint(dst, uint64(h.Ref))
	dst = appendUvarint(dst, uint64(h.Mode))
	dst = appendUvarint(dst, h.Sequence)
	dst = appendUvarint(dst, h.Limit)
	return closeFrame(dst, start)
}

// ParseHistory reads a HISTORY frame.
func ParseHistory(f Frame) (h History, err error) {
	r := f.fields()
	h.Correlation, h.Ref, h.Mode = r.uint(), r.ref(), HistoryMode(r.upTo(uint64(HistoryAround)))
	h.Sequence, h.Limit = r.uint(), r.upTo(HistoryMessagesMax)
	return h, r.end()
}

// Flags of PAGE.
const (
	PageMoreBefore = 1 << 0 // older messages than the first exist
	PageMoreAfter  = 1 << 1 // newer messages than the last exist
)

// A PageMessage is one message of a PAGE, as MESSAGE carries it.
type PageMessage struct {
	Sequence uint64
	Author   ID // 0: the user that Ref names
	Revision uint64
	Time     Time
	Content  Content
}

// A Page answers HISTORY: messages in ascending order, whatever the mode.
type Page struct {
	Correlation uint64
	Ref         Ref
	Flags       uint64
	Head        uint64 // of the conversation, when the page was read
	Messages    []PageMessage
}

// AppendPage appends a PAGE frame. Sequences and times go as differences.
func AppendPage(dst []byte, p *Page) []byte {
	dst, start := open(dst, TypePage, false)
	dst = appendUvarint(dst, p.Correlation)
	dst = appendUvarint(dst, uint64(p.Ref))
	dst = appendUvarint(dst, p.Flags)
	dst = appendUvarint(dst, p.Head)
	dst = appendUvarint(dst, uint64(len(p.Messages)))
	var sequence uint64
	var time Time
	for i := range p.Messages {
		m := &p.Messages[i]
		dst = appendUvarint(dst, m.Sequence-sequence)
		dst = appendUvarint(dst, uint64(m.Author))
		dst = appendUvarint(dst, m.Revision-m.Sequence)
		dst = appendUvarint(dst, uint64(m.Time-time))
		dst = appendContent(dst, m.Content)
		sequence, time = m.Sequence, m.Time
	}
	return closeFrame(dst, start)
}

// PageHeaderBytes bounds what a PAGE takes without its messages, frame header included:
// whoever fills one starts from it and stops before FrameBytesMax.
const PageHeaderBytes = 4 + 8 + 7 + 8 + 8 + 2

// pageMessageBytesMin is the shortest message of a PAGE: five numbers of one byte.
const pageMessageBytesMin = 5

// PageMessageBytes bounds what one message adds to a PAGE: five numbers and the content.
func PageMessageBytes(m *PageMessage) int { return 5*8 + len(m.Content.Bytes) }

// ParsePage reads a PAGE frame; contents alias it.
func ParsePage(f Frame) (p Page, err error) {
	r := f.fields()
	p.Correlation, p.Ref, p.Flags, p.Head = r.uint(), r.ref(), r.uint(), r.uint()
	n := r.count(HistoryMessagesMax, pageMessageBytesMin)
	p.Messages = room[PageMessage](n)
	var sequence uint64
	var time Time
	for range n {
		if r.err != nil {
			break
		}
		var m PageMessage
		step := r.uint()
		m.Sequence = sequence + step
		m.Author = ID(r.upTo(1<<IDBits - 1))
		m.Revision = m.Sequence + r.uint()
		m.Time = time + Time(r.uint())
		m.Content = r.content(ContentBytesMax)
		if r.err == nil && (step == 0 || m.Revision > NumberMax || m.Time > NumberMax) {
			r.fail(ErrMalformed)
		}
		sequence, time = m.Sequence, m.Time
		p.Messages = append(p.Messages, m)
	}
	return p, r.end()
}
