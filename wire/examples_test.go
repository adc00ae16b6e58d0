package wire

import (
	"bytes"
	"reflect"
	"strings"
)

// An example is a frame that the vectors show.
type example struct {
	name  string
	typ   Type
	value any
}

func deref(pointer any) any { return reflect.ValueOf(pointer).Elem().Interface() }

// The people and the moment of the examples: identifiers of the full 48 bits, and a
// time late enough (June 2027) to take six bytes, as it will for the next 138 years.
const (
	alice      ID   = 0x5a1_012345678
	bob        ID   = 0xc07_abcdef012
	phone      ID   = 0x5a1_fedcba987
	friends    ID   = 0x3ff_0000000ff
	noon       Time = 45_000_000_000
	greeting        = "Are you there? – Bob"
	lastID     ID   = 1<<IDBits - 1
	epochShown      = 0x1122334455667788
)

func repeated(s string, n int) string { return strings.Repeat(s, n) }

func extended(block, body []byte) Content {
	return Content{Extended: true, Bytes: AppendContent(nil, block, body)}
}

var (
	replyTo     = extended(AppendExtension(nil, TagReplyTo, []byte{0xe8, 0x07}), []byte("yes"))
	unknownEven = extended(AppendExtension(nil, 1000, []byte("later")), []byte("text"))
	sealed      = extended(AppendExtension(nil, TagClass, []byte{1}), []byte{0xde, 0xad, 0xbe, 0xef})
	noBlock     = extended(nil, []byte("empty block"))
)

