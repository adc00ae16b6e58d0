package client

import "parley/wire"

// A feed is the queue of events for the consumer. Messages are bounded by who fills it
// (see room); news that replaces older news takes its place, so that the rest is bounded
// by the messages and conversations there are.
type feed struct {
	items    []feedItem
	head     int    // of items: what is before it has been handed over
	first    uint64 // position of items[head]; positions count from 1, over the client's life
	limit    int    // of messages
	messages int
	bytes    int
	// connections are the positions of waiting ConnectionEvents, at most EventConnectionsMax.
	connections []uint64
}

type feedItem struct {
	event        Event
	conversation *conversation // nil for ConnectionEvents
	life         int           // of the conversation
	bytes        int
}

func newFeed(limit int) feed { return feed{limit: limit, first: 1} }

func (f *feed) len() int { return len(f.items) - f.head }

// room reports whether messages and bytes more are within the bounds.
func (f *feed) room(messages, bytes int) bool {
	return f.messages+messages <= f.limit && f.bytes+bytes <= EventBytesMax
}

func (f *feed) push(item feedItem) (position uint64) {
	if item.conversation != nil {
		item.life = item.conversation.life
	}
	f.items = append(f.items, item)
	return f.first + uint64(f.len()) - 1
}

// waiting reports whether the event of a position has not been handed over.
func (f *feed) waiting(position uint64) bool { return position >= f.first && f.len() > 0 }

func (f *feed) at(position uint64) *feedItem { return &f.items[f.head+int(position-f.first)] }

// message queues a MessageEvent or GapEvent.
func (f *feed) message(c *conversation, e Event, bytes int) {
	c.barrier = f.push(feedItem{event: e, conversation: c, bytes: bytes})
	c.waiting++
	f.messages++
	f.bytes += bytes
}

// A newsSlot is a kind of event of which the last one tells all: the first four are
// receipts, by their wire.CursorKind.
type newsSlot uint8

const (
	newsConversation newsSlot = 4
	newsCounts       newsSlot = 5
	newsSlots                 = 6
)

// news queues an event that replaces one of the same slot if it still waits and nothing
// stands between them that must come first: a receipt overtakes neither its message nor
// the state that it goes on from. It does overtake the receipts that wait behind that place,
// which are brought up to what it says: else the consumer would see cursors go back.
func (f *feed) news(c *conversation, slot newsSlot, e Event) {
	p, ok := f.replaceable(c, slot)
	if !ok {
		c.news[slot] = f.push(feedItem{event: e, conversation: c})
		return
	}
	f.at(p).event, f.at(p).life = e, c.life
	for kind, least := range implied(e) {
		f.raise(c, newsSlot(kind), p, least)
	}
}

// implied is how far each cursor is at least, by its wire.CursorKind, once the consumer has
// an event that is news.
func implied(e Event) (least [newsConversation]uint64) {
	switch e := e.(type) {
	case *ConversationEvent:
		s := &e.State
		least = [...]uint64{wire.Delivered: s.OtherDelivered, wire.Read: s.OtherRead, wire.OwnDelivered: s.Delivered, wire.OwnRead: s.Read}
	case *ReceiptEvent:
		least[e.Kind] = e.Position
		switch e.Kind {
		case wire.Read:
			least[wire.Delivered] = e.Position
		case wire.OwnRead:
			least[wire.OwnDelivered] = e.Position
		}
	}
	return least
}

// raise brings the receipt of a slot up to a position if it waits behind a place in the queue.
// When that was reached is not known there.
func (f *feed) raise(c *conversation, slot newsSlot, place, least uint64) {
	p := c.news[slot]
	if p <= place || !f.waiting(p) {
		return
	}
	if r, ok := f.at(p).event.(*ReceiptEvent); ok && r.Position < least {
		f.at(p).event = &ReceiptEvent{Ref: r.Ref, Kind: r.Kind, Position: least}
	}
}

// bar keeps news of a conversation from taking the place of what waits now.
func (f *feed) bar(c *conversation) { c.barrier = f.first + uint64(f.len()) - 1 }

// pending is the waiting event of a slot that news would replace, or nil.
func (f *feed) pending(c *conversation, slot newsSlot) Event {
	if p, ok := f.replaceable(c, slot); ok {
		return f.at(p).event
	}
	return nil
}

func (f *feed) replaceable(c *conversation, slot newsSlot) (position uint64, ok bool) {
	position = c.news[slot]
	barrier := c.barrier
	if slot != newsConversation {
		barrier = max(barrier, c.news[newsConversation])
	}
	return position, position > barrier && f.waiting(position)
}

func (f *feed) typing(c *conversation, e *TypingEvent) {
	if f.len() < EventTypingMax {
		f.push(feedItem{event: e, conversation: c})
	}
}

func (f *feed) connection(e *ConnectionEvent) {
	if n := len(f.connections); n == EventConnectionsMax {
		f.at(f.connections[n-1]).event = e
		return
	}
	f.connections = append(f.connections, f.push(feedItem{event: e}))
}

// peek is the next event for the consumer, nil if there is none.
func (f *feed) peek() Event {
	if f.len() == 0 {
		return nil
	}
	return f.items[f.head].event
}

// pop removes it.
func (f *feed) pop() feedItem {
	item := f.items[f.head]
	f.items[f.head] = feedItem{}
	f.head++
	if len(f.connections) > 0 && f.connections[0] == f.first {
		f.connections = f.connections[1:]
	}
	f.first++
	switch item.event.(type) {
	case *MessageEvent, *GapEvent:
		item.conversation.waiting--
		f.messages--
		f.bytes -= item.bytes
	}
	switch {
	case f.head == len(f.items) && cap(f.items) <= EventMessagesMax:
		f.items, f.head = f.items[:0], 0
	case f.head == len(f.items):
		f.items, f.head = nil, 0
	case f.head >= EventMessagesMax && f.head > len(f.items)/2:
		f.items, f.head = append([]feedItem(nil), f.items[f.head:]...), 0
	}
	return item
}
