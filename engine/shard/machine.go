package shard

import (
	"fmt"

	"parley/raft"
	"parley/storage"
	"parley/wire"
	"parley/wire/planted"
)

// machine is the state machine proper: entries in, records and effects out. It belongs
// to the apply goroutine. All that decides is in the entries and in the records; the
// rest of it (cache, batches of waiting origins, effects) only says who is told.
type machine struct {
	id          uint32
	first, last wire.Slot
	queue       *Queue

	applied   uint64
	told      uint64 // index up to which effects were told, or never will be
	cache     *conversationCache
	recent    *recentChanges
	groupless *grouplessUsers
	outgoing  map[uint64]struct{} // the numbers of the rows that wait for other shards

	// Of the batch that is being applied.
	w        *storage.Writer
	dirty    []*conversation
	claimed  []*batch // whose origins wait on this node
	answers  []answer // for those who wait for controls
	rows     []storage.Outgoing
	unfolded []Cursor // what refused cursors were folded over
	effects  *Effects
	tell     bool // whether anybody may listen to effects
	counters Counters

	// Of the entry that is being applied.
	index    uint64
	time     wire.Time
	batch    *batch // nil: nobody waits for it here
	sends    int    // sends, cursors and controls met so far: places in the batch
	cursors  int
	controls int
	refusal  error // of the control's commands met so far
	part     int   // how many those are
	ordinal  uint64

	commands []command        // reused
	message  storage.Message  // reused
	author   storage.Member   // reused: a group's, of the command that is being applied
	boxes    storage.Memory   // reused: the author's
	targets  []storage.Member // reused: of the users that an event is about
	walk     walk
	hints    [2]int // messages and acknowledgements of the last batch
}

// answer is the fate of a control, told once readers see what it did.
type answer struct {
	done chan error
	err  error
}

// Counters are what a shard has done since it was opened.
type Counters struct {
	Messages   uint64 // accepted
	Duplicates uint64 // sends answered again
	Refused    uint64 // sends and cursors refused by apply
	Cursors    uint64 // moved
	Entries    uint64
}

// outgoingOrdinalBits leave room for the rows that one entry can add, two for each of
// its commands, in a row's number: index, then ordinal. So numbers ascend and none is
// used twice, with no counter to keep.
const outgoingOrdinalBits = 10

// load takes up what the store holds.
func (m *machine) load(r *storage.Reader) error {
	m.applied = r.Applied().Index
	m.told = m.applied
	m.recent.forget(m.applied)
	m.groupless.clear()
	return r.Outgoing(func(o storage.Outgoing) error {
		m.outgoing[o.Number] = struct{}{}
		return nil
	})
}

// apply applies a batch through w, and leaves the effects, answers and new rows in m.
func (m *machine) apply(w *storage.Writer, entries []raft.Entry) error {
	m.w = w
	m.effects = &Effects{
		Shard:    m.id,
		Previous: m.told,
		Sent:     make([]SentEffect, 0, m.hints[0]),
		Messages: make([]MessageEffect, 0, m.hints[1]),
	}
	for i := range entries {
		e := &entries[i]
		if e.Index <= m.applied {
			continue // the state is ahead of the log's own record
		}
		if err := m.entry(e); err != nil {
			return fmt.Errorf("entry %d of term %d: %w", e.Index, e.Term, err)
		}
		m.applied, m.effects.Index = e.Index, e.Index
		if len(entries) > 1 {
			m.effects.mark(e.Index)
		}
		w.SetApplied(e.Index, e.Term)
	}
	m.told = max(m.told, m.effects.Index)
	m.write()
	m.hints = [2]int{len(m.effects.Sent), len(m.effects.Messages)}
	return nil
}

// entry applies one entry. It is decoded first, so that a bad one changes nothing.
func (m *machine) entry(e *raft.Entry) error {
	origin, time, commands, err := parseEntry(m.commands[:0], e.Data)
	m.commands = commands
	if err != nil {
		return err
	}
	m.index, m.time, m.ordinal = e.Index, time, 0
	m.sends, m.cursors, m.controls, m.part, m.refusal = 0, 0, 0, 0, nil
	if m.batch = m.queue.claim(origin); m.batch != nil {
		m.claimed = append(m.claimed, m.batch)
		m.tell = true
	}
	m.counters.Entries++
	for i := range commands {
		if err := m.command(&commands[i]); err != nil {
			return err
		}
	}
	return nil
}

func (m *machine) command(c *command) error {
	switch c.kind {
	case commandSend, commandGroup:
		return m.send(c)
	case commandJoin:
		return m.joinByLink(c)
	case commandOwn:
		return m.own(c)
	case commandCursor:
		return m.cursor(c)
	}
	refusal, err := m.control(c)
	if err == nil {
		m.answer(refusal)
	}
	return err
}

