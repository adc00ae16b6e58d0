package wire_test

import (
	"fmt"

	"parley/wire"
)

// A client puts HELLO, SYNC and its outbox into its first message; a server splits it.
func ExampleNextFrame() {
	bob := wire.MakeID(7, 42)
	message := wire.AppendHello(nil, &wire.Hello{Version: wire.Version, Credential: []byte("token"), Client: "example"})
	message = wire.AppendSync(message, &wire.Sync{Correlation: 1, Limit: 50})
	message = wire.AppendSend(message, &wire.Send{Correlation: 2, Ref: wire.DirectRef(bob), Counter: 1, Content: wire.Text("hello")})

	for len(message) > 0 {
		frame, rest, err := wire.NextFrame(message)
		if err != nil {
			fmt.Println(wire.CodeOf(err), err)
			return
		}
		message = rest
		if frame.Type != wire.TypeSend {
			fmt.Println(frame.Type)
			continue
		}
		send, err := wire.ParseSend(frame)
		fmt.Println(frame.Type, send.Ref.ID() == bob, send.Counter, string(send.Content.Bytes), err)
	}
	// Output:
	// HELLO
	// SYNC
	// SEND true 1 hello <nil>
}

// What belongs to a message but is not its text goes into an extension block.
func ExampleAppendContent() {
	block := wire.AppendExtension(nil, wire.TagReplyTo, []byte{41})
	reply := wire.Content{Extended: true, Bytes: wire.AppendContent(nil, block, []byte("yes"))}

	extensions, body, err := reply.Body()
	fmt.Println(string(body), err)
	_ = wire.Extensions(extensions, func(tag wire.Tag, value []byte) error {
		fmt.Println(tag == wire.TagReplyTo, value)
		return nil
	})
	// Output:
	// yes <nil>
	// true [41]
}
