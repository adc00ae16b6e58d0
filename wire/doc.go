// Package wire is the Parley protocol: identifiers, frames, codec, error codes and
// limits. PROTOCOL.md beside it is the normative text, and testdata/vectors holds every
// frame as fields and as bytes, for clients in any language. The package does no I/O,
// reads no clock and uses the standard library only.
//
// A WebSocket message is one frame after the other. To write one, append frames to a
// buffer; to read one, split it and parse what you know:
//
//	b := wire.AppendCursor(wire.AppendPing(nil), &cursor)
//
//	for len(b) > 0 {
//		frame, rest, err := wire.NextFrame(b)
//		if err != nil {
//			return err // wire.CodeOf(err) says how to refuse it
//		}
//		switch b = rest; frame.Type {
//		case wire.TypeCursor:
//			cursor, err := wire.ParseCursor(frame)
//		}
//	}
//
// Appending to a buffer with room and parsing the frames of a message's way allocate
// nothing: what is parsed aliases the message it came in.
package wire
