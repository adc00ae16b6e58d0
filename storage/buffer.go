package storage

import (
	"math"
	"slices"
	"strings"
	"sync/atomic"

	"parley/wire"
)

// Memory that a record, a conversation or a chunk costs beside its bytes: table, key and
// entry. A buffer's size counts them, so that many small records cannot outgrow its limit.
const (
	entryOverheadBytes = 96
	logOverheadBytes   = 120
	chunkOverheadBytes = 72
	oldOverheadBytes   = 24
)

// An entry is one record in a buffer; its key is in the table at the same number.
type entry struct {
	state
	room    uint32
	next    uint32 // number + 1 of the next entry of the same group
	long    uint32 // index + 1 into longKeys, for keys of more than 24 bytes
	keySize uint8
	fresh   bool // no earlier buffer or table can hold this key
}

// A state is what an entry says as of a version of its buffer.
type state struct {
	ref     ref
	size    uint32
	version uint32
	older   uint32 // index + 1, among old, of what views of earlier versions see
	deleted bool   // a tombstone
	void    bool   // put and deleted in this buffer while fresh: as if never there
}

// A bufferedChunk is a chunk in a buffer: the state of its end, and where its bytes are.
type bufferedChunk struct {
	chunkState
	rope
	previous uint32 // index + 1 of the conversation's chunk before this one, among closed
}

// An openChunk is the chunk that a conversation's next message goes to, as of a version.
type openChunk struct {
	bufferedChunk
	version uint32
	older   uint32 // index + 1, among oldOpen, of what views of earlier versions see
}

// A buffer collects a shard's changes until they are written: records by key, messages
// straight into chunks. The goroutine that updates the shard writes it, under the shard's
// lock; once frozen it never changes and any goroutine may read it.
//
// Each update makes a new version. A view reads the version at which it began, while
// updates go on: what a view may see is not overwritten but kept aside, and what messages
// add to a chunk lies behind what the view knows of it. So a view holds the shard's lock
// only to find things, never while it decodes them or reads tables.
type buffer struct {
	arena    arena
	records  table
	entries  []entry
	longKeys []string
	names    map[string]int // the numbers of entries with long keys
	groups   table          // prefixes that are scanned
	heads    []uint32       // number + 1 of the first entry of a group
	orders   table          // prefixes that are read in order, from anywhere
	ordered  []orderedGroup
	logs     table // chunk prefixes
	open     []openChunk
	closed   []bufferedChunk
	authors  map[int][]wire.ID // of a group's open chunk, by number of its log
	lastKey  packedKey         // the log that was written last, and its number
	lastLog  int

	record        Record // as of the last update
	recordChanged bool

	version uint32        // of the update under way, or of the last one
	held    bool          // during an update: views may see older versions
	newest  atomic.Uint32 // the newest version that a view has seen
	old     []state       // what was overwritten while a view might see it
	oldOpen []openChunk
	holders atomic.Int32 // views, and one for the shard
}

// latest is the version of a frozen buffer, which has no later one.
const latest = math.MaxUint32

func newBuffer(pool *slabPool, before *buffer) *buffer {
	b := &buffer{arena: arena{pool: pool}, names: map[string]int{}, lastLog: -1}
	b.holders.Store(1)
	if before != nil {
		b.record = before.record
		b.entries = make([]entry, 0, len(before.entries))
		b.open = make([]openChunk, 0, len(before.open))
		b.closed = make([]bufferedChunk, 0, len(before.closed))
	}
	return b
}

// bytes is the memory that the buffer takes.
func (b *buffer) bytes() int64 {
	return b.arena.used + int64(len(b.entries))*entryOverheadBytes +
		int64(len(b.open))*logOverheadBytes + int64(len(b.closed))*chunkOverheadBytes +
		int64(len(b.old))*oldOverheadBytes + int64(len(b.oldOpen))*logOverheadBytes
}

// begin starts an update. The shard's lock is held, so no view begins meanwhile.
func (b *buffer) begin() {
	b.version++
	if b.held = b.holders.Load() > 1; !b.held {
		b.old, b.oldOpen = b.old[:0], b.oldOpen[:0]
	}
}

// seen reports whether a view may see what was written in a version.
func (b *buffer) seen(version uint32) bool { return b.held && version <= b.newest.Load() }

// hold keeps the buffer for a view that begins now, and tells the version that it sees. The
// shard's lock is held for reading.
func (b *buffer) hold() uint32 {
	b.holders.Add(1)
	b.newest.Store(b.version)
	return b.version
}

