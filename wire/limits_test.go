package wire

import (
	"bytes"
	"errors"
	"strings"
	"testing"
)

// A limitCase is a frame at a limit, which is read, and one a step beyond, which is not.
type limitCase struct {
	at, beyond []byte
	err        error
}

// elsewhere names the limits that no parser can see, and who keeps them.
var elsewhere = map[string]string{
	"version":                  "session: HELLO tells the version even when it cannot be read",
	"subprotocol":              "websocket: the handshake",
	"path":                     "websocket: the handshake",
	"requests_max":             "session: what waits for an answer",
	"message_bytes_max":        "websocket: the length of a message",
	"server_message_bytes_max": "reactor: one write",
	"dedup_window":             "shard: what apply answers again; client: sends without an answer",
	"outboxes_max":             "shard: the record of a conversation",
	"heartbeat_seconds_min":    "session: the interval in WELCOME",
	"heartbeat_seconds_max":    "session: the interval in WELCOME",
	"upgrade_seconds":          "reactor: deadline",
	"hello_seconds":            "session: deadline",
	"pong_seconds":             "client: deadline",
	"suspect_seconds":          "session: deadline",
	"idle_grace_seconds":       "session: deadline",
	"typing_seconds":           "client: how long to show it",
	"group_members_max":        "shard: the record of a group",
}

func filled(n int) []byte { return bytes.Repeat([]byte{'x'}, n) }

func blockOf(n int) []byte {
	// Tag 2 takes one byte, the length of a value this long two.
	block := AppendExtension(nil, 2, filled(n-3))
	if len(block) != n {
		panic("not the length that was asked for")
	}
	return block
}

