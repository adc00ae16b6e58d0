package session

import (
	"bytes"

	"parley/wire"
)

// A State is where a session stands between handshake and close.
type State uint8

// The states of a session, in the order it passes through them.
const (
	Greeting State = iota // the WebSocket is open, HELLO has not come
	Open                  // HELLO was good; requests are served
	Live                  // SYNC came: pushes are sent
	Closed                // a close was ordered; nothing more is read
)

// A Session is what a node remembers of one connection. It holds no pointer, so that a
// slab of them costs the garbage collector nothing. It belongs to one event loop.
type Session struct {
	User   wire.ID
	Device wire.ID
	Epoch  uint64 // names the client's outbox
	// typing is the second of the last TYPING that was passed on, to pass on few.
	typing           uint32
	HeartbeatSeconds uint8 // at most wire.HeartbeatSecondsMax, which fits
	Features         uint8 // bits that both sides understand
	State            State
	Reads            uint8 // requests that wait for the disk
}

// Features are the bits that this server understands.
const Features = wire.FeatureGroups | wire.FeatureOwn

// Groups reports whether the session is told of groups and may ask about them.
func (s *Session) Groups() bool { return s.Features&wire.FeatureGroups != 0 }

// Own reports whether the session is told what conversations are to its user alone.
func (s *Session) Own() bool { return s.Features&wire.FeatureOwn != 0 }

// An Identity is who a credential speaks for.
type Identity struct {
	User    wire.ID
	Device  wire.ID
	Expires wire.Time
}

// A Host answers what a session cannot know by itself. Its answers count as input.
type Host interface {
	// Now is the moment at which the message came.
	Now() wire.Time
	// Authenticate checks a token or ticket; an error is told to the client and ends the session.
	Authenticate(kind wire.CredentialKind, credential []byte) (Identity, *wire.Error)
	// AppendTicket makes the ticket for WELCOME and says how many seconds it is good for.
	AppendTicket(dst []byte, id Identity) (ticket []byte, seconds uint64)
	// ClusterEpoch is the number that clients compare to know their tokens are still good.
	ClusterEpoch() uint64
}

// A Kind tells what an action asks for.
type Kind uint8

// The kinds of actions.
const (
	Reply   Kind = iota // write Frames to this session
	Greeted             // HELLO was good: this device's other session is replaced
	Send                // queue Send
	Change              // queue Change, which makes or changes a group
	Join                // queue Join, by a group's link
	Ask                 // queue Request, which is the user's own: *wire.OwnSettings
	Cursor              // queue Cursor
	Typing              // tell the user that Ref names, or the group
	Sync                // answer Request, a *wire.Sync; pushes begin now
	Read                // answer Request: *wire.History, *wire.Users, *wire.Resolve, *wire.Members or *wire.GroupInfo
	Close               // close with Code and Reason, after what is written
)

// An Action is something the host must do, in order. What it holds aliases the message
// and is good only until the host returns from handling it.
type Action struct {
	Kind    Kind
	Code    wire.Code
	Ref     wire.Ref
	Reason  string
	Frames  []byte
	Send    wire.Send
	Change  wire.GroupChange
	Join    wire.Join
	Cursor  wire.Cursor
	Request any
}

// Message takes one WebSocket message and appends what is to be done to out.
func (s *Session) Message(payload []byte, host Host, out []Action) []Action {
	for len(payload) > 0 && s.State != Closed {
		frame, rest, err := wire.NextFrame(payload)
		if err != nil {
			return s.refuse(out, wire.CodeOf(err), err.Error())
		}
		payload = rest
		out = s.frame(frame, host, out)
	}
	return out
}

func (s *Session) frame(f wire.Frame, host Host, out []Action) []Action {
	if s.State == Greeting {
		if f.Type != wire.TypeHello {
			return s.refuse(out, wire.CodeUnauthenticated, "the first frame must be HELLO")
		}
		return s.hello(f, host, out)
	}
	switch f.Type {
	case wire.TypeSend:
		return s.send(f, out)
	case wire.TypeCursor:
		return s.cursor(f, out)
	case wire.TypePing:
		if err := wire.ParseEmpty(f); err != nil {
			return s.malformed(out, err)
		}
		return reply(out, wire.AppendPong(nil))
	case wire.TypeTyping:
		return s.typed(f, host, out)
	case wire.TypeSync:
		return s.sync(f, out)
	case wire.TypeHistory, wire.TypeUsers, wire.TypeResolve, wire.TypeMembers, wire.TypeGroupInfo:
		return s.read(f, out)
	case wire.TypeGroup:
		return s.change(f, out)
	case wire.TypeJoin:
		return s.join(f, out)
	case wire.TypeOwnSettings:
		return s.settings(f, out)
	}
	return s.unknown(f, out)
}

