package shard

import (
	"encoding/binary"
	"errors"
	"fmt"

	"parley/wire"
)

// entryVersion is the first byte of every log entry; replicas refuse a newer one.
const entryVersion = 1

// ErrBadEntry reports a log entry that cannot be decoded: a replica stops on it,
// because it cannot stay equal to the others.
var ErrBadEntry = errors.New("shard: bad log entry")

// commandKind is the first byte of a command in an entry.
type commandKind uint8

const (
	commandSend       commandKind = 1
	commandCursor     commandKind = 2
	commandCreateUser commandKind = 3
	commandListAdd    commandKind = 4
	commandOutgoing   commandKind = 5 // rows of the cross-shard outbox are done
)

// A sendCommand appends a message to a conversation.
type sendCommand struct {
	Conversation wire.Conversation
	Author       wire.ID
	Device       wire.ID
	Epoch        uint64
	Counter      uint64
	PeerKnown    bool // the edge has seen the peer's account
	Content      wire.Content
}

// A cursorCommand moves a member's cursor forward.
type cursorCommand struct {
	Conversation wire.Conversation
	User         wire.ID
	Kind         wire.CursorKind
	Position     uint64
}

// A createUserCommand adds an account whose name and id live in this shard.
type createUserCommand struct {
	ID   wire.ID
	Name string
	Hash string
}

// A listAddCommand adds a conversation to a user's own list at home.
type listAddCommand struct {
	User         wire.ID
	Conversation wire.Conversation
	Version      uint64
	From         uint32 // the shard that told, and the number of its outgoing row
	Number       uint64
}

// entryHeader begins an entry: what the leader stamped into it.
type entryHeader struct {
	Time   wire.Time
	Origin uint64 // names the proposer's batch, so that its replica answers the senders
}

func appendHeader(dst []byte, h entryHeader) []byte {
	dst = append(dst, entryVersion)
	dst = binary.AppendUvarint(dst, uint64(h.Time))
	return binary.LittleEndian.AppendUint64(dst, h.Origin)
}

func parseHeader(src []byte) (h entryHeader, rest []byte, err error) {
	if len(src) == 0 || src[0] != entryVersion {
		return h, nil, fmt.Errorf("%w: version", ErrBadEntry)
	}
	d := decoder{src: src[1:]}
	h.Time = wire.Time(d.uint())
	h.Origin = d.fixed64()
	return h, d.src, d.err
}

func appendSend(dst []byte, c *sendCommand) []byte {
	flags := uint64(0)
	if c.PeerKnown {
		flags |= 1
	}
	if c.Content.Extended {
		flags |= 2
	}
	dst = append(dst, byte(commandSend))
	dst = wire.AppendConversation(dst, c.Conversation)
	dst = wire.AppendID(dst, c.Author)
	dst = wire.AppendID(dst, c.Device)
	dst = binary.LittleEndian.AppendUint64(dst, c.Epoch)
	dst = binary.AppendUvarint(dst, c.Counter)
	dst = binary.AppendUvarint(dst, flags)
	return appendBytes(dst, c.Content.Bytes)
}

func appendCursor(dst []byte, c *cursorCommand) []byte {
	dst = append(dst, byte(commandCursor))
	dst = wire.AppendConversation(dst, c.Conversation)
	dst = wire.AppendID(dst, c.User)
	return binary.AppendUvarint(dst, c.Position<<2|uint64(c.Kind))
}

func appendCreateUser(dst []byte, c *createUserCommand) []byte {
	dst = append(dst, byte(commandCreateUser))
	dst = wire.AppendID(dst, c.ID)
	dst = appendBytes(dst, []byte(c.Name))
	return appendBytes(dst, []byte(c.Hash))
}

func appendListAdd(dst []byte, c *listAddCommand) []byte {
	dst = append(dst, byte(commandListAdd))
	dst = wire.AppendID(dst, c.User)
	dst = wire.AppendConversation(dst, c.Conversation)
	dst = binary.AppendUvarint(dst, c.Version)
	dst = binary.AppendUvarint(dst, uint64(c.From))
	return binary.AppendUvarint(dst, c.Number)
}

func appendOutgoingDone(dst []byte, number uint64) []byte {
	dst = append(dst, byte(commandOutgoing))
	return binary.AppendUvarint(dst, number)
}

func appendBytes(dst, b []byte) []byte {
	dst = binary.AppendUvarint(dst, uint64(len(b)))
	return append(dst, b...)
}

// A decoder reads commands; the first error sticks.
type decoder struct {
	src []byte
	err error
}

func (d *decoder) fail() {
	if d.err == nil {
		d.err = fmt.Errorf("%w: ends early", ErrBadEntry)
	}
	d.src = nil
}

func (d *decoder) uint() uint64 {
	n, size := binary.Uvarint(d.src)
	if size <= 0 {
		d.fail()
		return 0
	}
	d.src = d.src[size:]
	return n
}

func (d *decoder) fixed64() uint64 {
	if len(d.src) < 8 {
		d.fail()
		return 0
	}
	n := binary.LittleEndian.Uint64(d.src)
	d.src = d.src[8:]
	return n
}

func (d *decoder) bytes() []byte {
	n := d.uint()
	if n > uint64(len(d.src)) {
		d.fail()
		return nil
	}
	b := d.src[:n:n]
	d.src = d.src[n:]
	return b
}

func (d *decoder) id() wire.ID {
	id, rest, err := wire.ParseKeyID(d.src)
	if err != nil {
		d.fail()
		return 0
	}
	d.src = rest
	return id
}

func (d *decoder) conversation() wire.Conversation {
	c, rest, err := wire.ParseConversation(d.src)
	if err != nil {
		d.fail()
		return c
	}
	d.src = rest
	return c
}

func (d *decoder) kind() commandKind {
	if len(d.src) == 0 {
		d.fail()
		return 0
	}
	k := commandKind(d.src[0])
	d.src = d.src[1:]
	return k
}

func (d *decoder) send(c *sendCommand) {
	c.Conversation = d.conversation()
	c.Author, c.Device = d.id(), d.id()
	c.Epoch, c.Counter = d.fixed64(), d.uint()
	flags := d.uint()
	c.PeerKnown = flags&1 != 0
	c.Content = wire.Content{Extended: flags&2 != 0, Bytes: d.bytes()}
}

func (d *decoder) cursor(c *cursorCommand) {
	c.Conversation, c.User = d.conversation(), d.id()
	n := d.uint()
	c.Position, c.Kind = n>>2, wire.CursorKind(n&3)
}

func (d *decoder) createUser(c *createUserCommand) {
	c.ID, c.Name, c.Hash = d.id(), string(d.bytes()), string(d.bytes())
}

func (d *decoder) listAdd(c *listAddCommand) {
	c.User, c.Conversation = d.id(), d.conversation()
	c.Version, c.From, c.Number = d.uint(), uint32(d.uint()), d.uint()
}
