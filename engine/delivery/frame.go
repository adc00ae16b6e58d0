package delivery

import (
	"encoding/binary"

	"parley/engine/shard"
)

// A FrameKind is what a frame of a stream says.
type FrameKind uint8

// The kinds of frames.
const (
	FrameEffects FrameKind = 1 // all that concerns the edge between two indexes, or answers without an index
	FrameBegin   FrameKind = 2 // a fresh stream begins after this index
	FrameReset   FrameKind = 3 // what the edge lacks is no longer known: begin after this index
	FrameBroken  FrameKind = 4 // the stream is broken: open another one
)

// A Frame is one message of a stream, from a shard's replica to an edge.
type Frame struct {
	Kind       FrameKind
	Shard      uint32
	Generation uint64
	Index      uint64         // begin and reset
	Effects    *shard.Effects // effects: from its Previous to its Index
}

// appendEffectsFrame appends the frame of a stream's generation with what was picked.
func appendEffectsFrame(dst []byte, generation uint64, e *shard.Effects, p *Pick) []byte {
	dst = append(dst, byte(FrameEffects))
	dst = binary.AppendUvarint(dst, generation)
	return AppendEffects(dst, e, p)
}

// appendFrame appends a frame without effects.
//
//	kind         1 byte
//	generation   varint
//	effects      as AppendEffects has it
//	others       shard, index: varints
func appendFrame(dst []byte, kind FrameKind, shard uint32, generation, index uint64) []byte {
	dst = append(dst, byte(kind))
	dst = binary.AppendUvarint(dst, generation)
	dst = binary.AppendUvarint(dst, uint64(shard))
	return binary.AppendUvarint(dst, index)
}

// ParseFrame reads a frame; nothing in it aliases src.
func ParseFrame(src []byte) (f Frame, err error) {
	d := effectsDecoder{decoder: decoder{src: src}}
	f.Kind, f.Generation = FrameKind(d.byte()), d.uint()
	switch f.Kind {
	case FrameEffects:
		f.Effects = d.effects()
		f.Shard = f.Effects.Shard
		return f, d.err
	case FrameBegin, FrameReset, FrameBroken:
		f.Shard, f.Index = uint32(d.upTo(1<<32-1)), d.uint()
	default:
		d.fail("kind of frame")
	}
	return f, d.end()
}