func (s *Session) hello(f wire.Frame, host Host, out []Action) []Action {
	h, err := wire.ParseHello(f)
	if err == nil && h.Version == wire.Version {
		id, refusal := host.Authenticate(h.Kind, h.Credential)
		if refusal != nil {
			return s.refuse(out, refusal.Code, refusal.Reason)
		}
		return s.welcome(&h, id, host, out)
	}
	if h.Version != wire.Version && (h.Version != 0 || err == nil) { // 0 with an error: the version could not be read
		return s.refuse(out, wire.CodeUnsupportedVersion, "this server speaks version 1")
	}
	return s.malformed(out, err)
}

func (s *Session) welcome(h *wire.Hello, id Identity, host Host, out []Action) []Action {
	s.User, s.Device, s.Epoch = id.User, id.Device, h.OutboxEpoch
	s.State = Open
	s.HeartbeatSeconds, s.Features = heartbeat(h.HeartbeatSeconds), uint8(h.Features&Features)
	var ticket []byte
	var seconds uint64
	if h.Kind == wire.CredentialToken {
		// Who came with a ticket keeps it: a chain of tickets would outlive every token.
		ticket, seconds = host.AppendTicket(nil, id)
	}
	w := wire.Welcome{User: id.User, Device: id.Device, HeartbeatSeconds: uint64(s.HeartbeatSeconds), Time: host.Now(),
		Features: uint64(s.Features), ClusterEpoch: host.ClusterEpoch(), TicketSeconds: seconds, Ticket: ticket}
	out = append(out, Action{Kind: Greeted})
	return reply(out, wire.AppendWelcome(nil, &w))
}

// heartbeat grants a wish within the limits; no wish gets what browsers need.
func heartbeat(wish uint64) uint8 {
	if wish == 0 {
		return HeartbeatSecondsDefault
	}
	return uint8(min(max(wish, wire.HeartbeatSecondsMin), wire.HeartbeatSecondsMax))
}

// IdleSeconds is how long the session may send nothing before it is closed.
func (s *Session) IdleSeconds() uint32 {
	return uint32(s.HeartbeatSeconds)*3/2 + wire.IdleGraceSeconds
}

func (s *Session) send(f wire.Frame, out []Action) []Action {
	m, err := wire.ParseSend(f)
	switch {
	case err != nil:
		return s.malformed(out, err)
	case len(m.Content.Bytes) > wire.ContentBytesMax:
		return failure(out, m.Correlation, wire.CodeBodyTooLarge, 0, "")
	case len(m.Content.Bytes) == 0:
		return failure(out, m.Correlation, wire.CodeMalformed, 0, "a message needs a content")
	case m.Ref.Group() && !s.Groups():
		return failure(out, m.Correlation, wire.CodeNotMember, 0, "")
	}
	return append(out, Action{Kind: Send, Send: m})
}

// noGroups is what a session is told that asks about groups and has not said that it
// knows what they are.
const noGroups = "groups are feature bit 1 of HELLO"

// change passes on what makes or changes a group.
func (s *Session) change(f wire.Frame, out []Action) []Action {
	g, err := wire.ParseGroupChange(f)
	switch {
	case err != nil:
		return s.malformed(out, err)
	case !s.Groups():
		return failure(out, g.Correlation, wire.CodeUnsupported, 0, noGroups)
	}
	return append(out, Action{Kind: Change, Change: g})
}

// join passes on that the user has a group's link.
func (s *Session) join(f wire.Frame, out []Action) []Action {
	j, err := wire.ParseJoin(f)
	switch {
	case err != nil:
		return s.malformed(out, err)
	case !s.Groups():
		return failure(out, j.Correlation, wire.CodeUnsupported, 0, noGroups)
	}
	return append(out, Action{Kind: Join, Join: j})
}

// noOwn is what a session is told that asks for its own and has not said that it knows of it.
const noOwn = "one's own is feature bit 7 of HELLO"

// settings passes on how the user wants a conversation.
func (s *Session) settings(f wire.Frame, out []Action) []Action {
	q, err := wire.ParseOwnSettings(f)
	switch {
	case err != nil:
		return s.malformed(out, err)
	case !s.Own():
		return failure(out, q.Correlation, wire.CodeUnsupported, 0, noOwn)
	case q.Ref.Group() && !s.Groups():
		return failure(out, q.Correlation, wire.CodeNotMember, 0, "")
	}
	return append(out, Action{Kind: Ask, Request: &q})
}

