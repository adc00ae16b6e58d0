package shard

import (
	"bytes"
	"errors"
	"fmt"

	"parley/storage"
	"parley/wire"
	"parley/wire/planted"
)

// ErrBadState reports records that contradict each other: the replica stops, and is
// wiped and filled again from its peers.
var ErrBadState = errors.New("shard: records contradict each other")

// send applies a message: exactly once, in order. An outbox's next counter is accepted;
// one of the last dedupWindow is answered again; a gap is OUT_OF_ORDER; what nobody can
// tell is UNKNOWN_OUTCOME. Only what would be accepted is refused for good, so a message
// that was accepted once is never called refused later.
func (m *machine) send(c *command) error {
	origin, _ := m.origin()
	if c.conversation.Kind == wire.Group {
		return m.sendToGroup(c, origin)
	}
	v, err := m.conversation(c.conversation)
	if err != nil {
		return err
	}
	boxes := remembered(&v.Memory)
	box := boxes.find(c)
	if box >= 0 && c.number > 0 && c.number <= v.Outboxes[box].Counter && !planted.Active(planted.NoDeduplication) {
		return m.resent(v, &v.Outboxes[box], c, origin)
	}
	if code := boxes.order(box, c); code != 0 {
		m.refuse(origin, code)
		return nil
	}
	if code := m.check(v, c); code != 0 {
		m.refuse(origin, code)
		return nil
	}
	return m.accept(v, box, c, origin)
}

// order refuses whatever is not its outbox's next send. An outbox that the conversation
// does not know, and never forgot, has sent nothing here: beyond counter 1 that is a gap
// like any other. Once hashes of forgotten ones had to go, it can be one of those.
func (m *memory) order(box int, c *command) wire.Code {
	switch {
	case c.number == 0:
		return wire.CodeMalformed
	case planted.Active(planted.NoDeduplication), planted.Active(planted.GapAccepted):
		return 0
	case box >= 0 && c.number == m.Outboxes[box].Counter+1:
		return 0
	case box >= 0:
		return wire.CodeOutOfOrder
	}
	hash := outboxHash(c.conversation, c.user, c.device, c.epoch)
	switch {
	case m.remembers(hash):
		return wire.CodeUnknownOutcome
	case c.number == 1:
		return 0
	case m.forgotten(hash) >= EvictedMax:
		return wire.CodeUnknownOutcome
	}
	return wire.CodeOutOfOrder
}

// check gives the refusals that have nothing to do with order. All but those of class 1
// are final.
func (m *machine) check(v *conversation, c *command) wire.Code {
	switch {
	case !c.conversation.Member(c.user):
		return wire.CodeNotMember
	}
	if code := checkContent(c); code != 0 || v.exists {
		return code
	}
	switch {
	case !m.owns(c.conversation.Slot()):
		return wire.CodeNotLeader
	case !c.peerKnown && c.conversation.A != c.conversation.B:
		return wire.CodeUnknownUser
	case !m.roomForRows(2):
		return wire.CodeOverloaded
	}
	return 0
}

// checkContent refuses what no message can say.
func checkContent(c *command) wire.Code {
	if c.tooLarge {
		return wire.CodeBodyTooLarge
	}
	extensions, body, err := c.content.Body()
	if err != nil || len(extensions)+len(body) == 0 {
		return wire.CodeMalformed
	}
	return 0
}

// accept appends a message to a conversation, which the first one creates.
func (m *machine) accept(v *conversation, box int, c *command, origin Origin) error {
	if !v.exists {
		if err := m.create(v); err != nil {
			return err
		}
	}
	var previous uint64
	if box >= 0 {
		previous = v.Outboxes[box].Sequence
	}
	m.append(v, c, previous, origin)
	if c.user == v.key.A {
		v.SentA++
	}
	remembered(&v.Memory).use(v.key, box, c.outbox(v.Head))
	return nil
}

// outbox is what is remembered of a send that got a sequence.
func (c *command) outbox(sequence uint64) storage.Outbox {
	return storage.Outbox{Author: c.user, Device: c.device, Epoch: c.epoch, Counter: c.number, Sequence: sequence}
}

