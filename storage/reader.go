package storage

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"

	"github.com/cockroachdb/pebble/v2"

	"parley/wire"
)

// A Reader sees one moment of a shard: what is in its buffers, over what is ingested. It is
// valid until the function that was given it returns, and for that function's goroutine only.
//
// In a view the first buffer is the one that was active when the view began; updates may
// still write to it, so the shard's lock is held while it is looked at. In an update the
// lock is held anyway.
type Reader struct {
	shard     *Shard
	buffers   []*buffer        // newest first
	version   uint32           // of the first buffer; the others are frozen
	snapshot  *pebble.Snapshot // nil in an update
	tables    pebble.Reader
	record    Record
	swaps     uint64 // the shard's when the view began
	iterators []*pebble.Iterator
	depth     int               // how many of the iterators are in use
	slotOf    wire.Conversation // whose slot was computed last
	slot      wire.Slot

	// Memory that is kept for the next call.
	key      []byte
	rows     []row
	chunks   []foundChunk
	messages []Message
}

// begin points the reader at a shard whose lock is held until finish.
func (r *Reader) begin(s *Shard) {
	r.shard, r.buffers = s, append(r.buffers[:0], s.active)
	r.buffers = append(r.buffers, s.frozen...)
	r.version, r.tables = latest, s.store.db
}

// pin makes the reader see a shard as it is now, without its lock, until unpin. Buffers and
// tables are taken under one lock, so an ingest cannot fall between them.
func (r *Reader) pin(s *Shard) error {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if s.torn != nil {
		return s.torn
	}
	r.begin(s)
	r.version, r.record, r.swaps = s.active.hold(), s.active.record, s.swaps
	for _, b := range s.frozen {
		b.hold()
	}
	r.snapshot = s.store.db.NewSnapshot()
	r.tables = r.snapshot
	return nil
}

// unpin ends a view. One during which a snapshot was installed has seen tables of the one
// state and buffers of the other.
func (r *Reader) unpin() error {
	s := r.shard
	s.mu.RLock()
	whole := s.swaps == r.swaps
	s.mu.RUnlock()
	for _, b := range r.buffers {
		b.release()
	}
	err := errors.Join(r.finish(), r.snapshot.Close())
	r.snapshot = nil
	if !whole {
		err = errors.Join(err, ErrReplaced)
	}
	return err
}

// lock keeps updates away while the buffer of a number is looked at; it tells which version
// of it to look at. Frozen ones need no lock.
func (r *Reader) lock(number int) (version uint32) {
	if number > 0 {
		return latest
	}
	if r.snapshot != nil {
		r.shard.mu.RLock()
	}
	return r.version
}

func (r *Reader) unlock(number int) {
	if number == 0 && r.snapshot != nil {
		r.shard.mu.RUnlock()
	}
}

// finish lets go of everything that the reader holds.
func (r *Reader) finish() error {
	var err error
	for _, it := range r.iterators {
		err = errors.Join(err, it.Close())
	}
	clear(r.iterators)
	clear(r.buffers)
	clear(r.rows[:cap(r.rows)])
	clear(r.chunks[:cap(r.chunks)])
	clear(r.messages[:cap(r.messages)])
	r.shard, r.tables, r.record = nil, nil, Record{}
	r.iterators, r.depth = r.iterators[:0], 0
	return err
}

// Applied is the record as of the last update, which is ahead of what is durable.
func (r *Reader) Applied() Record {
	if r.snapshot == nil {
		return r.shard.active.record
	}
	return r.record
}

// conversationSlot hashes a pair once for the many keys of one conversation.
func (r *Reader) conversationSlot(c wire.Conversation) wire.Slot {
	if c != r.slotOf {
		r.slotOf, r.slot = c, c.Slot()
	}
	return r.slot
}

