package shard

import (
	"bytes"
	"fmt"

	"parley/storage"
	"parley/wire"
)

// loadGroup reads what a group is beside its conversation, and keeps both.
func (m *machine) loadGroup(v *conversation) error {
	group, ok, err := m.w.Group(v.key)
	if err == nil && !ok {
		err = fmt.Errorf("%w: %v has no record of its own", ErrBadState, v.key)
	}
	if err != nil {
		return err
	}
	v.group = &group
	m.cache.put(v)
	return nil
}

// writeGroup writes what a batch changed of a group. Its members are told by looking at
// the group, not by a row for each of them.
func (m *machine) writeGroup(v *conversation) {
	if v.dirtyGroup {
		m.w.PutGroup(v.key, v.group)
	}
	m.recent.note(v.key.A, v.touched[0])
	v.dirty, v.dirtyRecord, v.dirtyGroup, v.touched = false, false, false, [2]uint64{}
}

// sendToGroup applies a message or a change of a group, each exactly once and in order, as
// in a direct conversation. Whether the author may do it is looked at last, so that what was
// done once is never called refused.
func (m *machine) sendToGroup(c *command, origin Origin) error {
	v, err := m.conversation(c.conversation)
	if err != nil {
		return err
	}
	var event wire.Event
	if c.kind == commandGroup {
		var ok bool
		if event, ok = c.content.Event(); !ok || event.Kind == wire.EventJoined {
			m.refuse(origin, wire.CodeMalformed)
			return nil
		}
		if event.Kind == wire.EventCreate {
			return m.createGroup(v, c, &event, origin)
		}
	}
	if err := m.loadAuthor(v, c.user); err != nil {
		return err
	}
	boxes := remembered(&m.boxes)
	box := boxes.find(c)
	if box >= 0 && c.number > 0 && c.number <= boxes.Outboxes[box].Counter {
		return m.resent(v, &boxes.Outboxes[box], c, origin)
	}
	code := boxes.order(box, c)
	if code == wire.CodeOutOfOrder && box < 0 && m.author.Role == wire.RoleNone {
		code = wire.CodeNotMember // of whom nothing was ever accepted: not even a first message would be
	}
	if code == 0 {
		if code, err = m.mayDo(v, c, &event); err != nil {
			return err
		}
	}
	if code != 0 {
		m.refuse(origin, code)
		return nil
	}
	return m.acceptInGroup(v, box, c, &event, origin)
}

// loadAuthor reads what a group knows of a user: nothing, of who has nothing to do with it.
func (m *machine) loadAuthor(v *conversation, user wire.ID) error {
	m.boxes.Outboxes, m.boxes.Evicted = m.boxes.Outboxes[:0], m.boxes.Evicted[:0]
	forgetMember(&m.author)
	if !v.exists {
		return nil
	}
	if err := m.w.Outboxes(v.key, user, &m.boxes); err != nil {
		return err
	}
	_, err := m.w.MemberInto(v.key, user, &m.author)
	return err
}

// forgetMember empties a record and keeps its memory.
func forgetMember(m *storage.Member) {
	*m = storage.Member{Delivered: storage.Cursor{Steps: m.Delivered.Steps[:0]}, Read: storage.Cursor{Steps: m.Read.Steps[:0]}}
}

// mayDo gives the refusals of a member's message or change that have nothing to do with
// order.
func (m *machine) mayDo(v *conversation, c *command, event *wire.Event) (wire.Code, error) {
	if !m.owns(v.key.Slot()) {
		return wire.CodeNotLeader, nil
	}
	if m.author.Role == wire.RoleNone {
		return wire.CodeNotMember, nil
	}
	if code := checkContent(c); code != 0 {
		return code, nil
	}
	if c.kind == commandGroup {
		return m.permit(v, event, c.user)
	}
	writes := wire.RoleMember
	if v.group.Flags&wire.GroupBroadcast != 0 {
		writes = wire.RoleModerator
	}
	if m.author.Role < writes {
		return wire.CodeForbidden, nil
	}
	if saysEvent(c.content) {
		return wire.CodeUnsupported, nil
	}
	return 0, nil
}

// saysEvent reports whether a content calls itself an event, whatever is in it. Only the
// server makes those.
func saysEvent(c wire.Content) bool {
	if !c.Extended {
		return false
	}
	found := false
	block, _, err := c.Body()
	if err == nil {
		err = wire.Extensions(block, func(tag wire.Tag, value []byte) error {
			found = found || tag == wire.TagClass && bytes.Equal(value, []byte{wire.ClassEvent})
			return nil
		})
	}
	return found || err != nil
}

// acceptInGroup appends a message to a group and moves its author's cursors to it: who
// writes has read.
func (m *machine) acceptInGroup(v *conversation, box int, c *command, event *wire.Event, origin Origin) error {
	boxes := remembered(&m.boxes)
	var previous uint64
	if box >= 0 {
		previous = boxes.Outboxes[box].Sequence
	}
	m.append(v, c, previous, origin)
	boxes.use(v.key, box, c.outbox(v.Head))
	m.w.PutOutboxes(v.key, c.user, &m.boxes)
	if c.kind == commandGroup {
		if err := m.change(v, event, c.user); err != nil {
			return err
		}
	}
	if m.author.Role != wire.RoleNone {
		advance(&m.author.Delivered, v.Head, v.Time)
		advance(&m.author.Read, v.Head, v.Time)
		m.w.PutMember(v.key, c.user, &m.author)
	}
	return nil
}

