package wire

import (
	"encoding/hex"
	"testing"
	"time"
)

// concat joins frames into a WebSocket message.
func concat(frames ...[]byte) []byte {
	var b []byte
	for _, f := range frames {
		b = append(b, f...)
	}
	return b
}

// frameOf makes a frame with any body, right or wrong.
func frameOf(t Type, body ...byte) []byte {
	return append(header(nil, t, false, len(body)), body...)
}

// extendedFrameOf makes a frame with an extension block before its body.
func extendedFrameOf(t Type, block []byte, body ...byte) []byte {
	b := AppendContent(nil, block, body)
	return append(header(nil, t, true, len(b)), b...)
}

// An invalidCase is a message that a receiver refuses, before it becomes a vector.
type invalidCase struct {
	name string
	typ  Type // 0: no frame that is known
	code Code
	raw  []byte
}

// invalidFraming breaks what every frame has in common.
func invalidFraming() []invalidCase {
	ping := AppendPing(nil)
	return []invalidCase{
		{"type without a length", TypePing, CodeMalformed, []byte{byte(TypePing)}},
		{"length that ends early", TypeSend, CodeMalformed, []byte{byte(TypeSend), 0x80}},
		{"body shorter than its length", TypeSend, CodeMalformed, []byte{byte(TypeSend), 5, 1, 2, 1}},
		{"length not in its shortest form", TypePing, CodeMalformed, []byte{byte(TypePing), 0x80, 0x00}},
		{"length of nine bytes", TypePing, CodeMalformed, []byte{byte(TypePing), 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01}},
		{"length above 2^53-1", TypePing, CodeMalformed, []byte{byte(TypePing), 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x10}},
		{"frame one byte too large, judged by its header", TypeSend, CodeFrameTooLarge, []byte{byte(TypeSend), 0xfd, 0xff, 0x03}},
		{"frame of 2^53-1 bytes, judged by its header", TypeSend, CodeFrameTooLarge, []byte{byte(TypeSend), 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x0f}},
		{"unknown odd type", 0, CodeUnknownFrame, frameOf(125)},
		{"reserved odd type", 0, CodeUnknownFrame, frameOf(37, 1, 2, 3)},
		{"type zero is even and skipped, what follows is not", 0, CodeUnknownFrame, concat(frameOf(0), frameOf(99))},
		{"good frame before a bad one", TypePing, CodeMalformed, concat(ping, []byte{byte(TypePing)})},
		{"unknown odd extension of a frame", TypePing, CodeUnsupported, extendedFrameOf(TypePing, AppendExtension(nil, 9, nil))},
		{"extension block longer than its frame", TypePing, CodeMalformed, []byte{byte(TypePing) | extendedFlag, 1, 5}},
		{"extension value longer than its block", TypePing, CodeMalformed, extendedFrameOf(TypePing, []byte{2, 4, 1})},
		{"extension tags that do not ascend", TypePing, CodeMalformed, extendedFrameOf(TypePing, []byte{4, 0, 2, 0})},
		{"extension tag twice", TypePing, CodeMalformed, extendedFrameOf(TypePing, []byte{2, 0, 2, 0})},
		{"extension tag zero", TypePing, CodeMalformed, extendedFrameOf(TypePing, []byte{0, 0})},
		{"extension flag without a block", TypePing, CodeMalformed, []byte{byte(TypePing) | extendedFlag, 0}},
		{"extension block of 1,025 bytes", TypePing, CodeMalformed,
			extendedFrameOf(TypePing, AppendExtension(nil, 2, make([]byte, ExtensionBytesMax-2)))},
	}
}

