package wire

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
)

// An Event is what a message of class ClassEvent says. Which fields mean something depends
// on its kind; the others are zero.
type Event struct {
	Kind  EventKind
	Flags uint64
	Role  Role
	Text  string
	Users []ID
}

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
	if _, usersMax := e.Kind.users(); usersMax > 0 {
		dst = appendUvarint(dst, uint64(len(e.Users)))
		for _, user := range e.Users {
			dst = appendUvarint(dst, uint64(user))
		}
	}
	return dst
}

// ParseEvent reads the body of an event. Users are given once each, in ascending order, so
// that an event has one encoding.
func ParseEvent(body []byte) (e Event, err error) {
	r := reader{src: body}
	e.Kind = EventKind(r.upTo(uint64(EventJoined)))
	if r.err == nil && e.Kind == 0 {
		r.fail(ErrMalformed)
	}
	if e.Kind.hasFlags() {
		e.Flags = r.upTo(groupFlagsEnd - 1)
	}
	if e.Kind == EventRole {
		if e.Role = Role(r.upTo(uint64(RoleAdmin))); e.Role == RoleNone {
			r.fail(ErrMalformed)
		}
	}
	if limit := e.Kind.textMax(); limit >= 0 {
		e.Text = string(r.bytes(limit))
	}
	usersMin, usersMax := e.Kind.users()
	if usersMax == 0 {
		return e, r.end()
	}
	n := r.count(uint64(usersMax), 1)
	e.Users = room[ID](n)
	for range n {
		user := r.id()
		if k := len(e.Users); r.err == nil && k > 0 && e.Users[k-1] >= user {
			r.fail(ErrMalformed)
		}
		if r.err != nil {
			break
		}
		e.Users = append(e.Users, user)
	}
	if r.err == nil && n < usersMin {
		r.fail(ErrMalformed)
	}
	return e, r.end()
}

// EventContent is the content of the message that an event becomes.
func EventContent(body []byte) Content {
	return Content{Extended: true, Bytes: AppendContent(make([]byte, 0, 1+len(eventBlock)+len(body)), eventBlock, body)}
}

// Event reads a content's event; false if it is none.
func (c Content) Event() (e Event, ok bool) {
	if !c.Extended || len(c.Bytes) <= len(eventBlock) {
		return e, false
	}
	block, body, err := c.Body()
	if err != nil || string(block) != string(eventBlock) {
		return e, false
	}
	e, err = ParseEvent(body)
	return e, err == nil
}
