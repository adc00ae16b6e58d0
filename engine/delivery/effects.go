package delivery

import (
	"bytes"
	"encoding/binary"

	"parley/engine/shard"
	"parley/wire"
)

// A Pick is what of a batch of effects one node is told: places in the lists of Effects.
type Pick struct {
	Node                                                        uint32
	Sent, Refused, Messages, Receipts, Listed, Memberships, Own []uint32
}

// Empty reports whether nothing was picked.
func (p *Pick) Empty() bool {
	return len(p.Sent)+len(p.Refused)+len(p.Messages)+len(p.Receipts)+len(p.Listed)+len(p.Memberships)+len(p.Own) == 0
}

// Clear empties the pick and keeps its memory.
func (p *Pick) Clear() {
	p.Sent, p.Refused, p.Messages, p.Receipts = p.Sent[:0], p.Refused[:0], p.Messages[:0], p.Receipts[:0]
	p.Listed, p.Memberships, p.Own = p.Listed[:0], p.Memberships[:0], p.Own[:0]
}

// Which lists follow.
const (
	listSent = 1 << iota
	listRefused
	listMessages
	listReceipts
	listListed
	listMemberships
	listCreated // which of the sent ones made a group, and which
	listOwn
	listsEnd
)

// Flags of a message, receipt or listed conversation.
const (
	effectByB              = 1 << iota // the author or user is B of the direct conversation
	effectByOther                      // the author or user is told: no member of a direct conversation
	effectSameConversation             // as the one before it in the list
	effectGroup
	effectFrom                 // the session is told
	effectExtended             // message: the content
	effectRead                 // receipt: of the read cursor
	effectRevision             // message: the revision is not the sequence
	effectGone     = effectByB // listed: it is not the user's any more
)

// Flags of a membership, above its role.
const (
	memberRole      = 1<<3 - 1
	memberSameGroup = 1 << 3 // as the one before it in the list
	memberSameUser  = 1 << 4
	memberFlags     = memberRole | memberSameGroup | memberSameUser
)

const (
	messageFlags = effectByB | effectByOther | effectSameConversation | effectGroup | effectFrom | effectExtended | effectRevision
	receiptFlags = effectByB | effectByOther | effectSameConversation | effectGroup | effectFrom | effectRead
	listedFlags  = effectSameConversation | effectGroup | effectGone
	ownFlags     = effectByB | effectByOther | effectSameConversation | effectGroup | effectFrom
	// The least that one item of a list takes.
	sentBytesMin    = handleBytesMin + 1 + 1 + 1
	refusedBytesMin = handleBytesMin + 1 + 1
	messageBytesMin = 1 + 1 + 1 + 1
	receiptBytesMin = 1 + 1 + 1
	listedBytesMin  = 1 + 6
	memberBytesMin  = 1 + 6 + 1 // the same group or user, never both
	createdBytesMin = 1 + 6
	ownBytesMin     = 1 + 1 + 1 + 1
)

// AppendEffects appends what a node is told of a batch. Sessions are told only where they
// are of that node.
//
//	shard, previous index, index less previous   varints
//	lists    1 byte: which of the following are there
//	sent     count, then session, correlation, sequence, time each
//	refused  count, then session, correlation, code each
//	messages count, then flags, conversation, author, session, sequence, revision, time, content's length each
//	receipts count, then flags, conversation, user, session, position, time each
//	listed   count, then flags, conversation, user each
//	members  count, then role and flags, group, user, from or until each
//	created  count, then place in sent, group each
//	own      count, then flags, conversation, user, session, own flags, version, muted until each
//	contents one after the other, to the end
//
// A time is told as the difference to the last one, an author as a flag, and a
// conversation not at all if it is that of the item before.
func AppendEffects(dst []byte, e *shard.Effects, p *Pick) []byte {
	a := effectsAppender{dst: dst, node: p.Node}
	a.uint(uint64(e.Shard))
	a.uint(e.Previous)
	a.uint(e.Index - e.Previous)
	at := len(a.dst)
	a.dst = append(a.dst, 0)
	if a.list(at, listSent, len(p.Sent)) {
		for _, i := range p.Sent {
			a.sent(&e.Sent[i])
		}
	}
	if a.list(at, listRefused, len(p.Refused)) {
		for _, i := range p.Refused {
			x := &e.Refused[i]
			a.dst = appendHandle(a.dst, x.Session)
			a.uint(x.Correlation)
			a.uint(uint64(x.Code))
		}
	}
	if a.list(at, listMessages, len(p.Messages)) {
		for _, i := range p.Messages {
			a.message(&e.Messages[i])
		}
	}
	if a.list(at, listReceipts, len(p.Receipts)) {
		for _, i := range p.Receipts {
			a.receipt(&e.Receipts[i])
		}
	}
	if a.list(at, listListed, len(p.Listed)) {
		for _, i := range p.Listed {
			a.listed(&e.Listed[i])
		}
	}
	if a.list(at, listMemberships, len(p.Memberships)) {
		a.memberships(e, p)
	}
	if a.list(at, listCreated, created(e, p)) {
		for place, i := range p.Sent {
			if group := e.Sent[i].Created; group != 0 {
				a.uint(uint64(place))
				a.dst = wire.AppendID(a.dst, group)
			}
		}
	}
	if a.list(at, listOwn, len(p.Own)) {
		for _, i := range p.Own {
			a.own(&e.Own[i])
		}
	}
	for _, i := range p.Messages {
		a.dst = append(a.dst, e.Messages[i].Content.Bytes...)
	}
	return a.dst
}

