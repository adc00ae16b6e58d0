package auth

import (
	"crypto/subtle"
	"encoding/binary"

	"parley/wire"
)

// ticketVersion is the first byte of a ticket, so that its form can change.
const ticketVersion = 1

// Offsets in a ticket, in bytes.
//
//	0        1       2       8        14        20        36
//	| version | key   | user  | device | expires | tag     |
//	| 1       | 0-255 | 6, BE | 6, BE  | 6, BE   | 16      |
//
// expires is wire time in milliseconds; the tag is HMAC-SHA256 of all before it.
const (
	ticketKeyAt     = 1
	ticketUserAt    = 2
	ticketDeviceAt  = 8
	ticketExpiresAt = 14
	ticketTagAt     = 20
)

// AppendTicket appends a ticket of TicketBytes that proves the identity until expires;
// id.Expires, the end of the credential that proved it now, is not looked at. It
// does not allocate when dst has room.
func (k *Keys) AppendTicket(dst []byte, id Identity, expires wire.Time) []byte {
	start := len(dst)
	dst = append(dst, ticketVersion, k.ticket)
	dst = wire.AppendID(dst, id.User)
	dst = wire.AppendID(dst, id.Device)
	dst = wire.AppendID(dst, wire.ID(min(expires, 1<<wire.IDBits-1)))
	pool := k.macs[k.ticket]
	m, tag := pool.sum(dst[start:])
	dst = append(dst, tag...)
	pool.put(m)
	return dst
}

// VerifyTicket checks a ticket at a moment and says whom it is for. There is no leeway:
// the servers of one cluster gave the ticket, and a client whose ticket is too old still
// has its token. The error is ErrExpired for a ticket that was good once, and ErrInvalid
// for everything else. It does not allocate, and its time does not depend on the tag.
func (k *Keys) VerifyTicket(ticket []byte, now wire.Time) (Identity, error) {
	if len(ticket) != TicketBytes || ticket[0] != ticketVersion {
		return Identity{}, ErrInvalid
	}
	pool := k.macs[ticket[ticketKeyAt]]
	if pool == nil {
		return Identity{}, ErrInvalid
	}
	m, tag := pool.sum(ticket[:ticketTagAt])
	good := subtle.ConstantTimeCompare(tag, ticket[ticketTagAt:]) == 1
	pool.put(m)
	id := Identity{
		User:    wire.ID(uint48(ticket[ticketUserAt:])),
		Device:  wire.ID(uint48(ticket[ticketDeviceAt:])),
		Expires: wire.Time(uint48(ticket[ticketExpiresAt:])),
	}
	switch {
	case !good || !id.User.Valid() || !id.Device.Valid():
		return Identity{}, ErrInvalid
	case now >= id.Expires:
		return Identity{}, ErrExpired
	}
	return id, nil
}

func uint48(b []byte) uint64 {
	return uint64(binary.BigEndian.Uint16(b))<<32 | uint64(binary.BigEndian.Uint32(b[2:]))
}