// invalidFields breaks one field of a frame each.
func invalidFields() []invalidCase {
	ref, group := appendUvarint(nil, uint64(DirectRef(alice))), appendUvarint(nil, uint64(GroupRef(friends)))
	with := func(t Type, parts ...[]byte) []byte { return frameOf(t, concat(parts...)...) }
	tooLong := appendUvarint(nil, 1<<49)
	return []invalidCase{
		{"PING with a body", TypePing, CodeMalformed, frameOf(TypePing, 0)},
		{"number of eight bytes above 2^53-1", TypeSent, CodeMalformed, frameOf(TypeSent, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x10, 1, 1)},
		{"number not in its shortest form", TypeSent, CodeMalformed, frameOf(TypeSent, 0x81, 0x00, 1, 1)},
		{"SENT without its time", TypeSent, CodeMalformed, frameOf(TypeSent, 1, 1)},
		{"SENT with a byte too many", TypeSent, CodeMalformed, frameOf(TypeSent, 1, 1, 1, 0)},
		{"reference to nobody", TypeSend, CodeMalformed, frameOf(TypeSend, 1, 0, 1)},
		{"reference to group zero", TypeSend, CodeMalformed, frameOf(TypeSend, 1, 1, 1)},
		{"reference of 50 bits", TypeCursor, CodeMalformed, with(TypeCursor, tooLong, []byte{0})},
		{"counter zero", TypeSend, CodeMalformed, with(TypeSend, []byte{1}, ref, []byte{0})},
		{"content with a server's tag", TypeSend, CodeUnsupported, AppendSend(nil, &Send{Correlation: 1, Ref: DirectRef(alice), Counter: 1,
			Content: extended(AppendExtension(nil, TagServerMin, nil), nil)})},
		{"content whose block is cut", TypeSend, CodeMalformed, AppendSend(nil, &Send{Correlation: 1, Ref: DirectRef(alice), Counter: 1,
			Content: Content{Extended: true, Bytes: []byte{9, 1}}})},
		{"message of sequence zero", TypeMessage, CodeMalformed, with(TypeMessage, ref, []byte{0, 0, 0, 0})},
		{"author of 49 bits", TypeMessage, CodeMalformed, with(TypeMessage, ref, []byte{1}, appendUvarint(nil, 1<<IDBits), []byte{0, 0})},
		{"cursor of a kind that only servers send", TypeCursor, CodeMalformed, with(TypeCursor, ref, []byte{2})},
		{"credential of 2,049 bytes", TypeHello, CodeMalformed, frameOf(TypeHello, 1, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8, 0, 0x81, 0x10)},
		{"HELLO that ends in its outbox epoch", TypeHello, CodeMalformed, frameOf(TypeHello, 1, 0, 0, 0, 1, 2, 3)},
		{"SYNC for 513 conversations", TypeSync, CodeMalformed, frameOf(TypeSync, 1, 0x81, 0x04, 0)},
		{"SYNC for 51 previews", TypeSync, CodeMalformed, frameOf(TypeSync, 1, 0, 51)},
		{"HISTORY in an unknown mode", TypeHistory, CodeMalformed, with(TypeHistory, []byte{1}, ref, []byte{3, 0, 0})},
		{"HISTORY of 501 messages", TypeHistory, CodeMalformed, with(TypeHistory, []byte{1}, ref, []byte{0, 0, 0xf5, 0x03})},
		{"USERS for 101 identifiers", TypeUsers, CodeMalformed, frameOf(TypeUsers, 1, 101)},
		{"USERS with fewer identifiers than it says", TypeUsers, CodeMalformed, frameOf(TypeUsers, 1, 2, 5, 0)},
		{"USERS for identifier zero", TypeUsers, CodeMalformed, frameOf(TypeUsers, 1, 1, 0, 0)},
		{"RESOLVE of a name of 65 bytes", TypeResolve, CodeMalformed, frameOf(TypeResolve, append([]byte{1, 1, 65}, make([]byte, 65)...)...)},
		{"ERROR with a code above 999", TypeError, CodeMalformed, frameOf(TypeError, 1, 0xe8, 0x07, 0)},
		{"WELCOME to user zero", TypeWelcome, CodeMalformed, frameOf(TypeWelcome, 0, 1, 25, 0, 0, 1, 0)},
		{"cursor beyond the head of its conversation", TypeConversations, CodeMalformed,
			with(TypeConversations, []byte{1, 0, 1}, ref, []byte{5, 0, 0, 0, 0, 6, 0, 0, 0, 0})},
		{"conversation with an unknown part", TypeConversations, CodeMalformed,
			with(TypeConversations, []byte{1, 0, 1}, ref, []byte{5, 0, 0, 0, 0, 0, 0, 0, 0, 4})},
		{"conversation with an empty extension block", TypeConversations, CodeMalformed,
			with(TypeConversations, []byte{1, 0, 1}, ref, []byte{5, 0, 0, 0, 0, 0, 0, 0, 0, 2, 0})},
		{"conversations that are not there", TypeConversations, CodeMalformed, frameOf(TypeConversations, 1, 0, 0x80, 0x04)},
		{"SEND of an event", TypeSend, CodeUnsupported, AppendSend(nil, &Send{Correlation: 1, Ref: GroupRef(friends), Counter: 1,
			Content: EventContent([]byte{byte(EventLeave)})})},
		{"GROUP with an unknown event", TypeGroup, CodeMalformed, with(TypeGroup, []byte{1}, group, []byte{1, 16})},
		{"GROUP with an unknown flag", TypeGroup, CodeMalformed, with(TypeGroup, []byte{1}, group, []byte{1, 5, 16})},
		{"GROUP of a link without a hash", TypeGroup, CodeMalformed, with(TypeGroup, []byte{1}, group, append([]byte{1, 14}, make([]byte, 34)...))},
		{"GROUP that creates a group which is there", TypeGroup, CodeMalformed, with(TypeGroup, []byte{1}, group, []byte{1, 1, 0, 0, 0})},
		{"GROUP that changes no group", TypeGroup, CodeMalformed, frameOf(TypeGroup, 1, 1, 1, 10)},
		{"GROUP of a direct conversation", TypeGroup, CodeMalformed, with(TypeGroup, []byte{1}, ref, []byte{1, 10})},
		{"GROUP that says who has joined", TypeGroup, CodeMalformed, with(TypeGroup, []byte{1}, group, []byte{1, 13})},
		{"GROUP of users that do not ascend", TypeGroup, CodeMalformed, with(TypeGroup, []byte{1}, group, []byte{1, 6, 2, 6, 5})},
		{"MEMBERS of a direct conversation", TypeMembers, CodeMalformed, with(TypeMembers, []byte{1}, ref, []byte{0, 0, 0})},
		{"MEMBERS for 201 members", TypeMembers, CodeMalformed, with(TypeMembers, []byte{1}, group, []byte{0, 0xc9, 1, 0})},
		{"MEMBER_LIST with an unknown role", TypeMemberList, CodeMalformed, frameOf(TypeMemberList, 1, 0, 1, 1, 5, 6, 1, 0, 0, 0, 0)},
		{"MEMBER_LIST that says by no time", TypeMemberList, CodeMalformed, frameOf(TypeMemberList, 1, 0, 1, 1, 5, 2, 1, 0, 1, 0, 0)},
		{"CREATED as a direct conversation", TypeCreated, CodeMalformed, with(TypeCreated, []byte{1}, ref, []byte{1, 0})},
		{"COUNTS of a direct conversation", TypeCounts, CodeMalformed, with(TypeCounts, ref, []byte{1, 0, 0, 0})},
		{"GROUP_STATE of a direct conversation", TypeGroupState, CodeMalformed, with(TypeGroupState, []byte{1}, ref, make([]byte, 9))},
		{"GROUP_STATE with a title of 129 bytes", TypeGroupState, CodeMalformed, with(TypeGroupState, []byte{1}, group, make([]byte, 6), []byte{0x81, 1}, make([]byte, 131))},
		{"OWN_SETTINGS with a flag that is not the client's", TypeOwnSettings, CodeMalformed, with(TypeOwnSettings, []byte{1}, ref, []byte{0, 16, 0})},
		{"OWN_SETTINGS that ends what is not muted", TypeOwnSettings, CodeMalformed, with(TypeOwnSettings, []byte{1}, ref, []byte{0, 2, 5})},
		{"JOIN with a secret of 15 bytes", TypeJoin, CodeMalformed, with(TypeJoin, []byte{1}, group, make([]byte, 15))},
		{"page whose sequences do not ascend", TypePage, CodeMalformed, with(TypePage, []byte{1}, ref, []byte{0, 9, 2, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0})},
	}
}