// created is how many of the sends made a group.
func created(e *shard.Effects, p *Pick) (count int) {
	for _, i := range p.Sent {
		if e.Sent[i].Created != 0 {
			count++
		}
	}
	return count
}

type effectsAppender struct {
	dst  []byte
	node uint32
	time wire.Time
	last wire.Conversation
}

func (a *effectsAppender) uint(n uint64) { a.dst = binary.AppendUvarint(a.dst, n) }

func (a *effectsAppender) list(at int, bit byte, count int) bool {
	a.last = wire.Conversation{}
	if count == 0 {
		return false
	}
	a.dst[at] |= bit
	a.uint(uint64(count))
	return true
}

func (a *effectsAppender) when(t wire.Time) {
	a.dst = appendSigned(a.dst, uint64(t-a.time))
	a.time = t
}

// conversation appends flags and, if it is another one, the conversation.
func (a *effectsAppender) conversation(flags byte, c wire.Conversation) {
	if c.Kind == wire.Group {
		flags |= effectGroup
	}
	same := c == a.last
	if same {
		flags |= effectSameConversation
	}
	a.dst = append(a.dst, flags)
	if same {
		return
	}
	a.last = c
	a.dst = wire.AppendID(a.dst, c.A)
	if c.Kind == wire.Direct {
		a.dst = wire.AppendID(a.dst, c.B)
	}
}

// by appends flags, conversation, who did it, and with which session if that is one of
// the node's.
func (a *effectsAppender) by(flags byte, c wire.Conversation, user wire.ID, from uint64, node uint32) {
	other := !c.Member(user)
	switch {
	case other:
		flags |= effectByOther
	case user != c.A:
		flags |= effectByB
	}
	known := from != 0 && node == a.node
	if known {
		flags |= effectFrom
	}
	a.conversation(flags, c)
	if other {
		a.dst = wire.AppendID(a.dst, user)
	}
	if known {
		a.dst = appendHandle(a.dst, from)
	}
}

func (a *effectsAppender) sent(x *shard.SentEffect) {
	a.dst = appendHandle(a.dst, x.Session)
	a.uint(x.Correlation)
	a.uint(x.Sequence)
	a.when(x.Time)
}

func (a *effectsAppender) message(x *shard.MessageEffect) {
	var flags byte
	if x.Content.Extended {
		flags |= effectExtended
	}
	if x.Revision != x.Sequence {
		flags |= effectRevision
	}
	a.by(flags, x.Conversation, x.Author, x.From, x.FromNode)
	a.uint(x.Sequence)
	if x.Revision != x.Sequence {
		a.dst = appendSigned(a.dst, x.Revision-x.Sequence)
	}
	a.when(x.Time)
	a.uint(uint64(len(x.Content.Bytes)))
}

func (a *effectsAppender) receipt(x *shard.ReceiptEffect) {
	var flags byte
	if x.Kind == wire.Read {
		flags |= effectRead
	}
	a.by(flags, x.Conversation, x.User, x.From, x.FromNode)
	a.uint(x.Position)
	a.when(x.Time)
}

func (a *effectsAppender) listed(x *shard.ListedEffect) {
	var flags byte
	if x.Gone {
		flags |= effectGone
	}
	a.conversation(flags, x.Conversation)
	a.dst = wire.AppendID(a.dst, x.User)
}

func (a *effectsAppender) own(x *shard.OwnEffect) {
	a.by(0, x.Conversation, x.User, x.From, x.FromNode)
	a.uint(x.Own.Flags)
	a.uint(x.Own.Version)
	a.uint(uint64(x.Own.MutedUntil))
}

