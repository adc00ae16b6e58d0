package wire

import (
	"bytes"
	"testing"

	"pgregory.net/rapid"
)

// A kind is a frame type as the tests see it: who sends it, how to draw one, and its two
// functions. Every test that must hold for each frame runs over kinds.
type kind struct {
	typ       Type
	direction string // client, server or both, as in PROTOCOL.md
	gen       *rapid.Generator[any]
	append    func(dst []byte, x any) []byte
	parse     func(f Frame) (any, error)
	zero      func() any // a pointer to an empty value
}

func kindOf[T any](t Type, direction string, gen *rapid.Generator[T], app func([]byte, *T) []byte, parse func(Frame) (T, error)) kind {
	return kind{
		typ: t, direction: direction, gen: gen.AsAny(),
		append: func(dst []byte, x any) []byte { v := x.(T); return app(dst, &v) },
		parse:  func(f Frame) (any, error) { return parse(f) },
		zero:   func() any { return new(T) },
	}
}

type empty struct{}

var kinds = []kind{
	kindOf(TypeHello, "client", helloGen, AppendHello, ParseHello),
	kindOf(TypeWelcome, "server", welcomeGen, AppendWelcome, ParseWelcome),
	kindOf(TypeError, "server", errorGen, AppendError, func(f Frame) (Error, error) {
		e, err := ParseError(f)
		return *e, err
	}),
	kindOf(TypePing, "client", emptyGen, func(b []byte, _ *empty) []byte { return AppendPing(b) }, parseEmpty),
	kindOf(TypePong, "server", emptyGen, func(b []byte, _ *empty) []byte { return AppendPong(b) }, parseEmpty),
	kindOf(TypeGoAway, "server", goAwayGen, AppendGoAway, ParseGoAway),
	kindOf(TypeSend, "client", sendGen, AppendSend, ParseSend),
	kindOf(TypeSent, "server", sentGen, AppendSent, ParseSent),
	kindOf(TypeMessage, "server", messageGen, AppendMessage, ParseMessage),
	kindOf(TypeCursor, "client", cursorGen, AppendCursor, ParseCursor),
	kindOf(TypeReceipt, "server", receiptGen, AppendReceipt, ParseReceipt),
	kindOf(TypeTyping, "both", typingGen, AppendTyping, ParseTyping),
	kindOf(TypeHead, "server", headGen, AppendHead, ParseHead),
	kindOf(TypeSync, "client", syncGen, AppendSync, ParseSync),
	kindOf(TypeConversations, "server", conversationsGen, AppendConversations, ParseConversations),
	kindOf(TypeHistory, "client", historyGen, AppendHistory, ParseHistory),
	kindOf(TypePage, "server", pageGen, AppendPage, ParsePage),
	kindOf(TypeUsers, "client", usersGen, AppendUsers, ParseUsers),
	kindOf(TypeUserList, "server", userListGen, AppendUserList, ParseUserList),
	kindOf(TypeResolve, "client", resolveGen, AppendResolve, ParseResolve),
	kindOf(TypeGroup, "client", groupChangeGen, AppendGroupChange, ParseGroupChange),
	kindOf(TypeMembers, "client", membersGen, AppendMembers, ParseMembers),
	kindOf(TypeMemberList, "server", memberListGen, AppendMemberList, ParseMemberList),
	kindOf(TypeCounts, "server", countsGen, AppendCounts, ParseCounts),
	kindOf(TypeGroupInfo, "client", groupInfoGen, AppendGroupInfo, ParseGroupInfo),
	kindOf(TypeGroupState, "server", groupStateGen, AppendGroupState, ParseGroupState),
	kindOf(TypeCreated, "server", createdGen, AppendCreated, ParseCreated),
	kindOf(TypeJoin, "client", joinGen, AppendJoin, ParseJoin),
	kindOf(TypeOwnSettings, "client", ownSettingsGen, AppendOwnSettings, ParseOwnSettings),
	kindOf(TypeOwnState, "server", ownStateGen, AppendOwnState, ParseOwnState),
}

func parseEmpty(f Frame) (empty, error) { return empty{}, ParseEmpty(f) }

