package shard

import (
	"slices"

	"parley/wire"
)

type cursorKey struct {
	conversation wire.Conversation
	user         wire.ID
	kind         wire.CursorKind
}

// cursorQueue is the moved cursors that wait, folded to one for each member,
// conversation and kind. Its owner's mutex guards it.
type cursorQueue struct {
	cursors []Cursor // from next on
	next    int
	dropped int               // cursors that were before cursors[0]
	folded  map[cursorKey]int // their numbers since the beginning
	// users counts the waiting cursors of each user while so many wait that one user's
	// flood could crowd out the others; nil below that.
	users map[wire.ID]int
}

func (q *cursorQueue) len() int { return len(q.cursors) - q.next }

func (c *Cursor) key() cursorKey { return cursorKey{c.Conversation, c.User, c.Kind} }

// add queues a cursor or folds it into one that waits; a user may have half of what is
// still free, like an author of sends.
func (q *cursorQueue) add(c *Cursor) error {
	key := c.key()
	if number, ok := q.folded[key]; ok {
		q.cursors[number-q.dropped].fold(c)
		return nil
	}
	free := CursorsMax - q.len()
	if free <= 0 {
		return ErrOverloaded
	}
	if q.len() >= countedCursors {
		q.countUsers()
		if q.users[c.User] > free/2 {
			return ErrOverloaded
		}
		q.users[c.User]++
	}
	if q.folded == nil {
		q.folded = make(map[cursorKey]int)
	}
	q.folded[key] = q.dropped + len(q.cursors)
	q.cursors = append(q.cursors, *c)
	return nil
}

// sessions appends where the waiting cursors came from, once each.
func (q *cursorQueue) sessions(dst []Origin) []Origin {
	return cursorSessions(dst, q.cursors[q.next:])
}

func cursorSessions(dst []Origin, cursors []Cursor) []Origin {
	told := make(map[Origin]struct{})
	for i := range cursors {
		o := Origin{Session: cursors[i].Session, Node: cursors[i].Node}
		if _, ok := told[o]; !ok {
			told[o] = struct{}{}
			dst = append(dst, o)
		}
	}
	return dst
}

// foldedPositions is how many positions a folded cursor remembers beside its own.
const foldedPositions = 3

// fold makes one cursor of two. Which of their positions are good is not known here: one
// beyond the head moves nothing, and must not take along what it was folded over. So the
// lowest position is kept beside the highest ones.
func (c *Cursor) fold(o *Cursor) {
	position := o.Position
	if position > c.Position {
		position, c.Position = c.Position, position
		c.Session, c.Node = o.Session, o.Node
	}
	c.remember(position)
	for _, position := range o.under {
		c.remember(position)
	}
}

// remember notes a position that was folded.
func (c *Cursor) remember(position uint64) {
	under := &c.under
	switch {
	case position == 0 || position == c.Position || slices.Contains(under[:], position):
		return
	case position < under[0] || under[0] == 0:
		under[0] = position
	default:
		under[1] = max(under[1], position)
	}
	slices.Sort(under[:])
}

// unfold is what is left of a cursor whose position is no good; false: nothing.
func (c *Cursor) unfold() bool {
	under := &c.under
	if c.Position = under[foldedPositions-1]; c.Position == 0 {
		return false
	}
	copy(under[1:], under[:])
	under[0] = 0
	return true
}

func (q *cursorQueue) countUsers() {
	if q.users != nil {
		return
	}
	q.users = make(map[wire.ID]int)
	for i := range q.cursors[q.next:] {
		q.users[q.cursors[q.next+i].User]++
	}
}

// take appends cursors to an entry that may grow to limit bytes, at most room of them.
func (q *cursorQueue) take(dst []byte, b *batch, limit, room int) []byte {
	n := min(q.len(), room, max(0, (limit-len(dst))/cursorBytesMax))
	dst = appendAllCursors(dst, q.cursors[q.next:q.next+n])
	for i := range q.cursors[q.next : q.next+n] {
		c := &q.cursors[q.next+i]
		b.cursors = append(b.cursors, *c)
		delete(q.folded, c.key())
		if q.users != nil {
			if q.users[c.User]--; q.users[c.User] <= 0 {
				delete(q.users, c.User)
			}
		}
	}
	q.next += n
	if q.next > len(q.cursors)/2 {
		q.dropped += q.next
		q.cursors = append(q.cursors[:0], q.cursors[q.next:]...)
		q.next = 0
	}
	if q.len() < countedCursors {
		q.users = nil
	}
	return dst
}

// appendAllCursors appends cursors, those of a group that follow each other as one command:
// 8 bytes each for 18.
func appendAllCursors(dst []byte, list []Cursor) []byte {
	for len(list) > 0 {
		n := 1
		for list[0].Conversation.Kind == wire.Group && n < len(list) && list[n].Conversation == list[0].Conversation {
			n++
		}
		if n > 1 {
			dst = appendCursors(dst, list[:n])
		} else {
			dst = appendCursor(dst, &list[0])
		}
		list = list[n:]
	}
	return dst
}

// cursorBytesMax bounds an encoded cursor command: kind, conversation, user, position.
const cursorBytesMax = 1 + 13 + 6 + 10
