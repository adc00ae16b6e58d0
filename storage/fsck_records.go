package storage

import "parley/wire"

// A slotChecker takes records in order of keys, and compares those of one slot with each
// other: a slot has a 4,096th of all, so what it remembers stays small.
type slotChecker struct {
	checker *checker
	inShard bool
	shard   shardRecord
	first   wire.Slot // of the shard

	slot          wire.Slot
	users         map[wire.ID]string
	names         map[string]wire.ID
	conversations map[wire.Conversation]*checkedConversation
	walk          chunkReader
}

// A checkedConversation is a conversation's record against what its chunks hold so far.
type checkedConversation struct {
	Conversation
	last     uint64 // sequence of the last message seen
	revision uint64
	time     wire.Time
	sentA    uint64
	members  uint64  // group: with a role
	owner    wire.ID // group: who has the role; all of them added up, if several
	group    bool    // there is a group's record
}

// record checks one record.
func (s *slotChecker) record(p parsedKey, value []byte) {
	if s.users == nil || p.Slot != s.slot {
		s.endSlot()
		s.slot = p.Slot
		s.users = map[wire.ID]string{}
		s.names = map[string]wire.ID{}
		s.conversations = map[wire.Conversation]*checkedConversation{}
	}
	if p.Kind == kindShard {
		s.beginShard(p, value)
		return
	}
	if !s.inShard || p.Slot > s.shard.Last {
		s.checker.key(p, "belongs to no shard")
	} else if p.Kind < kindUser && p.Slot != s.first {
		s.checker.key(p, "is not at its shard's first slot, %d", s.first)
	}
	if err := s.check(p, value); err != nil {
		s.checker.key(p, "%v", err)
	}
}

func (s *slotChecker) beginShard(p parsedKey, value []byte) {
	s.checker.summary.Shards++
	if s.inShard && p.Slot <= s.shard.Last {
		s.checker.key(p, "begins inside shard %d, which ends at slot %d", s.shard.ID, s.shard.Last)
	}
	record, err := parseShardRecord(value)
	if err != nil {
		s.checker.key(p, "%v", err)
	} else if record.Last < p.Slot || record.ConfigurationIndex > record.Index {
		s.checker.key(p, "ends at slot %d; configuration of index %d at index %d",
			record.Last, record.ConfigurationIndex, record.Index)
	}
	s.inShard, s.shard, s.first = true, record, p.Slot
}

// check parses a record and compares it with the ones before.
func (s *slotChecker) check(p parsedKey, value []byte) error {
	sum := &s.checker.summary
	switch p.Kind {
	case kindUserIndex:
		sum.UserIndex++
		u, err := parseUserIndex(p.User, p.Conversation, value)
		return firstError(err, func() error { return s.userIndex(u) })
	case kindOutgoing:
		sum.Outgoing++
		_, err := parseOutgoing(p.Number, value)
		return err
	case kindIncoming:
		sum.Incoming++
		_, err := parseIncoming(value)
		return err
	case kindUser:
		sum.Users++
		u, err := parseUser(p.User, value)
		s.users[p.User] = u.Name
		return err
	case kindName:
		sum.Names++
		id, err := parseName(value)
		s.names[p.Name] = id
		return firstError(err, func() error { return s.name(p.Name, id) })
	case kindList:
		sum.Lists++
		l, err := parseList(p.User, p.Conversation, value)
		return firstError(err, func() error { return s.list(l) })
	case kindConversation:
		sum.Conversations++
		c, err := parseConversation(value)
		s.conversations[p.Conversation] = &checkedConversation{Conversation: c}
		return firstError(err, func() error { return s.conversation(p.Conversation, &c) })
	case kindMember:
		sum.Members++
		var m Member
		err := parseMember(value, &m)
		return firstError(err, func() error { return s.member(p, &m) })
	case kindGroup:
		sum.Groups++
		g, err := parseGroup(value)
		return firstError(err, func() error { return s.group(p, &g) })
	case kindOutboxes:
		sum.Outboxes++
		var m Memory
		err := parseOutboxes(p.User, value, &m)
		return firstError(err, func() error { return s.outboxes(p, &m) })
	default:
		sum.Chunks++
		return s.chunk(p, value)
	}
}

func firstError(err error, next func() error) error {
	if err != nil {
		return err
	}
	return next()
}

// changed checks a log index that a record carries.
func (s *slotChecker) changed(index uint64) error {
	if index > s.shard.Index {
		return damaged("changed at log index %d, the shard is at %d", index, s.shard.Index)
	}
	return nil
}

func (s *slotChecker) userIndex(u UserIndex) error {
	c := u.Conversation
	slot := c.Slot()
	if slot < s.first || slot > s.shard.Last || c.Kind == wire.Direct && !c.Member(u.User) {
		return damaged("conversation is another shard's or not this user's")
	}
	there, err := s.checker.read(appendConversationKey(nil, slot, c), func([]byte) error { return nil })
	if err == nil && !there {
		err = damaged("there is no such conversation")
	}
	if err == nil && c.Kind == wire.Group {
		err = s.groupIndex(&u, slot)
	}
	return firstError(err, func() error { return s.changed(u.Changed) })
}

// name checks that the account is there and has the name.
func (s *slotChecker) name(name string, id wire.ID) error {
	if id.Slot() != s.slot {
		return nil // an account elsewhere, which its own shard vouches for
	}
	if have, ok := s.users[id]; !ok || have != name {
		return damaged("user %v is not there or has another name", id)
	}
	return nil
}