// createGroup makes a group, whose identifier names the request. The counter of that
// belongs to creations, so the group remembers it and no outbox does.
func (m *machine) createGroup(v *conversation, c *command, event *wire.Event, origin Origin) error {
	creation := storage.Creation{User: c.user, Device: c.device, Epoch: c.epoch, Counter: c.number}
	switch {
	case v.exists:
		return m.createdBefore(v, &creation, c, origin)
	case c.number == 0:
		m.refuse(origin, wire.CodeMalformed)
	case !m.owns(v.key.Slot()):
		m.refuse(origin, wire.CodeNotLeader)
	case !m.roomForRows(1 + len(event.Users)):
		m.refuse(origin, wire.CodeOverloaded)
	default:
		v.exists = true
		v.group = &storage.Group{Version: 1, Flags: event.Flags, Owner: c.user, Creation: creation, Title: event.Text}
		m.cache.put(v)
		m.append(v, c, 0, origin)
		m.toldCreated(v, origin)
		v.group.Created = v.Time
		forgetMember(&m.author)
		if err := m.join(v, c.user, wire.RoleOwner, &m.author); err != nil {
			return err
		}
		for _, user := range event.Users {
			if user == c.user {
				continue
			}
			if err := m.join(v, user, wire.RoleMember, m.target(0)); err != nil {
				return err
			}
		}
		advance(&m.author.Delivered, v.Head, v.Time)
		advance(&m.author.Read, v.Head, v.Time)
		m.w.PutMember(v.key, c.user, &m.author)
	}
	return nil
}

// createdBefore answers a creation whose group is there: the retry of what made it is told
// so, and anything else is another request under an identifier that is taken.
func (m *machine) createdBefore(v *conversation, creation *storage.Creation, c *command, origin Origin) error {
	if v.group.Creation != *creation {
		m.refuse(origin, wire.CodeReused)
		return nil
	}
	same := false
	err := m.read(v, 1, func(s *storage.Message) {
		same = s.Content.Extended == c.content.Extended && bytes.Equal(s.Content.Bytes, c.content.Bytes)
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
		m.effects.Sent = append(m.effects.Sent, SentEffect{Origin: origin, Sequence: 1, Time: v.group.Created})
		m.toldCreated(v, origin)
	}
	return nil
}

// toldCreated says in the answer just noted which group was made.
func (m *machine) toldCreated(v *conversation, origin Origin) {
	if origin.Session != 0 {
		m.effects.Sent[len(m.effects.Sent)-1].Created = v.key.A
	}
}

// joinByLink lets a user into a group who knows its link's secret. Who is in it already is
// answered again, so a retry needs no counter.
func (m *machine) joinByLink(c *command) error {
	origin, _ := m.origin()
	v, err := m.conversation(c.conversation)
	if err == nil {
		err = m.loadAuthor(v, c.user)
	}
	if err != nil {
		return err
	}
	if m.author.Role != wire.RoleNone {
		m.counters.Duplicates++
		if origin.Session != 0 {
			m.effects.Sent = append(m.effects.Sent, SentEffect{Origin: origin, Sequence: m.author.Joined, Time: m.author.Since})
		}
		return nil
	}
	if code := m.mayJoin(v, c); code != 0 {
		m.refuse(origin, code)
		return nil
	}
	c.content = wire.EventContent(wire.AppendEvent(nil, &wire.Event{Kind: wire.EventJoined}))
	m.append(v, c, 0, origin)
	if link := &v.group.Link; link.Left > 0 {
		if link.Left--; link.Left == 0 {
			*link = storage.Link{}
		}
	}
	if err := m.join(v, c.user, wire.RoleMember, &m.author); err != nil {
		return err
	}
	advance(&m.author.Delivered, v.Head, v.Time)
	advance(&m.author.Read, v.Head, v.Time)
	m.w.PutMember(v.key, c.user, &m.author)
	return nil
}

// mayJoin gives the refusals of a join. Whoever does not know the secret learns nothing,
// not even whether there is such a group.
func (m *machine) mayJoin(v *conversation, c *command) wire.Code {
	switch {
	case !m.owns(v.key.Slot()):
		return wire.CodeNotLeader
	case !v.exists, v.group.Link.Hash == storage.LinkHash{}, v.group.Link.Hash != storage.LinkHash(wire.HashOfSecret(c.secret)),
		v.group.Link.Expires != 0 && m.time >= v.group.Link.Expires:
		return wire.CodeGone
	case m.author.Banned:
		return wire.CodeBanned
	case v.group.Members >= wire.GroupMembersMax:
		return wire.CodeGroupFull
	case !m.roomForRows(1):
		return wire.CodeOverloaded
	}
	return 0
}
