package storage

import (
	"encoding/binary"

	"parley/wire"
)

// textBound bounds the texts of a group's record, so that a damaged length cannot ask for memory.
const textBound = wire.ContentBytesMax

// linkThere says that a group's link follows.
const linkThere = 1

func appendGroup(dst []byte, g *Group) []byte {
	dst = append(dst, encodingVersion)
	dst = binary.AppendUvarint(dst, g.Version)
	dst = binary.AppendUvarint(dst, g.Flags)
	dst = binary.AppendUvarint(dst, g.Members)
	dst = wire.AppendID(dst, g.Owner)
	dst = wire.AppendID(dst, g.Creation.User)
	dst = wire.AppendID(dst, g.Creation.Device)
	dst = binary.LittleEndian.AppendUint64(dst, g.Creation.Epoch)
	dst = binary.AppendUvarint(dst, g.Creation.Counter)
	dst = binary.AppendUvarint(dst, uint64(g.Created))
	dst = appendBytes(dst, g.Title)
	dst = appendBytes(dst, g.Description)
	dst = appendBytes(dst, g.Picture)
	if g.Link.Hash == (LinkHash{}) {
		return append(dst, 0)
	}
	dst = append(append(dst, linkThere), g.Link.Hash[:]...)
	dst = binary.AppendUvarint(dst, uint64(g.Link.Expires))
	return binary.AppendUvarint(dst, g.Link.Left)
}

func parseGroup(src []byte) (g Group, err error) {
	d := openValue(src)
	g.Version, g.Flags, g.Members, g.Owner = d.uint(), d.uint(), d.uint(), d.maybeID()
	g.Creation = Creation{User: d.id(), Device: d.id(), Epoch: d.fixed64(), Counter: d.uint()}
	g.Created = wire.Time(d.uint())
	g.Title, g.Description, g.Picture = d.text(textBound), d.text(textBound), d.text(textBound)
	switch d.byte() {
	case 0:
	case linkThere:
		copy(g.Link.Hash[:], d.take(uint64(len(g.Link.Hash))))
		g.Link.Expires, g.Link.Left = wire.Time(d.uint()), d.uint()
		if d.err == nil && g.Link.Hash == (LinkHash{}) {
			d.fail("link without a hash")
		}
	default:
		d.fail("link")
	}
	return g, d.end()
}