// control applies one of the commands that somebody may wait for; refusal is what that
// somebody is told.
func (m *machine) control(c *command) (refusal, err error) {
	switch c.kind {
	case commandCreateUser:
		return m.createUser(c)
	case commandListAdd, commandListGone:
		return m.listChange(c)
	case commandOutgoingDone:
		if _, ok := m.outgoing[c.number]; ok {
			delete(m.outgoing, c.number)
			m.w.DeleteOutgoing(c.number)
		}
		return nil, nil
	}
	return nil, fmt.Errorf("%w: unknown command %d", ErrBadEntry, c.kind)
}

// origin is who waits for the send that is being applied.
func (m *machine) origin() (o Origin, waits bool) {
	if m.batch == nil || m.sends >= len(m.batch.origins) {
		return o, false
	}
	o = m.batch.origins[m.sends]
	m.sends++
	return o, true
}

// session is where the cursor that is being applied came from; none: this replica did
// not propose it.
func (m *machine) session() Origin {
	if m.batch == nil || m.cursors >= len(m.batch.cursors) {
		return Origin{}
	}
	c := &m.batch.cursors[m.cursors]
	m.cursors++
	return Origin{Session: c.Session, Node: c.Node}
}

// answer notes the fate of a command for whoever waits for it: the first refusal among a
// control's commands, once the last of them has been applied.
func (m *machine) answer(refusal error) {
	if m.batch == nil || m.controls >= len(m.batch.controls) {
		return
	}
	if m.refusal == nil {
		m.refusal = refusal
	}
	c := m.batch.controls[m.controls]
	if m.part++; m.part == c.count {
		m.answers = append(m.answers, answer{c.done, m.refusal})
		m.controls, m.part, m.refusal = m.controls+1, 0, nil
	}
}

// refuse tells the session that waits, if any.
func (m *machine) refuse(o Origin, code wire.Code) {
	m.counters.Refused++
	if o.Session != 0 {
		m.effects.Refused = append(m.effects.Refused, RefusedEffect{o, code})
	}
}

// owns reports whether a slot is this shard's. What was sent here by mistake must not
// be looked up: the store may show what it has of another shard.
func (m *machine) owns(slot wire.Slot) bool { return m.first <= slot && slot <= m.last }

// conversation finds a conversation in the cache or in the store. One that does not
// exist, or not here, is not kept, so that made-up ones push nothing out.
func (m *machine) conversation(key wire.Conversation) (*conversation, error) {
	if v := m.cache.get(key); v != nil {
		return v, nil
	}
	v := &conversation{key: key}
	if !m.owns(key.Slot()) {
		return v, nil
	}
	var err error
	if v.Conversation, v.exists, err = m.w.Conversation(key); err != nil || !v.exists {
		return v, err
	}
	if key.Kind == wire.Group {
		return v, m.loadGroup(v)
	}
	if planted.Active(planted.ForgottenOutbox) {
		v.Outboxes = nil
	}
	for side, user := range []wire.ID{key.A, key.B} {
		if side == 1 && key.A == key.B {
			break
		}
		if v.members[side], _, err = m.w.Member(key, user); err != nil {
			return nil, err
		}
	}
	m.cache.put(v)
	return v, nil
}

// touch notes that a conversation has changed and must be written at the batch's end.
func (m *machine) touch(v *conversation) {
	v.touched = [2]uint64{m.index, m.index}
	m.dirtied(v)
}

// touchSide notes a change of a direct conversation that only one of its members hears of.
func (m *machine) touchSide(v *conversation, side int) {
	v.touched[side] = m.index
	m.dirtied(v)
}

func (m *machine) dirtied(v *conversation) {
	if !v.dirty {
		v.dirty = true
		m.dirty = append(m.dirty, v)
	}
}

// write writes each changed conversation once, and tells its members' index rows.
func (m *machine) write() {
	for i, v := range m.dirty {
		if v.dirtyRecord {
			m.w.PutConversation(v.key, &v.Conversation)
		}
		m.dirty[i] = nil
		if v.group != nil {
			m.writeGroup(v)
			continue
		}
		for side, user := range [2]wire.ID{v.key.A, v.key.B} {
			if v.dirtyMembers[side] {
				m.w.PutMember(v.key, user, &v.members[side])
			}
			if changed := v.touched[side]; changed != 0 && (side == 0 || v.key.A != v.key.B) {
				m.recent.note(user, changed)
				m.w.PutUserIndex(&storage.UserIndex{User: user, Conversation: v.key, Changed: changed, Time: v.Time})
			}
		}
		v.dirty, v.dirtyRecord, v.dirtyMembers, v.touched = false, false, [2]bool{}, [2]uint64{}
	}
	m.dirty = m.dirty[:0]
}