// list checks a row of a user's list. The conversation may be in another shard, which was
// frozen at another moment: only what is certain is checked.
func (s *slotChecker) list(l List) error {
	if l.Conversation.Kind == wire.Direct && !l.Conversation.Member(l.User) {
		return damaged("the conversation is not this user's")
	}
	if _, ok := s.users[l.User]; !ok {
		return damaged("there is no such user")
	}
	return s.changed(l.Changed)
}

func (s *slotChecker) conversation(c wire.Conversation, v *Conversation) error {
	if v.Revision < v.Head || v.SentA > v.Head {
		return damaged("head %d, revision %d, sent by A %d", v.Head, v.Revision, v.SentA)
	}
	if c.Kind == wire.Group {
		if v.SentA != 0 || len(v.Outboxes)+len(v.Evicted) != 0 {
			return damaged("a group has outboxes")
		}
		return s.changed(v.Changed)
	}
	if err := checkMemory(&v.Memory, v.Head); err != nil {
		return err
	}
	for i := range v.Outboxes {
		if o := &v.Outboxes[i]; !c.Member(o.Author) {
			return damaged("outbox of %v, who is no member", o.Author)
		}
	}
	return s.changed(v.Changed)
}

// checkMemory checks the outboxes of a conversation that has come to a head.
func checkMemory(m *Memory, head uint64) error {
	count := map[wire.ID]int{}
	for i := range m.Outboxes {
		o := &m.Outboxes[i]
		count[o.Author]++
		if o.Counter == 0 || o.Sequence == 0 || o.Sequence > head || count[o.Author] > wire.OutboxesMax {
			return damaged("outbox of %v: counter %d, sequence %d of %d", o.Author, o.Counter, o.Sequence, head)
		}
		for _, other := range m.Outboxes[:i] {
			if other.Author == o.Author && other.Device == o.Device && other.Epoch == o.Epoch ||
				other.Sequence == o.Sequence {
				return damaged("two outboxes of %v are one", o.Author)
			}
		}
	}
	return nil
}

func (s *slotChecker) member(p parsedKey, m *Member) error {
	c, ok := s.conversations[p.Conversation]
	if !ok {
		return damaged("there is no such conversation")
	}
	if p.Conversation.Kind == wire.Direct && !p.Conversation.Member(p.User) {
		return damaged("is no member")
	}
	if err := s.membership(p, c, &m.Membership); err != nil {
		return err
	}
	if o := &m.Own; o.Flags > wire.OwnSettingsMask || o.MutedUntil != 0 && o.Flags&wire.OwnMuted == 0 {
		return damaged("own flags %d, muted until %d", o.Flags, o.MutedUntil)
	}
	for _, cursor := range []*Cursor{&m.Delivered, &m.Read} {
		if cursor.Position > c.Head {
			return damaged("cursor at %d of %d", cursor.Position, c.Head)
		}
		last := Step{}
		for _, step := range cursor.Steps {
			if step.Position > cursor.Position || step.Position < last.Position || step.Time < last.Time {
				return damaged("steps of the cursor at %d go backward", cursor.Position)
			}
			last = step
		}
	}
	return nil
}

// chunk walks a chunk's messages and holds them against the conversation.
func (s *slotChecker) chunk(p parsedKey, value []byte) error {
	c, ok := s.conversations[p.Conversation]
	if !ok {
		return damaged("there is no such conversation")
	}
	if err := s.walk.open(p.Conversation, value); err != nil {
		return err
	}
	expected := c.last + 1
	if first := s.walk.state.first; first != p.Number || first != expected {
		c.last = first - 1 // report a gap once
		if first == p.Number {
			return damaged("begins at sequence %d, %d is next: gap or overlap", first, expected)
		}
		return damaged("says that it begins at sequence %d", first)
	}
	if s.walk.direct && s.walk.sentA != c.sentA {
		return damaged("says that A sent %d before, it was %d", s.walk.sentA, c.sentA)
	}
	var m Message
	for s.walk.next(&m) {
		s.checker.summary.Messages++
		if m.Revision <= c.revision || m.Time < c.time {
			return damaged("sequence %d: revision or time goes backward", m.Sequence)
		}
		c.last, c.revision, c.time = m.Sequence, m.Revision, m.Time
		for i := range c.Outboxes {
			if o := &c.Outboxes[i]; o.Sequence == m.Sequence && o.Author != m.Author {
				return damaged("sequence %d is by %v, an outbox of %v claims it", m.Sequence, m.Author, o.Author)
			}
		}
	}
	c.sentA = s.walk.sentA
	return s.walk.end()
}

// endSlot checks what only the whole slot can tell.
func (s *slotChecker) endSlot() {
	for _, id := range s.names {
		delete(s.users, id)
	}
	for id, name := range s.users {
		s.checker.key(parsedKey{Slot: s.slot, Kind: kindUser, User: id}, "its name %q does not lead to it", name)
	}
	for conversation, c := range s.conversations {
		p := parsedKey{Slot: s.slot, Kind: kindConversation, Conversation: conversation}
		if conversation.Kind == wire.Group && !c.group {
			s.checker.key(p, "is a group without its record")
		}
		if c.last != c.Head {
			s.checker.key(p, "head is %d, messages end at %d", c.Head, c.last)
		} else if c.sentA != c.SentA && conversation.Kind == wire.Direct {
			s.checker.key(p, "says that A sent %d, it was %d", c.SentA, c.sentA)
		} else if c.revision > c.Revision || c.time > c.Time {
			s.checker.key(p, "revision %d and time %d are behind the last message's", c.Revision, c.Time)
		}
	}
	s.users, s.names, s.conversations = nil, nil, nil
}