// limitCases has one case for each limit that a parser keeps.
func limitCases() map[string]limitCase {
	ref := DirectRef(alice)
	hello := func(credential, client int) []byte {
		// The client is clipped on the way out, so a longer one is built by hand.
		b := AppendHello(nil, &Hello{Version: Version, Credential: filled(credential)})
		f, _, _ := NextFrame(b)
		return frameOf(TypeHello, append(f.Body, filled(client)...)...)
	}
	message := func(content int) []byte {
		return AppendMessage(nil, &Message{Ref: ref, Sequence: 1, Revision: 1, Content: Content{Bytes: filled(content)}})
	}
	conversations := func(items, preview, token int) []byte {
		c := Conversations{Items: make([]ConversationState, items), Token: filled(token)}
		for i := range c.Items {
			c.Items[i].Ref = ref
		}
		if preview > 0 {
			c.Items[0].Preview = &Preview{Content: Content{Bytes: filled(preview)}}
		}
		return AppendConversations(nil, &c)
	}
	page := func(n int) []byte {
		p := Page{Ref: ref}
		for i := range n {
			p.Messages = append(p.Messages, PageMessage{Sequence: uint64(i + 1), Revision: uint64(i + 1)})
		}
		return AppendPage(nil, &p)
	}
	users := func(n int) []byte { return AppendUsers(nil, &Users{Queries: repeatQuery(n)}) }
	sync := func(previews uint64) []byte { return AppendSync(nil, &Sync{Previews: previews}) }
	resolve := func(n int) []byte { return AppendResolve(nil, &Resolve{Names: []string{strings.Repeat("n", n)}}) }
	reason := func(n int) []byte { return frameOf(TypeError, append([]byte{1, 100, 0}, filled(n)...)...) }
	ping := func(n int) []byte { return extendedFrameOf(TypePing, blockOf(n)) }
	list := func(n int) []byte {
		l := MemberList{Members: make([]Member, n)}
		for i := range l.Members {
			l.Members[i].User = ID(i + 1)
		}
		return AppendMemberList(nil, &l)
	}
	state := func(title, description, picture int) []byte {
		return AppendGroupState(nil, &GroupState{Ref: GroupRef(1), Title: string(filled(title)), Description: string(filled(description)), Picture: string(filled(picture))})
	}
	add := func(n int) []byte {
		e := Event{Kind: EventAdd}
		for i := range n {
			e.Users = append(e.Users, ID(i+1))
		}
		return AppendGroupChange(nil, &GroupChange{Ref: GroupRef(1), Counter: 1, Event: AppendEvent(nil, &e)})
	}
	link := func(n int) []byte {
		event := append([]byte{byte(EventLink)}, filled(n)...)
		return AppendGroupChange(nil, &GroupChange{Ref: GroupRef(1), Counter: 1, Event: append(event, 1, 1)})
	}
	join := func(n int) []byte { return AppendJoin(nil, &Join{Ref: GroupRef(1), Secret: filled(n)}) }
	number := func(n uint64) []byte { return frameOf(TypeSent, append(appendUvarint(nil, n), 1, 1)...) }
	return map[string]limitCase{
		"number_max":            {number(NumberMax), number(NumberMax + 1), ErrMalformed},
		"frame_bytes_max":       {nil, frameOf(TypeSend, make([]byte, FrameBytesMax-3)...), ErrFrameTooLarge},
		"content_bytes_max":     {message(ContentBytesMax), message(ContentBytesMax + 1), ErrLimit},
		"extension_bytes_max":   {ping(ExtensionBytesMax), ping(ExtensionBytesMax + 1), ErrLimit},
		"credential_bytes_max":  {hello(CredentialBytesMax, 0), hello(CredentialBytesMax+1, 0), ErrLimit},
		"client_bytes_max":      {hello(1, ClientBytesMax), hello(1, ClientBytesMax+1), ErrLimit},
		"name_bytes_max":        {resolve(NameBytesMax), resolve(NameBytesMax + 1), ErrLimit},
		"reason_bytes_max":      {reason(ReasonBytesMax), reason(ReasonBytesMax + 1), ErrLimit},
		"sync_token_bytes_max":  {conversations(0, 0, SyncTokenBytesMax), conversations(0, 0, SyncTokenBytesMax+1), ErrLimit},
		"sync_items_max":        {conversations(SyncItemsMax, 0, 0), conversations(SyncItemsMax+1, 0, 0), ErrLimit},
		"previews_max":          {sync(PreviewsMax), sync(PreviewsMax + 1), ErrLimit},
		"preview_bytes_max":     {conversations(1, PreviewBytesMax, 0), conversations(1, PreviewBytesMax+1, 0), ErrLimit},
		"history_messages_max":  {page(HistoryMessagesMax), page(HistoryMessagesMax + 1), ErrLimit},
		"users_max":             {users(UsersMax), users(UsersMax + 1), ErrLimit},
		"members_max":           {list(MembersMax), list(MembersMax + 1), ErrLimit},
		"event_users_max":       {add(EventUsersMax), add(EventUsersMax + 1), ErrLimit},
		"title_bytes_max":       {state(TitleBytesMax, 0, 0), state(TitleBytesMax+1, 0, 0), ErrLimit},
		"description_bytes_max": {state(0, DescriptionBytesMax, 0), state(0, DescriptionBytesMax+1, 0), ErrLimit},
		"picture_bytes_max":     {state(0, 0, PictureBytesMax), state(0, 0, PictureBytesMax+1), ErrLimit},
		"link_secret_bytes_max": {join(LinkSecretBytesMax), join(LinkSecretBytesMax + 1), ErrTrailing},
		"link_hash_bytes_max":   {link(LinkHashBytesMax), link(LinkHashBytesMax + 1), ErrTrailing},
	}
}