// append appends a message and tells of it.
func (m *machine) append(v *conversation, c *command, previous uint64, origin Origin) {
	v.Time = max(v.Time, m.time)
	switch {
	case planted.Active(planted.ClockBack):
		v.Time = m.time
	case planted.Active(planted.HiddenRandomness) && m.batch == nil:
		v.Time++
	}
	m.message = storage.Message{Sequence: v.Head + 1, Revision: v.Revision + 1, Time: v.Time,
		Author: c.user, Previous: previous, Content: c.content}
	m.w.AppendMessage(v.key, v.SentA, &m.message)
	v.Head, v.Revision, v.Changed = v.Head+1, v.Revision+1, m.index
	v.dirtyRecord = true
	m.touch(v)
	m.counters.Messages++
	if origin.Session != 0 {
		m.effects.Sent = append(m.effects.Sent, SentEffect{Origin: origin, Sequence: v.Head, Time: v.Time})
	}
	if m.tell {
		m.effects.Messages = append(m.effects.Messages, MessageEffect{Conversation: v.key, Sequence: v.Head,
			Revision: v.Revision, Time: v.Time, Author: c.user, Content: c.content, From: origin.Session, FromNode: origin.Node})
	}
}

// create begins a conversation. Its members' homes must list it: a home in this shard
// does so at once, others by a row that the courier delivers. The row is in the same
// entry, so it cannot be lost in between.
func (m *machine) create(v *conversation) error {
	v.exists = true
	v.dirtyMembers[0], v.dirtyMembers[1] = true, v.key.A != v.key.B
	m.cache.put(v)
	err := m.list(v.key.A, v.key, firstVersion, false)
	if err == nil && v.key.B != v.key.A {
		err = m.list(v.key.B, v.key, firstVersion, false)
	}
	return err
}

// walk remembers the last chain of sends that was followed: a device that was cut off
// resends its whole window, and each of these follows the same links.
type walk struct {
	conversation *conversation
	outbox       storage.Outbox // as it was; a new send makes another chain
	sequences    []uint64       // of counters outbox.Counter, outbox.Counter-1, …
}

// resent answers a send whose counter was accepted before: with the same result if it is
// the same message.
func (m *machine) resent(v *conversation, o *storage.Outbox, c *command, origin Origin) error {
	back := o.Counter - c.number
	if back >= dedupWindow {
		m.refuse(origin, wire.CodeUnknownOutcome)
		return nil
	}
	if m.walk.conversation != v || m.walk.outbox != *o {
		m.walk = walk{conversation: v, outbox: *o, sequences: append(m.walk.sequences[:0], o.Sequence)}
	}
	for uint64(len(m.walk.sequences)) <= back {
		var previous uint64
		if err := m.read(v, m.walk.sequences[len(m.walk.sequences)-1], func(s *storage.Message) { previous = s.Previous }); err != nil {
			return err
		}
		m.walk.sequences = append(m.walk.sequences, previous)
	}
	same, time := false, wire.Time(0)
	sequence := m.walk.sequences[back]
	err := m.read(v, sequence, func(s *storage.Message) {
		same = !c.tooLarge && s.Author == c.user && s.Content.Extended == c.content.Extended && bytes.Equal(s.Content.Bytes, c.content.Bytes)
		time = s.Time
	})
	if err != nil {
		return err
	}
	if !same {
		m.refuse(origin, wire.CodeReused)
		return nil
	}
	m.counters.Duplicates++
	if origin.Session != 0 {
		m.effects.Sent = append(m.effects.Sent, SentEffect{Origin: origin, Sequence: sequence, Time: time})
	}
	return nil
}

// read reads one message of a conversation, which must be there.
func (m *machine) read(v *conversation, sequence uint64, fn func(*storage.Message)) error {
	found := false
	err := m.w.Messages(v.key, sequence, sequence, func(s storage.Message) (bool, error) {
		found = s.Sequence == sequence
		fn(&s)
		return false, nil
	})
	if err == nil && !found {
		err = fmt.Errorf("%w: message %d of %v is missing", ErrBadState, sequence, v.key)
	}
	return err
}
