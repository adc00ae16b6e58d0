package client

import (
	"bytes"
	"cmp"
	"fmt"
	"slices"
	"time"

	"parley/wire"
)

// A conversation is what the client knows of one: its state for the list, how far its
// messages have been queued for the consumer, and its cursors.
type conversation struct {
	ref    wire.Ref
	state  wire.ConversationState // kept up to date by pushes
	listed bool                   // a sync told it, or a first message opened it
	told   bool                   // the consumer has been told of it
	seen   bool                   // the sync that runs has told it
	based  bool                   // known is set
	life   int                    // counts how often a cluster has lost its end

	// known is the last sequence queued for the consumer, or passed over; top is how far the
	// conversation is known to reach. Between them are messages to fetch.
	known uint64
	top   uint64
	stash []MessageEvent // ascending, all above known

	fetching bool // a request for the gap is on its way or waits
	behind   bool // in core.behind
	tries    int  // fetches in a row that brought nothing

	// Positions in the feed: of the last message, and of the last event of each slot.
	barrier uint64
	news    [newsSlots]uint64
	waiting int // messages in the feed

	// Own cursors by kind: where they should be, what this session has sent, and what the
	// server has shown to know. handed is the last message handed over.
	want, sent, done [2]uint64
	handed           uint64
	dirty            bool      // in core.cursors
	reported         time.Time // when a cursor was sent last

	groupState
}

// conversation finds or makes the entry of a reference; nil if there is no room.
func (c *core) conversation(ref wire.Ref) *conversation {
	if v := c.conversations[ref]; v != nil {
		return v
	}
	if len(c.conversations) >= c.limits.conversations && !c.forget() {
		c.truncated, c.stale = true, true // a sync tells it again when there is room
		return nil
	}
	v := &conversation{ref: ref, state: wire.ConversationState{Ref: ref}}
	c.conversations[ref] = v
	return v
}

// forget drops the longest silent sixteenth of the conversations that nothing waits for.
func (c *core) forget() bool {
	idle := make([]*conversation, 0, len(c.conversations))
	for _, v := range c.conversations {
		if (v.based || v.top == 0) && v.known == v.top && v.waiting == 0 && !v.fetching && !v.behind && !v.dirty &&
			!v.unsent() && c.lanes[v.ref] == nil {
			idle = append(idle, v)
		}
	}
	slices.SortFunc(idle, func(a, b *conversation) int {
		return cmp.Or(cmp.Compare(a.state.Time, b.state.Time), byRef(a, b))
	})
	n := min(len(idle), len(c.conversations)/16+1)
	for _, v := range idle[:n] {
		delete(c.conversations, v.ref)
	}
	c.truncated = c.truncated || n > 0
	return n > 0
}

// begin sets from where messages are events, once the state is known.
func (c *core) begin(v *conversation) {
	v.based = true
	switch known, ok := c.options.Known[v.ref]; {
	case v.told: // before the cluster lost its end; what this user may not see now is a gap
		v.known = min(v.known, v.state.Head)
		v.handed = min(v.handed, v.known)
		return
	case ok:
		v.known = min(known, v.state.Head)
	case c.options.Begin == BeginDelivered:
		v.known = v.state.Delivered
	case c.options.Begin == BeginRead:
		v.known = v.state.Read
	default:
		v.known = v.state.Head
	}
	if item := v.item(); item.From > 0 {
		v.known = min(max(v.known, item.From-1), v.state.Head)
	}
}

// open begins a conversation that no sync told: it is new, so that all of it is events. If
// the client has had to forget some, it may be one of those, and begins where it is met.
func (c *core) open(v *conversation, met uint64) {
	before := v.known
	v.based, v.known, v.handed = true, 0, 0
	switch known, ok := c.options.Known[v.ref]; {
	case v.told: // the cluster has lost it, and this is another of the same name
		v.want = [2]uint64{}
		if v.entry > 0 { // or it had taken this user out of the group
			v.known = min(before, v.entry-1)
		}
	case ok && !c.regress:
		v.known = min(known, v.top)
	case v.entry > 0:
		v.known = v.entry - 1
	case c.truncated:
		v.known = met
	}
	c.list(v)
}

// ensureListed takes up a conversation that the last sync did not tell.
func (c *core) ensureListed(v *conversation, met uint64) {
	switch {
	case v.left:
	case v.based && !v.listed: // the consumer has been told that it is not in the list
		c.list(v)
	case c.synced && !v.based:
		c.open(v, met)
	}
}

// list puts the conversation into the list and tells the consumer.
func (c *core) list(v *conversation) {
	again := v.told && !v.listed
	v.listed = true
	c.tell(v)
	if again && v.handed > v.state.Delivered {
		c.deliver(v) // what was handed over while it was not in the list
	}
}

