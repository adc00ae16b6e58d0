package shard

import (
	"parley/storage"
	"parley/wire"
	"parley/wire/planted"
)

// conversation is a conversation decoded, as the apply goroutine holds it between
// batches. Only that goroutine may touch it; readers see what the Writer was given.
type conversation struct {
	storage.Conversation
	key          wire.Conversation
	members      [2]storage.Member // of A and B; of a conversation with oneself, the first
	exists       bool
	dirty        bool    // in the batch's list of changed ones
	dirtyRecord  bool    // the record is to be written
	dirtyMembers [2]bool // the members' records are
	touched      uint64  // index of the entry that changed any of them last
	newer, older *conversation
}

// side is a member's place in members.
func (v *conversation) side(user wire.ID) int {
	if user == v.key.A {
		return 0
	}
	return 1
}

// outbox finds an outbox; -1 if the conversation does not remember it. The one that was
// used last is the likeliest.
func (v *conversation) outbox(c *command) int {
	for i := len(v.Outboxes) - 1; i >= 0; i-- {
		if o := &v.Outboxes[i]; o.Epoch == c.epoch && o.Device == c.device && o.Author == c.user {
			return i
		}
	}
	return -1
}

// use records that an outbox's send was accepted, and makes it the last used.
func (v *conversation) use(i int, o storage.Outbox) {
	if i < 0 {
		v.forget(o.Author)
		v.Outboxes = append(v.Outboxes, o)
		return
	}
	copy(v.Outboxes[i:], v.Outboxes[i+1:])
	v.Outboxes[len(v.Outboxes)-1] = o
}

// forget makes room for one more outbox of a user: the one used longest ago leaves only
// its hash, so that whatever still comes from it is known to be of unknown outcome.
func (v *conversation) forget(user wire.ID) {
	oldest, count := -1, 0
	for i := range v.Outboxes {
		if v.Outboxes[i].Author == user {
			if count++; oldest < 0 {
				oldest = i
			}
		}
	}
	if count < wire.OutboxesMax {
		return
	}
	o := v.Outboxes[oldest]
	v.Outboxes = append(v.Outboxes[:oldest], v.Outboxes[oldest+1:]...)
	hash := v.hash(o.Author, o.Device, o.Epoch)
	if v.forgotten(hash) >= EvictedMax {
		for i, h := range v.Evicted {
			if h&1 == hash&1 {
				v.Evicted = append(v.Evicted[:i], v.Evicted[i+1:]...)
				break
			}
		}
	}
	v.Evicted = append(v.Evicted, hash)
}

// remembers reports whether the hash is one of a forgotten outbox.
func (v *conversation) remembers(hash uint32) bool {
	for _, h := range v.Evicted {
		if h == hash {
			return true
		}
	}
	return false
}

// forgotten counts the hashes of forgotten outboxes of the same member.
func (v *conversation) forgotten(hash uint32) (n int) {
	for _, h := range v.Evicted {
		if h&1 == hash&1 {
			n++
		}
	}
	return n
}

// hash names a forgotten outbox: 31 bits of a mix, and in the last bit whose it was. It
// is kept in records, so it never changes. The mix is the finalizer of SplitMix64.
func (v *conversation) hash(author, device wire.ID, epoch uint64) uint32 {
	h := epoch + uint64(device)*0x9e3779b97f4a7c15 + uint64(author)*0xbf58476d1ce4e5b9
	h = (h ^ h>>30) * 0xbf58476d1ce4e5b9
	h = (h ^ h>>27) * 0x94d049bb133111eb
	h ^= h >> 31
	return uint32(h)&^1 | uint32(v.side(author))
}

// advance moves a cursor forward and remembers when. It tells whether it moved.
func advance(c *storage.Cursor, position uint64, time wire.Time) bool {
	if position <= c.Position && !(planted.Active(planted.CursorBack) && position < c.Position) {
		return false
	}
	c.Position = position
	n := len(c.Steps)
	switch {
	case n > 0 && c.Steps[n-1].Time >= time:
		c.Steps[n-1].Position = position
	case n == storage.StepsMax:
		copy(c.Steps, c.Steps[1:])
		c.Steps[n-1] = storage.Step{Position: position, Time: time}
	default:
		c.Steps = append(c.Steps, storage.Step{Position: position, Time: time})
	}
	return true
}

// conversationCache keeps the conversations that were used last.
type conversationCache struct {
	limit  int
	values map[[2]uint64]*conversation
	ends   conversation // a ring: ends.older is the newest, ends.newer the oldest
}

func newConversationCache(limit int) *conversationCache {
	c := &conversationCache{limit: limit, values: make(map[[2]uint64]*conversation)}
	c.ends.newer, c.ends.older = &c.ends, &c.ends
	return c
}

// cacheKey packs a conversation's key so that it hashes as plain bytes.
func cacheKey(c wire.Conversation) [2]uint64 {
	return [2]uint64{uint64(c.Kind)<<wire.IDBits | uint64(c.A), uint64(c.B)}
}

// get finds a conversation and makes it the last used; nil if it is not here.
func (c *conversationCache) get(key wire.Conversation) *conversation {
	v := c.values[cacheKey(key)]
	if v != nil && c.ends.older != v {
		v.unlink()
		c.link(v)
	}
	return v
}

// put adds a conversation, which must not be there yet. Those used longest ago go once
// there are too many, but never one with changes that are not written.
func (c *conversationCache) put(v *conversation) {
	c.values[cacheKey(v.key)] = v
	c.link(v)
	for oldest := c.ends.newer; len(c.values) > c.limit && oldest != &c.ends; {
		next := oldest.newer
		if !oldest.dirty && oldest != v {
			oldest.unlink()
			delete(c.values, cacheKey(oldest.key))
		}
		oldest = next
	}
}

func (c *conversationCache) link(v *conversation) {
	v.older, v.newer = c.ends.older, &c.ends
	v.older.newer, c.ends.older = v, v
}

func (v *conversation) unlink() {
	v.older.newer, v.newer.older = v.newer, v.older
}
