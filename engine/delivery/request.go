package delivery

import (
	"encoding/binary"

	"parley/engine/shard"
	"parley/wire"
)

// A RequestKind is what an edge wants of a stream.
type RequestKind uint8

// The kinds of requests.
const (
	RequestOpen    RequestKind = 1 // a new stream, in place of any other of this edge and shard
	RequestAttach  RequestKind = 2 // tell of these users too; the last one of an opening starts it
	RequestDetach  RequestKind = 3 // and no more of these
	RequestClose   RequestKind = 4
	RequestForward RequestKind = 5 // queue these sends and cursors
)

// A Request is one message of an edge to the replica that serves its stream of a shard.
// Those of a stream are numbered from 0, so that one that was lost is noticed: nothing
// may be promised to a user whose attaching did not arrive.
type Request struct {
	Kind       RequestKind
	Shard      uint32
	Generation uint64 // of the stream: a later one of the same edge has a greater one
	Number     uint64
	Since      uint64 // open, detach: the index up to which the edge knows everything
	Fresh      bool   // open: it knows nothing, and has promised nothing: begin at the end
	More       bool   // open, attach: the stream does not begin yet, more users follow
	Users      []wire.ID
	Groups     []wire.ID // open, attach: whose messages the edge wants as of Since; detach: wants no more
	Sends      []shard.Send
	Cursors    []shard.Cursor
}

const (
	requestFresh = 1 << iota
	requestMore
)

// AppendRequest appends a request; first is the ticket of its first send.
//
//	kind                        1 byte
//	shard, generation, number   varints
//	open                        flags, since, users and groups: count, then 6 bytes each
//	attach                      flags, users, groups
//	detach                      since, users, groups
//	forward                     as AppendForward has it
func AppendRequest(dst []byte, r *Request, first uint64) []byte {
	dst = append(dst, byte(r.Kind))
	dst = binary.AppendUvarint(dst, uint64(r.Shard))
	dst = binary.AppendUvarint(dst, r.Generation)
	dst = binary.AppendUvarint(dst, r.Number)
	var flags byte
	if r.Fresh {
		flags |= requestFresh
	}
	if r.More {
		flags |= requestMore
	}
	switch r.Kind {
	case RequestOpen:
		dst = append(dst, flags)
		dst = binary.AppendUvarint(dst, r.Since)
		dst = appendUsers(appendUsers(dst, r.Users), r.Groups)
	case RequestAttach:
		dst = appendUsers(appendUsers(append(dst, flags), r.Users), r.Groups)
	case RequestDetach:
		dst = binary.AppendUvarint(dst, r.Since)
		dst = appendUsers(appendUsers(dst, r.Users), r.Groups)
	case RequestForward:
		dst = AppendForward(dst, first, r.Sends, r.Cursors)
	}
	return dst
}

func appendUsers(dst []byte, users []wire.ID) []byte {
	dst = binary.AppendUvarint(dst, uint64(len(users)))
	for _, user := range users {
		dst = wire.AppendID(dst, user)
	}
	return dst
}

// Parse reads a request of a node into r, whose lists it uses again. Contents alias src.
func (r *Request) Parse(src []byte, node uint32) error {
	d := decoder{src: src}
	*r = Request{Kind: RequestKind(d.byte()), Shard: uint32(d.upTo(1<<32 - 1)), Generation: d.uint(), Number: d.uint(),
		Users: r.Users[:0], Groups: r.Groups[:0], Sends: r.Sends[:0], Cursors: r.Cursors[:0]}
	switch r.Kind {
	case RequestOpen:
		flags := d.flags(requestFresh | requestMore)
		r.Fresh, r.More = flags&requestFresh != 0, flags&requestMore != 0
		r.Since = d.uint()
		r.Users, r.Groups = d.users(r.Users), d.users(r.Groups)
	case RequestAttach:
		r.More = d.flags(requestMore) != 0
		r.Users, r.Groups = d.users(r.Users), d.users(r.Groups)
	case RequestDetach:
		r.Since = d.uint()
		r.Users, r.Groups = d.users(r.Users), d.users(r.Groups)
	case RequestClose:
	case RequestForward:
		r.Sends, r.Cursors = d.forward(r.Sends, r.Cursors, node)
	default:
		d.fail("kind of request")
	}
	return d.end()
}

func (d *decoder) users(dst []wire.ID) []wire.ID {
	n := d.count(6)
	if n > RequestUsersMax {
		d.fail("too many users")
		return dst
	}
	for range n {
		dst = append(dst, d.id())
	}
	return dst
}

// ForwardBytes is about what a send takes in a request, for who splits what clients send
// into requests of ForwardBytesMax.
func ForwardBytes(m *shard.Send) int { return 64 + min(len(m.Content.Bytes), wire.ContentBytesMax) }