func kindByType(t testing.TB, typ Type) kind {
	t.Helper()
	for _, k := range kinds {
		if k.typ == typ {
			return k
		}
	}
	t.Fatalf("no test kind for %v", typ)
	return kind{}
}

func kindByName(t testing.TB, name string) kind {
	t.Helper()
	for _, k := range kinds {
		if k.typ.String() == name {
			return k
		}
	}
	t.Fatalf("no test kind for %s", name)
	return kind{}
}

// mustFrame splits src, which must hold exactly one frame.
func mustFrame(t rapid.TB, src []byte) Frame {
	t.Helper()
	f, rest, err := NextFrame(src)
	if err != nil || len(rest) != 0 {
		t.Fatalf("NextFrame(%x): %v, %d bytes left", src, err, len(rest))
	}
	return f
}

// The generators prefer small numbers and the edges of each field.
var (
	numberGen   = rapid.OneOf(rapid.Uint64Range(0, 300), rapid.Uint64Range(0, NumberMax), rapid.Just[uint64](NumberMax))
	halfGen     = rapid.OneOf(rapid.Uint64Range(0, 300), rapid.Uint64Range(0, NumberMax/2))
	positionGen = rapid.OneOf(rapid.Uint64Range(0, 300), rapid.Uint64Range(0, positionMax), rapid.Just[uint64](positionMax))
	timeGen     = rapid.Map(numberGen, func(n uint64) Time { return Time(n) })
	idGen       = rapid.Map(rapid.OneOf(rapid.Uint64Range(1, 1<<IDBits-1), rapid.Just[uint64](1<<IDBits-1)), func(n uint64) ID { return ID(n) })
	authorGen   = rapid.OneOf(rapid.Just[ID](0), idGen)
	refGen      = rapid.Custom(func(t *rapid.T) Ref {
		if id := idGen.Draw(t, "id"); rapid.Bool().Draw(t, "group") {
			return GroupRef(id)
		} else {
			return DirectRef(id)
		}
	})
)

func bytesGen(limit int) *rapid.Generator[[]byte] {
	return rapid.OneOf(rapid.SliceOfN(rapid.Byte(), 0, 20), rapid.Map(rapid.IntRange(0, limit), func(n int) []byte {
		return bytes.Repeat([]byte{'x'}, n)
	}))
}

func textGen(limit int) *rapid.Generator[string] { return rapid.StringN(-1, -1, limit) }

func contentGen(limit int) *rapid.Generator[Content] {
	return rapid.Custom(func(t *rapid.T) Content {
		var block []byte
		extended := rapid.Bool().Draw(t, "extended")
		if extended {
			tag := Tag(0)
			for range rapid.IntRange(0, 3).Draw(t, "extensions") {
				tag += Tag(rapid.Uint64Range(1, 40).Draw(t, "tag"))
				if tag >= TagServerMin && tag <= TagServerMax {
					tag = TagServerMax + 1 // no client sends those
				}
				block = AppendExtension(block, tag, rapid.SliceOfN(rapid.Byte(), 0, 20).Draw(t, "value"))
			}
		}
		body := bytesGen(limit-len(block)-2).Draw(t, "body")
		if extended {
			return Content{Extended: true, Bytes: AppendContent(nil, block, body)}
		}
		return Content{Bytes: body}
	})
}

// blockGen draws the extension block of an item, mostly none.
var blockGen = rapid.Custom(func(t *rapid.T) string {
	var block []byte
	tag := Tag(0)
	for range rapid.IntRange(0, 2).Draw(t, "extensions") {
		tag += Tag(rapid.Uint64Range(1, 300).Draw(t, "tag"))
		block = AppendExtension(block, tag, rapid.SliceOfN(rapid.Byte(), 0, 20).Draw(t, "value"))
	}
	return string(block)
})

