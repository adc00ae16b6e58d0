package client

import (
	"context"
	"crypto/rand"
	"fmt"
	"slices"
	"time"

	"parley/wire"
)

// newGroup is the conversation of what makes groups: its counters are those of the
// creations.
var newGroup = wire.GroupRef(0)

// errNoGroups is what a server that does not know groups would say.
var errNoGroups = &wire.Error{Code: wire.CodeUnsupported, Reason: "the server has no groups"}

// CreateGroup makes a group and waits until it is on disk on a majority of the server's
// replicas. It has a title, flags (wire.GroupBroadcast and others) and members beside this
// user, who owns it. When ctx ends first, the group is made all the same, once: it is in
// the outbox like a message.
func (c *Client) CreateGroup(ctx context.Context, title string, flags uint64, members ...wire.ID) (wire.Ref, error) {
	p, err := c.QueueGroup(title, flags, members...)
	if err != nil {
		return 0, err
	}
	sent, err := p.wait(ctx)
	return sent.Ref, err
}

// QueueGroup puts the making of a group into the outbox, as Queue does a message. The
// outcome's Ref is the group. What makes it is its first message, and comes as a
// MessageEvent too.
func (c *Client) QueueGroup(title string, flags uint64, members ...wire.ID) (*Pending, error) {
	body, err := encodeEvent(&wire.Event{Kind: wire.EventCreate, Flags: flags, Text: title, Users: ascending(members)})
	if err != nil {
		return nil, err
	}
	change := wire.GroupChange{Ref: newGroup, Counter: 1, Event: body}
	return c.queueChange(&change)
}

// Change queues a change of a group as Queue does a message: when it returns, the outbox's
// store has it, and it will be made once, or be refused, whatever happens to the connection.
// It is a message of the group, and comes as a MessageEvent whose content has the event.
// The users of the event may be in any order.
func (c *Client) Change(ref wire.Ref, event wire.Event) (*Pending, error) {
	event.Users = ascending(event.Users)
	body, err := encodeEvent(&event)
	if err != nil {
		return nil, err
	}
	return c.queueChange(&wire.GroupChange{Ref: ref, Counter: 1, Event: body})
}

// queueChange refuses what a server would end the session for.
func (c *Client) queueChange(change *wire.GroupChange) (*Pending, error) {
	frame, _, err := wire.NextFrame(wire.AppendGroupChange(nil, change))
	if err == nil {
		_, err = wire.ParseGroupChange(frame)
	}
	if err != nil {
		return nil, fmt.Errorf("%w: a change of conversation %d: %w", ErrRequest, change.Ref, err)
	}
	return c.enqueue(newPending(change.Ref, wire.EventContent(change.Event)))
}

// SetLink queues another link of a group, in the place of the one there is: who has the
// group's reference and the secret can Join. From expires on it is good for nothing (zero:
// it lasts), and for no more than uses who join (0: any number). Nobody but the caller
// knows the secret, the server included.
func (c *Client) SetLink(ref wire.Ref, expires time.Time, uses uint64) (secret []byte, p *Pending, err error) {
	secret = make([]byte, wire.LinkSecretBytesMax)
	_, _ = rand.Read(secret) // it never fails
	event := wire.Event{Kind: wire.EventLink, Hash: wire.HashOfSecret(secret), Uses: uses}
	if !expires.IsZero() {
		event.Expires = max(wire.TimeOf(expires), 1)
	}
	if p, err = c.Change(ref, event); err != nil {
		return nil, nil, err
	}
	return secret, p, nil
}

// ascending is a list of users as events have them.
func ascending(ids []wire.ID) []wire.ID {
	ids = slices.Clone(ids)
	slices.Sort(ids)
	return slices.Compact(ids)
}

// encodeEvent refuses fields that no event can have.
func encodeEvent(e *wire.Event) ([]byte, error) {
	body := wire.AppendEvent(nil, e)
	if _, err := wire.ParseEvent(body); err != nil {
		return nil, fmt.Errorf("%w: event %v: %w", ErrRequest, e.Kind, err)
	}
	return body, nil
}

// Join makes this user a member of a group by its link. The result is the event that did;
// who is a member already gets that of the first time.
func (c *Client) Join(ctx context.Context, ref wire.Ref, secret []byte) (Sent, error) {
	if err := checkGroup(ref); err != nil {
		return Sent{}, err
	}
	if len(secret) != wire.LinkSecretBytesMax {
		return Sent{}, fmt.Errorf("%w: a secret of %d bytes", ErrRequest, len(secret))
	}
	r := &request{kind: requestJoin, members: wire.Members{Ref: ref}, secret: slices.Clone(secret)}
	if err := c.request(ctx, r); err != nil {
		return Sent{}, err
	}
	return r.sent, nil
}

// Members reads a page of a group's members. Its Correlation is not used.
func (c *Client) Members(ctx context.Context, q wire.Members) (wire.MemberList, error) {
	if err := checkGroup(q.Ref); err != nil {
		return wire.MemberList{}, err
	}
	if q.Limit > wire.MembersMax || q.Position > wire.NumberMax || q.After >= 1<<wire.IDBits {
		return wire.MemberList{}, fmt.Errorf("%w: %+v", ErrRequest, q)
	}
	r := &request{kind: requestMembers, members: q}
	if err := c.request(ctx, r); err != nil {
		return wire.MemberList{}, err
	}
	r.list.Correlation = 0
	return r.list, nil
}

// Group reads how a group is.
func (c *Client) Group(ctx context.Context, ref wire.Ref) (wire.GroupState, error) {
	if err := checkGroup(ref); err != nil {
		return wire.GroupState{}, err
	}
	r := &request{kind: requestGroup, members: wire.Members{Ref: ref}}
	if err := c.request(ctx, r); err != nil {
		return wire.GroupState{}, err
	}
	r.group.Correlation = 0
	return r.group, nil
}

func checkGroup(ref wire.Ref) error {
	if !ref.Valid() || !ref.Group() {
		return fmt.Errorf("%w: %d names no group", ErrRequest, ref)
	}
	return nil
}
