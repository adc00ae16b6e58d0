package auth

import (
	"encoding/binary"
	"slices"

	"parley/wire"
)

// groupPrefix tells what is signed from the first bytes of a ticket.
const groupPrefix = "group"

// GroupID is the identifier of the group that a device makes with a counter of an outbox
// epoch. It follows from these and a key of the cluster alone, so that a creation that is
// sent again makes the same group wherever it lands, and a client cannot choose where the
// group lies. The first key is used, which stays the same when others are added.
func (k *Keys) GroupID(user, device wire.ID, epoch, counter uint64) wire.ID {
	body := append(make([]byte, 0, 64), groupPrefix...)
	body = wire.AppendID(body, user)
	body = wire.AppendID(body, device)
	body = binary.BigEndian.AppendUint64(body, epoch)
	body = binary.BigEndian.AppendUint64(body, counter)
	pool := k.macs[slices.IndexFunc(k.macs[:], func(p *macPool) bool { return p != nil })]
	m := pool.pool.Get().(*mac)
	defer pool.put(m)
	m.hash.Reset()
	m.hash.Write(body)
	tag := m.hash.Sum(m.out[:0])
	id := wire.ID(uint48(tag))
	for !id.Valid() && len(tag) >= 2*6 { // 0, once in 2^48
		tag = tag[6:]
		id = wire.ID(uint48(tag))
	}
	return id
}
