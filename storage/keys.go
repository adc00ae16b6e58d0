package storage

import (
	"encoding/binary"
	"fmt"

	"parley/wire"
)

// A kind is the third byte of every key and says what the record is.
type kind uint8

// The kinds. Those below kindUser belong to a shard as a whole and live at its first slot,
// so that everything of a shard is one contiguous range; the others live at their own slot.
// 0x32 and above are reserved for media and queues of end-to-end encryption.
const (
	kindShard        kind = 0x00
	kindUserIndex    kind = 0x01
	kindOutgoing     kind = 0x02
	kindIncoming     kind = 0x03
	kindUser         kind = 0x10
	kindName         kind = 0x11
	kindList         kind = 0x12
	kindConversation kind = 0x20
	kindMember       kind = 0x21
	kindChunk        kind = 0x22
	kindGroup        kind = 0x30
	kindOutboxes     kind = 0x31
)

// kindNames are the names that KEYS.md and fsck use.
var kindNames = map[kind]string{
	kindShard:        "shard",
	kindUserIndex:    "user index",
	kindOutgoing:     "outgoing",
	kindIncoming:     "incoming",
	kindUser:         "user",
	kindName:         "name",
	kindList:         "list",
	kindConversation: "conversation",
	kindMember:       "member",
	kindChunk:        "chunk",
	kindGroup:        "group",
	kindOutboxes:     "outboxes",
}

func (k kind) String() string {
	if name, ok := kindNames[k]; ok {
		return name
	}
	return fmt.Sprintf("kind %#02x", uint8(k))
}

// Sizes of keys, in bytes.
const (
	prefixSize   = 3 // slot and kind
	packedSize   = 24
	sequenceSize = 8
)

// appendPrefix begins every key: slot (2 bytes, big endian), kind (1 byte).
func appendPrefix(dst []byte, slot wire.Slot, k kind) []byte {
	return append(dst, byte(slot>>8), byte(slot), byte(k))
}

func appendShardKey(dst []byte, first wire.Slot) []byte {
	return appendPrefix(dst, first, kindShard)
}

func appendUserIndexPrefix(dst []byte, first wire.Slot, user wire.ID) []byte {
	return wire.AppendID(appendPrefix(dst, first, kindUserIndex), user)
}

// appendUserGroupsPrefix begins the keys of the groups that a user has to do with.
func appendUserGroupsPrefix(dst []byte, first wire.Slot, user wire.ID) []byte {
	return append(appendUserIndexPrefix(dst, first, user), byte(wire.Group))
}

func appendUserIndexKey(dst []byte, first wire.Slot, user wire.ID, c wire.Conversation) []byte {
	return wire.AppendConversation(appendUserIndexPrefix(dst, first, user), c)
}

func appendOutgoingKey(dst []byte, first wire.Slot, number uint64) []byte {
	return binary.BigEndian.AppendUint64(appendPrefix(dst, first, kindOutgoing), number)
}

func appendIncomingKey(dst []byte, first wire.Slot, from uint32) []byte {
	return binary.BigEndian.AppendUint32(appendPrefix(dst, first, kindIncoming), from)
}

func appendUserKey(dst []byte, id wire.ID) []byte {
	return wire.AppendID(appendPrefix(dst, id.Slot(), kindUser), id)
}

// nameSlot is the slot of a name's row; an account's identifier is made in the same slot.
func nameSlot(name string) wire.Slot { return wire.SlotOf([]byte(name)) }

func appendNameKey(dst []byte, name string) []byte {
	return append(appendPrefix(dst, nameSlot(name), kindName), name...)
}

func appendListPrefix(dst []byte, user wire.ID) []byte {
	return wire.AppendID(appendPrefix(dst, user.Slot(), kindList), user)
}

func appendListKey(dst []byte, user wire.ID, c wire.Conversation) []byte {
	return wire.AppendConversation(appendListPrefix(dst, user), c)
}

func appendConversationKey(dst []byte, slot wire.Slot, c wire.Conversation) []byte {
	return wire.AppendConversation(appendPrefix(dst, slot, kindConversation), c)
}

// appendMemberPrefix begins the keys of all members of one conversation.
func appendMemberPrefix(dst []byte, slot wire.Slot, c wire.Conversation) []byte {
	return wire.AppendConversation(appendPrefix(dst, slot, kindMember), c)
}

func appendMemberKey(dst []byte, slot wire.Slot, c wire.Conversation, user wire.ID) []byte {
	return wire.AppendID(appendMemberPrefix(dst, slot, c), user)
}

func appendGroupKey(dst []byte, slot wire.Slot, c wire.Conversation) []byte {
	return wire.AppendConversation(appendPrefix(dst, slot, kindGroup), c)
}

func appendOutboxesKey(dst []byte, slot wire.Slot, c wire.Conversation, user wire.ID) []byte {
	return wire.AppendID(wire.AppendConversation(appendPrefix(dst, slot, kindOutboxes), c), user)
}

// appendChunkPrefix begins the keys of all chunks of one conversation.
func appendChunkPrefix(dst []byte, slot wire.Slot, c wire.Conversation) []byte {
	return wire.AppendConversation(appendPrefix(dst, slot, kindChunk), c)
}

func appendSequence(dst []byte, sequence uint64) []byte {
	return binary.BigEndian.AppendUint64(dst, sequence)
}

