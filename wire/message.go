package wire

// A Send asks the server to append a message to a conversation.
type Send struct {
	Correlation uint64
	Ref         Ref
	Counter     uint64 // 1, 2, 3, … for each outbox and conversation
	Content     Content
}

// AppendSend appends a SEND frame.
func AppendSend(dst []byte, s *Send) []byte {
	size := sizeUvarint(s.Correlation) + sizeUvarint(uint64(s.Ref)) + sizeUvarint(s.Counter) + len(s.Content.Bytes)
	dst = header(dst, TypeSend, s.Content.Extended, size)
	dst = appendUvarint(dst, s.Correlation)
	dst = appendUvarint(dst, uint64(s.Ref))
	dst = appendUvarint(dst, s.Counter)
	return append(dst, s.Content.Bytes...)
}

// ParseSend reads a SEND frame; the content aliases it. Tags that only servers set are
// refused, or an author could forge what a server says about a message.
func ParseSend(f Frame) (s Send, err error) {
	r := reader{src: f.Body}
	s.Correlation, s.Ref, s.Counter = r.uint(), r.ref(), r.uint()
	s.Content = Content{Extended: f.Extended, Bytes: r.rest()}
	if r.err == nil && s.Counter == 0 {
		r.err = ErrMalformed
	}
	if r.err == nil && len(s.Content.Bytes) <= ContentBytesMax {
		// A body beyond its limit has a code of its own, so it is the server's to refuse.
		r.err = s.Content.checkSent()
	}
	return s, r.err
}

// A Sent acknowledges a SEND: it is on disk on a majority.
type Sent struct {
	Correlation uint64
	Sequence    uint64
	Time        Time
}

// AppendSent appends a SENT frame.
func AppendSent(dst []byte, s *Sent) []byte {
	dst, start := open(dst, TypeSent, false)
	dst = appendUvarint(dst, s.Correlation)
	dst = appendUvarint(dst, s.Sequence)
	dst = appendUvarint(dst, uint64(s.Time))
	return closeFrame(dst, start)
}

// ParseSent reads a SENT frame.
func ParseSent(f Frame) (s Sent, err error) {
	r := f.fields()
	s = Sent{Correlation: r.uint(), Sequence: r.uint(), Time: Time(r.uint())}
	return s, r.end()
}

// A Message is a push: one message of a conversation.
type Message struct {
	Ref      Ref
	Sequence uint64
	Author   ID     // 0: the user that Ref names
	Revision uint64 // at least Sequence
	Time     Time
	Content  Content
}

// AppendMessage appends a MESSAGE frame.
func AppendMessage(dst []byte, m *Message) []byte {
	size := sizeUvarint(uint64(m.Ref)) + sizeUvarint(m.Sequence) + sizeUvarint(uint64(m.Author)) +
		sizeUvarint(m.Revision-m.Sequence) + sizeUvarint(uint64(m.Time)) + len(m.Content.Bytes)
	dst = header(dst, TypeMessage, m.Content.Extended, size)
	dst = appendUvarint(dst, uint64(m.Ref))
	dst = appendUvarint(dst, m.Sequence)
	dst = appendUvarint(dst, uint64(m.Author))
	dst = appendUvarint(dst, m.Revision-m.Sequence)
	dst = appendUvarint(dst, uint64(m.Time))
	return append(dst, m.Content.Bytes...)
}

// ParseMessage reads a MESSAGE frame; the content aliases it.
func ParseMessage(f Frame) (m Message, err error) {
	r := reader{src: f.Body}
	m.Ref, m.Sequence = r.ref(), r.uint()
	m.Author = ID(r.upTo(1<<IDBits - 1))
	m.Revision = m.Sequence + r.uint()
	m.Time = Time(r.uint())
	m.Content = Content{Extended: f.Extended, Bytes: r.rest()}
	if r.err == nil && (m.Sequence == 0 || m.Revision > NumberMax) {
		r.err = ErrMalformed
	}
	if r.err == nil {
		r.err = m.Content.Check()
	}
	return m, r.err
}

// A CursorKind tells the two cursors of a member apart, and whose they are in a receipt.
type CursorKind uint8

