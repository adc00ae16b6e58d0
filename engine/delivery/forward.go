package delivery

import (
	"encoding/binary"

	"parley/engine/shard"
	"parley/wire"
)

// Flags of a forwarded send or cursor.
const (
	forwardPeerKnown = 1 << iota
	forwardExtended
	forwardTooLarge
	forwardGroup
	forwardSameUser                                      // as the one before it: author, device and outbox, or user
	forwardSameConversation                              // as the one before it
	forwardRead                                          // the cursor is one of kind Read
	forwardEvent                                         // the content is an event, which this node has looked at
	forwardJoin             = forwardRead                // of a send: in place of a content it has a link's secret
	forwardAsk              = forwardJoin | forwardEvent // in place of a content it is what a user asks for alone
)

const (
	forwardSendFlags   = forwardPeerKnown | forwardExtended | forwardTooLarge | forwardGroup | forwardSameUser | forwardSameConversation | forwardEvent | forwardJoin
	forwardCursorFlags = forwardGroup | forwardSameUser | forwardSameConversation | forwardRead
	// forwardSendBytesMin and forwardCursorBytesMin are the least that one takes: flags,
	// session, counter and an empty content, or position.
	forwardSendBytesMin   = 1 + handleBytesMin + 1 + 1
	forwardCursorBytesMin = 1 + handleBytesMin + 1
)

// oversized stands for a content beyond its limit, which need not cross to the leader:
// only apply may refuse it, by its length alone.
var oversized = make([]byte, wire.ContentBytesMax+1)

// AppendForward appends the sends and cursors of sessions of this node for the node that
// leads their shard. In place of its correlation, a send is known by its ticket: first,
// first+1, and so on. The author of a send, or user of a cursor, is a member of its
// conversation if that is a direct one.
//
//	first    varint
//	sends    count, then flags, session, author, device, epoch, peer or group, counter, content each
//	cursors  count, then flags, session, user, peer or group, position each
//
// What equals the one before is left out, as flags say: a window of sends of one device
// to one conversation repeats neither.
func AppendForward(dst []byte, first uint64, sends []shard.Send, cursors []shard.Cursor) []byte {
	dst = binary.AppendUvarint(dst, first)
	dst = binary.AppendUvarint(dst, uint64(len(sends)))
	var before *shard.Send
	for i := range sends {
		dst = appendForwardSend(dst, &sends[i], before)
		before = &sends[i]
	}
	dst = binary.AppendUvarint(dst, uint64(len(cursors)))
	var last *shard.Cursor
	for i := range cursors {
		dst = appendForwardCursor(dst, &cursors[i], last)
		last = &cursors[i]
	}
	return dst
}

func sameOutbox(a, b *shard.Send) bool {
	return a.Author == b.Author && a.Device == b.Device && a.Epoch == b.Epoch
}

func appendForwardSend(dst []byte, m, before *shard.Send) []byte {
	var flags byte
	if m.PeerKnown {
		flags |= forwardPeerKnown
	}
	if m.Content.Extended {
		flags |= forwardExtended
	}
	if len(m.Content.Bytes) > wire.ContentBytesMax {
		flags |= forwardTooLarge
	}
	if m.Conversation.Kind == wire.Group {
		flags |= forwardGroup
	}
	if m.Event {
		flags |= forwardEvent
	}
	text := m.Content.Bytes
	switch {
	case m.Ask != nil:
		flags, text = flags|forwardAsk, shard.AppendAsk(nil, m.Ask)
	case len(m.Secret) > 0:
		flags, text = flags|forwardJoin, m.Secret
	}
	if before != nil && sameOutbox(m, before) {
		flags |= forwardSameUser
	}
	if before != nil && m.Conversation == before.Conversation {
		flags |= forwardSameConversation
	}
	dst = append(dst, flags)
	dst = appendHandle(dst, m.Session)
	if flags&forwardSameUser == 0 {
		dst = wire.AppendID(dst, m.Author)
		dst = wire.AppendID(dst, m.Device)
		dst = binary.LittleEndian.AppendUint64(dst, m.Epoch)
	}
	if flags&forwardSameConversation == 0 {
		dst = wire.AppendID(dst, m.Conversation.Ref(m.Author).ID())
	}
	dst = binary.AppendUvarint(dst, m.Counter)
	if flags&forwardTooLarge != 0 {
		return dst
	}
	dst = binary.AppendUvarint(dst, uint64(len(text)))
	return append(dst, text...)
}

func appendForwardCursor(dst []byte, c, before *shard.Cursor) []byte {
	var flags byte
	if c.Kind == wire.Read {
		flags |= forwardRead
	}
	if c.Conversation.Kind == wire.Group {
		flags |= forwardGroup
	}
	if before != nil && c.User == before.User {
		flags |= forwardSameUser
	}
	if before != nil && c.Conversation == before.Conversation {
		flags |= forwardSameConversation
	}
	dst = append(dst, flags)
	dst = appendHandle(dst, c.Session)
	if flags&forwardSameUser == 0 {
		dst = wire.AppendID(dst, c.User)
	}
	if flags&forwardSameConversation == 0 {
		dst = wire.AppendID(dst, c.Conversation.Ref(c.User).ID())
	}
	return binary.AppendUvarint(dst, c.Position)
}

