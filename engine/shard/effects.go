package shard

import "parley/wire"

// A Sink takes what applied entries mean for this node's sessions. Effects is called on
// the apply goroutine once per applied batch, after readers see the batch; refusals of
// entries that failed come from whichever goroutine learnt it. It must not block: a slow
// sink is a slow shard.
type Sink interface {
	Effects(e *Effects)
}

// Effects are what one applied batch means for sessions. They are immutable once the Sink
// has them, and contents alias the log entry, which lives as long.
//
// Sent and Refused are answers to those who wait for what this replica proposed, each
// exactly once. The rest concerns whoever is attached, and may repeat what a sync has
// told already. Batches follow each other without a gap: one begins where the last ended.
// Only one that follows a snapshot begins beyond; it is empty and ends where it begins.
type Effects struct {
	Shard       uint32
	Previous    uint64 // index of the last batch told before
	Index       uint64 // of the last entry applied; 0: refusals of entries that failed
	Sent        []SentEffect
	Refused     []RefusedEffect
	Messages    []MessageEffect
	Receipts    []ReceiptEffect
	Listed      []ListedEffect
	Memberships []MembershipEffect
	Own         []OwnEffect
	Marks       []Mark // one an entry, if the batch has several
}

// A Mark is how far the lists of Effects reach at the end of an entry. Replicas apply the
// same entries in different batches, so who changes replicas may need half a batch.
type Mark struct {
	Index                                                       uint64
	Sent, Refused, Messages, Receipts, Listed, Memberships, Own uint32
}

// Items is how many effects there are up to the mark.
func (m *Mark) Items() int {
	return int(m.Sent) + int(m.Refused) + int(m.Messages) + int(m.Receipts) + int(m.Listed) + int(m.Memberships) + int(m.Own)
}

// since is the mark counted from another one on.
func (m Mark) since(from *Mark) Mark {
	m.Sent, m.Refused, m.Messages = m.Sent-from.Sent, m.Refused-from.Refused, m.Messages-from.Messages
	m.Receipts, m.Listed, m.Memberships = m.Receipts-from.Receipts, m.Listed-from.Listed, m.Memberships-from.Memberships
	m.Own -= from.Own
	return m
}

// mark notes the end of an entry.
func (e *Effects) mark(index uint64) {
	e.Marks = append(e.Marks, e.End(index))
}

// End is the mark at the end of the lists as they are.
func (e *Effects) End(index uint64) Mark {
	return Mark{Index: index, Sent: uint32(len(e.Sent)), Refused: uint32(len(e.Refused)), Messages: uint32(len(e.Messages)),
		Receipts: uint32(len(e.Receipts)), Listed: uint32(len(e.Listed)), Memberships: uint32(len(e.Memberships)),
		Own: uint32(len(e.Own))}
}

// After is the part of the batch whose entries come after an index: all of it, or a
// shorter one that shares its lists; empty if it ends at the index or before.
func (e *Effects) After(index uint64) *Effects { return e.Between(index, e.Index) }

// Between is the part of the batch whose entries come after one index and not after
// another, which must be the index of an entry, of the batch's end or beyond it.
func (e *Effects) Between(after, last uint64) *Effects {
	if after <= e.Previous && last >= e.Index {
		return e
	}
	part := &Effects{Shard: e.Shard, Previous: max(after, e.Previous), Index: min(last, e.Index)}
	if part.Previous >= part.Index {
		part.Previous = part.Index
		return part
	}
	from, to := Mark{}, e.End(e.Index)
	first, end := 0, len(e.Marks)
	for i := range e.Marks {
		if m := &e.Marks[i]; m.Index <= after {
			from, first = *m, i+1
		} else if m.Index >= last {
			to, end = *m, i+1
			break
		}
	}
	part.Sent, part.Refused = e.Sent[from.Sent:to.Sent], e.Refused[from.Refused:to.Refused]
	part.Messages, part.Receipts = e.Messages[from.Messages:to.Messages], e.Receipts[from.Receipts:to.Receipts]
	part.Listed, part.Memberships = e.Listed[from.Listed:to.Listed], e.Memberships[from.Memberships:to.Memberships]
	part.Own = e.Own[from.Own:to.Own]
	// Marks count from the beginning of the lists, which has moved.
	if end-first > 1 {
		part.Marks = make([]Mark, 0, end-first)
		for _, m := range e.Marks[first:end] {
			part.Marks = append(part.Marks, m.since(&from))
		}
	}
	return part
}

// Empty reports whether there is nothing to tell.
func (e *Effects) Empty() bool {
	end := e.End(0)
	return end.Items() == 0
}

// A SentEffect acknowledges a send: its message has this sequence and time, on disk on
// a majority.
type SentEffect struct {
	Origin
	Sequence uint64
	Time     wire.Time
	Created  wire.ID // the group that the send created; 0: it created none
}

// A RefusedEffect refuses a send, or a cursor if its correlation is 0. The code's class
// says whether anything was decided.
type RefusedEffect struct {
	Origin
	Code wire.Code
}

// A MessageEffect is a new message, for the sessions of the conversation's members.
type MessageEffect struct {
	Conversation wire.Conversation
	Sequence     uint64
	Revision     uint64
	Time         wire.Time
	Author       wire.ID
	Content      wire.Content
	From         uint64 // the session that sent it and needs no push; 0: not known here
	FromNode     uint32 // the number of that session's node; 0: this one
}

// A ReceiptEffect is a moved cursor, for the peer's sessions and the user's own other
// devices; in a group for the latter alone. A moved read cursor moves the delivered one
// too, and tells both.
type ReceiptEffect struct {
	Conversation wire.Conversation
	User         wire.ID
	Kind         wire.CursorKind // Delivered or Read
	Position     uint64
	Time         wire.Time
	From         uint64 // the session that moved it; 0: not known here
	FromNode     uint32 // the number of that session's node; 0: this one
}

// A ListedEffect says that a user's own list, at home, has a conversation more, or that
// one in it is no longer the user's.
type ListedEffect struct {
	User         wire.ID
	Conversation wire.Conversation
	Gone         bool
}

// A MembershipEffect is the beginning, change or end of a user's membership of a group.
// A message at a sequence is for the members with From at or before it; who leaves still
// gets those up to Until. So the order of memberships and messages in a batch does not
// matter: beginnings and changes first, then messages, then ends.
type MembershipEffect struct {
	Group wire.ID
	User  wire.ID
	Role  wire.Role // RoleNone: ended
	From  uint64    // the first sequence that the member sees
	Until uint64    // ended: the last one, that of the event itself; else 0
}

// An OwnEffect says what a conversation is to one of its members alone from now on. It is
// for that member's sessions.
type OwnEffect struct {
	Conversation wire.Conversation
	User         wire.ID
	Own          wire.Own
	From         uint64 // the session that asked for it, which has an answer; 0: not known here, or everybody is told
	FromNode     uint32 // the number of that session's node; 0: this one
}
