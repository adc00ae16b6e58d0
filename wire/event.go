package wire

import "crypto/sha256"

// An EventKind is what an event says.
type EventKind uint8

// The kinds of events. Each is a message of the group, by who did it.
const (
	EventCreate      EventKind = 1  // Flags, Text (the title), Users (first members)
	EventTitle       EventKind = 2  // Text
	EventDescription EventKind = 3  // Text
	EventPicture     EventKind = 4  // Text: a reference
	EventSettings    EventKind = 5  // Flags
	EventAdd         EventKind = 6  // Users
	EventRemove      EventKind = 7  // Users
	EventBan         EventKind = 8  // Users
	EventUnban       EventKind = 9  // Users
	EventLeave       EventKind = 10 //
	EventRole        EventKind = 11 // Role, Users
	EventOwner       EventKind = 12 // Users: one, the new owner
	EventJoined      EventKind = 13 // by the link; only servers say so
	EventLink        EventKind = 14 // Hash, Expires, Uses: there is another link, or the first one
	EventUnlink      EventKind = 15 // there is no link any more
)

var eventNames = [...]string{EventCreate: "create", EventTitle: "title", EventDescription: "description",
	EventPicture: "picture", EventSettings: "settings", EventAdd: "add", EventRemove: "remove", EventBan: "ban",
	EventUnban: "unban", EventLeave: "leave", EventRole: "role", EventOwner: "owner", EventJoined: "joined",
	EventLink: "link", EventUnlink: "unlink"}

// String is the name in PROTOCOL.md, or "event N".
func (k EventKind) String() string {
	if int(k) < len(eventNames) && k != 0 {
		return eventNames[k]
	}
	return "event " + uitoa(uint64(k))
}

// An Event is what a message of class ClassEvent says. Which fields mean something depends
// on its kind; the others are zero.
type Event struct {
	Kind    EventKind
	Flags   uint64
	Role    Role
	Text    string
	Users   []ID     // ascending, each once
	Hash    LinkHash // of the link's secret
	Expires Time     // the moment from which the link is good for nothing; 0: never
	Uses    uint64   // how many may join by the link; 0: any number
}

// A LinkHash stands for a link's secret where all members see it: who knows the hash
// cannot join by it, and a server compares no more.
type LinkHash [LinkHashBytesMax]byte

// HashOfSecret is the hash that an event says of a link's secret: its SHA-256. The secret
// has 128 random bits, so that nobody finds it by trying.
func HashOfSecret(secret []byte) LinkHash { return sha256.Sum256(secret) }

// Classes of contents, the value of TagClass.
const (
	// ClassOpaque is end-to-end encrypted.
	ClassOpaque = 1
	// ClassEvent is a change of a group, whose body is an event.
	ClassEvent = 2
)

// eventBlock is the extension block of every event.
var eventBlock = AppendExtension(nil, TagClass, []byte{ClassEvent})

// textMax is the greatest length of an event's text, -1 if its kind has none.
func (k EventKind) textMax() int {
	switch k {
	case EventCreate, EventTitle:
		return TitleBytesMax
	case EventDescription:
		return DescriptionBytesMax
	case EventPicture:
		return PictureBytesMax
	}
	return -1
}

// usersMax bounds the users of an event; fewer than usersMin are malformed.
func (k EventKind) users() (usersMin, usersMax int) {
	switch k {
	case EventCreate:
		return 0, EventUsersMax - 1
	case EventAdd, EventRemove, EventBan, EventUnban, EventRole:
		return 1, EventUsersMax
	case EventOwner:
		return 1, 1
	}
	return 0, 0
}

func (k EventKind) hasFlags() bool { return k == EventCreate || k == EventSettings }

// AppendEvent appends the body of an event. Only what its kind has is written.
func AppendEvent(dst []byte, e *Event) []byte {
	dst = appendUvarint(dst, uint64(e.Kind))
	if e.Kind.hasFlags() {
		dst = appendUvarint(dst, e.Flags)
	}
	if e.Kind == EventRole {
		dst = appendUvarint(dst, uint64(e.Role))
	}
	if e.Kind.textMax() >= 0 {
		dst = appendBytes(dst, e.Text)
	}
	if e.Kind == EventLink {
		dst = append(dst, e.Hash[:]...)
		dst = appendUvarint(dst, uint64(e.Expires))
		dst = appendUvarint(dst, e.Uses)
	}
	if _, usersMax := e.Kind.users(); usersMax > 0 {
		dst = appendUvarint(dst, uint64(len(e.Users)))
		for _, user := range e.Users {
			dst = appendUvarint(dst, uint64(user))
		}
	}
	return dst
}

// ParseEvent reads the body of an event, and keeps nothing of it. Users are given once
// each, in ascending order, so that an event has one encoding. Flags that a later version
// may have set are kept: ParseGroupChange alone refuses them.
func ParseEvent(body []byte) (e Event, err error) {
	r := reader{src: body}
	e.Kind = EventKind(r.upTo(uint64(EventUnlink)))
	if r.err == nil && e.Kind == 0 {
		r.fail(ErrMalformed)
	}
	if e.Kind.hasFlags() {
		e.Flags = r.uint()
	}
	if e.Kind == EventRole {
		if e.Role = Role(r.upTo(uint64(RoleAdmin))); e.Role == RoleNone {
			r.fail(ErrMalformed)
		}
	}
	if limit := e.Kind.textMax(); limit >= 0 {
		e.Text = string(r.bytes(limit))
	}
	if e.Kind == EventLink {
		copy(e.Hash[:], r.take(LinkHashBytesMax))
		e.Expires, e.Uses = Time(r.uint()), r.uint()
		if r.err == nil && e.Hash == (LinkHash{}) {
			r.fail(ErrMalformed) // stands for no link where it is kept
		}
	}
	if usersMin, usersMax := e.Kind.users(); usersMax > 0 {
		e.Users = r.users(usersMin, usersMax)
	}
	return e, r.end()
}

// users reads a list of identifiers that ascend.
func (r *reader) users(usersMin, usersMax int) []ID {
	n := r.count(uint64(usersMax), 1)
	users := room[ID](n)
	for range n {
		user := r.id()
		if k := len(users); r.err == nil && k > 0 && users[k-1] >= user {
			r.fail(ErrMalformed)
		}
		if r.err != nil {
			break
		}
		users = append(users, user)
	}
	if r.err == nil && n < usersMin {
		r.fail(ErrMalformed)
	}
	return users
}

// EventContent is the content of the message that an event becomes.
func EventContent(body []byte) Content {
	return Content{Extended: true, Bytes: AppendContent(make([]byte, 0, 1+len(eventBlock)+len(body)), eventBlock, body)}
}

// EventBody takes the event out of a content, unread; false if it says none. It aliases
// the content.
func (c Content) EventBody() (body []byte, ok bool) {
	n := len(eventBlock)
	if !c.Extended || len(c.Bytes) < 1+n || int(c.Bytes[0]) != n || string(c.Bytes[1:1+n]) != string(eventBlock) {
		return nil, false
	}
	return c.Bytes[1+n:], true
}

// Event reads a content's event; false if it says none, or one that this version does not
// know.
func (c Content) Event() (e Event, ok bool) {
	body, ok := c.EventBody()
	if !ok {
		return e, false
	}
	e, err := ParseEvent(body)
	return e, err == nil
}
