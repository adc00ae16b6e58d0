package shard

import "parley/wire"

// sendBytesMax bounds what a send takes in an entry beside its content.
const sendBytesMax = 64

// waitingSend is a send whose encoded command lies in a buffer beside it.
type waitingSend struct {
	Origin
	author wire.ID
	size   int32
}

// sendBuffer is encoded sends, back to back, taken from the front.
type sendBuffer struct {
	bytes  []byte
	sends  []waitingSend
	taken  int // of sends
	offset int // of the first send not taken, in bytes
}

func (b *sendBuffer) waiting() int      { return len(b.sends) - b.taken }
func (b *sendBuffer) waitingBytes() int { return len(b.bytes) - b.offset }

func (b *sendBuffer) push(w waitingSend, command []byte) {
	b.bytes = append(b.bytes, command...)
	b.sends = append(b.sends, w)
}

// pop takes the first send; the bytes are good until the next push or compact.
func (b *sendBuffer) pop() (w waitingSend, command []byte) {
	w = b.sends[b.taken]
	command = b.bytes[b.offset : b.offset+int(w.size)]
	b.taken++
	b.offset += int(w.size)
	return w, command
}

// compact drops what was taken once it is the larger part.
func (b *sendBuffer) compact() {
	if b.offset < len(b.bytes)/2 {
		return
	}
	b.bytes = b.bytes[:copy(b.bytes, b.bytes[b.offset:])]
	b.sends = b.sends[:copy(b.sends, b.sends[b.taken:])]
	b.taken, b.offset = 0, 0
}

// A lane is the sends of one author while more waits than fits into an entry.
type lane struct {
	sendBuffer
	author wire.ID
	credit int // bytes that the lane may still add in this turn; below 0: too much in the last
}

// sendQueue is the sends that wait. fresh holds them as they came, never more than one
// entry takes. When that is full it is sorted into lanes, which take turns by deficit
// round robin, so that every author gets an equal share of the bytes whatever the sizes.
// Its owner's mutex guards it.
type sendQueue struct {
	fresh sendBuffer
	lanes map[wire.ID]*lane
	turns []*lane // every lane once, from next on in the order of their turns
	next  int
	laned int // sends in lanes
	bytes int // bytes in lanes
}

func (q *sendQueue) len() int { return q.fresh.waiting() + q.laned }

// add queues a send, or refuses it if its author or all authors together have too much
// waiting. An author may have half of what is still free: a single flood stops at a
// third of the queue, ten floods leave a sixth to everyone else.
func (q *sendQueue) add(m *Send) error {
	size := sendBytesMax + len(m.Content.Bytes) + len(m.Secret)
	free := QueueBytesMax - q.bytes - q.fresh.waitingBytes()
	if size > free {
		return ErrOverloaded
	}
	if l := q.lanes[m.Author]; l != nil && l.waitingBytes()+size > free/2 {
		return ErrOverloaded
	}
	if q.fresh.waiting() >= EntryCommandsMax || q.fresh.waitingBytes()+size > EntryBytesMax-entryHeaderBytes {
		q.sort()
	}
	start := len(q.fresh.bytes)
	q.fresh.bytes = appendSend(q.fresh.bytes, m)
	q.fresh.sends = append(q.fresh.sends, waitingSend{m.Origin, m.Author, int32(len(q.fresh.bytes) - start)})
	return nil
}

// sort moves what is fresh into lanes.
func (q *sendQueue) sort() {
	if q.lanes == nil {
		q.lanes = make(map[wire.ID]*lane)
	}
	for q.fresh.waiting() > 0 {
		w, command := q.fresh.pop()
		l := q.lanes[w.author]
		if l == nil {
			l = &lane{author: w.author}
			q.lanes[w.author] = l
			q.turns = append(q.turns, l)
		}
		l.push(w, command)
		q.laned++
		q.bytes += len(command)
	}
	q.fresh.compact()
}

// take appends sends to an entry that may grow to limit bytes, at most room of them.
func (q *sendQueue) take(dst []byte, b *batch, limit, room int) []byte {
	if q.laned == 0 && q.fresh.waiting() <= room && len(dst)+q.fresh.waitingBytes() <= limit {
		dst = append(dst, q.fresh.bytes[q.fresh.offset:]...)
		for _, w := range q.fresh.sends[q.fresh.taken:] {
			b.origins = append(b.origins, w.Origin)
		}
		q.fresh.offset, q.fresh.taken = len(q.fresh.bytes), len(q.fresh.sends)
		q.fresh.compact()
		return dst
	}
	q.sort()
	for q.laned > 0 {
		l := q.turns[q.next]
		var full bool
		if dst, full = q.serve(l, dst, b, limit, room); full {
			return dst
		}
		q.next++
		if l.waiting() > 0 {
			l.compact()
			q.turns = append(q.turns, l)
		} else {
			delete(q.lanes, l.author)
		}
		if q.next > len(q.turns)/2 {
			q.turns = append(q.turns[:0], q.turns[q.next:]...)
			q.next = 0
		}
	}
	// The end of a burst: what it needed is given back.
	q.lanes, q.turns, q.next = nil, nil, 0
	return dst
}

// serve gives a lane its turn; full says that the entry had no room for its next send.
func (q *sendQueue) serve(l *lane, dst []byte, b *batch, limit, room int) (_ []byte, full bool) {
	if l.credit <= 0 {
		l.credit += laneTurnBytes
	}
	for l.waiting() > 0 && l.credit > 0 {
		size := int(l.sends[l.taken].size)
		if len(b.origins) >= room || len(dst)+size > limit {
			return dst, true
		}
		w, command := l.pop()
		dst = append(dst, command...)
		b.origins = append(b.origins, w.Origin)
		l.credit -= size
		q.laned--
		q.bytes -= size
	}
	return dst, false
}

// drain empties the queue and returns those who waited in it.
func (q *sendQueue) drain() []Origin {
	waiting := make([]Origin, 0, q.len())
	for _, l := range q.lanes {
		for _, w := range l.sends[l.taken:] {
			waiting = append(waiting, w.Origin)
		}
	}
	for _, w := range q.fresh.sends[q.fresh.taken:] {
		waiting = append(waiting, w.Origin)
	}
	*q = sendQueue{}
	return waiting
}