func (a *effectsAppender) memberships(e *shard.Effects, p *Pick) {
	var last shard.MembershipEffect
	for _, i := range p.Memberships {
		x := &e.Memberships[i]
		flags := byte(x.Role)
		switch {
		case x.Group == last.Group:
			flags |= memberSameGroup
		case x.User == last.User:
			flags |= memberSameUser
		}
		a.dst = append(a.dst, flags)
		if flags&memberSameGroup == 0 {
			a.dst = wire.AppendID(a.dst, x.Group)
		}
		if flags&memberSameUser == 0 {
			a.dst = wire.AppendID(a.dst, x.User)
		}
		if x.Role == wire.RoleNone {
			a.uint(x.Until)
		} else {
			a.uint(x.From)
		}
		last = *x
	}
}

// ParseEffects reads what another node tells this one. All contents are in one copy of
// their own, so src may be used again.
func ParseEffects(src []byte) (*shard.Effects, error) {
	d := effectsDecoder{decoder: decoder{src: src}}
	e := d.effects()
	if d.err != nil {
		return nil, d.err
	}
	return e, nil
}

type effectsDecoder struct {
	decoder
	time wire.Time
	last wire.Conversation
}

func (d *effectsDecoder) effects() *shard.Effects {
	e := &shard.Effects{Shard: uint32(d.upTo(1<<32 - 1)), Previous: d.uint()}
	e.Index = e.Previous + d.uint()
	if e.Index < e.Previous {
		d.fail("index")
	}
	lists := d.flags(listsEnd - 1)
	if n := d.list(lists, listSent, sentBytesMin); n > 0 {
		e.Sent = make([]shard.SentEffect, n)
		for i := range e.Sent {
			d.sent(&e.Sent[i])
		}
	}
	if n := d.list(lists, listRefused, refusedBytesMin); n > 0 {
		e.Refused = make([]shard.RefusedEffect, n)
		for i := range e.Refused {
			d.refused(&e.Refused[i])
		}
	}
	contents := uint64(0)
	if n := d.list(lists, listMessages, messageBytesMin); n > 0 {
		e.Messages = make([]shard.MessageEffect, n)
		for i := range e.Messages {
			contents += d.message(&e.Messages[i])
		}
	}
	if n := d.list(lists, listReceipts, receiptBytesMin); n > 0 {
		e.Receipts = make([]shard.ReceiptEffect, n)
		for i := range e.Receipts {
			d.receipt(&e.Receipts[i])
		}
	}
	if n := d.list(lists, listListed, listedBytesMin); n > 0 {
		e.Listed = make([]shard.ListedEffect, n)
		for i := range e.Listed {
			d.listed(&e.Listed[i])
		}
	}
	if n := d.list(lists, listMemberships, memberBytesMin); n > 0 {
		e.Memberships = make([]shard.MembershipEffect, n)
		d.memberships(e.Memberships)
	}
	if n := d.list(lists, listCreated, createdBytesMin); n > 0 {
		d.created(e.Sent, n)
	}
	if n := d.list(lists, listOwn, ownBytesMin); n > 0 {
		e.Own = make([]shard.OwnEffect, n)
		for i := range e.Own {
			d.own(&e.Own[i])
		}
	}
	if contents != uint64(len(d.src)) {
		d.fail("contents")
		return e
	}
	d.contents(e.Messages)
	return e
}

// list reads the length of a list that is there only if it has something.
func (d *effectsDecoder) list(lists, bit byte, size int) int {
	d.last = wire.Conversation{}
	if lists&bit == 0 {
		return 0
	}
	n := d.count(size)
	if n == 0 {
		d.fail("list of nothing")
	}
	return n
}

// contents cuts one copy of what is left into the messages' contents, whose lengths are
// those of the stretches of src that they hold by now.
func (d *effectsDecoder) contents(messages []shard.MessageEffect) {
	if len(messages) == 0 {
		return
	}
	all := bytes.Clone(d.src)
	for i := range messages {
		c := &messages[i].Content
		n := len(c.Bytes)
		c.Bytes, all = all[:n:n], all[n:]
	}
}

func (d *effectsDecoder) when() wire.Time {
	t := d.time + wire.Time(d.signed())
	if t > wire.NumberMax {
		d.fail("time")
	}
	d.time = t
	return t
}

func (d *effectsDecoder) sent(x *shard.SentEffect) {
	x.Session, x.Correlation, x.Sequence = d.handle(), d.uint(), d.upTo(wire.NumberMax)
	x.Time = d.when()
}