// ParseForward reads sends and cursors that a node has forwarded, with that node as where
// they come from and their tickets as correlations. It appends to the lists that it is
// given, and contents alias src: queueing a send copies its content, once.
func ParseForward(sends []shard.Send, cursors []shard.Cursor, src []byte, node uint32) ([]shard.Send, []shard.Cursor, error) {
	d := decoder{src: src}
	sends, cursors = d.forward(sends, cursors, node)
	return sends, cursors, d.end()
}

func (d *decoder) forward(sends []shard.Send, cursors []shard.Cursor, node uint32) ([]shard.Send, []shard.Cursor) {
	first := d.upTo(wire.NumberMax)
	start := len(sends)
	for n := d.count(forwardSendBytesMin); n > 0; n-- {
		var before *shard.Send
		if len(sends) > start {
			before = &sends[len(sends)-1]
		}
		m := d.forwardSend(before)
		m.Correlation, m.Node = first+uint64(len(sends)-start), node
		sends = append(sends, m)
	}
	start = len(cursors)
	for n := d.count(forwardCursorBytesMin); n > 0; n-- {
		var before *shard.Cursor
		if len(cursors) > start {
			before = &cursors[len(cursors)-1]
		}
		c := d.forwardCursor(before)
		c.Node = node
		cursors = append(cursors, c)
	}
	return sends, cursors
}

func (d *decoder) forwardSend(before *shard.Send) (m shard.Send) {
	flags := d.flags(forwardSendFlags)
	if before == nil && flags&(forwardSameUser|forwardSameConversation) != 0 {
		d.fail("nothing before it")
		return m
	}
	m.Session = d.handle()
	if flags&forwardSameUser != 0 {
		m.Author, m.Device, m.Epoch = before.Author, before.Device, before.Epoch
	} else {
		m.Author, m.Device, m.Epoch = d.id(), d.id(), d.fixed64()
		if before != nil && sameOutbox(&m, before) {
			d.fail("said twice")
		}
	}
	var last wire.Conversation
	if before != nil {
		last = before.Conversation
	}
	m.Conversation = d.forwardConversation(flags, m.Author, last)
	m.Counter, m.PeerKnown = d.upTo(wire.NumberMax), flags&forwardPeerKnown != 0
	m.Content.Extended, m.Event = flags&forwardExtended != 0, flags&forwardAsk == forwardEvent
	switch text := d.forwardText(flags); {
	case flags&forwardJoin == 0:
		m.Content.Bytes = text
	case len(text) == 0 || flags&(forwardTooLarge|forwardExtended) != 0:
		d.fail("secret of a link")
	case flags&forwardEvent == 0:
		m.Secret = text
	default:
		d.forwardAsk(&m, text)
	}
	return m
}

func (d *decoder) forwardAsk(m *shard.Send, text []byte) {
	ask, err := shard.ParseAsk(text)
	if err != nil || m.Counter != 0 {
		d.fail("what a user asks for")
		return
	}
	m.Ask = &ask
}

func (d *decoder) forwardText(flags byte) []byte {
	if flags&forwardTooLarge != 0 {
		return oversized
	}
	return d.bytes(d.upTo(wire.ContentBytesMax))
}

func (d *decoder) forwardCursor(before *shard.Cursor) (c shard.Cursor) {
	flags := d.flags(forwardCursorFlags)
	if before == nil && flags&(forwardSameUser|forwardSameConversation) != 0 {
		d.fail("nothing before it")
		return c
	}
	c.Session = d.handle()
	if flags&forwardRead != 0 {
		c.Kind = wire.Read
	}
	var last wire.Conversation
	if before != nil {
		last = before.Conversation
	}
	if flags&forwardSameUser != 0 {
		c.User = before.User
	} else if c.User = d.id(); before != nil && c.User == before.User {
		d.fail("said twice")
	}
	c.Conversation = d.forwardConversation(flags, c.User, last)
	c.Position = d.upTo(wire.NumberMax)
	return c
}

// forwardConversation reads the conversation of a user who is its member; last is that
// of the send or cursor before.
func (d *decoder) forwardConversation(flags byte, user wire.ID, last wire.Conversation) wire.Conversation {
	group := flags&forwardGroup != 0
	if flags&forwardSameConversation != 0 {
		if group != (last.Kind == wire.Group) || !group && !last.Member(user) {
			d.fail("not the same conversation")
		}
		return last
	}
	ref := wire.DirectRef(d.id())
	if group {
		ref |= 1
	}
	c := ref.Conversation(user)
	if c == last {
		d.fail("said twice")
	}
	return c
}
