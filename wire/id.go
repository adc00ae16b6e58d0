package wire

import (
	"encoding/binary"
	"errors"
	"strconv"
)

// Slots is the number of hash slots that every key is spread over. It is fixed for
// the life of a cluster, because a slot is part of every identifier.
const Slots = 4096

// IDBits is the width of an identifier: 12 bits of slot, 36 random bits. 48 bits
// are seven bytes as a varint and exact in a JavaScript number.
const (
	IDBits     = 48
	randomBits = 36
	idSize     = IDBits / 8
)

// Errors of identifiers and conversation keys.
var (
	ErrBadID           = errors.New("wire: not an identifier: want 1 to 2^48-1")
	ErrBadConversation = errors.New("wire: not a conversation key")
)

// A Slot is one of the 4,096 hash slots; a shard owns a contiguous range of them.
type Slot uint16

// SlotOf hashes bytes to a slot: 64-bit FNV-1a, folded, so that short names spread. It is
// written out because every SEND needs it and hash/fnv may allocate.
func SlotOf(key []byte) Slot {
	sum := uint64(14695981039346656037)
	for _, b := range key {
		sum = (sum ^ uint64(b)) * 1099511628211
	}
	return Slot((sum ^ sum>>32 ^ sum>>12) % Slots)
}

// An ID names a user or a group: slot in the upper 12 of 48 bits, random below.
// Zero is no identifier.
type ID uint64

// MakeID puts random bits into a slot. The caller checks that the identifier is free.
func MakeID(slot Slot, random uint64) ID {
	return ID(uint64(slot)<<randomBits | random&(1<<randomBits-1))
}

// Slot tells where the records of this user or group live.
func (id ID) Slot() Slot { return Slot(id >> randomBits) }

// Valid reports whether the identifier is within 48 bits and not zero.
func (id ID) Valid() bool { return id != 0 && id < 1<<IDBits }

// String is the decimal form, as JSON and logs carry it.
func (id ID) String() string { return strconv.FormatUint(uint64(id), 10) }

// ParseID reads the decimal form of an identifier.
func ParseID(text string) (ID, error) {
	n, err := strconv.ParseUint(text, 10, IDBits)
	if err != nil || n == 0 {
		return 0, ErrBadID
	}
	return ID(n), nil
}

// A Ref addresses a conversation on the wire, as seen by one user: the other user's
// id times 2 for a direct conversation, the group's id times 2 plus 1 for a group.
type Ref uint64

// DirectRef addresses the direct conversation with another user.
func DirectRef(peer ID) Ref { return Ref(peer) << 1 }

// GroupRef addresses a group.
func GroupRef(group ID) Ref { return Ref(group)<<1 | 1 }

// ID is the user or group that the reference names.
func (r Ref) ID() ID { return ID(r >> 1) }

// Group reports whether the reference names a group.
func (r Ref) Group() bool { return r&1 == 1 }

// Valid reports whether the reference names a possible user or group.
func (r Ref) Valid() bool { return r.ID().Valid() }

// Conversation resolves the reference for the user who uses it.
func (r Ref) Conversation(self ID) Conversation {
	if r.Group() {
		return Conversation{Kind: Group, A: r.ID()}
	}
	return DirectConversation(self, r.ID())
}

// A ConversationKind tells direct conversations and groups apart.
type ConversationKind uint8

// The kinds of conversations.
const (
	Direct ConversationKind = 0
	Group  ConversationKind = 1
)

// A Conversation is the same for all its members: the two users of a direct
// conversation in ascending order, or the group in A.
type Conversation struct {
	Kind ConversationKind
	A, B ID
}

// DirectConversation is the conversation of two users, in either order.
func DirectConversation(x, y ID) Conversation {
	if x > y {
		x, y = y, x
	}
	return Conversation{Kind: Direct, A: x, B: y}
}

// Slot is the slot that the conversation lives in: a hash of the pair, or the group's own.
func (c Conversation) Slot() Slot {
	if c.Kind == Group {
		return c.A.Slot()
	}
	var key [2 * idSize]byte
	putID(key[:], c.A)
	putID(key[idSize:], c.B)
	return SlotOf(key[:])
}

// Member reports whether a user belongs to a direct conversation.
func (c Conversation) Member(user ID) bool {
	return c.Kind == Direct && (user == c.A || user == c.B)
}

// Peer is the other user of a direct conversation.
func (c Conversation) Peer(self ID) ID {
	if self == c.A {
		return c.B
	}
	return c.A
}

// Ref addresses the conversation as one of its members does.
func (c Conversation) Ref(self ID) Ref {
	if c.Kind == Group {
		return GroupRef(c.A)
	}
	return DirectRef(c.Peer(self))
}

// AppendConversation appends the key form: kind (1 byte), A (6 bytes, big endian)
// and, for a direct conversation, B (6 bytes). Keys sort by kind, A, B.
func AppendConversation(dst []byte, c Conversation) []byte {
	dst = append(dst, byte(c.Kind))
	dst = AppendID(dst, c.A)
	if c.Kind == Direct {
		dst = AppendID(dst, c.B)
	}
	return dst
}

// ParseConversation reads the key form and returns what follows it.
func ParseConversation(src []byte) (Conversation, []byte, error) {
	if len(src) < 1+idSize || src[0] > byte(Group) {
		return Conversation{}, src, ErrBadConversation
	}
	c := Conversation{Kind: ConversationKind(src[0]), A: getID(src[1:])}
	if c.A == 0 {
		return Conversation{}, src, ErrBadConversation
	}
	rest := src[1+idSize:]
	if c.Kind == Direct {
		if len(rest) < idSize {
			return Conversation{}, src, ErrBadConversation
		}
		c.B, rest = getID(rest), rest[idSize:]
		if c.A > c.B {
			return Conversation{}, src, ErrBadConversation
		}
	}
	return c, rest, nil
}

// AppendID appends the six-byte big-endian form that keys use.
func AppendID(dst []byte, id ID) []byte {
	var b [idSize]byte
	putID(b[:], id)
	return append(dst, b[:]...)
}

// ParseKeyID reads the six-byte form and returns what follows it.
func ParseKeyID(src []byte) (ID, []byte, error) {
	if len(src) < idSize {
		return 0, src, ErrBadID
	}
	return getID(src), src[idSize:], nil
}

func putID(dst []byte, id ID) {
	binary.BigEndian.PutUint16(dst, uint16(id>>32))
	binary.BigEndian.PutUint32(dst[2:], uint32(id))
}

func getID(src []byte) ID {
	return ID(binary.BigEndian.Uint16(src))<<32 | ID(binary.BigEndian.Uint32(src[2:]))
}