func (d *effectsDecoder) refused(x *shard.RefusedEffect) {
	x.Session, x.Correlation, x.Code = d.handle(), d.uint(), wire.Code(d.upTo(999))
}

// conversation reads the conversation of an item whose flags were read.
func (d *effectsDecoder) conversation(flags byte) wire.Conversation {
	group := flags&effectGroup != 0
	if flags&effectSameConversation != 0 {
		if d.last.A == 0 || group != (d.last.Kind == wire.Group) {
			d.fail("nothing before it")
		}
		return d.last
	}
	c := wire.Conversation{A: d.id()}
	if group {
		c.Kind = wire.Group
	} else {
		c.B = d.id()
	}
	if c == d.last || !group && c.A > c.B {
		d.fail("conversation")
	}
	d.last = c
	return c
}

func (d *effectsDecoder) by(flags byte) (c wire.Conversation, user wire.ID, from uint64) {
	c = d.conversation(flags)
	switch flags & (effectByB | effectByOther) {
	case 0:
		user = c.A
	case effectByB:
		user = c.B
	case effectByOther:
		user = d.id()
	default:
		d.fail("author")
	}
	// One who is a member is told by flags, and A if B is the same.
	if flags&effectByOther == 0 && !c.Member(user) || flags&effectByOther != 0 && c.Member(user) || flags&effectByB != 0 && user == c.A {
		d.fail("author")
	}
	if flags&effectFrom != 0 {
		if from = d.handle(); from == 0 {
			d.fail("session")
		}
	}
	return c, user, from
}

// message reads a message but for its content, for which a stretch of the same length
// stands in, and returns that length.
func (d *effectsDecoder) message(x *shard.MessageEffect) (length uint64) {
	flags := d.flags(messageFlags)
	x.Conversation, x.Author, x.From = d.by(flags)
	x.Sequence = d.upTo(wire.NumberMax)
	x.Revision = x.Sequence
	if flags&effectRevision != 0 {
		x.Revision += d.signed()
		if x.Revision == x.Sequence || x.Revision > wire.NumberMax {
			d.fail("revision")
		}
	}
	x.Time = d.when()
	length = d.upTo(wire.ContentBytesMax)
	x.Content.Extended = flags&effectExtended != 0
	x.Content.Bytes = oversized[:length]
	return length
}

func (d *effectsDecoder) receipt(x *shard.ReceiptEffect) {
	flags := d.flags(receiptFlags)
	x.Conversation, x.User, x.From = d.by(flags)
	if flags&effectRead != 0 {
		x.Kind = wire.Read
	}
	x.Position = d.upTo(wire.NumberMax)
	x.Time = d.when()
}

func (d *effectsDecoder) listed(x *shard.ListedEffect) {
	flags := d.flags(listedFlags)
	x.Conversation, x.User, x.Gone = d.conversation(flags), d.id(), flags&effectGone != 0
}

func (d *effectsDecoder) own(x *shard.OwnEffect) {
	x.Conversation, x.User, x.From = d.by(d.flags(ownFlags))
	x.Own = wire.Own{Flags: d.upTo(wire.NumberMax), Version: d.upTo(wire.NumberMax), MutedUntil: wire.Time(d.upTo(wire.NumberMax))}
}

func (d *effectsDecoder) memberships(list []shard.MembershipEffect) {
	var last shard.MembershipEffect
	for i := range list {
		x := &list[i]
		flags := d.flags(memberFlags)
		x.Role, x.Group, x.User = wire.Role(flags&memberRole), last.Group, last.User
		same := flags & (memberSameGroup | memberSameUser)
		if same&memberSameGroup == 0 {
			x.Group = d.id()
		}
		if same&memberSameUser == 0 {
			x.User = d.id()
		}
		if position := d.upTo(wire.NumberMax); x.Role == wire.RoleNone {
			x.Until = position
		} else {
			x.From = position
		}
		if x.Role > wire.RoleOwner || same == memberSameGroup|memberSameUser || i == 0 && same != 0 ||
			(x.Group == last.Group) != (same == memberSameGroup) || x.Group != last.Group && (x.User == last.User) != (same == memberSameUser) {
			d.fail("membership")
			return
		}
		last = *x
	}
}

// created reads which sends made a group, in their order.
func (d *effectsDecoder) created(sent []shard.SentEffect, count int) {
	next := uint64(0)
	for range count {
		place, group := d.uint(), d.id()
		if place < next || place >= uint64(len(sent)) {
			d.fail("created")
			return
		}
		sent[place].Created = group
		next = place + 1
	}
}
