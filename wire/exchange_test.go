package wire

import (
	"bytes"
	"testing"
)

// The worked example of PROTOCOL.md: Bob starts, writes to Alice and sees both ticks,
// goes away and resumes. The ticket has the size that servers give (36 bytes), the token
// that of a server with eight shards.
var (
	bobsPhone = MakeID(bob.Slot(), 0x123456789)
	ticket36  = bytes.Repeat([]byte{0xa5}, 36)
	// clusterShown is a cluster's epoch: 48 random bits.
	clusterShown uint64 = 0x9c2f5e1a70b3
	token24             = bytes.Repeat([]byte{0x5c}, 24)
)

func bobsState() ConversationState {
	return ConversationState{Ref: DirectRef(alice), Head: 999, Revision: 999, Time: noon - 60_000,
		Delivered: 999, Read: 999, OtherDelivered: 999, OtherRead: 998}
}

func helloWithTicket() Hello {
	return Hello{Version: Version, HeartbeatSeconds: 240, OutboxEpoch: epochShown, Kind: CredentialTicket, Credential: ticket36, Client: "parley-go/0.1"}
}

// resumed is the smallest answer to HELLO and SYNC: the ticket is still good for long, and
// nothing has changed.
func resumed() []part {
	return []part{
		{TypeWelcome, Welcome{User: bob, Device: bobsPhone, HeartbeatSeconds: 240, Time: noon + 600_000, ClusterEpoch: clusterShown}},
		{TypeConversations, Conversations{Correlation: 1, Token: token24}},
	}
}

func exchange(t testing.TB) []messageVector {
	hello := Hello{Version: Version, Flags: HelloForeground, OutboxEpoch: epochShown, Credential: []byte("header.claims.signature"), Client: "parley-go/0.1"}
	welcome := Welcome{User: bob, Device: bobsPhone, HeartbeatSeconds: 25, Time: noon - 1000, ClusterEpoch: clusterShown, TicketSeconds: 604_800, Ticket: ticket36}
	greeting := Text("Are you there? - Bob")
	toAlice, toBob := DirectRef(alice), DirectRef(bob)
	return []messageVector{
		makeMessage(t, "exchange 1: Bob to server, HELLO and SYNC", "client", part{TypeHello, hello}, part{TypeSync, Sync{Correlation: 1, Limit: 100}}),
		makeMessage(t, "exchange 2: server to Bob, WELCOME and CONVERSATIONS", "server", part{TypeWelcome, welcome},
			part{TypeConversations, Conversations{Correlation: 1, Items: []ConversationState{bobsState()}, Token: token24}}),
		makeMessage(t, "exchange 3: Bob to server, SEND", "client", part{TypeSend, Send{Correlation: 2, Ref: toAlice, Counter: 1, Content: greeting}}),
		makeMessage(t, "exchange 4: server to Bob, SENT", "server", part{TypeSent, Sent{Correlation: 2, Sequence: 1000, Time: noon}}),
		makeMessage(t, "exchange 5: server to Alice, MESSAGE", "server",
			part{TypeMessage, Message{Ref: toBob, Sequence: 1000, Revision: 1000, Time: noon, Content: greeting}}),
		makeMessage(t, "exchange 6: Alice to server, CURSOR delivered", "client", part{TypeCursor, Cursor{Ref: toBob, Position: 1000, Kind: Delivered}}),
		makeMessage(t, "exchange 7: server to Bob, RECEIPT delivered", "server",
			part{TypeReceipt, Receipt{Ref: toAlice, Position: 1000, Kind: Delivered, Time: noon + 40}}),
		makeMessage(t, "exchange 8: Alice to server, CURSOR read and TYPING", "client",
			part{TypeCursor, Cursor{Ref: toBob, Position: 1000, Kind: Read}}, part{TypeTyping, Typing{Ref: toBob}}),
		makeMessage(t, "exchange 9: server to Bob, RECEIPT read and TYPING", "server",
			part{TypeReceipt, Receipt{Ref: toAlice, Position: 1000, Kind: Read, Time: noon + 2_500}}, part{TypeTyping, Typing{Ref: toAlice}}),
		makeMessage(t, "exchange 10: Bob to server, PING", "client", part{TypePing, empty{}}),
		makeMessage(t, "exchange 11: server to Bob, PONG", "server", part{TypePong, empty{}}),
		makeMessage(t, "exchange 12: Bob to server on a new connection, HELLO and SYNC", "client", part{TypeHello, helloWithTicket()},
			part{TypeSync, Sync{Correlation: 1, Limit: 100, Token: token24}}),
		makeMessage(t, "exchange 13: server to Bob, WELCOME and CONVERSATIONS, nothing changed", "server", resumed()...),
	}
}