// release lets go of a hold, a view's or the shard's. The last one gives the memory back.
func (b *buffer) release() {
	if b.holders.Add(-1) == 0 {
		b.arena.release()
	}
}

// empty reports whether there is nothing to write.
func (b *buffer) empty() bool {
	return len(b.entries) == 0 && len(b.open) == 0 && !b.recordChanged
}

// find returns the entry of a key, or nil.
func (b *buffer) find(key []byte) *entry {
	if len(key) > packedSize {
		if n, ok := b.names[string(key)]; ok {
			return &b.entries[n]
		}
		return nil
	}
	if n, ok := b.records.find(packKey(key)); ok {
		return &b.entries[n]
	}
	return nil
}

func (b *buffer) value(s *state) []byte { return b.arena.bytes(s.ref, int(s.size)) }

// at is what an entry said as of a version; nil if nothing, or nothing that counts.
func (b *buffer) at(e *entry, version uint32) *state {
	s := &e.state
	for s.version > version {
		if s.older == 0 {
			return nil
		}
		s = &b.old[s.older-1]
	}
	if s.void {
		return nil
	}
	return s
}

// change prepares an entry that was there before for another state.
func (b *buffer) change(e *entry) {
	if b.seen(e.version) {
		b.old = append(b.old, e.state)
		e.older = uint32(len(b.old))
		e.room = 0 // the value stays
	}
}

// create returns the entry of a key, new if it was not there.
func (b *buffer) create(key []byte) (n int, created bool) {
	packed := packKey(key)
	if len(key) > packedSize {
		if n, ok := b.names[string(key)]; ok {
			return n, false
		}
		b.longKeys = append(b.longKeys, string(key))
		b.arena.used += 2 * int64(len(key))
	} else if n, ok := b.records.find(packed); ok {
		return n, false
	}
	n = b.records.insert(packed)
	e := entry{keySize: uint8(min(len(key), packedSize))}
	if len(key) > packedSize {
		e.long = uint32(len(b.longKeys))
		b.names[b.longKeys[e.long-1]] = n
	}
	b.entries = append(b.entries, e)
	return n, true
}

// put sets the value of a key, in place if there is room.
func (b *buffer) put(key, value []byte) (n int, created bool) {
	n, created = b.create(key)
	e := &b.entries[n]
	if !created {
		b.change(e)
	}
	if int(e.room) < len(value) {
		// Records that grow do so by a few bytes: leave them some.
		room := (len(value) + 15 + 8) &^ 15
		e.ref, e.room = b.arena.alloc(room), uint32(room)
	}
	e.size, e.version, e.deleted, e.void = uint32(len(value)), b.version, false, false
	copy(b.value(&e.state), value)
	return n, created
}

// link adds a new entry to the group that its prefix names, so that a scan finds it.
func (b *buffer) link(prefix []byte, n int) {
	packed := packKey(prefix)
	group, ok := b.groups.find(packed)
	if !ok {
		group = b.groups.insert(packed)
		b.heads = append(b.heads, 0)
	}
	b.entries[n].next = b.heads[group]
	b.heads[group] = uint32(n + 1)
}

// group is the number + 1 of the first entry with a prefix that was linked; the others
// follow by their next, in no order. New ones come before the first.
func (b *buffer) group(prefix []byte) uint32 {
	group, ok := b.groups.find(packKey(prefix))
	if !ok {
		return 0
	}
	return b.heads[group]
}

// order adds a new entry to the ordered group that its prefix names.
func (b *buffer) order(prefix []byte, key uint64, n int) {
	packed := packKey(prefix)
	group, ok := b.orders.find(packed)
	if !ok {
		group = b.orders.insert(packed)
		b.ordered = append(b.ordered, orderedGroup{})
	}
	b.ordered[group].insert(key, uint32(n))
	b.arena.used += orderedOverheadBytes
}

// orderOf is the ordered group of a prefix; nil: nothing was ordered under it.
func (b *buffer) orderOf(prefix []byte) *orderedGroup {
	group, ok := b.orders.find(packKey(prefix))
	if !ok {
		return nil
	}
	return &b.ordered[group]
}

// remove leaves a tombstone, or nothing if the key is fresh in this buffer.
func (b *buffer) remove(key []byte) (n int, created bool) {
	n, created = b.create(key)
	e := &b.entries[n]
	if !created {
		b.change(e)
	}
	e.void = !created && e.fresh
	e.deleted, e.size, e.version = true, 0, b.version
	return n, created
}

// log returns the number of a conversation's messages in this buffer.
func (b *buffer) log(prefix packedKey) (int, bool) {
	if b.lastLog >= 0 && b.lastKey == prefix {
		return b.lastLog, true
	}
	return b.logs.find(prefix)
}

