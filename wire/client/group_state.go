package client

import (
	"slices"
	"time"

	"parley/wire"
)

const (
	// largeGroup is the number of members above which a group's members report their cursors
	// at most once in a reportInterval.
	largeGroup     = 100
	reportInterval = time.Second
)

// A groupState is what the client knows of a conversation that is a group, beside what all
// conversations have.
type groupState struct {
	left    bool   // this user is not a member any more
	members uint64 // exact after a sync
	entry   uint64 // the message that made this user a member, if it came by push; else 0
	change  uint64 // the last message that changed what the list says of the group
	heard   uint64 // core.walk when the last message came
}

// item is what the list says of a group.
func (v *conversation) item() wire.GroupItem {
	if !v.ref.Group() {
		return wire.GroupItem{}
	}
	item, err := wire.ParseGroupItem(v.state.Extensions)
	if err != nil {
		return wire.GroupItem{}
	}
	return item
}

// reportDue is the moment before which no cursor is sent.
func (v *conversation) reportDue() time.Time {
	if v.members <= largeGroup {
		return time.Time{}
	}
	return v.reported.Add(reportInterval)
}

// heardOf takes the acknowledgement of what went out more than once, to a group that is not
// in the list: it may have been accepted long ago, and this user be a member no more. HISTORY
// tells, and brings the message.
func (c *core) heardOf(v *conversation, m *MessageEvent) {
	c.note(v, m)
	c.ensureListed(v, m.Sequence-1)
	c.checkBehind(v)
}

// concerns tells whether an event makes a user a member, or ends that.
func concerns(e *wire.Event, author, user wire.ID) (enters, ends bool) {
	_, named := slices.BinarySearch(e.Users, user)
	switch e.Kind {
	case wire.EventCreate:
		enters = named || author == user
	case wire.EventAdd:
		enters = named
	case wire.EventJoined:
		enters = author == user
	case wire.EventRemove, wire.EventBan:
		ends = named
	case wire.EventLeave:
		ends = author == user
	}
	return enters, ends
}

// noteGroup brings what the list says of a group up to a new message.
func (c *core) noteGroup(v *conversation, m *MessageEvent) {
	v.heard = c.walk
	if v.left && m.Sent {
		return // it may have been accepted long ago: a push or a sync tells who is a member
	}
	if c.synced && m.Sequence > v.state.Head+1 {
		c.stale = true // what lies between may have changed the group
	}
	e, ok := m.Content.Event()
	enters, ends := concerns(&e, m.Author, c.user)
	if v.left && !enters && !ends {
		v.left, v.entry, c.stale = false, 0, true // what made this user a member again was left out
	}
	if !ok {
		return
	}
	item := v.item()
	before := item
	item.Members = countMembers(item.Members, &e)
	switch {
	case ends:
		v.left, item.Role = true, wire.RoleNone
	case enters && (v.left || !v.listed):
		c.enter(v, m.Sequence)
		c.stale = c.stale || e.Kind != wire.EventCreate
		item.Role, item.From = wire.RoleMember, 0 // it depends on the group what From is: the next sync tells
	}
	applyEvent(&item, &e, m.Author, c.user)
	v.members = item.Members
	if item == before {
		return
	}
	v.state.Extensions = item.Block()
	if before.Members = item.Members; item != before {
		v.change = m.Sequence
	}
}

// countMembers goes on counting from what a sync has told: exact as long as only those were
// added who were none, and those removed who were.
func countMembers(n uint64, e *wire.Event) uint64 {
	users := uint64(len(e.Users))
	switch {
	case e.Kind == wire.EventCreate:
		return 1 + users
	case n == 0: // not known
	case e.Kind == wire.EventAdd:
		n += users
	case e.Kind == wire.EventJoined:
		n++
	case e.Kind == wire.EventRemove, e.Kind == wire.EventBan:
		n -= min(users, n-1)
	case e.Kind == wire.EventLeave:
		n -= min(1, n-1)
	}
	return n
}

// applyEvent does to an item what an event does to the group's title and a user's role.
func applyEvent(item *wire.GroupItem, e *wire.Event, author, user wire.ID) {
	_, named := slices.BinarySearch(e.Users, user)
	switch e.Kind {
	case wire.EventCreate:
		item.Title = e.Text
		if item.From = 1; author == user {
			item.Role = wire.RoleOwner
		}
	case wire.EventTitle:
		item.Title = e.Text
	case wire.EventRole:
		if named {
			item.Role = e.Role
		}
	case wire.EventOwner:
		if named {
			item.Role = wire.RoleOwner
		} else if author == user {
			item.Role = wire.RoleAdmin
		}
	}
}

// enter takes the news that a message has made this user a member: what the client shows
// begins there.
func (c *core) enter(v *conversation, sequence uint64) {
	v.left, v.entry, v.change = false, sequence, sequence
	s := &v.state
	s.Head = max(s.Head, sequence-1)
	s.Delivered, s.Read = max(s.Delivered, sequence-1), max(s.Read, sequence-1)
	s.Unread, s.Mentions = 0, 0
}

// syncGroup takes what a sync says of a group as of a message, old being what the list said
// before. It reports whether this user is a member.
func (c *core) syncGroup(v *conversation, old *wire.ConversationState, head uint64) bool {
	item := v.item()
	left := item.Role == wire.RoleNone
	switch {
	case v.change <= head:
		v.left = left
	case v.left != left: // a push has told of what came later
		v.state.Extensions = old.Extensions
		c.stale = true
	default:
		c.stale = true
	}
	v.members = v.item().Members
	if v.left {
		c.leftGroup(v)
	}
	return !v.left
}

// leftGroup takes a group out of the list. Nothing more is asked of it but what was said
// before the end, which the server may refuse.
func (c *core) leftGroup(v *conversation) {
	listed := v.listed
	v.left, v.listed = true, false
	v.want = [2]uint64{}
	item := v.item()
	item.Role = wire.RoleNone
	v.state.Extensions = item.Block()
	switch {
	case !v.told: // nor need it be: if this user comes back, it is met anew
		c.dropStash(v)
		v.based, v.known, v.top = false, 0, 0
	case !v.based: // another cluster took this user out
		c.dropStash(v)
		c.begin(v)
	}
	if listed {
		c.tell(v)
	}
}