func invalidVectors(t testing.TB) []invalidVector {
	var vectors []invalidVector
	for _, c := range append(invalidFraming(), invalidFields()...) {
		v := invalidVector{Name: c.name, Direction: "both", Error: c.code.String(), Code: c.code, Bytes: hex.EncodeToString(c.raw)}
		if c.typ != 0 {
			k := kindByType(t, c.typ)
			v.Direction, v.Frame = k.direction, c.typ.String()
		}
		vectors = append(vectors, v)
	}
	return vectors
}

// A part is one frame of a messageVector.
type part struct {
	typ   Type
	value any
}

func makeMessage(t testing.TB, name, direction string, parts ...part) messageVector {
	v := messageVector{Name: name, Direction: direction}
	var raw []byte
	for _, p := range parts {
		f := makeVector(t, "", p.value, p.typ)
		v.Frames = append(v.Frames, f)
		raw = append(raw, f.raw...)
	}
	v.Bytes = hex.EncodeToString(raw)
	return v
}

// withSkipped puts frames that a receiver must skip before and after those of v.
func withSkipped(v messageVector) messageVector {
	future := frameOf(88, 1, 2, 3)
	empty := frameOf(0)
	v.Bytes = hex.EncodeToString(future) + v.Bytes + hex.EncodeToString(empty)
	return v
}

