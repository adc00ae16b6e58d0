package shard

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"

	"parley/wire"
)

// ErrBadEntry reports a log entry that cannot be decoded: a replica stops on it,
// because it cannot stay equal to the others.
var ErrBadEntry = errors.New("shard: bad log entry")

// An entry is
//
//	version  1 byte
//	checksum 4 bytes, little endian: CRC-32C of all that follows
//	origin   8 bytes, little endian: names the proposer's batch
//	time     varint: the leader's clock
//	commands to the end
//
// The log store has checksums of its own; this one also covers the way between
// processes, and a defect in either.
const (
	entryVersion     = 1
	entryChecksumEnd = 1 + 4
	entryHeaderBytes = entryChecksumEnd + 8 + binary.MaxVarintLen64
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// commandKind is the first byte of a command in an entry. Kinds are never reused; a
// replica stops on one that it does not know, so a new one is proposed only once the
// cluster's version says that every replica knows it.
type commandKind uint8

const (
	commandSend         commandKind = 1
	commandCursor       commandKind = 2
	commandCreateUser   commandKind = 3
	commandListAdd      commandKind = 4
	commandOutgoingDone commandKind = 5  // a row of the cross-shard outbox is done
	commandGroup        commandKind = 6  // a send whose content is an event of a group
	commandListGone     commandKind = 7  // a list add that takes away
	commandCursors      commandKind = 8  // cursors of one group; decoded as so many of commandCursor
	commandJoin         commandKind = 9  // by a group's link
	commandOwn          commandKind = 16 // what a user asks for of a conversation alone
)

// A command is one replicated change in its decoded form. Which fields mean something
// depends on the kind. Bytes alias the entry.
type command struct {
	kind         commandKind
	cursorKind   wire.CursorKind   // cursor
	peerKnown    bool              // send: the edge has seen the peer's account
	tooLarge     bool              // send: the body was beyond its limit and left out
	conversation wire.Conversation // send, group, join, own, cursor, list add and gone
	user         wire.ID           // send, group, join, own: author; create user, list add and gone, cursor: whose
	device       wire.ID           // send, group
	epoch        uint64            // send, group: names the outbox
	number       uint64            // send, group: counter; cursor: position; list add and gone, outgoing done: row
	version      uint64            // list add and gone
	from         uint32            // list add and gone: the shard that tells
	content      wire.Content      // send, group
	name, hash   []byte            // create user
	secret       []byte            // join
	ask          *Ask              // own
}

// Flags of a send.
const (
	sendPeerKnown = 1 << iota
	sendExtended
	sendTooLarge
	sendFlagsEnd
)

// appendEntryHeader starts an entry; sealEntry completes it.
func appendEntryHeader(dst []byte, origin uint64, time wire.Time) []byte {
	dst = append(dst, entryVersion, 0, 0, 0, 0)
	dst = binary.LittleEndian.AppendUint64(dst, origin)
	return binary.AppendUvarint(dst, uint64(time))
}

func sealEntry(entry []byte) {
	binary.LittleEndian.PutUint32(entry[1:], crc32.Checksum(entry[entryChecksumEnd:], castagnoli))
}

// appendSend appends a message. A body beyond its limit is left out: it can only be
// refused, but only apply may say so, since it may be a retry of something else.
func appendSend(dst []byte, m *Send) []byte {
	switch {
	case m.Ask != nil:
		return appendOwn(dst, m)
	case len(m.Secret) > 0:
		return appendJoin(dst, m)
	}
	kind := commandSend
	if m.Event {
		kind = commandGroup
	}
	flags, body := uint64(0), m.Content.Bytes
	if m.PeerKnown {
		flags |= sendPeerKnown
	}
	if m.Content.Extended {
		flags |= sendExtended
	}
	if len(body) > wire.ContentBytesMax {
		flags, body = flags|sendTooLarge, nil
	}
	dst = append(dst, byte(kind))
	dst = wire.AppendConversation(dst, m.Conversation)
	dst = wire.AppendID(dst, m.Author)
	dst = wire.AppendID(dst, m.Device)
	dst = binary.LittleEndian.AppendUint64(dst, m.Epoch)
	dst = binary.AppendUvarint(dst, m.Counter)
	dst = append(dst, byte(flags))
	return appendBytes(dst, body)
}

func appendJoin(dst []byte, m *Send) []byte {
	dst = append(dst, byte(commandJoin))
	dst = wire.AppendConversation(dst, m.Conversation)
	dst = wire.AppendID(dst, m.Author)
	return appendBytes(dst, m.Secret)
}

func appendCursor(dst []byte, c *Cursor) []byte {
	dst = append(dst, byte(commandCursor))
	dst = wire.AppendConversation(dst, c.Conversation)
	return appendCursorItem(dst, c)
}

// appendCursors appends cursors of one group, which is named once.
func appendCursors(dst []byte, list []Cursor) []byte {
	dst = append(dst, byte(commandCursors))
	dst = wire.AppendConversation(dst, list[0].Conversation)
	dst = binary.AppendUvarint(dst, uint64(len(list)))
	for i := range list {
		dst = appendCursorItem(dst, &list[i])
	}
	return dst
}

func appendCursorItem(dst []byte, c *Cursor) []byte {
	dst = wire.AppendID(dst, c.User)
	return binary.AppendUvarint(dst, c.Position<<2|uint64(c.Kind))
}

func appendCreateUser(dst []byte, id wire.ID, name, hash string) []byte {
	dst = append(dst, byte(commandCreateUser))
	dst = wire.AppendID(dst, id)
	dst = appendBytes(dst, name)
	return appendBytes(dst, hash)
}

// appendList appends a list add or gone.
func appendList(dst []byte, c *command) []byte {
	dst = append(dst, byte(c.kind))
	dst = wire.AppendID(dst, c.user)
	dst = wire.AppendConversation(dst, c.conversation)
	dst = binary.AppendUvarint(dst, c.version)
	dst = binary.AppendUvarint(dst, uint64(c.from))
	return binary.AppendUvarint(dst, c.number)
}

func appendOutgoingDone(dst []byte, number uint64) []byte {
	dst = append(dst, byte(commandOutgoingDone))
	return binary.AppendUvarint(dst, number)
}

func appendBytes[T string | []byte](dst []byte, b T) []byte {
	dst = binary.AppendUvarint(dst, uint64(len(b)))
	return append(dst, b...)
}

// parseEntry decodes a whole entry before any of it is applied. dst is reused.
func parseEntry(dst []command, src []byte) (origin uint64, time wire.Time, commands []command, err error) {
	if len(src) < entryChecksumEnd || src[0] != entryVersion {
		return 0, 0, dst, fmt.Errorf("%w: not of version %d", ErrBadEntry, entryVersion)
	}
	if crc32.Checksum(src[entryChecksumEnd:], castagnoli) != binary.LittleEndian.Uint32(src[1:]) {
		return 0, 0, dst, fmt.Errorf("%w: checksum", ErrBadEntry)
	}
	d := decoder{src: src[entryChecksumEnd:]}
	origin, time = d.fixed64(), wire.Time(d.uint())
	commands, err = d.commands(dst)
	return origin, time, commands, err
}

// parseCommands decodes commands without an entry around them.
func parseCommands(src []byte) ([]command, error) {
	d := decoder{src: src}
	return d.commands(nil)
}

// A decoder reads commands; the first error sticks.
type decoder struct {
	src []byte
	err error
}

func (d *decoder) commands(dst []command) ([]command, error) {
	for len(d.src) > 0 && d.err == nil {
		if commandKind(d.src[0]) == commandCursors {
			dst = d.cursors(dst)
			continue
		}
		dst = append(dst, command{})
		d.command(&dst[len(dst)-1])
	}
	return dst, d.err
}

// cursorItemBytesMin is the least that a cursor takes beside its conversation.
const cursorItemBytesMin = 6 + 1

// cursors reads the cursors of one group as if each had come alone.
func (d *decoder) cursors(dst []command) []command {
	d.byte()
	group := d.conversation()
	n := d.uint()
	if group.Kind != wire.Group || n < 2 || n > uint64(len(d.src)/cursorItemBytesMin) {
		d.fail("cursors of a group")
		return dst
	}
	for range n {
		c := command{kind: commandCursor, conversation: group}
		d.cursor(&c)
		dst = append(dst, c)
	}
	return dst
}

func (d *decoder) cursor(c *command) {
	c.user = d.id()
	n := d.uint()
	c.number, c.cursorKind = n>>2, wire.CursorKind(n&3)
	if c.cursorKind > wire.Read {
		d.fail("cursor kind")
	}
}

func (d *decoder) command(c *command) {
	c.kind = commandKind(d.byte())
	switch c.kind {
	case commandSend, commandGroup:
		d.send(c)
		if c.kind == commandGroup && c.conversation.Kind != wire.Group {
			d.fail("event of a direct conversation")
		}
	case commandJoin:
		c.conversation, c.user, c.secret = d.conversation(), d.id(), d.bytes()
		if c.conversation.Kind != wire.Group || len(c.secret) == 0 {
			d.fail("join")
		}
	case commandOwn:
		c.conversation, c.user, c.ask = d.conversation(), d.id(), d.ask()
	case commandCursor:
		c.conversation = d.conversation()
		d.cursor(c)
	case commandCreateUser:
		c.user, c.name, c.hash = d.id(), d.bytes(), d.bytes()
	case commandListAdd, commandListGone:
		c.user, c.conversation, c.version = d.id(), d.conversation(), d.uint()
		from := d.uint()
		if c.from = uint32(from); from > shardIDMax {
			d.fail("shard")
		}
		c.number = d.uint()
	case commandOutgoingDone:
		c.number = d.uint()
	default:
		d.fail("unknown command")
	}
}

func (d *decoder) send(c *command) {
	c.conversation = d.conversation()
	c.user, c.device = d.id(), d.id()
	c.epoch, c.number = d.fixed64(), d.uint()
	flags := d.byte()
	if flags >= sendFlagsEnd {
		d.fail("send flags")
	}
	c.peerKnown, c.tooLarge = flags&sendPeerKnown != 0, flags&sendTooLarge != 0
	c.content = wire.Content{Extended: flags&sendExtended != 0, Bytes: d.bytes()}
	if n := len(c.content.Bytes); n > wire.ContentBytesMax || c.tooLarge && n > 0 {
		d.fail("content too large")
	}
}

func (d *decoder) fail(what string) {
	if d.err == nil {
		d.err = fmt.Errorf("%w: %s", ErrBadEntry, what)
	}
	d.src = nil
}

func (d *decoder) byte() byte {
	if len(d.src) == 0 {
		d.fail("ends early")
		return 0
	}
	b := d.src[0]
	d.src = d.src[1:]
	return b
}

// uint reads a varint in its shortest form, so that a command has one encoding.
func (d *decoder) uint() uint64 {
	n, size := binary.Uvarint(d.src)
	if size <= 0 || size > 1 && d.src[size-1] == 0 {
		d.fail("number")
		return 0
	}
	d.src = d.src[size:]
	return n
}

func (d *decoder) fixed64() uint64 {
	if len(d.src) < 8 {
		d.fail("ends early")
		return 0
	}
	n := binary.LittleEndian.Uint64(d.src)
	d.src = d.src[8:]
	return n
}

func (d *decoder) bytes() []byte {
	n := d.uint()
	if n > uint64(len(d.src)) {
		d.fail("ends early")
		return nil
	}
	b := d.src[:n:n]
	d.src = d.src[n:]
	return b
}

func (d *decoder) id() wire.ID {
	id, rest, err := wire.ParseKeyID(d.src)
	if err != nil || id == 0 {
		d.fail("identifier")
		return 0
	}
	d.src = rest
	return id
}

func (d *decoder) conversation() wire.Conversation {
	c, rest, err := wire.ParseConversation(d.src)
	if err != nil {
		d.fail("conversation")
		return c
	}
	d.src = rest
	return c
}