var (
	emptyGen = rapid.Just(empty{})
	helloGen = rapid.Custom(func(t *rapid.T) Hello {
		return Hello{
			Version: numberGen.Draw(t, "version"), Flags: numberGen.Draw(t, "flags"),
			HeartbeatSeconds: numberGen.Draw(t, "heartbeat"), Features: numberGen.Draw(t, "features"),
			OutboxEpoch: rapid.Uint64().Draw(t, "epoch"), Kind: CredentialKind(rapid.Byte().Draw(t, "kind")),
			Credential: bytesGen(CredentialBytesMax).Draw(t, "credential"), Client: textGen(ClientBytesMax).Draw(t, "client"),
		}
	})
	welcomeGen = rapid.Custom(func(t *rapid.T) Welcome {
		return Welcome{
			User: idGen.Draw(t, "user"), Device: idGen.Draw(t, "device"), HeartbeatSeconds: numberGen.Draw(t, "heartbeat"),
			Time: timeGen.Draw(t, "time"), Features: numberGen.Draw(t, "features"), ClusterEpoch: numberGen.Draw(t, "epoch"),
			TicketSeconds: numberGen.Draw(t, "seconds"), Ticket: bytesGen(CredentialBytesMax).Draw(t, "ticket"),
		}
	})
	errorGen = rapid.Custom(func(t *rapid.T) Error {
		return Error{
			Correlation: numberGen.Draw(t, "correlation"), Code: Code(rapid.IntRange(0, 999).Draw(t, "code")),
			RetryAfterMS: numberGen.Draw(t, "retry"), Reason: textGen(ReasonBytesMax).Draw(t, "reason"),
		}
	})
	goAwayGen = rapid.Custom(func(t *rapid.T) GoAway {
		return GoAway{
			Code: Code(rapid.IntRange(0, 999).Draw(t, "code")), SpreadMS: numberGen.Draw(t, "spread"),
			Endpoint: textGen(ReasonBytesMax).Draw(t, "endpoint"),
		}
	})
	sendGen = rapid.Custom(func(t *rapid.T) Send {
		return Send{
			Correlation: numberGen.Draw(t, "correlation"), Ref: refGen.Draw(t, "ref"),
			Counter: max(1, numberGen.Draw(t, "counter")), Content: contentGen(ContentBytesMax).Draw(t, "content"),
		}
	})
	sentGen = rapid.Custom(func(t *rapid.T) Sent {
		return Sent{Correlation: numberGen.Draw(t, "correlation"), Sequence: numberGen.Draw(t, "sequence"), Time: timeGen.Draw(t, "time")}
	})
	messageGen = rapid.Custom(func(t *rapid.T) Message {
		sequence := max(1, halfGen.Draw(t, "sequence"))
		return Message{
			Ref: refGen.Draw(t, "ref"), Sequence: sequence, Author: authorGen.Draw(t, "author"),
			Revision: sequence + halfGen.Draw(t, "changes"), Time: timeGen.Draw(t, "time"),
			Content: contentGen(ContentBytesMax).Draw(t, "content"),
		}
	})
	cursorGen = rapid.Custom(func(t *rapid.T) Cursor {
		return Cursor{
			Ref: refGen.Draw(t, "ref"), Position: positionGen.Draw(t, "position"),
			Kind: CursorKind(rapid.IntRange(0, int(Read)).Draw(t, "kind")),
		}
	})
	receiptGen = rapid.Custom(func(t *rapid.T) Receipt {
		return Receipt{
			Ref: refGen.Draw(t, "ref"), Position: positionGen.Draw(t, "position"),
			Kind: CursorKind(rapid.IntRange(0, int(OwnRead)).Draw(t, "kind")), Time: timeGen.Draw(t, "time"),
		}
	})
	typingGen = rapid.Custom(func(t *rapid.T) Typing {
		return Typing{Ref: refGen.Draw(t, "ref"), Author: authorGen.Draw(t, "author")}
	})
	headGen = rapid.Custom(func(t *rapid.T) Head {
		sequence := halfGen.Draw(t, "sequence")
		return Head{Ref: refGen.Draw(t, "ref"), Sequence: sequence, Revision: sequence + halfGen.Draw(t, "changes")}
	})
)

