package shard

import (
	"parley/storage"
	"parley/wire"
)

// A memory is what a direct conversation, or one member of a group, remembers of outboxes.
type memory storage.Memory

// remembered is the memory of a record.
func remembered(m *storage.Memory) *memory { return (*memory)(m) }

// find finds a command's outbox; -1 if it is not remembered. The one that was used last
// is the likeliest.
func (m *memory) find(c *command) int {
	for i := len(m.Outboxes) - 1; i >= 0; i-- {
		if o := &m.Outboxes[i]; o.Epoch == c.epoch && o.Device == c.device && o.Author == c.user {
			return i
		}
	}
	return -1
}

// use records that an outbox's send was accepted, and makes it the last used.
func (m *memory) use(key wire.Conversation, i int, o storage.Outbox) {
	if i < 0 {
		m.forget(key, o.Author)
		m.Outboxes = append(m.Outboxes, o)
		return
	}
	copy(m.Outboxes[i:], m.Outboxes[i+1:])
	m.Outboxes[len(m.Outboxes)-1] = o
}

// forget makes room for one more outbox of a user: the one used longest ago leaves only
// its hash, so that whatever still comes from it is known to be of unknown outcome.
func (m *memory) forget(key wire.Conversation, user wire.ID) {
	oldest, count := -1, 0
	for i := range m.Outboxes {
		if m.Outboxes[i].Author == user {
			if count++; oldest < 0 {
				oldest = i
			}
		}
	}
	if count < wire.OutboxesMax {
		return
	}
	o := m.Outboxes[oldest]
	m.Outboxes = append(m.Outboxes[:oldest], m.Outboxes[oldest+1:]...)
	hash := outboxHash(key, o.Author, o.Device, o.Epoch)
	if m.forgotten(hash) >= EvictedMax {
		for i, h := range m.Evicted {
			if h&1 == hash&1 {
				m.Evicted = append(m.Evicted[:i], m.Evicted[i+1:]...)
				break
			}
		}
	}
	m.Evicted = append(m.Evicted, hash)
}

// remembers reports whether the hash is one of a forgotten outbox.
func (m *memory) remembers(hash uint32) bool {
	for _, h := range m.Evicted {
		if h == hash {
			return true
		}
	}
	return false
}

// forgotten counts the hashes of forgotten outboxes of the same member.
func (m *memory) forgotten(hash uint32) (n int) {
	for _, h := range m.Evicted {
		if h&1 == hash&1 {
			n++
		}
	}
	return n
}

// outboxHash names a forgotten outbox: 31 bits of a mix, and in the last bit whose it was.
// It is kept in records, so it never changes. The mix is the finalizer of SplitMix64.
func outboxHash(key wire.Conversation, author, device wire.ID, epoch uint64) uint32 {
	h := epoch + uint64(device)*0x9e3779b97f4a7c15 + uint64(author)*0xbf58476d1ce4e5b9
	h = (h ^ h>>30) * 0xbf58476d1ce4e5b9
	h = (h ^ h>>27) * 0x94d049bb133111eb
	h ^= h >> 31
	return uint32(h)&^1 | uint32(side(key, author))
}

// side is a member's place in a direct conversation.
func side(key wire.Conversation, user wire.ID) int {
	if user == key.A {
		return 0
	}
	return 1
}
