package storage

import (
	"encoding/binary"

	"parley/wire"
)

// The encodings of a member: of a group, and of each kind of conversation with something
// of the member's own. In one of a group the flags have always had their place.
const (
	memberOfGroup    = 2
	memberOwn        = 3
	memberOfGroupOwn = 4
)

// memberBanned is the flag of a member that is banned.
const memberBanned = 1

func appendMember(dst []byte, m *Member) []byte {
	g := &m.Membership
	if g.Role == wire.RoleNone && !g.Banned {
		if m.Own == (Own{}) {
			dst = append(dst, encodingVersion)
		} else {
			dst = binary.AppendUvarint(append(dst, memberOwn), m.Own.Flags)
			dst = appendOwn(dst, &m.Own)
		}
	} else {
		dst = appendMembership(dst, m)
	}
	dst = appendCursor(dst, &m.Delivered)
	return appendCursor(dst, &m.Read)
}

func appendMembership(dst []byte, m *Member) []byte {
	g, version, flags := &m.Membership, byte(memberOfGroup), byte(0)
	own := m.Own.Version != 0 || m.Own.MutedUntil != 0
	if own {
		version = memberOfGroupOwn
	}
	if g.Banned {
		flags |= memberBanned
	}
	dst = append(dst, version, flags, byte(g.Role))
	dst = binary.AppendUvarint(dst, g.From)
	dst = binary.AppendUvarint(dst, g.Joined)
	dst = binary.AppendUvarint(dst, uint64(g.Since))
	dst = binary.AppendUvarint(dst, m.Own.Flags)
	if own {
		dst = appendOwn(dst, &m.Own)
	}
	return dst
}

// appendOwn appends what follows the flags.
func appendOwn(dst []byte, o *Own) []byte {
	dst = binary.AppendUvarint(dst, o.Version)
	return binary.AppendUvarint(dst, uint64(o.MutedUntil))
}

// parseMember reads into the room that the steps of m have.
func parseMember(src []byte, m *Member) error {
	d := decoder{src: src}
	m.Membership, m.Own = Membership{}, Own{}
	switch version := d.version(memberOfGroupOwn); version {
	case memberOwn:
		m.Own.Flags = d.uint()
		d.own(&m.Own)
		if m.Own == (Own{}) {
			d.fail("nothing of the member's own")
		}
	case memberOfGroup, memberOfGroupOwn:
		d.membership(m)
		if version == memberOfGroup {
			break
		}
		if d.own(&m.Own); m.Own.Version == 0 && m.Own.MutedUntil == 0 {
			d.fail("nothing of the member's own")
		}
	}
	d.cursor(&m.Delivered)
	d.cursor(&m.Read)
	return d.end()
}

func (d *decoder) membership(m *Member) {
	flags := d.byte()
	m.Membership = Membership{Banned: flags == memberBanned, Role: wire.Role(d.byte()), From: d.uint(), Joined: d.uint(), Since: wire.Time(d.uint())}
	m.Own.Flags = d.uint()
	if d.err == nil && (flags > memberBanned || m.Role > wire.RoleOwner || m.Banned != (m.Role == wire.RoleNone)) {
		d.fail("role %d, flags %d", m.Role, flags)
	}
}

func (d *decoder) own(o *Own) {
	o.Version, o.MutedUntil = d.uint(), wire.Time(d.uint())
}
