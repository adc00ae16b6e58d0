package wire

import "errors"

// A Type names a frame. A receiver must understand odd types and may skip even
// ones that it does not know.
type Type uint8

// The frame types of version 1; C is sent by clients, S by servers. Reserved are 7 and 9
// for the session, 37 to 47 for changes, 65 to 71 for media, 73 to 87 for end-to-end
// encryption, 88 to 95 for presence, and 126 and 127 for types beyond seven bits;
// PROTOCOL.md says what each is meant for.
const (
	TypeHello         Type = 1   // C
	TypeWelcome       Type = 3   // S
	TypeError         Type = 5   // S
	TypePing          Type = 6   // C
	TypePong          Type = 8   // S
	TypeGoAway        Type = 10  // S
	TypeSend          Type = 11  // C
	TypeSent          Type = 13  // S
	TypeMessage       Type = 15  // S
	TypeCursor        Type = 17  // C
	TypeReceipt       Type = 19  // S
	TypeTyping        Type = 20  // C and S
	TypeHead          Type = 21  // S
	TypeSync          Type = 23  // C
	TypeConversations Type = 25  // S
	TypeHistory       Type = 27  // C
	TypePage          Type = 29  // S
	TypeUsers         Type = 31  // C
	TypeUserList      Type = 33  // S
	TypeResolve       Type = 35  // C
	TypeGroup         Type = 49  // C
	TypeMembers       Type = 51  // C
	TypeMemberList    Type = 53  // S
	TypeCounts        Type = 55  // S
	TypeGroupInfo     Type = 57  // C
	TypeGroupState    Type = 59  // S
	TypeCreated       Type = 61  // S
	TypeJoin          Type = 63  // C
	TypeOwnSettings   Type = 97  // C
	TypeOwnState      Type = 101 // S
)

const extendedFlag = 0x80

var typeNames = map[Type]string{
	TypeHello: "HELLO", TypeWelcome: "WELCOME", TypeError: "ERROR", TypePing: "PING", TypePong: "PONG",
	TypeGoAway: "GOAWAY", TypeSend: "SEND", TypeSent: "SENT", TypeMessage: "MESSAGE", TypeCursor: "CURSOR",
	TypeReceipt: "RECEIPT", TypeTyping: "TYPING", TypeHead: "HEAD", TypeSync: "SYNC",
	TypeConversations: "CONVERSATIONS", TypeHistory: "HISTORY", TypePage: "PAGE", TypeUsers: "USERS",
	TypeUserList: "USER_LIST", TypeResolve: "RESOLVE",
	TypeGroup: "GROUP", TypeMembers: "MEMBERS", TypeMemberList: "MEMBER_LIST", TypeCounts: "COUNTS",
	TypeGroupInfo: "GROUP_INFO", TypeGroupState: "GROUP_STATE", TypeCreated: "CREATED", TypeJoin: "JOIN",
	TypeOwnSettings: "OWN_SETTINGS", TypeOwnState: "OWN_STATE",
}

// String is the name in PROTOCOL.md, or "type N".
func (t Type) String() string {
	if name, ok := typeNames[t]; ok {
		return name
	}
	return "type " + uitoa(uint64(t))
}

// Known reports whether version 1 defines the type.
func (t Type) Known() bool { _, ok := typeNames[t]; return ok }

// Critical reports whether a receiver that does not know the type must refuse it.
func (t Type) Critical() bool { return t&1 == 1 }

// Errors of the codec; CodeOf tells what each is on the wire.
var (
	ErrTruncated     = errors.New("wire: frame ends early")
	ErrFrameTooLarge = errors.New("wire: frame too large")
	ErrMalformed     = errors.New("wire: malformed frame")
	ErrTrailing      = errors.New("wire: bytes after the last field")
	ErrLimit         = errors.New("wire: a field exceeds its limit")
	ErrExtension     = errors.New("wire: extension that must be understood is unknown")
)

// A Frame is one frame within a WebSocket message. Body aliases the message.
type Frame struct {
	Type     Type
	Extended bool // Body begins with an extension block
	Body     []byte
}

// NextFrame splits the first frame from src. It never looks beyond one frame.
func NextFrame(src []byte) (f Frame, rest []byte, err error) {
	if len(src) == 0 {
		return f, src, ErrTruncated
	}
	f.Type, f.Extended = Type(src[0]&^extendedFlag), src[0]&extendedFlag != 0
	n, size := uvarint(src[1:])
	if size < 0 {
		return f, src, ErrMalformed
	}
	if size == 0 {
		return f, src, ErrTruncated
	}
	if n > FrameBytesMax-1-uint64(size) {
		return f, src, ErrFrameTooLarge
	}
	src = src[1+size:]
	if uint64(len(src)) < n {
		return f, src, ErrTruncated
	}
	f.Body = src[:n:n]
	return f, src[n:], nil
}

// open starts a frame in dst; closeFrame fills in the length. One byte is set aside for
// it, and the body moves by one or two if it turns out to be longer: less than 1 µs for a
// whole page. Frames that carry one content know their length and use header instead.
func open(dst []byte, t Type, extended bool) ([]byte, int) {
	b := byte(t)
	if extended {
		b |= extendedFlag
	}
	dst = append(dst, b, 0)
	return dst, len(dst)
}

// header appends type and length of a frame whose body has exactly size bytes.
func header(dst []byte, t Type, extended bool, size int) []byte {
	b := byte(t)
	if extended {
		b |= extendedFlag
	}
	return appendUvarint(append(dst, b), uint64(size))
}

func closeFrame(dst []byte, start int) []byte {
	n := len(dst) - start
	if n < 0x80 {
		dst[start-1] = byte(n)
		return dst
	}
	extra := sizeUvarint(uint64(n)) - 1
	for range extra {
		dst = append(dst, 0)
	}
	copy(dst[start+extra:], dst[start:start+n])
	appendUvarint(dst[:start-1], uint64(n))
	return dst
}
