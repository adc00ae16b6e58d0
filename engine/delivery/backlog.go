package delivery

import (
	"errors"

	"parley/wire"
)

// Limits of what is kept for a session that reads slowly.
const (
	// BacklogBytesMax bounds the pushes kept as they are, in bytes. Beyond it one HEAD a
	// conversation stands for them, and the client pulls at its own pace.
	BacklogBytesMax = 64 << 10
	// BacklogEntriesMax bounds the conversations and cursors that HEADs and RECEIPTs stand
	// for: 2,000 of each make 64 KiB again. A session beyond it syncs anew.
	BacklogEntriesMax = 4_000
)

// ErrBacklogFull says that even one HEAD a conversation is too much: close the session.
var ErrBacklogFull = errors.New("delivery: more conversations changed than a slow session is kept")

// A Backlog keeps the pushes of one session that the network does not take. Its zero
// value is empty; one event loop owns it.
type Backlog struct {
	frames    []byte
	collapsed bool
	heads     map[wire.Ref]wire.Head
	receipts  map[receiptKey]wire.Receipt
	own       map[wire.Ref]wire.OwnState
}

type receiptKey struct {
	ref  wire.Ref
	kind wire.CursorKind
}

// Message keeps a MESSAGE or HEAD frame for the conversation that it belongs to.
func (b *Backlog) Message(h wire.Head, frame []byte) error {
	if b.heads == nil {
		b.heads = make(map[wire.Ref]wire.Head)
	}
	old := b.heads[h.Ref]
	h.Sequence, h.Revision = max(h.Sequence, old.Sequence), max(h.Revision, old.Revision)
	b.heads[h.Ref] = h
	return b.keep(frame)
}

// Receipt keeps a RECEIPT frame.
func (b *Backlog) Receipt(r wire.Receipt, frame []byte) error {
	if b.receipts == nil {
		b.receipts = make(map[receiptKey]wire.Receipt)
	}
	key := receiptKey{r.Ref, r.Kind}
	if r.Position >= b.receipts[key].Position {
		b.receipts[key] = r
	}
	return b.keep(frame)
}

// Own keeps an OWN_STATE frame.
func (b *Backlog) Own(s wire.OwnState, frame []byte) error {
	if b.own == nil {
		b.own = make(map[wire.Ref]wire.OwnState)
	}
	if s.Version >= b.own[s.Ref].Version {
		b.own[s.Ref] = s
	}
	return b.keep(frame)
}

func (b *Backlog) keep(frame []byte) error {
	if len(b.heads)+len(b.receipts)+len(b.own) > BacklogEntriesMax {
		return ErrBacklogFull
	}
	if b.collapsed {
		return nil
	}
	if len(b.frames)+len(frame) > BacklogBytesMax {
		b.frames, b.collapsed = nil, true
		return nil
	}
	b.frames = append(b.frames, frame...)
	return nil
}

// Append appends what the session is to be sent now and empties the backlog: the pushes
// in their order or, when they were too many, one HEAD a conversation, one RECEIPT a cursor
// and one OWN_STATE a conversation.
func (b *Backlog) Append(dst []byte) []byte {
	if b.collapsed {
		for _, h := range b.heads {
			dst = wire.AppendHead(dst, &h)
		}
		for _, r := range b.receipts {
			dst = wire.AppendReceipt(dst, &r)
		}
		for _, s := range b.own {
			dst = wire.AppendOwnState(dst, &s)
		}
	} else {
		dst = append(dst, b.frames...)
	}
	*b = Backlog{}
	return dst
}

// Collapsed reports whether HEADs stand for pushes.
func (b *Backlog) Collapsed() bool { return b.collapsed }