// tell tells the consumer how a conversation is.
func (c *core) tell(v *conversation) {
	first := !v.told
	v.told = true
	if e, ok := c.feed.pending(v, newsConversation).(*ConversationEvent); ok {
		first = first || e.First
	}
	c.feed.news(v, newsConversation, &ConversationEvent{State: v.state, Begin: v.known, First: first, Left: v.left})
}

// arrived takes a message that came by push or acknowledgement.
func (c *core) arrived(v *conversation, m MessageEvent) {
	c.note(v, &m)
	c.ensureListed(v, m.Sequence-1)
	switch {
	case v.based && m.Sequence <= v.known:
		return // a repetition
	case v.based && m.Sequence == v.known+1 && c.emit(v, m):
		c.unstash(v)
	default:
		c.keep(v, m)
	}
	if v.left && (v.listed || !v.based) {
		c.leftGroup(v)
	}
	c.checkBehind(v)
}

// note brings the state for the list up to a message.
func (c *core) note(v *conversation, m *MessageEvent) {
	v.top = max(v.top, m.Sequence)
	if m.Sequence > v.state.Head {
		if v.ref.Group() {
			c.noteGroup(v, m)
		}
		c.noteHead(v, m)
	}
	if v.ref.Group() && m.Author == c.user {
		v.ownCursor(wire.Read, m.Sequence) // to write is to have read
	}
}

func (c *core) noteHead(v *conversation, m *MessageEvent) {
	s := &v.state
	if unread := m.Sequence - s.Head; m.Author != c.user || unread > 1 {
		// What lies between is not known yet and counts as the other's until a sync tells.
		if m.Author == c.user {
			unread--
		}
		s.Unread += unread
	}
	s.Head, s.Time = m.Sequence, max(s.Time, m.Time)
	s.Revision = max(s.Revision, m.Revision, m.Sequence)
	s.Preview = nil
	if cut, ok := m.Content.Cut(wire.PreviewBytesMax); ok {
		author := m.Author
		if !v.ref.Group() && author == v.ref.ID() {
			author = 0
		}
		s.Preview = &wire.Preview{Author: author, Content: wire.Content{Extended: cut.Extended, Bytes: bytes.Clone(cut.Bytes)}}
	}
}

// reaches takes the news that the conversation has messages up to a sequence.
func (c *core) reaches(v *conversation, sequence, revision uint64) {
	v.top = max(v.top, sequence)
	if sequence > v.state.Head {
		v.state.Unread += sequence - v.state.Head
		v.state.Head, v.state.Preview = sequence, nil
	}
	v.state.Revision = max(v.state.Revision, revision, v.state.Head)
	c.ensureListed(v, v.top)
	c.checkBehind(v)
}

// emit queues the message after known for the consumer; false if there is no room.
func (c *core) emit(v *conversation, m MessageEvent) bool {
	if !c.feed.room(1, len(m.Content.Bytes)) {
		return false
	}
	m.Content.Bytes = bytes.Clone(m.Content.Bytes)
	c.feed.message(v, &m, len(m.Content.Bytes))
	v.known = m.Sequence
	v.top = max(v.top, v.known)
	return true
}

// gap tells the consumer that messages up to a sequence cannot be had.
func (c *core) gap(v *conversation, to uint64, err error) {
	c.feed.message(v, &GapEvent{Ref: v.ref, From: v.known + 1, To: to, Err: err}, 0)
	v.known = to
	v.top = max(v.top, to)
	c.unstash(v)
}

// dropStash forgets the messages that wait for those before them.
func (c *core) dropStash(v *conversation) {
	for i := range v.stash {
		c.stashBytes -= len(v.stash[i].Content.Bytes)
	}
	v.stash = nil
}

// keep stashes a message whose predecessors have not come, if there is room; without it
// the message is fetched again with them.
func (c *core) keep(v *conversation, m MessageEvent) {
	i, found := slices.BinarySearchFunc(v.stash, m.Sequence, func(s MessageEvent, n uint64) int {
		return cmp.Compare(s.Sequence, n)
	})
	if found || len(v.stash) >= c.limits.stash || c.stashBytes+len(m.Content.Bytes) > StashBytesMax {
		return
	}
	m.Content.Bytes = bytes.Clone(m.Content.Bytes)
	c.stashBytes += len(m.Content.Bytes)
	v.stash = slices.Insert(v.stash, i, m)
}

// unstash queues the stashed messages that follow known, and drops those that are old.
func (c *core) unstash(v *conversation) {
	n := 0
	for ; n < len(v.stash); n++ {
		m := v.stash[n]
		if m.Sequence > v.known+1 || m.Sequence == v.known+1 && !c.emit(v, m) {
			break
		}
		c.stashBytes -= len(m.Content.Bytes)
	}
	v.stash = slices.Delete(v.stash, 0, n)
	if len(v.stash) == 0 {
		v.stash = nil
	}
}