var examples = []example{
	{"hello with a token", TypeHello, Hello{Version: Version, Flags: HelloForeground, OutboxEpoch: epochShown,
		Credential: []byte("header.claims.signature"), Client: "parley-go/0.1"}},
	{"hello with a ticket", TypeHello, Hello{Version: Version, HeartbeatSeconds: 240, OutboxEpoch: 1<<64 - 1,
		Kind: CredentialTicket, Credential: bytes.Repeat([]byte{0xa5}, 48)}},
	{"hello at its limits", TypeHello, Hello{Version: NumberMax, Flags: NumberMax, HeartbeatSeconds: NumberMax, Features: NumberMax,
		Kind: 255, Credential: bytes.Repeat([]byte{'c'}, CredentialBytesMax), Client: repeated("n", ClientBytesMax)}},
	{"welcome with a ticket", TypeWelcome, Welcome{User: alice, Device: phone, HeartbeatSeconds: 25, Time: noon, ClusterEpoch: 1,
		TicketSeconds: 86_400, Ticket: bytes.Repeat([]byte{0xa5}, 48)}},
	{"welcome without a ticket", TypeWelcome, Welcome{User: lastID, Device: 1, HeartbeatSeconds: HeartbeatSecondsMax, ClusterEpoch: NumberMax}},
	{"error of a request", TypeError, Error{Correlation: 1000, Code: CodeRateLimited, RetryAfterMS: 1500, Reason: "100 messages a second"}},
	{"error of the session", TypeError, Error{Code: CodeTokenExpired}},
	{"error with an unknown code", TypeError, Error{Correlation: 7, Code: 299, RetryAfterMS: NumberMax, Reason: repeated("é", ReasonBytesMax/2)}},
	{"ping", TypePing, empty{}},
	{"pong", TypePong, empty{}},
	{"go away", TypeGoAway, GoAway{Code: CodeGoingAway, SpreadMS: 5000}},
	{"go away to another endpoint", TypeGoAway, GoAway{Code: CodeGoingAway, SpreadMS: 30_000, Endpoint: "wss://b.example/v1"}},
	{"send 20 bytes", TypeSend, Send{Correlation: 1000, Ref: DirectRef(bob), Counter: 1000, Content: Text("Are you there? - Bob")}},
	{"send nothing", TypeSend, Send{Ref: DirectRef(1), Counter: 1}},
	{"send to a group", TypeSend, Send{Correlation: 1, Ref: GroupRef(lastID), Counter: NumberMax, Content: Text(greeting)}},
	{"send a reply", TypeSend, Send{Correlation: 2, Ref: DirectRef(bob), Counter: 2, Content: replyTo}},
	{"send with an odd tag, which the server carries", TypeSend, Send{Correlation: 3, Ref: DirectRef(bob), Counter: 3, Content: sealed}},
	{"send with an empty extension block", TypeSend, Send{Correlation: 4, Ref: DirectRef(bob), Counter: 4, Content: noBlock}},
	{"send 116 bytes, the last length of one byte", TypeSend, Send{Correlation: 1000, Ref: DirectRef(bob), Counter: 1000, Content: Text(repeated("m", 116))}},
	{"send 117 bytes, the first length of two", TypeSend, Send{Correlation: 1000, Ref: DirectRef(bob), Counter: 1000, Content: Text(repeated("m", 117))}},
	{"sent", TypeSent, Sent{Correlation: 1000, Sequence: 1000, Time: noon}},
	{"sent at the limits", TypeSent, Sent{Correlation: NumberMax, Sequence: positionMax, Time: NumberMax}},
	{"message of 20 bytes", TypeMessage, Message{Ref: DirectRef(alice), Sequence: 1000, Revision: 1000, Time: noon, Content: Text("Are you there? - Bob")}},
	{"message of one's own from another device", TypeMessage, Message{Ref: DirectRef(bob), Sequence: 1001, Author: alice, Revision: 1003, Time: noon + 1, Content: replyTo}},
	{"message with an unknown even tag", TypeMessage, Message{Ref: DirectRef(bob), Sequence: 1, Revision: 1, Content: unknownEven}},
	{"message with an odd tag, for a placeholder", TypeMessage, Message{Ref: GroupRef(friends), Sequence: 1, Author: bob, Revision: 1, Time: noon, Content: sealed}},
	{"message at the limits", TypeMessage, Message{Ref: GroupRef(lastID), Sequence: positionMax, Author: lastID, Revision: NumberMax, Time: NumberMax}},
	{"cursor delivered", TypeCursor, Cursor{Ref: DirectRef(alice), Position: 1000, Kind: Delivered}},
	{"cursor read", TypeCursor, Cursor{Ref: DirectRef(alice), Position: positionMax, Kind: Read}},
	{"receipt delivered", TypeReceipt, Receipt{Ref: DirectRef(bob), Position: 1000, Kind: Delivered, Time: noon}},
	{"receipt read", TypeReceipt, Receipt{Ref: DirectRef(bob), Position: 1000, Kind: Read, Time: noon}},
	{"receipt of one's own delivered cursor", TypeReceipt, Receipt{Ref: DirectRef(bob), Position: 1000, Kind: OwnDelivered, Time: noon}},
	{"receipt of one's own read cursor", TypeReceipt, Receipt{Ref: DirectRef(bob), Position: positionMax, Kind: OwnRead, Time: noon}},
	{"typing", TypeTyping, Typing{Ref: DirectRef(alice)}},
	{"typing in a group", TypeTyping, Typing{Ref: GroupRef(friends), Author: bob}},
	{"head", TypeHead, Head{Ref: DirectRef(alice), Sequence: 1200, Revision: 1207}},
	{"head of a conversation without messages", TypeHead, Head{Ref: GroupRef(friends), Revision: 2}},
	{"sync from the beginning", TypeSync, Sync{Correlation: 1, Limit: 100, Previews: 20}},
	{"sync with a token", TypeSync, Sync{Correlation: 9, Limit: SyncItemsMax, Previews: PreviewsMax, Token: []byte{1, 0xff, 0, 8}}},
	{"conversations, nothing changed", TypeConversations, Conversations{Correlation: 1, Token: []byte{1, 0xff, 0, 9}}},
	{"conversations with a preview", TypeConversations, Conversations{Correlation: 1, Flags: SyncMore | SyncReset, Items: []ConversationState{
		{Ref: DirectRef(alice), Head: 1000, Revision: 1002, Time: noon, Unread: 3, Delivered: 1000, Read: 997, OtherDelivered: 1000, OtherRead: 999,
			Preview: &Preview{Content: Text("Are you there? - Bob")}},
		{Ref: GroupRef(friends), Head: 5, Revision: 9, Time: noon - 1000, Mentions: 1, OtherDelivered: 5, Preview: &Preview{Author: bob, Content: sealed}},
		{Ref: DirectRef(lastID), Head: 1, Revision: 1, Preview: &Preview{}},
		{Ref: DirectRef(1)},
		{Ref: GroupRef(lastID), Head: 2, Revision: 2, Delivered: 2, Read: 2, Extensions: "\x02\x01\x07", Preview: &Preview{Author: 1, Content: Text("hi")}},
	}, Token: []byte("opaque")}},
	{"conversations that are groups", TypeConversations, Conversations{Correlation: 1, Items: []ConversationState{
		{Ref: GroupRef(friends), Head: 1000, Revision: 1000, Time: noon, Unread: 1, Delivered: 1000, Read: 999, Extensions: itemExamples[0].Block(),
			Preview: &Preview{Author: bob, Content: EventContent(AppendEvent(nil, &eventExamples[2]))}},
		{Ref: GroupRef(lastID), Head: 20, Revision: 20, Time: noon - 1, Extensions: itemExamples[2].Block()},
		{Ref: DirectRef(lastID), Head: 20, Revision: 20, Time: noon - 2, Extensions: ownExample.Block()},
	}, Token: []byte("opaque")}},
	{"history forward from the beginning", TypeHistory, History{Correlation: 4, Ref: DirectRef(bob)}},
	{"history backward from the end", TypeHistory, History{Correlation: 4, Ref: DirectRef(bob), Mode: HistoryBackward, Limit: 50}},
	{"history around a message", TypeHistory, History{Correlation: 4, Ref: GroupRef(friends), Mode: HistoryAround, Sequence: 1000, Limit: HistoryMessagesMax}},
	{"page", TypePage, Page{Correlation: 4, Ref: DirectRef(bob), Flags: PageMoreBefore | PageMoreAfter, Head: 1300, Messages: []PageMessage{
		{Sequence: 1000, Revision: 1000, Time: noon, Content: Text("one")},
		{Sequence: 1001, Author: alice, Revision: 1004, Time: noon, Content: replyTo},
		{Sequence: 1003, Revision: 1003, Time: noon + 60_000, Content: Text("")},
	}}},
	{"page without messages", TypePage, Page{Correlation: 4, Ref: GroupRef(friends)}},
	{"users", TypeUsers, Users{Correlation: 5, Queries: []UserQuery{{ID: alice, Version: 3}, {ID: bob}}}},
	{"users, none", TypeUsers, Users{Correlation: 5}},
	{"user list", TypeUserList, UserList{Correlation: 5, Users: []User{{ID: alice, Version: 4, Name: "alice"}, {ID: bob, Version: 1, Name: "Bøb", Extensions: "\x02\x01\x07"}}}},
	{"user list, nobody", TypeUserList, UserList{Correlation: 6}},
	{"resolve", TypeResolve, Resolve{Correlation: 6, Names: []string{"alice", "Bøb"}}},
	{"resolve a name at its limit", TypeResolve, Resolve{Correlation: 6, Names: []string{repeated("n", NameBytesMax)}}},
	{"make a group", TypeGroup, GroupChange{Correlation: 7, Ref: GroupRef(0), Counter: 1, Event: AppendEvent(nil, &eventExamples[0])}},
	{"make a group of nobody else", TypeGroup, GroupChange{Correlation: 7, Ref: GroupRef(0), Counter: 2, Event: AppendEvent(nil, &eventExamples[1])}},
	{"give a group a title", TypeGroup, GroupChange{Correlation: 8, Ref: GroupRef(friends), Counter: 1, Event: AppendEvent(nil, &eventExamples[2])}},
	{"add members", TypeGroup, GroupChange{Correlation: 8, Ref: GroupRef(friends), Counter: 2, Event: AppendEvent(nil, &eventExamples[6])}},
	{"make a member a moderator", TypeGroup, GroupChange{Correlation: 8, Ref: GroupRef(friends), Counter: 3, Event: AppendEvent(nil, &eventExamples[11])}},
	{"leave a group", TypeGroup, GroupChange{Correlation: 8, Ref: GroupRef(lastID), Counter: NumberMax, Event: AppendEvent(nil, &eventExamples[10])}},
	{"hand a group over", TypeGroup, GroupChange{Correlation: 8, Ref: GroupRef(friends), Counter: 4, Event: AppendEvent(nil, &eventExamples[12])}},
	{"let people join by a link", TypeGroup, GroupChange{Correlation: 8, Ref: GroupRef(friends), Counter: 5, Event: AppendEvent(nil, &eventExamples[14])}},
	{"message that says who was added", TypeMessage, Message{Ref: GroupRef(friends), Sequence: 2, Author: alice, Revision: 2, Time: noon,
		Content: EventContent(AppendEvent(nil, &eventExamples[6]))}},
	{"members from the beginning", TypeMembers, Members{Correlation: 9, Ref: GroupRef(friends)}},
	{"who has read a message", TypeMembers, Members{Correlation: 9, Ref: GroupRef(friends), After: alice, Limit: MembersMax, Position: 1000}},
	{"member list", TypeMemberList, MemberList{Correlation: 9, Flags: MembersMore, Total: 250, Members: []Member{
		{User: alice, Role: RoleOwner, From: 1, Delivered: 1000, DeliveredTime: noon, Read: 998, ReadTime: noon + 5, ReadBy: true},
		{User: bob, Role: RoleMember, From: 17},
	}}},
	{"member list, nobody", TypeMemberList, MemberList{Correlation: 9}},
	{"counts", TypeCounts, Counts{Ref: GroupRef(friends), Position: 1000, Delivered: 240, Read: 31, Of: 249}},
	{"group info", TypeGroupInfo, GroupInfo{Correlation: 10, Ref: GroupRef(friends)}},
	{"group state", TypeGroupState, GroupState{Correlation: 10, Ref: GroupRef(friends), Flags: GroupHistory | GroupMembersAdd, Members: 250,
		Role: RoleAdmin, From: 1, Version: 17, Created: noon, Title: "Friends", Description: "of Bøb", Picture: "media:1"}},
	{"group state at its limits", TypeGroupState, GroupState{Correlation: NumberMax, Ref: GroupRef(lastID), Flags: groupFlagsEnd - 1, Members: GroupMembersMax,
		Role: RoleOwner, From: NumberMax, Version: NumberMax, Created: NumberMax, Title: repeated("t", TitleBytesMax),
		Description: repeated("d", DescriptionBytesMax), Picture: repeated("p", PictureBytesMax)}},
	{"created", TypeCreated, Created{Correlation: 7, Ref: GroupRef(friends), Sequence: 1, Time: noon}},
	{"join", TypeJoin, Join{Correlation: 11, Ref: GroupRef(friends), Secret: []byte(repeated("\xa5", LinkSecretBytesMax))}},
	{"mute for a time", TypeOwnSettings, OwnSettings{Correlation: 12, Ref: DirectRef(bob), Version: 2, Flags: OwnMuted | OwnPinned, MutedUntil: noon}},
	{"take all settings back", TypeOwnSettings, OwnSettings{Correlation: 12, Ref: GroupRef(friends), Version: 3}},
	{"own state", TypeOwnState, OwnState{Ref: DirectRef(bob), Version: 3, Flags: OwnMuted | OwnPinned, MutedUntil: noon}},
}

