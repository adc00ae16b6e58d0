package shard

import (
	"parley/storage"
	"parley/wire"
	"parley/wire/planted"
)

// conversation is a conversation decoded, as the apply goroutine holds it between
// batches. Only that goroutine may touch it; readers see what the Writer was given. Of a
// group's members nothing is held: their records are read and written as they are needed.
type conversation struct {
	storage.Conversation
	key          wire.Conversation
	members      [2]storage.Member // of A and B; of a conversation with oneself, the first
	group        *storage.Group    // nil: a direct conversation
	exists       bool
	dirty        bool    // in the batch's list of changed ones
	dirtyRecord  bool    // the record is to be written
	dirtyGroup   bool    // the group's is
	dirtyMembers [2]bool // the members' records are
	// touched is the index of the batch's last entry that changed something for A and for B;
	// 0: none did. Of a group both are the same.
	touched      [2]uint64
	newer, older *conversation
}

// side is a member's place in members.
func (v *conversation) side(user wire.ID) int { return side(v.key, user) }

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