// reach is how far messages are missing: to the first that is stashed, or to the end.
func (v *conversation) reach() uint64 {
	if len(v.stash) > 0 {
		return min(v.top, v.stash[0].Sequence-1)
	}
	return v.top
}

// checkBehind puts a conversation that has messages to fetch into the queue for it.
func (c *core) checkBehind(v *conversation) {
	if v.based && v.known < v.top && !v.fetching && !v.behind {
		v.behind = true
		c.behind = append(c.behind, v)
	}
}

// receipt takes a moved cursor and tells it if it is news.
func (c *core) receipt(v *conversation, r *wire.Receipt) {
	s, before := &v.state, uint64(0)
	position := min(r.Position, wire.NumberMax>>2)
	switch r.Kind {
	case wire.Delivered:
		before, s.OtherDelivered = s.OtherDelivered, max(s.OtherDelivered, position)
	case wire.Read:
		before, s.OtherRead = s.OtherRead, max(s.OtherRead, position)
		s.OtherDelivered = max(s.OtherDelivered, position)
	case wire.OwnDelivered:
		before = s.Delivered
		v.ownCursor(wire.Delivered, position)
	case wire.OwnRead:
		before = s.Read
		v.ownCursor(wire.Read, position)
	}
	if position > before && v.based && !v.left {
		c.feed.news(v, newsSlot(r.Kind), &ReceiptEvent{Ref: v.ref, Kind: r.Kind, Position: position, Time: r.Time})
	}
}

// ownCursor takes a position of an own cursor that the server has shown to know.
func (v *conversation) ownCursor(kind wire.CursorKind, position uint64) {
	v.done[kind] = max(v.done[kind], position)
	if kind == wire.Read {
		v.done[wire.Delivered] = max(v.done[wire.Delivered], position)
	}
	v.moveOwn(kind, position)
}

// moveOwn brings the state for the list up to an own cursor. Unread is exact at the head
// and else an upper bound until the next sync.
func (v *conversation) moveOwn(kind wire.CursorKind, position uint64) {
	s := &v.state
	s.Delivered = max(s.Delivered, position)
	if kind == wire.Read && position > s.Read {
		s.Read = position
		s.Unread = min(s.Unread, s.Head-min(position, s.Head))
		if s.Unread == 0 {
			s.Mentions = 0
		}
	}
}

// setCursor moves an own cursor to where the program wants it.
func (c *core) setCursor(v *conversation, kind wire.CursorKind, position uint64) {
	if v.left || position <= max(v.want[kind], v.done[kind]) {
		return
	}
	v.want[kind] = position
	if kind == wire.Read {
		v.want[wire.Delivered] = max(v.want[wire.Delivered], position)
	}
	v.moveOwn(kind, position)
	c.checkCursors(v)
}

// checkCursors queues the conversation for output if a cursor is to be sent.
func (c *core) checkCursors(v *conversation) {
	if !v.dirty && v.unsent() {
		v.dirty = true
		c.cursors = append(c.cursors, v)
	}
}

// unsent reports whether a cursor is to be sent.
func (v *conversation) unsent() bool {
	return v.want[wire.Delivered] > max(v.sent[wire.Delivered], v.done[wire.Delivered]) ||
		v.want[wire.Read] > max(v.sent[wire.Read], v.done[wire.Read])
}

// checkAllCursors does it for all conversations.
func (c *core) checkAllCursors() {
	var unsent []*conversation
	for _, v := range c.conversations {
		if v.unsent() {
			unsent = append(unsent, v)
		}
	}
	slices.SortFunc(unsent, byRef)
	for _, v := range unsent {
		c.checkCursors(v)
	}
}

// byRef is a fixed order of conversations: the core does the same after the same.
func byRef(a, b *conversation) int { return cmp.Compare(a.ref, b.ref) }

// moveCursor takes a caller's wish to move an own cursor.
func (c *core) moveCursor(ref wire.Ref, kind wire.CursorKind, position uint64) error {
	if c.phase == phaseEnded {
		return c.endError()
	}
	v := c.conversation(ref)
	switch {
	case v == nil:
		return fmt.Errorf("%w: more than %d conversations", ErrRequest, c.limits.conversations)
	case v.left:
		return &wire.Error{Code: wire.CodeNotMember, Reason: "the membership has ended"}
	case c.synced && position > max(v.top, v.state.Head):
		return fmt.Errorf("%w: the conversation reaches %d, not %d", ErrRequest, max(v.top, v.state.Head), position)
	}
	c.setCursor(v, kind, position)
	return nil
}