func messageVectors(t testing.TB) []messageVector {
	hello := Hello{Version: Version, HeartbeatSeconds: 240, OutboxEpoch: epochShown, Kind: CredentialTicket,
		Credential: []byte(repeated("\xa5", 36)), Client: "parley-go/0.1"}
	vectors := exchange(t)
	return append(vectors,
		makeMessage(t, "start: HELLO, SYNC and the outbox at once", "client",
			part{TypeHello, hello}, part{TypeSync, Sync{Correlation: 1, Limit: 100, Token: []byte("opaque")}},
			part{TypeSend, Send{Correlation: 2, Ref: DirectRef(bob), Counter: 7, Content: Text("one")}},
			part{TypeSend, Send{Correlation: 3, Ref: DirectRef(bob), Counter: 8, Content: Text("two")}},
			part{TypeCursor, Cursor{Ref: DirectRef(bob), Position: 41, Kind: Read}}),
		makeMessage(t, "an acknowledgement, two pushes and a receipt in one write", "server",
			part{TypeSent, Sent{Correlation: 2, Sequence: 42, Time: noon}},
			part{TypeMessage, Message{Ref: DirectRef(bob), Sequence: 43, Revision: 43, Time: noon, Content: Text("three")}},
			part{TypeMessage, Message{Ref: GroupRef(friends), Sequence: 9, Author: bob, Revision: 11, Time: noon, Content: replyTo}},
			part{TypeReceipt, Receipt{Ref: DirectRef(bob), Position: 42, Kind: Read, Time: noon + 5}}),
		withSkipped(makeMessage(t, "unknown even types are skipped", "server",
			part{TypePong, empty{}}, part{TypeHead, Head{Ref: DirectRef(bob), Sequence: 50, Revision: 50}})),
		messageVector{Name: "an empty message", Direction: "both"},
	)
}

// A valueSet holds the vectors of everything smaller than a frame.
type valueSet struct {
	Description   string               `json:"description"`
	Varints       []varintVector       `json:"varints"`
	BadVarints    []string             `json:"bad_varints"`
	IDs           []idVector           `json:"ids"`
	References    []refVector          `json:"references"`
	Conversations []conversationVector `json:"conversations"`
	Slots         []slotVector         `json:"slots"`
	Times         []timeVector         `json:"times"`
	Events        []eventVector        `json:"events"`
	GroupItems    []itemVector         `json:"group_items"`
	Codes         []codeVector         `json:"codes"`
	Types         []typeVector         `json:"types"`
	Limits        map[string]any       `json:"limits"`
}

type varintVector struct {
	Value any    `json:"value"`
	Bytes string `json:"bytes"`
}

type idVector struct {
	Slot   Slot   `json:"slot"`
	Random any    `json:"random"`
	ID     string `json:"id"`
	Key    string `json:"key"`
}

type refVector struct {
	Ref   string `json:"ref"`
	Kind  string `json:"kind"`
	ID    string `json:"id"`
	Bytes string `json:"bytes"`
}

type conversationVector struct {
	Self string `json:"self"`
	Ref  string `json:"ref"`
	Key  string `json:"key"`
	Slot Slot   `json:"slot"`
}

type slotVector struct {
	Bytes string `json:"bytes"`
	Slot  Slot   `json:"slot"`
}

type timeVector struct {
	Milliseconds any    `json:"milliseconds"`
	UTC          string `json:"utc"`
}

type eventVector struct {
	Event  string `json:"event"`
	Fields any    `json:"fields"`
	Bytes  string `json:"bytes"`
}

type itemVector struct {
	Fields any    `json:"fields"`
	Block  string `json:"block"`
}

type codeVector struct {
	Code  Code   `json:"code"`
	Name  string `json:"name"`
	Class Class  `json:"class"`
	Close uint16 `json:"close"`
}

type typeVector struct {
	Type      Type   `json:"type"`
	Name      string `json:"name"`
	Direction string `json:"direction"`
}