// owns fails for a slot of another shard: what this shard's buffers say of it is nothing, so
// that an answer would be old or wrong.
func (r *Reader) owns(slot wire.Slot) error {
	if slot < r.shard.first || slot > r.shard.last {
		return fmt.Errorf("%w: slot %d, shard %d has %d to %d", ErrMisuse, slot, r.shard.id, r.shard.first, r.shard.last)
	}
	return nil
}

// get calls fn with the value of a key, which dies when fn returns.
func (r *Reader) get(key []byte, fn func(value []byte) error) (bool, error) {
	if err := r.owns(wire.Slot(binary.BigEndian.Uint16(key))); err != nil {
		return false, err
	}
	for i := range r.buffers {
		if value, deleted, ok := r.find(i, key); ok {
			if deleted {
				return false, nil
			}
			return true, fn(value)
		}
	}
	value, closer, err := r.tables.Get(key)
	if errors.Is(err, pebble.ErrNotFound) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	err = fn(value)
	return true, errors.Join(err, closer.Close())
}

// find looks a key up in one buffer. The value stays as it is as long as the reader may see it.
func (r *Reader) find(number int, key []byte) (value []byte, deleted, ok bool) {
	b := r.buffers[number]
	version := r.lock(number)
	defer r.unlock(number)
	e := b.find(key)
	if e == nil {
		return nil, false, false
	}
	s := b.at(e, version)
	if s == nil {
		return nil, false, false
	}
	return b.value(s), s.deleted, true
}

// User reads an account.
func (r *Reader) User(id wire.ID) (u User, ok bool, err error) {
	r.key = appendUserKey(r.key[:0], id)
	ok, err = r.get(r.key, func(value []byte) error {
		u, err = parseUser(id, value)
		return err
	})
	return u, ok, err
}

// UserByName resolves a name to an account's identifier.
func (r *Reader) UserByName(name string) (id wire.ID, ok bool, err error) {
	r.key = appendNameKey(r.key[:0], name)
	ok, err = r.get(r.key, func(value []byte) error {
		id, err = parseName(value)
		return err
	})
	return id, ok, err
}

// Conversation reads a conversation's head record.
func (r *Reader) Conversation(c wire.Conversation) (v Conversation, ok bool, err error) {
	r.key = appendConversationKey(r.key[:0], r.conversationSlot(c), c)
	ok, err = r.get(r.key, func(value []byte) error {
		v, err = parseConversation(value)
		return err
	})
	return v, ok, err
}

// Member reads the cursors of one member of a conversation, and a group's membership.
func (r *Reader) Member(c wire.Conversation, user wire.ID) (m Member, ok bool, err error) {
	ok, err = r.MemberInto(c, user, &m)
	return m, ok, err
}

// MemberInto is Member for who reads many: the steps go where those of m are.
func (r *Reader) MemberInto(c wire.Conversation, user wire.ID, m *Member) (ok bool, err error) {
	r.key = appendMemberKey(r.key[:0], r.conversationSlot(c), c, user)
	return r.get(r.key, func(value []byte) error { return parseMember(value, m) })
}

// Group reads what a group is beside its conversation.
func (r *Reader) Group(c wire.Conversation) (g Group, ok bool, err error) {
	r.key = appendGroupKey(r.key[:0], r.conversationSlot(c), c)
	ok, err = r.get(r.key, func(value []byte) error {
		g, err = parseGroup(value)
		return err
	})
	return g, ok, err
}

// Outboxes reads what is remembered of the outboxes of one member of a group, into the
// room that m has; nothing is remembered of who never wrote.
func (r *Reader) Outboxes(c wire.Conversation, user wire.ID, m *Memory) error {
	r.key = appendOutboxesKey(r.key[:0], r.conversationSlot(c), c, user)
	ok, err := r.get(r.key, func(value []byte) error { return parseOutboxes(user, value, m) })
	if !ok {
		m.Outboxes, m.Evicted = m.Outboxes[:0], m.Evicted[:0]
	}
	return err
}