// appendMessage writes a message into the conversation's open chunk. false means that it
// does not follow the conversation's last message.
func (b *buffer) appendMessage(prefix packedKey, direct bool, author int, sentA uint64, m *Message) bool {
	n, ok := b.log(prefix)
	if !ok {
		n = b.logs.insert(prefix)
		b.open = append(b.open, openChunk{})
	}
	b.lastKey, b.lastLog = prefix, n
	o := &b.open[n]
	if o.first != 0 && m.Sequence != o.last+1 {
		return false
	}
	if o.first != 0 && b.seen(o.version) {
		b.oldOpen = append(b.oldOpen, *o)
		o.older = uint32(len(b.oldOpen))
	}
	o.version = b.version
	var scratch [headerBytesMax + messageBytesMax]byte
	head := scratch[:0]
	if o.first == 0 || !o.follows(m) || int(o.size)+messageBytesMax+len(m.Content.Bytes) > chunkBytesMax {
		b.end(n)
		head = appendChunkHeader(head, &o.chunkState, direct, sentA, m)
	}
	fresh := false
	if !direct {
		author, fresh = b.author(n, m.Author)
	}
	head = appendMessageHead(head, &o.chunkState, author, fresh, m)
	b.arena.appendRope(&o.rope, head)
	b.arena.appendRope(&o.rope, m.Content.Bytes)
	return true
}

// end closes the open chunk of a conversation, if it has one.
func (b *buffer) end(n int) {
	o := &b.open[n]
	if o.first == 0 {
		return
	}
	b.closed = append(b.closed, o.bufferedChunk)
	delete(b.authors, n)
	o.bufferedChunk = bufferedChunk{previous: uint32(len(b.closed))}
}

// author finds the place of a group message's author in its open chunk.
func (b *buffer) author(n int, id wire.ID) (place int, fresh bool) {
	known := b.authors[n]
	if i := slices.Index(known, id); i >= 0 {
		return i, false
	}
	if b.authors == nil {
		b.authors = map[int][]wire.ID{}
	}
	b.authors[n] = append(known, id)
	return len(known), true
}

// chunks calls fn for a conversation's chunks as of a version, the last one first, until it
// returns false.
func (b *buffer) chunks(prefix packedKey, version uint32, fn func(c *bufferedChunk) bool) {
	n, ok := b.logs.find(prefix)
	if !ok {
		return
	}
	o := &b.open[n]
	for o.version > version {
		if o.older == 0 {
			return
		}
		o = &b.oldOpen[o.older-1]
	}
	for c := &o.bufferedChunk; fn(c) && c.previous != 0; {
		c = &b.closed[c.previous-1]
	}
}

// chunkValue appends the bytes of a chunk to dst.
func (b *buffer) chunkValue(dst []byte, c *bufferedChunk) []byte {
	return b.arena.appendTo(dst, &c.rope)
}

// sortedRecords are the numbers of all entries in order of their keys.
func (b *buffer) sortedRecords() []uint32 {
	order := b.records.sorted()
	if len(b.longKeys) == 0 {
		return order
	}
	// Keys of more than 24 bytes may pack alike; names alone do, and they are few.
	slices.SortFunc(order, func(x, y uint32) int {
		if c := b.records.keys[x].compare(b.records.keys[y]); c != 0 {
			return c
		}
		return strings.Compare(b.fullKey(x), b.fullKey(y))
	})
	return order
}

func (b *buffer) fullKey(n uint32) string {
	if e := &b.entries[n]; e.long != 0 {
		return b.longKeys[e.long-1]
	}
	return string(b.records.keys[n].appendTo(nil, int(b.entries[n].keySize)))
}

// sortedLogs are the numbers of all conversations with messages in order of their keys.
func (b *buffer) sortedLogs() []uint32 { return b.logs.sorted() }

// logKeySize is the size of a chunk prefix: the byte behind slot and kind says whether one
// or two identifiers follow.
func (b *buffer) logKeySize(n int) int {
	size := prefixSize + 1 + idSize
	if wire.ConversationKind(b.logs.keys[n].a>>32&0xff) == wire.Direct {
		size += idSize
	}
	return size
}

// logChunks are a conversation's chunks in ascending order.
func (b *buffer) logChunks(n int) []*bufferedChunk {
	list := []*bufferedChunk{&b.open[n].bufferedChunk}
	for c := list[0]; c.previous != 0; {
		c = &b.closed[c.previous-1]
		list = append(list, c)
	}
	slices.Reverse(list)
	return list
}
