package client

import (
	"context"
	"fmt"
	"slices"

	"parley/wire"
)

// CreateGroup makes a group with a title, settings (wire.GroupBroadcast and others) and first
// members beside this user, who owns it. It is asked for until the server answers or ctx ends, and
// made once. The title and the members count among its first event.
func (c *Client) CreateGroup(ctx context.Context, title string, flags uint64, members ...wire.ID) (wire.Ref, error) {
	event := wire.Event{Kind: wire.EventCreate, Flags: flags, Text: title, Users: ascending(members)}
	body, err := encodeEvent(&event)
	if err != nil {
		return 0, err
	}
	r := &request{kind: requestCreate, change: wire.GroupChange{Ref: wire.GroupRef(0), Event: body}}
	if !c.call(func(core *core) { r.change.Counter = core.creation() }) {
		return 0, c.closedError()
	}
	if err := c.request(ctx, r); err != nil {
		return 0, err
	}
	return r.made.Ref, nil
}

// Change queues a change of a group like a message: when it returns, the outbox's store has it,
// and it will happen once, or be refused, whatever happens to the connection. It comes back
// as a MessageEvent, whose content has the event.
func (c *Client) Change(ref wire.Ref, event wire.Event) (*Pending, error) {
	event.Users = ascending(event.Users)
	body, err := encodeEvent(&event)
	if err != nil {
		return nil, err
	}
	if !ref.Valid() || !ref.Group() || event.Kind == wire.EventCreate || event.Kind == wire.EventJoined {
		return nil, fmt.Errorf("%w: event %d of conversation %d", ErrRequest, event.Kind, ref)
	}
	return c.enqueue(newPending(ref, wire.EventContent(body)))
}

func ascending(ids []wire.ID) []wire.ID {
	ids = slices.Clone(ids)
	slices.Sort(ids)
	return slices.Compact(ids)
}

// encodeEvent refuses what a server would end the session for.
func encodeEvent(e *wire.Event) ([]byte, error) {
	body := wire.AppendEvent(nil, e)
	if _, err := wire.ParseEvent(body); err != nil {
		return nil, fmt.Errorf("%w: event of kind %d: %w", ErrRequest, e.Kind, err)
	}
	return body, nil
}

// Members reads a page of a group's members. Its Correlation is not used.
func (c *Client) Members(ctx context.Context, q wire.Members) (wire.MemberList, error) {
	if !q.Ref.Valid() || !q.Ref.Group() || q.Limit > wire.MembersMax || q.Position > wire.NumberMax || q.After >= 1<<wire.IDBits {
		return wire.MemberList{}, fmt.Errorf("%w: %+v", ErrRequest, q)
	}
	r := &request{kind: requestMembers, asked: q}
	if err := c.request(ctx, r); err != nil {
		return wire.MemberList{}, err
	}
	return r.list, nil
}

// Group reads how a group is.
func (c *Client) Group(ctx context.Context, ref wire.Ref) (wire.GroupState, error) {
	if !ref.Valid() || !ref.Group() {
		return wire.GroupState{}, fmt.Errorf("%w: %d names no group", ErrRequest, ref)
	}
	r := &request{kind: requestGroup, asked: wire.Members{Ref: ref}}
	if err := c.request(ctx, r); err != nil {
		return wire.GroupState{}, err
	}
	return r.group, nil
}

// creation numbers the groups that are made under an outbox epoch, which outlives this
// process: a random number of 52 bits does not come twice.
func (c *core) creation() uint64 { return 1 + c.random.Uint64N(1<<52) }

func appendGroupRequest(dst []byte, r *request) []byte {
	switch r.kind {
	case requestCreate:
		g := r.change
		g.Correlation = r.correlation
		return wire.AppendGroupChange(dst, &g)
	case requestMembers:
		q := r.asked
		q.Correlation = r.correlation
		return wire.AppendMembers(dst, &q)
	default:
		return wire.AppendGroupInfo(dst, &wire.GroupInfo{Correlation: r.correlation, Ref: r.asked.Ref})
	}
}

// appendSend appends a message, or the change of a group that it stands for.
func appendSend(dst []byte, correlation uint64, s *send) []byte {
	if _, ok := s.Content.Event(); ok {
		if _, body, err := s.Content.Body(); err == nil {
			return wire.AppendGroupChange(dst, &wire.GroupChange{Correlation: correlation, Ref: s.Ref, Counter: s.Counter, Event: body})
		}
	}
	return wire.AppendSend(dst, &wire.Send{Correlation: correlation, Ref: s.Ref, Counter: s.Counter, Content: s.Content})
}

// groupFrame takes the frames of groups.
func (c *core) groupFrame(f wire.Frame) error {
	switch f.Type {
	case wire.TypeCreated:
		m, err := wire.ParseCreated(f)
		if err == nil {
			c.groupAnswered(m.Correlation, requestCreate, func(r *request) { r.made = m })
		}
		return err
	case wire.TypeMemberList:
		l, err := wire.ParseMemberList(f)
		if err == nil {
			c.groupAnswered(l.Correlation, requestMembers, func(r *request) { r.list = l })
		}
		return err
	case wire.TypeGroupState:
		g, err := wire.ParseGroupState(f)
		if err == nil {
			c.groupAnswered(g.Correlation, requestGroup, func(r *request) { r.group = g })
		}
		return err
	default:
		n, err := wire.ParseCounts(f)
		if v := c.conversations[n.Ref]; err == nil && v != nil && v.based {
			event := CountsEvent(n)
			c.feed.news(v, newsCounts, &event)
		}
		return err
	}
}

// groupAnswered gives a caller its answer.
func (c *core) groupAnswered(correlation uint64, kind requestKind, take func(r *request)) {
	r := c.answered(correlation)
	switch {
	case r == nil:
	case r.kind == kind:
		take(r)
		c.do(action{kind: actionAnswer, request: r})
	default:
		c.lose(ErrProtocol, wire.CodeMalformed)
	}
}

// changed brings the list up to an event of a group: whether this user is a member, and what the item
// says of the group.
func (v *conversation) changed(m *MessageEvent, self wire.ID) {
	e, ok := m.Content.Event()
	if !ok {
		return
	}
	_, mine := slices.BinarySearch(e.Users, self)
	g, err := wire.ParseGroupItem(v.state.Extensions)
	if err != nil {
		g = wire.GroupItem{}
	}
	switch e.Kind {
	case wire.EventCreate:
		g.Title = e.Text
		if v.left = false; m.Author == self {
			g.Role, g.From = wire.RoleOwner, m.Sequence
		} else if mine {
			g.Role, g.From = wire.RoleMember, m.Sequence
		}
	case wire.EventTitle:
		g.Title = e.Text
	case wire.EventAdd:
		if mine && (v.left || g.Role == wire.RoleNone) {
			v.left, g.Role, g.From = false, wire.RoleMember, m.Sequence
		}
	case wire.EventRemove, wire.EventBan:
		if mine {
			v.left, g.Role = true, wire.RoleNone
		}
	case wire.EventLeave:
		if m.Author == self {
			v.left, g.Role = true, wire.RoleNone
		}
	case wire.EventRole:
		if mine {
			g.Role = e.Role
		}
	case wire.EventOwner:
		if mine {
			g.Role = wire.RoleOwner
		} else if m.Author == self {
			g.Role = wire.RoleAdmin
		}
	default:
		return
	}
	v.state.Extensions = g.Block()
}
