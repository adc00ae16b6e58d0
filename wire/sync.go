package wire

// A Sync asks for what changed since a token; once the server has taken it, the session is
// pushed to.
type Sync struct {
	Correlation uint64
	Limit       uint64 // conversations a page; at most SyncItemsMax, 0: SyncItemsMax
	Previews    uint64 // how many of the first conversations carry their last message
	Token       []byte // from the last CONVERSATIONS; empty: everything
}

// AppendSync appends a SYNC frame.
func AppendSync(dst []byte, s *Sync) []byte {
	dst, start := open(dst, TypeSync, false)
	dst = appendUvarint(dst, s.Correlation)
	dst = appendUvarint(dst, s.Limit)
	dst = appendUvarint(dst, s.Previews)
	dst = append(dst, s.Token...)
	return closeFrame(dst, start)
}

// ParseSync reads a SYNC frame; the token aliases it.
func ParseSync(f Frame) (s Sync, err error) {
	r := f.fields()
	s.Correlation, s.Limit, s.Previews = r.uint(), r.upTo(SyncItemsMax), r.upTo(PreviewsMax)
	s.Token = r.rest()
	if len(s.Token) > SyncTokenBytesMax {
		r.fail(ErrLimit)
	}
	return s, r.end()
}

// Flags of CONVERSATIONS.
const (
	// SyncMore says that another page follows: SYNC again with the new token.
	SyncMore = 1 << 0
	// SyncReset says that the token was too old: forget the list, this one is whole.
	SyncReset = 1 << 1
)

// A ConversationState is one conversation as its member's list shows it.
type ConversationState struct {
	Ref            Ref
	Head           uint64
	Revision       uint64 // at least Head
	Time           Time   // of the last message
	Unread         uint64 // messages of others after the read cursor
	Mentions       uint64
	Delivered      uint64 // own cursors
	Read           uint64
	OtherDelivered uint64 // the other user's; in a group, of all members the least
	OtherRead      uint64
	Preview        *Preview // the message at Head; nil: not asked for
	// Extensions is an extension block (see Extensions), empty in version 1: room for what
	// a member sets for a conversation, and for what groups add. A string, so that it
	// outlives the frame.
	Extensions string
}

// A Preview is the beginning of a conversation's last message.
type Preview struct {
	Author  ID // 0: the user that Ref names
	Content Content
}

// The parts that may follow the numbers of a ConversationState.
const (
	partPreview    = 1 << 0
	partExtensions = 1 << 1
)

// conversationStateBytesMin is the shortest item: ten numbers and the parts.
const conversationStateBytesMin = 11

// ConversationsHeaderBytes bounds what a CONVERSATIONS takes without its items and token,
// frame header included: whoever fills one starts from it and stops before FrameBytesMax.
const ConversationsHeaderBytes = 4 + 8 + 8 + 2

// ConversationStateBytes bounds what an item adds to a CONVERSATIONS: ten numbers, the
// parts, and with a preview its author and length.
func ConversationStateBytes(c *ConversationState) int {
	size := 10*8 + 1 + 2 + len(c.Extensions)
	if c.Preview != nil {
		size += 7 + 2 + len(c.Preview.Content.Bytes)
	}
	return size
}

// AppendConversationState appends an item of CONVERSATIONS. Cursors are sent as their
// distance from the head: zeros in the usual case, one byte each.
func AppendConversationState(dst []byte, c *ConversationState) []byte {
	dst = appendUvarint(dst, uint64(c.Ref))
	dst = appendUvarint(dst, c.Head)
	dst = appendUvarint(dst, c.Revision-c.Head)
	dst = appendUvarint(dst, uint64(c.Time))
	dst = appendUvarint(dst, c.Unread)
	dst = appendUvarint(dst, c.Mentions)
	dst = appendUvarint(dst, c.Head-c.Delivered)
	dst = appendUvarint(dst, c.Head-c.Read)
	dst = appendUvarint(dst, c.Head-c.OtherDelivered)
	dst = appendUvarint(dst, c.Head-c.OtherRead)
	parts := uint64(0)
	if c.Preview != nil {
		parts |= partPreview
	}
	if c.Extensions != "" {
		parts |= partExtensions
	}
	dst = appendUvarint(dst, parts)
	if c.Extensions != "" {
		dst = appendBytes(dst, c.Extensions)
	}
	if c.Preview != nil {
		dst = appendUvarint(dst, uint64(c.Preview.Author))
		dst = appendContent(dst, c.Preview.Content)
	}
	return dst
}