var (
	syncGen = rapid.Custom(func(t *rapid.T) Sync {
		return Sync{
			Correlation: numberGen.Draw(t, "correlation"), Limit: rapid.Uint64Range(0, SyncItemsMax).Draw(t, "limit"),
			Previews: rapid.Uint64Range(0, PreviewsMax).Draw(t, "previews"), Token: bytesGen(SyncTokenBytesMax).Draw(t, "token"),
		}
	})
	stateGen = rapid.Custom(func(t *rapid.T) ConversationState {
		head := halfGen.Draw(t, "head")
		cursor := rapid.Uint64Range(0, head)
		c := ConversationState{
			Ref: refGen.Draw(t, "ref"), Head: head, Revision: head + halfGen.Draw(t, "changes"), Time: timeGen.Draw(t, "time"),
			Unread: numberGen.Draw(t, "unread"), Mentions: numberGen.Draw(t, "mentions"),
			Delivered: cursor.Draw(t, "delivered"), Read: cursor.Draw(t, "read"),
			OtherDelivered: cursor.Draw(t, "other delivered"), OtherRead: cursor.Draw(t, "other read"),
		}
		c.Extensions = blockGen.Draw(t, "extensions")
		if rapid.Bool().Draw(t, "preview") {
			c.Preview = &Preview{Author: authorGen.Draw(t, "author"), Content: contentGen(PreviewBytesMax).Draw(t, "content")}
		}
		return c
	})
	conversationsGen = rapid.Custom(func(t *rapid.T) Conversations {
		return Conversations{
			Correlation: numberGen.Draw(t, "correlation"), Flags: numberGen.Draw(t, "flags"),
			Items: rapid.SliceOfN(stateGen, 0, 8).Draw(t, "items"), Token: bytesGen(SyncTokenBytesMax).Draw(t, "token"),
		}
	})
	historyGen = rapid.Custom(func(t *rapid.T) History {
		return History{
			Correlation: numberGen.Draw(t, "correlation"), Ref: refGen.Draw(t, "ref"),
			Mode:     HistoryMode(rapid.IntRange(0, int(HistoryAround)).Draw(t, "mode")),
			Sequence: numberGen.Draw(t, "sequence"), Limit: rapid.Uint64Range(0, HistoryMessagesMax).Draw(t, "limit"),
		}
	})
	pageGen = rapid.Custom(func(t *rapid.T) Page {
		p := Page{
			Correlation: numberGen.Draw(t, "correlation"), Ref: refGen.Draw(t, "ref"),
			Flags: numberGen.Draw(t, "flags"), Head: numberGen.Draw(t, "head"),
		}
		sequence, time := uint64(0), Time(0)
		for range rapid.IntRange(0, 8).Draw(t, "count") {
			sequence += rapid.Uint64Range(1, 1<<40).Draw(t, "step")
			time += Time(rapid.Uint64Range(0, 1<<40).Draw(t, "wait"))
			p.Messages = append(p.Messages, PageMessage{
				Sequence: sequence, Author: authorGen.Draw(t, "author"), Revision: sequence + halfGen.Draw(t, "changes"),
				Time: time, Content: contentGen(2000).Draw(t, "content"),
			})
		}
		return p
	})
	usersGen = rapid.Custom(func(t *rapid.T) Users {
		query := rapid.Custom(func(t *rapid.T) UserQuery {
			return UserQuery{ID: idGen.Draw(t, "id"), Version: numberGen.Draw(t, "version")}
		})
		return Users{Correlation: numberGen.Draw(t, "correlation"), Queries: rapid.SliceOfN(query, 0, UsersMax).Draw(t, "queries")}
	})
	userListGen = rapid.Custom(func(t *rapid.T) UserList {
		user := rapid.Custom(func(t *rapid.T) User {
			return User{ID: idGen.Draw(t, "id"), Version: numberGen.Draw(t, "version"), Name: textGen(NameBytesMax).Draw(t, "name"),
				Extensions: blockGen.Draw(t, "extensions")}
		})
		return UserList{Correlation: numberGen.Draw(t, "correlation"), Users: rapid.SliceOfN(user, 0, UsersMax).Draw(t, "users")}
	})
	resolveGen = rapid.Custom(func(t *rapid.T) Resolve {
		return Resolve{
			Correlation: numberGen.Draw(t, "correlation"),
			Names:       rapid.SliceOfN(textGen(NameBytesMax), 0, UsersMax).Draw(t, "names"),
		}
	})
)