// Incoming tells up to which number rows of another shard's outgoing ones were applied here.
func (r *Reader) Incoming(from uint32) (number uint64, err error) {
	r.key = appendIncomingKey(r.key[:0], r.shard.first, from)
	_, err = r.get(r.key, func(value []byte) error {
		number, err = parseIncoming(value)
		return err
	})
	return number, err
}

// List calls fn for each row of a user's own conversation list that changed after a log
// index, in order of conversations.
func (r *Reader) List(user wire.ID, since uint64, fn func(List) error) error {
	prefix := appendListPrefix(nil, user)
	return r.scan(prefix, r.gather(prefix), func(key parsedKey, value []byte) error {
		l, err := parseList(user, key.Conversation, value)
		if err != nil || l.Changed <= since {
			return err
		}
		return fn(l)
	})
}

// ListRow reads one row of a user's own list.
func (r *Reader) ListRow(user wire.ID, c wire.Conversation) (l List, ok bool, err error) {
	r.key = appendListKey(r.key[:0], user, c)
	ok, err = r.get(r.key, func(value []byte) error {
		l, err = parseList(user, c, value)
		return err
	})
	return l, ok, err
}

// IndexRow reads what the user index says of one conversation.
func (r *Reader) IndexRow(user wire.ID, c wire.Conversation) (u UserIndex, ok bool, err error) {
	r.key = appendUserIndexKey(r.key[:0], r.shard.first, user, c)
	ok, err = r.get(r.key, func(value []byte) error {
		u, err = parseUserIndex(user, c, value)
		return err
	})
	return u, ok, err
}

// UserIndex calls fn for each conversation that a user takes part in in this shard and that
// changed after a log index.
func (r *Reader) UserIndex(user wire.ID, since uint64, fn func(UserIndex) error) error {
	prefix := appendUserIndexPrefix(nil, r.shard.first, user)
	return r.scan(prefix, r.gather(prefix, appendUserGroupsPrefix(nil, r.shard.first, user)), userIndexRows(user, since, fn))
}

// UserGroups calls fn for each group that a user has to do with in this shard. It costs
// one seek for who has none, whatever else the index says of the user.
func (r *Reader) UserGroups(user wire.ID, fn func(UserIndex) error) error {
	prefix := appendUserGroupsPrefix(nil, r.shard.first, user)
	return r.scan(prefix, r.gather(prefix), userIndexRows(user, 0, fn))
}

func userIndexRows(user wire.ID, since uint64, fn func(UserIndex) error) func(key parsedKey, value []byte) error {
	return func(key parsedKey, value []byte) error {
		u, err := parseUserIndex(user, key.Conversation, value)
		if err != nil || u.Changed <= since {
			return err
		}
		return fn(u)
	}
}

// Outgoing calls fn for each command that other shards have not acknowledged, in order.
// The command's bytes die when fn returns.
func (r *Reader) Outgoing(fn func(Outgoing) error) error {
	prefix := appendPrefix(nil, r.shard.first, kindOutgoing)
	return r.scan(prefix, r.gather(prefix), func(key parsedKey, value []byte) error {
		o, err := parseOutgoing(key.Number, value)
		if err != nil {
			return err
		}
		return fn(o)
	})
}

// A row is a buffered record found by a scan; age 0 is the active buffer.
type row struct {
	key     packedKey
	value   []byte
	age     int32
	keySize uint8
	deleted bool
}

// gatheredRows is how many entries of a group are looked at under one lock: a user of many
// conversations must not hold up updates.
const gatheredRows = 256

// scan calls fn for every record whose key begins with a prefix, in order of keys; rows
// are the buffered ones. fn may read, and scan, on its own.
func (r *Reader) scan(prefix []byte, rows []row, fn func(key parsedKey, value []byte) error) error {
	err := r.owns(wire.Slot(binary.BigEndian.Uint16(prefix)))
	if err == nil {
		err = r.mergeBetween(prefix, prefixEnd(prefix), rows, fn)
	}
	r.rows = rows[:0]
	return err
}