// ownExample is what a list says of a direct conversation.
var ownExample = Own{Flags: OwnArchived, Version: 1}

// itemExamples are what lists say of groups: in one, one's membership has ended.
var itemExamples = []GroupItem{
	{Own: Own{Flags: OwnMuted, Version: 3}, Members: 25, Role: RoleModerator, From: 17, Title: "Friends"},
	{Members: GroupMembersMax, Role: RoleOwner, From: 1},
	{From: 17, Title: "Friends"},
	{Own: Own{Flags: OwnMuted | OwnPinned, Version: 4, MutedUntil: noon}, Members: 2, Role: RoleMember, From: 1},
}

// eventExamples are one event of each kind; of the first, two.
var eventExamples = []Event{
	{Kind: EventCreate, Flags: GroupHistory, Text: "Friends", Users: []ID{alice, bob}},
	{Kind: EventCreate},
	{Kind: EventTitle, Text: "Old friends"},
	{Kind: EventDescription, Text: "since school"},
	{Kind: EventPicture, Text: "media:2"},
	{Kind: EventSettings, Flags: GroupBroadcast | GroupMembersEdit},
	{Kind: EventAdd, Users: []ID{alice, bob}},
	{Kind: EventRemove, Users: []ID{bob}},
	{Kind: EventBan, Users: []ID{bob}},
	{Kind: EventUnban, Users: []ID{bob}},
	{Kind: EventLeave},
	{Kind: EventRole, Role: RoleModerator, Users: []ID{bob}},
	{Kind: EventOwner, Users: []ID{bob}},
	{Kind: EventJoined},
	{Kind: EventLink, Hash: HashOfSecret([]byte(repeated("\xa5", LinkSecretBytesMax))), Expires: noon, Uses: 50},
	{Kind: EventUnlink},
}
