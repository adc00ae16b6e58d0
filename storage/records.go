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

// userIndexTimed is the encoding of a user index row that has the conversation's time.
const userIndexTimed = 2

func appendUserIndex(dst []byte, u *UserIndex) []byte {
	if u.Time == 0 {
		return binary.AppendUvarint(append(dst, encodingVersion), u.Changed)
	}
	dst = binary.AppendUvarint(append(dst, userIndexTimed), u.Changed)
	return binary.AppendUvarint(dst, uint64(u.Time))
}

func parseUserIndex(user wire.ID, c wire.Conversation, src []byte) (UserIndex, error) {
	u := UserIndex{User: user, Conversation: c}
	if len(src) == 0 || src[0] != userIndexTimed {
		d := openValue(src)
		u.Changed = d.uint()
		return u, d.end()
	}
	d := decoder{src: src[1:]}
	u.Changed, u.Time = d.uint(), wire.Time(d.uint())
	if d.err == nil && u.Time == 0 {
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

func appendList(dst []byte, l *List) []byte {
	dst = binary.AppendUvarint(append(dst, encodingVersion), l.Version)
	return binary.AppendUvarint(dst, l.Changed)
}

func parseList(user wire.ID, c wire.Conversation, src []byte) (List, error) {
	d := openValue(src)
	l := List{User: user, Conversation: c, Version: d.uint(), Changed: d.uint()}
	return l, d.end()
}
