// Package websocket is the server's side of RFC 6455 over bytes that are already
// there: it reads from no connection and writes to none, so that an event loop can
// call it with whatever has arrived.
//
// A connection begins with a Handshaker: give it what is buffered until it answers
// with a response. After that a Decoder turns the buffered bytes into events, one at a
// time and in place: a payload is a part of the caller's buffer, unmasked there, and
// copied only when a message came in fragments. The Append functions write the frames
// of the other direction.
//
//	for {
//		event, err := decoder.Next(data, &fragments)
//		if err != nil { ... send AppendClose(nil, err.Code, err.Reason), close ... }
//		if event.Kind == websocket.KindNone { break } // event.Need bytes let it go on
//		... use event.Payload before the next call ...
//		data = data[event.Used:]
//	}
//
// Frame headers, masks and handshake rules are those of gobwas/ws; its readers are not
// used, because they expect a connection that blocks.
package websocket