// The same limits hold in every frame that has such a field, and numbers that are sent as
// differences must not add up to more than a number can be.
func TestLimitsHoldInEveryField(t *testing.T) {
	ref := appendUvarint(nil, uint64(DirectRef(alice)))
	most := appendUvarint(nil, NumberMax)
	with := func(t Type, parts ...[]byte) []byte { return frameOf(t, concat(parts...)...) }
	for name, c := range map[string]struct {
		raw []byte
		err error
	}{
		"ticket":               {AppendWelcome(nil, &Welcome{User: 1, Device: 1, Ticket: filled(CredentialBytesMax + 1)}), ErrLimit},
		"endpoint":             {with(TypeGoAway, []byte{100, 0}, filled(ReasonBytesMax+1)), ErrLimit},
		"token of SYNC":        {AppendSync(nil, &Sync{Token: filled(SyncTokenBytesMax + 1)}), ErrLimit},
		"name":                 {AppendUserList(nil, &UserList{Users: []User{{ID: 1, Name: string(filled(NameBytesMax + 1))}}}), ErrLimit},
		"block of a user":      {AppendUserList(nil, &UserList{Users: []User{{ID: 1, Extensions: string(filled(ExtensionBytesMax + 1))}}}), ErrLimit},
		"users of a list":      {AppendUserList(nil, &UserList{Users: repeatUser(UsersMax + 1)}), ErrLimit},
		"content of a page":    {AppendPage(nil, &Page{Ref: 2, Messages: []PageMessage{{Sequence: 1, Revision: 1, Content: Content{Bytes: filled(ContentBytesMax + 1)}}}}), ErrLimit},
		"revision of MESSAGE":  {with(TypeMessage, ref, []byte{1, 0}, most, []byte{0}), ErrMalformed},
		"revision of HEAD":     {with(TypeHead, ref, []byte{1}, most), ErrMalformed},
		"revision of a page":   {with(TypePage, []byte{1}, ref, []byte{0, 9, 1, 1, 0}, most, []byte{0, 0}), ErrMalformed},
		"time of a page":       {with(TypePage, []byte{1}, ref, []byte{0, 9, 2, 1, 0, 0}, most, []byte{0, 1, 0, 0, 1, 0}), ErrMalformed},
		"sequence of a page":   {with(TypePage, []byte{1}, ref, []byte{0, 9, 2}, most, []byte{0, 0, 0, 0, 1, 0, 0, 0, 0}), ErrMalformed},
		"revision of a state":  {with(TypeConversations, []byte{1, 0, 1}, ref, []byte{1}, most, make([]byte, 8)), ErrMalformed},
		"author of a preview":  {with(TypeConversations, []byte{1, 0, 1}, ref, make([]byte, 9), []byte{1}, appendUvarint(nil, 1<<IDBits), []byte{0}), ErrLimit},
		"title of an event":    {AppendGroupChange(nil, &GroupChange{Ref: GroupRef(1), Counter: 1, Event: AppendEvent(nil, &Event{Kind: EventTitle, Text: string(filled(TitleBytesMax + 1))})}), ErrLimit},
		"users of a creation":  {AppendGroupChange(nil, &GroupChange{Ref: GroupRef(0), Counter: 1, Event: append([]byte{1, 0, 0, EventUsersMax}, filled(EventUsersMax)...)}), ErrLimit},
		"limit of MEMBERS":     {AppendMembers(nil, &Members{Ref: GroupRef(1), Limit: MembersMax + 1}), ErrLimit},
		"kind of a credential": {with(TypeHello, []byte{1, 0, 0, 0}, make([]byte, 8), []byte{0x80, 2, 0}), ErrLimit},
	} {
		if err := readOne(t, c.raw); !errors.Is(err, c.err) {
			t.Errorf("%s: %v, want %v", name, err, c.err)
		}
	}
}

func repeatUser(n int) []User {
	users := make([]User, n)
	for i := range users {
		users[i].ID = ID(i + 1)
	}
	return users
}

func repeatQuery(n int) []UserQuery {
	queries := make([]UserQuery, n)
	for i := range queries {
		queries[i].ID = ID(i + 1)
	}
	return queries
}

// readOne is what a receiver does with one frame.
func readOne(t *testing.T, b []byte) error {
	f, _, err := NextFrame(b)
	if err != nil {
		return err
	}
	_, err = kindByType(t, f.Type).parse(f)
	return err
}

func TestEveryLimitHoldsOneStepBeyondIt(t *testing.T) {
	cases := limitCases()
	for name := range limitConstants(t) {
		c, ok := cases[name]
		if _, other := elsewhere[name]; ok == other {
			t.Errorf("%s: has a case: %v, kept elsewhere: %v", name, ok, other)
		}
		if !ok {
			continue
		}
		if c.at != nil {
			if err := readOne(t, c.at); err != nil {
				t.Errorf("%s: at the limit: %v", name, err)
			}
		}
		if err := readOne(t, c.beyond); !errors.Is(err, c.err) {
			t.Errorf("%s: one beyond: %v, want %v", name, err, c.err)
		}
	}
}

func TestTheLargestFrameIsReadAndTheNextIsNot(t *testing.T) {
	at := frameOf(TypePage, make([]byte, FrameBytesMax-4)...)
	if len(at) != FrameBytesMax {
		t.Fatalf("%d bytes", len(at))
	}
	if f, rest, err := NextFrame(at); err != nil || len(f.Body) != FrameBytesMax-4 || len(rest) != 0 {
		t.Fatalf("at the limit: %v", err)
	}
	if _, _, err := NextFrame(frameOf(TypePage, make([]byte, FrameBytesMax-3)...)); !errors.Is(err, ErrFrameTooLarge) {
		t.Fatalf("one beyond: %v", err)
	}
}

