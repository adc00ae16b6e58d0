//go:build linux

package load

import (
	"fmt"

	"parley/wire"
)

func (j *group) live(*session) {
	j.lives++
	j.dial()
	if j.lives == len(j.members) {
		j.create()
	}
}

// create makes the group, with its owner alone. The members follow, a hundred at a time.
func (j *group) create() {
	owner := j.members[0].session
	event := wire.AppendEvent(nil, &wire.Event{Kind: wire.EventCreate, Text: "bench"})
	out := owner.output()
	*out = wire.AppendGroupChange(*out, &wire.GroupChange{Correlation: 1, Ref: wire.GroupRef(0), Counter: 1, Event: event})
}

// add keeps some changes of members on their way until all are in.
func (j *group) add() {
	for j.counter-j.total.Acked < addsAtOnce && len(j.adding) > 0 {
		n := min(len(j.adding), wire.EventUsersMax)
		event := wire.AppendEvent(nil, &wire.Event{Kind: wire.EventAdd, Users: j.adding[:n]})
		j.adding = j.adding[n:]
		j.counter++
		out := j.members[0].session.output()
		*out = wire.AppendGroupChange(*out, &wire.GroupChange{Correlation: j.counter, Ref: j.ref, Counter: j.counter, Event: event})
	}
}

func (j *group) conversation(*session, *wire.ConversationState) {}

func (j *group) closed(s *session, err error) {
	j.complaints.add(fmt.Sprintf("user %v: %v", s.account.User, err))
	if j.connected != nil {
		answer := j.connected
		j.connected = nil
		answer(nil, err)
	}
}

func (j *group) frame(s *session, f wire.Frame) {
	var err error
	m := &j.members[s.index]
	switch {
	case f.Type == wire.TypeMessage:
		err = j.message(m, f)
	case f.Type == wire.TypeSent && s.index == 0:
		err = j.sent(f)
	case f.Type == wire.TypeCreated && s.index == 0:
		err = j.created(f)
	case f.Type == wire.TypeCounts && s.index == 0:
		j.total.Tallies++
	case f.Type == wire.TypeHead:
		err = j.head(m, f)
	case f.Type == wire.TypeError:
		var e *wire.Error
		if e, err = wire.ParseError(f); err == nil {
			err = e
		}
	default:
		err = fmt.Errorf("%v is not expected here", f.Type)
	}
	if err == nil {
		return
	}
	j.complaints.add(fmt.Sprintf("user %v: %v", s.account.User, err))
	if j.connected != nil {
		answer := j.connected
		j.connected = nil
		answer(nil, err)
	}
}

func (j *group) created(f wire.Frame) error {
	c, err := wire.ParseCreated(f)
	if err != nil {
		return err
	}
	j.ref, j.base = c.Ref, c.Sequence
	j.add()
	return nil
}

// sent takes an acknowledgement: first of the changes of members, then of messages.
func (j *group) sent(f wire.Frame) error {
	m, err := wire.ParseSent(f)
	if err != nil {
		return err
	}
	if j.connected != nil {
		if m.Sequence != j.base+1 {
			return fmt.Errorf("SENT with sequence %d after %d", m.Sequence, j.base)
		}
		j.base, j.changes = m.Sequence, j.changes+1
		j.total.Acked++ // of add's window; forgotten below
		j.add()
		j.begin()
		return nil
	}
	if m.Sequence != j.base+j.total.Acked+1 {
		return fmt.Errorf("SENT with sequence %d after %d", m.Sequence, j.base+j.total.Acked)
	}
	j.total.Acked++
	j.ack.record(j.loop.now - j.way[j.total.Acked%groupWindowMax].moment)
	return nil
}

// begin answers connect once every session has seen the last member come. What brings that is a push
// or, where the group is new to a node, a HEAD.
func (j *group) begin() {
	if j.connected == nil || len(j.adding) > 0 || j.changes < j.counter {
		return
	}
	for i := range j.members[1:] {
		if j.members[1+i].last < j.base {
			j.loop.After(beginPoll, j.begin)
			return
		}
	}
	j.total = GroupCounts{}
	answer := j.connected
	j.connected = nil
	answer(j.lives, nil)
}

// message takes a push: exactly the next one. Changes come before messages.
func (j *group) message(m *groupMember, f wire.Frame) error {
	x, err := wire.ParseMessage(f)
	if err != nil {
		return err
	}
	if x.Ref != j.ref || j.connected == nil && x.Sequence != m.last+1 || x.Author != j.members[0].session.account.User {
		return fmt.Errorf("MESSAGE of %v with sequence %d after %d by %v", x.Ref, x.Sequence, m.last, x.Author)
	}
	return j.reached(m, x.Sequence, len(x.Content.Bytes))
}

// head takes what stands for pushes that were left out.
func (j *group) head(m *groupMember, f wire.Frame) error {
	h, err := wire.ParseHead(f)
	if err != nil || h.Ref != j.ref && j.ref.ID() != 0 {
		return err
	}
	j.total.Heads++
	return j.reached(m, h.Sequence, j.texts.bytes)
}

// reached moves a member forward.
func (j *group) reached(m *groupMember, sequence uint64, bytes int) error {
	from := max(m.last, j.base)
	m.last = max(m.last, sequence)
	if j.connected != nil {
		return nil
	}
	for at := from + 1; at <= m.last; at++ {
		if bytes != j.texts.bytes || at-j.base > j.total.Sent {
			return fmt.Errorf("message %d of %d bytes, %d were sent", at-j.base, bytes, j.total.Sent)
		}
		w := &j.way[(at-j.base)%groupWindowMax]
		j.total.Delivered++
		j.deliver.record(j.loop.now - w.moment)
		if w.missing--; w.missing == 0 {
			j.total.Complete++
			j.slowest.record(j.loop.now - w.moment)
		}
	}
	return nil
}

// done goes on once all that was there has been handled.
func (j *group) done(s *session) {
	if s.index == 0 || j.plan.Rate == 0 {
		j.fill()
	}
	j.check()
}
