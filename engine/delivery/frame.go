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
	// FrameMembers is FrameEffects with memberships, after requests that detached users: up to
	// which one they were heard.
	FrameMembers FrameKind = 5
	// FrameIntroduce says of which groups users of the edge are members, at the index that
	// the effects begin and end with, and likewise which requests were heard. Those of a
	// stream are numbered from 1.
	FrameIntroduce FrameKind = 6
	// FrameDetached says only which requests were heard.
	FrameDetached FrameKind = 7
)

// A Frame is one message of a stream, from a shard's replica to an edge.
type Frame struct {
	Kind       FrameKind
	Shard      uint32
	Generation uint64
	Index      uint64         // begin and reset
	Number     uint64         // introduce
	Detached   uint64         // members, introduce, detached: number of the request that follows the last one heard
	Effects    *shard.Effects // effects, members and introduce: from its Previous to its Index
}

// appendEffectsFrame appends the frame of a stream's generation with what was picked.
func appendEffectsFrame(dst []byte, generation uint64, e *shard.Effects, p *Pick) []byte {
	dst = append(dst, byte(FrameEffects))
	dst = binary.AppendUvarint(dst, generation)
	return AppendEffects(dst, e, p)
}

// appendMembersFrame appends one with memberships.
func appendMembersFrame(dst []byte, generation, detached uint64, e *shard.Effects, p *Pick) []byte {
	dst = append(dst, byte(FrameMembers))
	dst = binary.AppendUvarint(dst, generation)
	dst = binary.AppendUvarint(dst, detached)
	return AppendEffects(dst, e, p)
}

// appendIntroduceFrame appends the frame that introduces users.
func appendIntroduceFrame(dst []byte, generation, number, detached uint64, e *shard.Effects, p *Pick) []byte {
	dst = append(dst, byte(FrameIntroduce))
	dst = binary.AppendUvarint(dst, generation)
	dst = binary.AppendUvarint(dst, number)
	dst = binary.AppendUvarint(dst, detached)
	return AppendEffects(dst, e, p)
}

// appendFrame appends a frame without effects.
//
//	kind         1 byte
//	generation   varint
//	effects      as AppendEffects has it
//	members      detached: varint, then as effects
//	introduce    number, detached: varints, then as effects
//	others       shard, index (detached: that): varints
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
	case FrameEffects, FrameMembers, FrameIntroduce:
		if f.Kind == FrameIntroduce {
			f.Number = d.uint()
		}
		if f.Kind != FrameEffects {
			f.Detached = d.uint()
		}
		f.Effects = d.effects()
		f.Shard = f.Effects.Shard
		return f, d.err
	case FrameDetached:
		f.Shard, f.Detached = uint32(d.upTo(1<<32-1)), d.uint()
	case FrameBegin, FrameReset, FrameBroken:
		f.Shard, f.Index = uint32(d.upTo(1<<32-1)), d.uint()
	default:
		d.fail("kind of frame")
	}
	return f, d.end()
}