// mergeBetween walks the ingested rows of [lower, upper) and buffered ones together.
func (r *Reader) mergeBetween(lower, upper []byte, rows []row, fn func(key parsedKey, value []byte) error) error {
	it, err := r.acquire(lower, upper)
	if err != nil {
		return err
	}
	err = merge(it, rows, fn)
	r.release()
	return err
}

// gather collects the buffered rows that were linked under some prefixes in order, each
// key's newest.
func (r *Reader) gather(prefixes ...[]byte) []row {
	rows := r.rows[:0]
	r.rows = nil // a scan inside this one has its own
	for _, prefix := range prefixes {
		for i := range r.buffers {
			r.lock(i)
			next := r.buffers[i].group(prefix)
			r.unlock(i)
			for next != 0 {
				rows, next = r.gatherSome(rows, i, next)
			}
		}
	}
	return newestRows(rows)
}

// newestRows sorts rows by their keys and leaves the newest of each.
func newestRows(rows []row) []row {
	slices.SortFunc(rows, func(x, y row) int {
		if c := x.key.compare(y.key); c != 0 {
			return c
		}
		return int(x.age - y.age)
	})
	return slices.CompactFunc(rows, func(x, y row) bool { return x.key == y.key })
}

// gatherSome appends some entries of a group, from one on, and tells where to go on.
func (r *Reader) gatherSome(rows []row, number int, next uint32) ([]row, uint32) {
	b := r.buffers[number]
	version := r.lock(number)
	defer r.unlock(number)
	for range gatheredRows {
		e := &b.entries[next-1]
		if s := b.at(e, version); s != nil {
			rows = append(rows, row{b.records.keys[next-1], b.value(s), int32(number), e.keySize, s.deleted})
		}
		if next = e.next; next == 0 {
			break
		}
	}
	return rows, next
}

// merge walks ingested and buffered rows together; of a key that is in both, the buffered
// one counts.
func merge(it *pebble.Iterator, rows []row, fn func(key parsedKey, value []byte) error) error {
	call := func(key, value []byte) error {
		parsed, err := parseKey(key)
		if err != nil {
			return err
		}
		return fn(parsed, value)
	}
	var scratch [packedSize]byte
	ok := it.First()
	for i := range rows {
		row := &rows[i]
		key := row.key.appendTo(scratch[:0], int(row.keySize))
		for ; ok && bytes.Compare(it.Key(), key) < 0; ok = it.Next() {
			value, err := it.ValueAndErr()
			if err == nil {
				err = call(it.Key(), value)
			}
			if err != nil {
				return err
			}
		}
		if ok && bytes.Equal(it.Key(), key) {
			ok = it.Next()
		}
		if row.deleted {
			continue
		}
		if err := call(key, row.value); err != nil {
			return err
		}
	}
	for ; ok; ok = it.Next() {
		value, err := it.ValueAndErr()
		if err == nil {
			err = call(it.Key(), value)
		}
		if err != nil {
			return err
		}
	}
	return it.Error()
}

// acquire returns an iterator over [lower, upper) that is not in use; release gives it back.
// They are kept until the reader is done: opening one costs more than a seek.
func (r *Reader) acquire(lower, upper []byte) (*pebble.Iterator, error) {
	if r.depth < len(r.iterators) {
		it := r.iterators[r.depth]
		it.SetBounds(lower, upper)
		r.depth++
		return it, nil
	}
	it, err := r.tables.NewIter(&pebble.IterOptions{LowerBound: lower, UpperBound: upper})
	if err != nil {
		return nil, err
	}
	r.iterators = append(r.iterators, it)
	r.depth++
	return it, nil
}

func (r *Reader) release() { r.depth-- }

// prefixEnd is the first key behind all that begin with a prefix, which is never all 0xff.
func prefixEnd(prefix []byte) []byte {
	end := slices.Clone(prefix)
	for i := len(end) - 1; i >= 0; i-- {
		if end[i]++; end[i] != 0 {
			return end[:i+1]
		}
	}
	return nil
}