func valueVectors(t testing.TB) valueSet {
	s := valueSet{Description: "Numbers, identifiers, references, slots, times, events, extension blocks of groups, codes, types and limits; see PROTOCOL.md.", Limits: map[string]any{}}
	for _, n := range []uint64{0, 1, 127, 128, 300, 16_383, 16_384, 1 << 21, 1 << 28, 1 << 35, 1 << 42, 1<<48 - 1, 1 << 49, NumberMax} {
		s.Varints = append(s.Varints, varintVector{number(n), hex.EncodeToString(appendUvarint(nil, n))})
	}
	s.BadVarints = []string{"", "80", "8000", "ff00", "8080808080808010", "ffffffffffffff1f", "ffffffffffffffff01", "80808080808080808001"}
	for _, id := range []ID{1, alice, bob, phone, friends, lastID} {
		s.IDs = append(s.IDs, idVector{id.Slot(), number(uint64(id) & (1<<randomBits - 1)), id.String(), hex.EncodeToString(AppendID(nil, id))})
		for _, r := range []Ref{DirectRef(id), GroupRef(id)} {
			kind := map[bool]string{false: "direct", true: "group"}[r.Group()]
			s.References = append(s.References, refVector{uitoa(uint64(r)), kind, id.String(), hex.EncodeToString(appendUvarint(nil, uint64(r)))})
		}
	}
	for _, c := range []struct {
		self ID
		ref  Ref
	}{{alice, DirectRef(bob)}, {bob, DirectRef(alice)}, {alice, GroupRef(friends)}, {alice, DirectRef(alice)}, {1, DirectRef(lastID)}} {
		conversation := c.ref.Conversation(c.self)
		s.Conversations = append(s.Conversations, conversationVector{c.self.String(), uitoa(uint64(c.ref)),
			hex.EncodeToString(AppendConversation(nil, conversation)), conversation.Slot()})
	}
	for _, key := range []string{"", "a", "alice", "bob", "Bøb"} {
		s.Slots = append(s.Slots, slotVector{hex.EncodeToString([]byte(key)), SlotOf([]byte(key))})
	}
	for _, moment := range []Time{0, 1, noon, 1 << 35, 1 << 42} {
		s.Times = append(s.Times, timeVector{number(uint64(moment)), moment.Time().Format("2006-01-02T15:04:05.000Z07:00")})
	}
	for i := range eventExamples {
		e := &eventExamples[i]
		s.Events = append(s.Events, eventVector{e.Kind.String(), fieldsOf(*e), hex.EncodeToString(AppendEvent(nil, e))})
	}
	for _, g := range itemExamples {
		s.GroupItems = append(s.GroupItems, itemVector{fieldsOf(g), hex.EncodeToString([]byte(g.Block()))})
	}
	for _, c := range sortedCodes() {
		s.Codes = append(s.Codes, codeVector{c, c.String(), c.Class(), c.CloseCode()})
	}
	for _, k := range kinds {
		s.Types = append(s.Types, typeVector{k.typ, k.typ.String(), k.direction})
	}
	for name, value := range limitConstants(t) {
		if n, ok := value.(uint64); ok {
			value = number(n)
		}
		s.Limits[name] = value
	}
	return s
}

func TestVectorsOfValuesAgreeWithTheCodec(t *testing.T) {
	var file valueSet
	readJSON(t, "values.json", &file)
	if d := diff(file, valueVectors(t)); d != "" {
		t.Fatalf("values.json is not what the test makes; run with -update:\n%s", d)
	}
	for _, v := range file.BadVarints {
		if _, size := uvarint(unhex(t, v)); size > 0 {
			t.Errorf("%s was read as a number", v)
		}
	}
	for _, v := range file.Varints {
		b := unhex(t, v.Bytes)
		if n, size := uvarint(b); size != len(b) || diff(number(n), v.Value) != "" {
			t.Errorf("%s: %d", v.Bytes, n)
		}
	}
	for _, v := range file.Events {
		var e Event
		setFields(t, &e, v.Fields)
		if again, err := ParseEvent(unhex(t, v.Bytes)); err != nil || diff(again, e) != "" {
			t.Errorf("%s: %v, %s", v.Event, err, diff(again, e))
		}
	}
	for _, v := range file.GroupItems {
		var g GroupItem
		setFields(t, &g, v.Fields)
		if again, err := ParseGroupItem(string(unhex(t, v.Block))); err != nil || again != g {
			t.Errorf("%s: %+v, %v", v.Block, again, err)
		}
	}
	for _, v := range file.Times {
		moment, err := time.Parse(time.RFC3339Nano, v.UTC)
		if err != nil || diff(number(uint64(TimeOf(moment))), v.Milliseconds) != "" {
			t.Errorf("%s: %d, %v", v.UTC, TimeOf(moment), err)
		}
	}
}