func TestALongSendReachesTheServerWhichHasACodeForIt(t *testing.T) {
	b := AppendSend(nil, &Send{Correlation: 1, Ref: 2, Counter: 1, Content: Content{Bytes: filled(ContentBytesMax + 1)}})
	s, err := ParseSend(mustFrame(t, b))
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Content.Check(); !errors.Is(err, ErrLimit) {
		t.Fatal(err)
	}
}

func TestAppendClipsTextsToTheirLimits(t *testing.T) {
	long := strings.Repeat("x", 1000)
	e, err := ParseError(mustFrame(t, AppendError(nil, &Error{Code: CodeTimeout, Reason: long})))
	if err != nil || len(e.Reason) != ReasonBytesMax {
		t.Errorf("ERROR: %d bytes, %v", len(e.Reason), err)
	}
	g, err := ParseGoAway(mustFrame(t, AppendGoAway(nil, &GoAway{Code: CodeGoingAway, Endpoint: long})))
	if err != nil || len(g.Endpoint) != ReasonBytesMax {
		t.Errorf("GOAWAY: %d bytes, %v", len(g.Endpoint), err)
	}
	h, err := ParseHello(mustFrame(t, AppendHello(nil, &Hello{Client: long})))
	if err != nil || len(h.Client) != ClientBytesMax {
		t.Errorf("HELLO: %d bytes, %v", len(h.Client), err)
	}
}

func TestServerTagsAreRefusedFromClientsAndReadFromServers(t *testing.T) {
	for tag, refused := range map[Tag]bool{TagServerMin - 1: false, TagServerMin: true, TagServerMax: true, TagServerMax + 1: false} {
		c := extended(AppendExtension(nil, tag, nil), []byte("text"))
		_, err := ParseSend(mustFrame(t, AppendSend(nil, &Send{Ref: 2, Counter: 1, Content: c})))
		if errors.Is(err, ErrExtension) != refused || (err != nil) != refused {
			t.Errorf("SEND with tag %d: %v", tag, err)
		}
		if _, err := ParseMessage(mustFrame(t, AppendMessage(nil, &Message{Ref: 2, Sequence: 1, Revision: 1, Content: c}))); err != nil {
			t.Errorf("MESSAGE with tag %d: %v", tag, err)
		}
	}
}

func TestAPageThatIsFilledByTheBoundsFitsAFrame(t *testing.T) {
	p := Page{Correlation: NumberMax, Ref: GroupRef(lastID), Flags: NumberMax, Head: NumberMax}
	size := PageHeaderBytes
	for i := range HistoryMessagesMax {
		m := PageMessage{Sequence: 1<<52 + uint64(i), Author: lastID, Revision: NumberMax, Time: 1<<52 + Time(i), Content: Content{Bytes: filled(300)}}
		if size+PageMessageBytes(&m) > FrameBytesMax {
			break
		}
		size += PageMessageBytes(&m)
		p.Messages = append(p.Messages, m)
	}
	b := AppendPage(nil, &p)
	if len(b) > size || len(p.Messages) < 100 {
		t.Fatalf("%d bytes for %d messages, bound %d", len(b), len(p.Messages), size)
	}
	if _, err := ParsePage(mustFrame(t, b)); err != nil {
		t.Fatal(err)
	}
}

func TestConversationsThatAreFilledByTheBoundsFitAFrame(t *testing.T) {
	c := Conversations{Correlation: NumberMax, Flags: NumberMax, Token: filled(SyncTokenBytesMax)}
	size := ConversationsHeaderBytes + len(c.Token)
	for range SyncItemsMax {
		item := ConversationState{Ref: GroupRef(lastID), Head: NumberMax, Revision: NumberMax, Time: NumberMax, Unread: NumberMax, Mentions: NumberMax,
			Extensions: string(blockOf(200)), Preview: &Preview{Author: lastID, Content: Content{Bytes: filled(PreviewBytesMax)}}}
		if size+ConversationStateBytes(&item) > FrameBytesMax {
			break
		}
		size += ConversationStateBytes(&item)
		c.Items = append(c.Items, item)
	}
	b := AppendConversations(nil, &c)
	if len(b) > size || len(c.Items) < 100 {
		t.Fatalf("%d bytes for %d items, bound %d", len(b), len(c.Items), size)
	}
	if _, err := ParseConversations(mustFrame(t, b)); err != nil {
		t.Fatal(err)
	}
}
