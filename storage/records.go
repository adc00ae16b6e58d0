package storage

import (
	"encoding/binary"

	"parley/wire"
)

// A shardRecord is a Record as it is stored: with the shard's id and last slot, so that a
// check knows every shard's range from the state alone.
type shardRecord struct {
	Record
	ID   uint32
	Last wire.Slot
}

func appendShardRecord(dst []byte, r *shardRecord) []byte {
	dst = append(dst, encodingVersion)
	dst = binary.AppendUvarint(dst, uint64(r.ID))
	dst = binary.AppendUvarint(dst, uint64(r.Last))
	dst = binary.AppendUvarint(dst, r.Index)
	dst = binary.AppendUvarint(dst, r.Term)
	dst = binary.AppendUvarint(dst, r.ConfigurationIndex)
	return append(dst, r.Configuration...)
}

func parseShardRecord(src []byte) (r shardRecord, err error) {
	d := openValue(src)
	r.ID, r.Last = uint32(d.upTo(1<<32-1)), wire.Slot(d.upTo(wire.Slots-1))
	r.Index, r.Term, r.ConfigurationIndex = d.uint(), d.uint(), d.uint()
	if b := d.rest(); len(b) > 0 {
		r.Configuration = append([]byte(nil), b...)
	}
	return r, d.end()
}

// The encodings of a user index row that has the conversation's time, and of one of a
// group that the user has left.
const (
	userIndexTimed = 2
	userIndexGone  = 3
)

func appendUserIndex(dst []byte, u *UserIndex) []byte {
	version := byte(userIndexTimed)
	switch {
	case u.Gone:
		version = userIndexGone
	case u.Time == 0:
		return binary.AppendUvarint(append(dst, encodingVersion), u.Changed)
	}
	dst = binary.AppendUvarint(append(dst, version), u.Changed)
	return binary.AppendUvarint(dst, uint64(u.Time))
}

func parseUserIndex(user wire.ID, c wire.Conversation, src []byte) (UserIndex, error) {
	u := UserIndex{User: user, Conversation: c}
	d := decoder{src: src}
	version := d.version(userIndexGone)
	u.Changed = d.uint()
	if version >= userIndexTimed {
		u.Time, u.Gone = wire.Time(d.uint()), version == userIndexGone
	}
	if d.err == nil && version == userIndexTimed && u.Time == 0 {
		d.fail("time 0 in a row with a time")
	}
	return u, d.end()
}

func appendOutgoing(dst []byte, o *Outgoing) []byte {
	dst = binary.AppendUvarint(append(dst, encodingVersion), uint64(o.Target))
	return append(dst, o.Command...)
}

// parseOutgoing aliases src in Command.
func parseOutgoing(number uint64, src []byte) (Outgoing, error) {
	d := openValue(src)
	o := Outgoing{Number: number, Target: wire.Slot(d.upTo(wire.Slots - 1))}
	o.Command = d.rest()
	return o, d.end()
}

func appendIncoming(dst []byte, number uint64) []byte {
	return binary.AppendUvarint(append(dst, encodingVersion), number)
}

func parseIncoming(src []byte) (uint64, error) {
	d := openValue(src)
	n := d.uint()
	return n, d.end()
}

func appendUser(dst []byte, u *User) []byte {
	dst = binary.AppendUvarint(append(dst, encodingVersion), u.Version)
	dst = binary.AppendUvarint(dst, uint64(u.Created))
	dst = appendBytes(dst, u.Name)
	return append(dst, u.Hash...)
}

func parseUser(id wire.ID, src []byte) (User, error) {
	d := openValue(src)
	u := User{ID: id, Version: d.uint(), Created: wire.Time(d.uint())}
	u.Name = string(d.take(d.upTo(wire.NameBytesMax)))
	u.Hash = string(d.rest())
	return u, d.end()
}

func appendName(dst []byte, id wire.ID) []byte {
	return wire.AppendID(append(dst, encodingVersion), id)
}

func parseName(src []byte) (wire.ID, error) {
	d := openValue(src)
	id := d.id()
	return id, d.end()
}

// listGone is the encoding of a list row of a group that the user has left.
const listGone = 2

func appendList(dst []byte, l *List) []byte {
	version := byte(encodingVersion)
	if l.Gone {
		version = listGone
	}
	dst = binary.AppendUvarint(append(dst, version), l.Version)
	return binary.AppendUvarint(dst, l.Changed)
}

func parseList(user wire.ID, c wire.Conversation, src []byte) (List, error) {
	d := decoder{src: src}
	l := List{User: user, Conversation: c, Gone: d.version(listGone) == listGone}
	l.Version, l.Changed = d.uint(), d.uint()
	return l, d.end()
}
