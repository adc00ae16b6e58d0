package storage

import (
	"errors"
	"fmt"
	"slices"

	"parley/wire"
)

// ErrMisuse reports a read or change of what is another shard's, or a message that does not
// follow the last. An update that does so fails, and the shard with it: state that half an
// entry was applied to is never ingested.
var ErrMisuse = errors.New("storage: outside the shard or out of order")

// A Writer changes a shard within Update, and reads its own writes. The first error sticks
// and fails the update.
type Writer struct {
	Reader
	value []byte
	err   error
}

func (w *Writer) active() *buffer { return w.shard.active }

// put sets a record of a slot that must be the shard's.
func (w *Writer) put(slot wire.Slot) (n int, created bool) {
	if err := w.owns(slot); err != nil {
		w.fail(err)
		return 0, false
	}
	return w.active().put(w.key, w.value)
}

func (w *Writer) fail(err error) {
	if w.err == nil {
		w.err = err
	}
}

// SetApplied notes the last log entry that this update applies. Every update sets it.
func (w *Writer) SetApplied(index, term uint64) {
	b := w.active()
	if index < b.record.Index {
		w.fail(fmt.Errorf("%w: index %d after %d", ErrMisuse, index, b.record.Index))
		return
	}
	b.record.Index, b.record.Term, b.recordChanged = index, term, true
}

// SetConfiguration notes the last committed Raft configuration; the bytes are copied.
func (w *Writer) SetConfiguration(index uint64, configuration []byte) {
	b := w.active()
	b.record.ConfigurationIndex = index
	b.record.Configuration = slices.Clone(configuration)
	b.recordChanged = true
}

// PutUser sets an account.
func (w *Writer) PutUser(u *User) {
	w.key, w.value = appendUserKey(w.key[:0], u.ID), appendUser(w.value[:0], u)
	w.put(u.ID.Slot())
}

// PutName makes a name resolve to an account.
func (w *Writer) PutName(name string, id wire.ID) {
	w.key, w.value = appendNameKey(w.key[:0], name), appendName(w.value[:0], id)
	w.put(nameSlot(name))
}

// PutList sets a row of a user's own conversation list.
func (w *Writer) PutList(l *List) {
	w.key, w.value = appendListKey(w.key[:0], l.User, l.Conversation), appendList(w.value[:0], l)
	if n, created := w.put(l.User.Slot()); created {
		w.active().link(w.key[:prefixSize+idSize], n)
	}
}

// idSize is the size of an identifier in a key, in bytes.
const idSize = wire.IDBits / 8

// PutUserIndex sets a row of the shard's index of users.
func (w *Writer) PutUserIndex(u *UserIndex) {
	w.key = appendUserIndexKey(w.key[:0], w.shard.first, u.User, u.Conversation)
	w.value = appendUserIndex(w.value[:0], u)
	if n, created := w.put(w.shard.first); created {
		size := prefixSize + idSize
		if u.Conversation.Kind == wire.Group {
			size++ // a user's groups are found without a look at the direct conversations
		}
		w.active().link(w.key[:size], n)
	}
}

// PutConversation sets a conversation's head record.
func (w *Writer) PutConversation(c wire.Conversation, v *Conversation) {
	slot := w.conversationSlot(c)
	w.key = appendConversationKey(w.key[:0], slot, c)
	w.value = appendConversation(w.value[:0], v)
	w.put(slot)
}

// PutMember sets the cursors of a member of a conversation, and a group's membership.
func (w *Writer) PutMember(c wire.Conversation, user wire.ID, m *Member) {
	slot := w.conversationSlot(c)
	w.key = appendMemberKey(w.key[:0], slot, c, user)
	w.value = appendMember(w.value[:0], m)
	if n, created := w.put(slot); created && c.Kind == wire.Group {
		w.active().order(w.key[:len(w.key)-idSize], uint64(user), n)
	}
}

// DeleteMember removes a user from a group's members.
func (w *Writer) DeleteMember(c wire.Conversation, user wire.ID) {
	slot := w.conversationSlot(c)
	if err := w.owns(slot); err != nil || c.Kind != wire.Group {
		w.fail(fmt.Errorf("%w: member %v of %s is removed", ErrMisuse, user, conversationText(c)))
		return
	}
	w.key = appendMemberKey(w.key[:0], slot, c, user)
	if n, created := w.active().remove(w.key); created {
		w.active().order(w.key[:len(w.key)-idSize], uint64(user), n)
	}
}

// PutGroup sets what a group is beside its conversation.
func (w *Writer) PutGroup(c wire.Conversation, g *Group) {
	slot := w.conversationSlot(c)
	w.key = appendGroupKey(w.key[:0], slot, c)
	w.value = appendGroup(w.value[:0], g)
	w.put(slot)
}

// PutOutboxes sets what is remembered of the outboxes of one member of a group.
func (w *Writer) PutOutboxes(c wire.Conversation, user wire.ID, m *Memory) {
	slot := w.conversationSlot(c)
	w.key = appendOutboxesKey(w.key[:0], slot, c, user)
	w.value = appendOutboxes(w.value[:0], m)
	w.put(slot)
}

// PutOutgoing adds a command for another shard. A number is never used twice, so that a row
// that is put and deleted between two flushes is never written at all.
func (w *Writer) PutOutgoing(o *Outgoing) {
	w.key = appendOutgoingKey(w.key[:0], w.shard.first, o.Number)
	w.value = appendOutgoing(w.value[:0], o)
	if n, created := w.put(w.shard.first); created {
		w.active().link(w.key[:prefixSize], n)
		w.active().entries[n].fresh = true
	}
}

// DeleteOutgoing removes a row that its target has applied.
func (w *Writer) DeleteOutgoing(number uint64) {
	w.key = appendOutgoingKey(w.key[:0], w.shard.first, number)
	if n, created := w.active().remove(w.key); created {
		w.active().link(w.key[:prefixSize], n)
	}
}

// PutIncoming notes up to which number another shard's rows were applied here.
func (w *Writer) PutIncoming(from uint32, number uint64) {
	w.key = appendIncomingKey(w.key[:0], w.shard.first, from)
	w.value = appendIncoming(w.value[:0], number)
	w.put(w.shard.first)
}

// AppendMessage appends a conversation's next message; the content's bytes are copied as
// they are. sentA is how many messages of a direct conversation user A wrote before it.
func (w *Writer) AppendMessage(c wire.Conversation, sentA uint64, m *Message) {
	slot := w.conversationSlot(c)
	if err := w.owns(slot); err != nil {
		w.fail(err)
		return
	}
	direct := c.Kind == wire.Direct
	author := 0
	if direct && m.Author != c.A {
		author = 1
	}
	if m.Sequence == 0 || m.Revision < m.Sequence || m.Previous >= m.Sequence ||
		direct && !c.Member(m.Author) || !m.Author.Valid() || len(m.Content.Bytes) > wire.ContentBytesMax {
		w.fail(fmt.Errorf("%w: message %d of %s", ErrMisuse, m.Sequence, conversationText(c)))
		return
	}
	if !w.active().appendMessage(packChunkPrefix(slot, c), direct, author, sentA, m) {
		w.fail(fmt.Errorf("%w: message %d of %s", ErrMisuse, m.Sequence, conversationText(c)))
	}
}