// A parsedKey is a key taken apart; which fields are set depends on the kind.
type parsedKey struct {
	Slot         wire.Slot
	Kind         kind
	User         wire.ID
	Conversation wire.Conversation
	Name         string
	Number       uint64 // outgoing: its number; chunk: its first sequence
	From         uint32 // incoming: the shard that sent
}

// parseKey takes any key apart, and checks that it is at the slot that its kind says. For
// the kinds of a whole shard only the caller knows the shard's first slot.
func parseKey(src []byte) (p parsedKey, err error) {
	d := decoder{src: src}
	head := d.take(prefixSize)
	if d.err != nil {
		return p, d.err
	}
	p.Slot, p.Kind = wire.Slot(binary.BigEndian.Uint16(head)), kind(head[2])
	home := p.Slot
	switch p.Kind {
	case kindShard:
	case kindUserIndex:
		p.User, p.Conversation = d.id(), d.conversation()
	case kindOutgoing:
		p.Number = d.bigEndian64()
	case kindIncoming:
		if b := d.take(4); b != nil {
			p.From = binary.BigEndian.Uint32(b)
		}
	case kindUser:
		p.User = d.id()
		home = p.User.Slot()
	case kindName:
		p.Name = string(d.rest())
		home = nameSlot(p.Name)
		if n := len(p.Name); n == 0 || n > wire.NameBytesMax {
			d.fail("name of %d bytes", n)
		}
	case kindList:
		p.User, p.Conversation = d.id(), d.conversation()
		home = p.User.Slot()
	case kindConversation, kindMember, kindChunk, kindGroup, kindOutboxes:
		p.Conversation = d.conversation()
		home = p.Conversation.Slot()
		p.inConversation(&d)
	default:
		d.fail("unknown %v", p.Kind)
	}
	if d.err == nil && (home != p.Slot || p.Slot >= wire.Slots) {
		d.fail("%v key at slot %d, belongs at %d", p.Kind, p.Slot, home)
	}
	return p, d.end()
}

// inConversation reads what follows the conversation in the keys of its records.
func (p *parsedKey) inConversation(d *decoder) {
	switch p.Kind {
	case kindMember, kindOutboxes:
		p.User = d.id()
	case kindChunk:
		p.Number = d.bigEndian64()
	}
	if d.err == nil && p.Kind >= kindGroup && p.Conversation.Kind != wire.Group {
		d.fail("%v of a direct conversation", p.Kind)
	}
}

// String shows a key as fsck prints it.
func (p parsedKey) String() string {
	s := fmt.Sprintf("slot %d %v", p.Slot, p.Kind)
	if p.Kind == kindName {
		return s + fmt.Sprintf(" %q", p.Name)
	}
	if p.Conversation != (wire.Conversation{}) {
		s += " " + conversationText(p.Conversation)
	}
	if p.User != 0 {
		s += " user " + p.User.String()
	}
	switch p.Kind {
	case kindOutgoing, kindChunk:
		s += fmt.Sprintf(" %d", p.Number)
	case kindIncoming:
		s += fmt.Sprintf(" from shard %d", p.From)
	}
	return s
}

func conversationText(c wire.Conversation) string {
	if c.Kind == wire.Group {
		return "group " + c.A.String()
	}
	return c.A.String() + "+" + c.B.String()
}

// A packedKey is the first 24 bytes of a key as three big-endian words, zeros behind: it
// compares as the key does, without a pointer. Only names are longer; and no key is another
// one plus zeros, because identifiers and sequences are never zero at the end of a shorter form.
type packedKey struct{ a, b, c uint64 }

func packKey(key []byte) packedKey {
	if len(key) < packedSize {
		var full [packedSize]byte
		copy(full[:], key)
		return packedKey{
			binary.BigEndian.Uint64(full[:]),
			binary.BigEndian.Uint64(full[8:]),
			binary.BigEndian.Uint64(full[16:]),
		}
	}
	return packedKey{
		binary.BigEndian.Uint64(key),
		binary.BigEndian.Uint64(key[8:]),
		binary.BigEndian.Uint64(key[16:]),
	}
}

// packChunkPrefix is packKey(appendChunkPrefix(…)), written out because every message needs it.
func packChunkPrefix(slot wire.Slot, c wire.Conversation) packedKey {
	k := packedKey{a: uint64(slot)<<48 | uint64(kindChunk)<<40 | uint64(c.Kind)<<32 | uint64(c.A)>>16}
	k.b = uint64(c.A) << 48
	if c.Kind == wire.Direct {
		k.b |= uint64(c.B)
	}
	return k
}

func (k packedKey) appendTo(dst []byte, size int) []byte {
	var full [packedSize]byte
	binary.BigEndian.PutUint64(full[:], k.a)
	binary.BigEndian.PutUint64(full[8:], k.b)
	binary.BigEndian.PutUint64(full[16:], k.c)
	return append(dst, full[:size]...)
}

func (k packedKey) compare(o packedKey) int {
	switch {
	case k.a != o.a:
		return compareWords(k.a, o.a)
	case k.b != o.b:
		return compareWords(k.b, o.b)
	default:
		return compareWords(k.c, o.c)
	}
}

func compareWords(x, y uint64) int {
	if x < y {
		return -1
	}
	if x > y {
		return 1
	}
	return 0
}