// The kinds of cursors. A client sends the first two; OwnDelivered and OwnRead come
// in receipts, when another device of the same user moved its cursor.
const (
	Delivered    CursorKind = 0
	Read         CursorKind = 1
	OwnDelivered CursorKind = 2
	OwnRead      CursorKind = 3
)

// positionMax leaves two bits for the kind.
const positionMax = NumberMax >> 2

// A Cursor reports how far this user has received or read a conversation. It needs
// no answer: it is cumulative, and sent again after a resume until a sync covers it.
type Cursor struct {
	Ref      Ref
	Position uint64
	Kind     CursorKind
}

// AppendCursor appends a CURSOR frame.
func AppendCursor(dst []byte, c *Cursor) []byte {
	dst, start := open(dst, TypeCursor, false)
	dst = appendUvarint(dst, uint64(c.Ref))
	dst = appendUvarint(dst, c.Position<<2|uint64(c.Kind))
	return closeFrame(dst, start)
}

// ParseCursor reads a CURSOR frame.
func ParseCursor(f Frame) (c Cursor, err error) {
	r := f.fields()
	c.Ref = r.ref()
	n := r.uint()
	c.Position, c.Kind = n>>2, CursorKind(n&3)
	if r.err == nil && c.Kind > Read {
		r.fail(ErrMalformed)
	}
	return c, r.end()
}

// A Receipt is the news of a moved cursor: the peer's, or one's own on another device.
type Receipt struct {
	Ref      Ref
	Position uint64
	Kind     CursorKind
	Time     Time
}

// AppendReceipt appends a RECEIPT frame.
func AppendReceipt(dst []byte, c *Receipt) []byte {
	dst, start := open(dst, TypeReceipt, false)
	dst = appendUvarint(dst, uint64(c.Ref))
	dst = appendUvarint(dst, c.Position<<2|uint64(c.Kind))
	dst = appendUvarint(dst, uint64(c.Time))
	return closeFrame(dst, start)
}

// ParseReceipt reads a RECEIPT frame.
func ParseReceipt(f Frame) (c Receipt, err error) {
	r := f.fields()
	c.Ref = r.ref()
	n := r.uint()
	c.Position, c.Kind, c.Time = n>>2, CursorKind(n&3), Time(r.uint())
	return c, r.end()
}

// A Typing says that a user is writing, for the next TypingSeconds or until a message
// comes. From a client it names the conversation; from a server, who writes where.
type Typing struct {
	Ref    Ref
	Author ID // 0: the user that Ref names
}

// AppendTyping appends a TYPING frame.
func AppendTyping(dst []byte, t *Typing) []byte {
	dst, start := open(dst, TypeTyping, false)
	dst = appendUvarint(dst, uint64(t.Ref))
	dst = appendUvarint(dst, uint64(t.Author))
	return closeFrame(dst, start)
}

// ParseTyping reads a TYPING frame.
func ParseTyping(f Frame) (t Typing, err error) {
	r := f.fields()
	t.Ref = r.ref()
	t.Author = ID(r.upTo(1<<IDBits - 1))
	return t, r.end()
}

// A Head stands for pushes that were not sent because the session reads slowly:
// the conversation reaches Sequence and Revision; fetch what is missing.
type Head struct {
	Ref      Ref
	Sequence uint64
	Revision uint64 // at least Sequence
}

// AppendHead appends a HEAD frame.
func AppendHead(dst []byte, h *Head) []byte {
	dst, start := open(dst, TypeHead, false)
	dst = appendUvarint(dst, uint64(h.Ref))
	dst = appendUvarint(dst, h.Sequence)
	dst = appendUvarint(dst, h.Revision-h.Sequence)
	return closeFrame(dst, start)
}

// ParseHead reads a HEAD frame.
func ParseHead(f Frame) (h Head, err error) {
	r := f.fields()
	h.Ref, h.Sequence = r.ref(), r.uint()
	h.Revision = h.Sequence + r.uint()
	if r.err == nil && h.Revision > NumberMax {
		r.fail(ErrMalformed)
	}
	return h, r.end()
}