func (r *reader) conversationState() (c ConversationState) {
	c.Ref, c.Head = r.ref(), r.uint()
	c.Revision = c.Head + r.uint()
	c.Time, c.Unread, c.Mentions = Time(r.uint()), r.uint(), r.uint()
	c.Delivered, c.Read = c.Head-r.upTo(c.Head), c.Head-r.upTo(c.Head)
	c.OtherDelivered, c.OtherRead = c.Head-r.upTo(c.Head), c.Head-r.upTo(c.Head)
	if c.Revision > NumberMax {
		r.fail(ErrMalformed)
	}
	parts := r.uint()
	if parts&^(partPreview|partExtensions) != 0 {
		r.fail(ErrMalformed)
	}
	if parts&partExtensions != 0 {
		c.Extensions = r.block()
		if c.Extensions == "" {
			r.fail(ErrMalformed) // an empty block is said by its absence
		}
	}
	if parts&partPreview != 0 && r.err == nil {
		c.Preview = &Preview{Author: ID(r.upTo(1<<IDBits - 1))}
		c.Preview.Content = r.content(PreviewBytesMax)
	}
	return c
}

// appendContent appends a content in a list: length and extended bit as one number.
func appendContent(dst []byte, c Content) []byte {
	size := uint64(len(c.Bytes)) << 1
	if c.Extended {
		size |= 1
	}
	return append(appendUvarint(dst, size), c.Bytes...)
}

// content reads a content in a list, aliasing the source.
func (r *reader) content(limit uint64) Content {
	size := r.upTo(limit<<1 | 1)
	n := size >> 1
	if n > uint64(len(r.src)) {
		r.fail(ErrTruncated)
		return Content{}
	}
	c := Content{Extended: size&1 == 1, Bytes: r.src[:n:n]}
	r.src = r.src[n:]
	if err := c.Check(); err != nil {
		r.fail(err)
		return Content{}
	}
	return c
}

// Conversations answers SYNC: the changed conversations, the latest activity first.
type Conversations struct {
	Correlation uint64
	Flags       uint64
	Items       []ConversationState
	Token       []byte // empty: nothing changed, the token of SYNC stays good
}

// AppendConversations appends a CONVERSATIONS frame.
func AppendConversations(dst []byte, c *Conversations) []byte {
	dst, start := open(dst, TypeConversations, false)
	dst = appendUvarint(dst, c.Correlation)
	dst = appendUvarint(dst, c.Flags)
	dst = appendUvarint(dst, uint64(len(c.Items)))
	for i := range c.Items {
		dst = AppendConversationState(dst, &c.Items[i])
	}
	dst = append(dst, c.Token...)
	return closeFrame(dst, start)
}

// ParseConversations reads a CONVERSATIONS frame; previews and token alias it.
func ParseConversations(f Frame) (c Conversations, err error) {
	r := f.fields()
	c.Correlation, c.Flags = r.uint(), r.uint()
	n := r.count(SyncItemsMax, conversationStateBytesMin)
	c.Items = room[ConversationState](n)
	for range n {
		if r.err != nil {
			break
		}
		c.Items = append(c.Items, r.conversationState())
	}
	c.Token = r.rest()
	if len(c.Token) > SyncTokenBytesMax {
		r.fail(ErrLimit)
	}
	return c, r.end()
}