func (s *Session) cursor(f wire.Frame, out []Action) []Action {
	c, err := wire.ParseCursor(f)
	switch {
	case err != nil:
		return s.malformed(out, err)
	case c.Ref.Group() && !s.Groups():
		return failure(out, 0, wire.CodeNotMember, 0, "CURSOR in a group that is not yours")
	case c.Position == 0:
		return out
	}
	return append(out, Action{Kind: Cursor, Cursor: c})
}

// typed passes on one TYPING a second: more would tell nobody more.
func (s *Session) typed(f wire.Frame, host Host, out []Action) []Action {
	t, err := wire.ParseTyping(f)
	if err != nil {
		return s.malformed(out, err)
	}
	second := uint32(host.Now() / 1000)
	if t.Ref.Group() && !s.Groups() || second == s.typing {
		return out
	}
	s.typing = second
	return append(out, Action{Kind: Typing, Ref: t.Ref})
}

func (s *Session) sync(f wire.Frame, out []Action) []Action {
	q, err := wire.ParseSync(f)
	if err != nil {
		return s.malformed(out, err)
	}
	if s.Reads >= wire.RequestsMax {
		return failure(out, q.Correlation, wire.CodeOverloaded, readRetryMS, "too many requests at once")
	}
	s.Reads++
	s.State = Live
	q.Token = bytes.Clone(q.Token) // a reader looks at it when the message is gone
	return append(out, Action{Kind: Sync, Request: &q})
}

func (s *Session) read(f wire.Frame, out []Action) []Action {
	request, correlation, err := parseRead(f)
	if err != nil {
		return s.malformed(out, err)
	}
	if !s.Groups() {
		switch q := request.(type) {
		case *wire.History:
			if q.Ref.Group() {
				return failure(out, correlation, wire.CodeNotMember, 0, "")
			}
		case *wire.Members, *wire.GroupInfo:
			return failure(out, correlation, wire.CodeUnsupported, 0, noGroups)
		}
	}
	if s.Reads >= wire.RequestsMax {
		return failure(out, correlation, wire.CodeOverloaded, readRetryMS, "too many requests at once")
	}
	s.Reads++
	return append(out, Action{Kind: Read, Request: request})
}

func parseRead(f wire.Frame) (request any, correlation uint64, err error) {
	switch f.Type {
	case wire.TypeHistory:
		h, err := wire.ParseHistory(f)
		return &h, h.Correlation, err
	case wire.TypeUsers:
		u, err := wire.ParseUsers(f)
		return &u, u.Correlation, err
	case wire.TypeMembers:
		m, err := wire.ParseMembers(f)
		return &m, m.Correlation, err
	case wire.TypeGroupInfo:
		g, err := wire.ParseGroupInfo(f)
		return &g, g.Correlation, err
	default:
		r, err := wire.ParseResolve(f)
		return &r, r.Correlation, err
	}
}

// unknown skips what may be skipped; a frame that only servers send is malformed here.
func (s *Session) unknown(f wire.Frame, out []Action) []Action {
	switch {
	case f.Type.Known():
		return s.refuse(out, wire.CodeMalformed, f.Type.String()+" is not for this moment or direction")
	case f.Type.Critical():
		return s.refuse(out, wire.CodeUnknownFrame, f.Type.String()+" is unknown")
	}
	return out
}

// Answered gives back the place of a request whose answer has come.
func (s *Session) Answered() {
	if s.Reads > 0 {
		s.Reads--
	}
}

func (s *Session) malformed(out []Action, err error) []Action {
	return s.refuse(out, wire.CodeOf(err), err.Error())
}

// refuse ends the session: an ERROR frame says why, and the close code says it again.
func (s *Session) refuse(out []Action, code wire.Code, reason string) []Action {
	s.State = Closed
	out = failure(out, 0, code, 0, reason)
	return append(out, Action{Kind: Close, Code: code, Reason: reason})
}

func failure(out []Action, correlation uint64, code wire.Code, retryAfterMS uint64, reason string) []Action {
	return reply(out, wire.AppendError(nil, &wire.Error{Correlation: correlation, Code: code, RetryAfterMS: retryAfterMS, Reason: reason}))
}

func reply(out []Action, frames []byte) []Action {
	return append(out, Action{Kind: Reply, Frames: frames})
}
