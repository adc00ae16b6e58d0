package wire

import "unicode/utf8"

// A Tag names an extension of a content. Odd tags must be understood by who shows
// the message (else: a placeholder), even ones may be skipped.
type Tag uint64

// The tags of version 1. TagReplyTo has a meaning, and so has TagClass of an event; a
// server carries the others as they are. PROTOCOL.md says what each is reserved for.
const (
	TagClass    Tag = 1
	TagReplyTo  Tag = 2
	TagDeflate  Tag = 3
	TagMentions Tag = 4
	TagExpiry   Tag = 5
	TagMedia    Tag = 7
)

// Tags from TagServerMin to TagServerMax are set by servers only (edited, deleted,
// reactions, …): a SEND that has one is refused.
const (
	TagServerMin Tag = 64
	TagServerMax Tag = 127
)

// A Content is what a message says: the same bytes in SEND, in the log, on disk and in
// MESSAGE. Without extensions it is plain UTF-8 text.
type Content struct {
	Extended bool // Bytes begin with an extension block
	Bytes    []byte
}

// Text makes a plain content.
func Text(s string) Content { return Content{Bytes: []byte(s)} }

// Body splits the extension block from the text.
func (c Content) Body() (extensions, body []byte, err error) {
	if !c.Extended {
		return nil, c.Bytes, nil
	}
	r := reader{src: c.Bytes}
	block := r.bytes(ExtensionBytesMax)
	if r.err != nil {
		return nil, nil, r.err
	}
	if err := walkExtensions(block, anyTag); err != nil {
		return nil, nil, err
	}
	return block, r.src, nil
}

// checkSent is Check for what a client may say.
func (c Content) checkSent() error {
	block, _, err := c.Body()
	if err != nil || len(block) == 0 {
		return err
	}
	return walkExtensions(block, func(tag Tag, value []byte) error {
		if tag >= TagServerMin && tag <= TagServerMax || tag == TagClass && len(value) > 0 && value[0] == ClassEvent {
			return ErrExtension // an event is asked for by GROUP, where it is looked at
		}
		return nil
	})
}

// Check reports whether the content is within its limit and its extension block well formed.
func (c Content) Check() error {
	if len(c.Bytes) > ContentBytesMax {
		return ErrLimit
	}
	_, _, err := c.Body()
	return err
}

// Extensions calls fn for each extension of a block, in order of ascending tags.
func Extensions(block []byte, fn func(tag Tag, value []byte) error) error {
	return walkExtensions(block, fn)
}

// AppendExtension adds one extension to a block; tags must ascend.
func AppendExtension(block []byte, tag Tag, value []byte) []byte {
	return appendBytes(appendUvarint(block, uint64(tag)), value)
}

// AppendContent joins an extension block and a body into the bytes of an extended content.
func AppendContent(dst, block, body []byte) []byte {
	return append(appendBytes(dst, block), body...)
}

func anyTag(Tag, []byte) error { return nil }

func walkExtensions(block []byte, fn func(Tag, []byte) error) error {
	r := reader{src: block}
	for last := uint64(0); len(r.src) > 0; {
		tag := r.uint()
		value := r.bytes(ExtensionBytesMax)
		if r.err != nil {
			return r.err
		}
		if tag <= last {
			return ErrMalformed
		}
		last = tag
		if err := fn(Tag(tag), value); err != nil {
			return err
		}
	}
	return nil
}

func checkExtensions(block []byte) error {
	return walkExtensions(block, func(tag Tag, _ []byte) error {
		if tag&1 == 1 {
			return ErrExtension
		}
		return nil
	})
}

// Cut shortens the text of a content to fit limit bytes, at the end of a character. A
// content with an odd tag may not be text, so it fits whole or, as ok says, not at all;
// so does one whose extensions alone are too long.
func (c Content) Cut(limit int) (cut Content, ok bool) {
	if len(c.Bytes) <= limit {
		return c, true
	}
	block, body, err := c.Body()
	if err != nil || checkExtensions(block) != nil {
		return Content{}, false
	}
	least := len(c.Bytes) - len(body)
	if limit < least {
		return Content{}, false
	}
	for limit > least && !utf8.RuneStart(c.Bytes[limit]) {
		limit--
	}
	return Content{Extended: c.Extended, Bytes: c.Bytes[:limit:limit]}, true
}
