// Package link connects the nodes of a cluster: one connection for each ordered pair of them,
// on which Raft's messages of all groups, the engine's messages and the answers share writes.
//
// # Use
//
//	hub, err := link.Open(link.Options{Self: 1, Cluster: id, Listener: l, TLS: config, ...})
//	hub.Handle(kindEffects, func(from uint32, payload []byte) { ... })
//	hub.HandleCall(kindRead, func(ctx context.Context, from uint32, payload []byte, reply link.Reply) { ... })
//	hub.Connect([]uint32{2, 3})
//	node, err := raft.Open(raft.Options{Network: hub.Network(), ...})
//	err = hub.Send(2, kindEffects, payload)
//	answer, err := hub.Call(ctx, 3, kindRead, payload)
//
// # What is promised
//
//   - In order, once: what a node sends another arrives in the order of sending, or the
//     connection breaks. Both see that: the sender by Watch, the receiver by WatchArrivals.
//   - Nothing blocks: a full queue, or no connection, is an error at once. Only Raft's own
//     goroutines wait, for a connection or an answer; closing a transport ends that.
//   - Nobody waits for a neighbour: a replica with a slow disk delays its own group's messages
//     and no others. A handler that blocks would delay all that its peer sends.
//   - Bounded: frames, queues, calls, handshakes, transfers; see limits.go.
//   - A replica is reached by its id alone: one that came back under another id does not get
//     what was meant for the first.
//   - A peer without a certificate of the cluster's authority is refused, as is a node of
//     another cluster, one that is no member, and a second process with the same number.
//
// # On the wire
//
// The side that dials sends its questions and messages, the other side the answers, so that
// there are two connections between two nodes. Each begins with a preamble (preamble.go), after
// TLS:
//
//	hello    magic 4 | version 1 | oldest 1 | purpose 1 | 0 | cluster 8 | from 4 | to 4 | incarnation 8 | epoch 8
//	welcome  magic 4 | version 1 | status 1 | length of reason 2 | cluster 8 | node 4 | incarnation 8 | epoch 8 | reason
//
// Then come frames (frame.go). Lengths count what follows them; integers in bodies are varints:
//
//	length 4 | kind 1 | body
//
//	ping, pong           token | epoch
//	route                route | group | source | target
//	a question of Raft   correlation | route | fields
//	its answer           correlation | fields, or correlation | text
//	message              kind 1 | payload
//	call                 correlation | kind 1 | payload
//	its answer           correlation | payload, or correlation | code | text
//
// A route says once which replica speaks to which in which group; frames then name it by its number, so
// that a heartbeat is some 15 bytes. A snapshot, and the call of a node that wants to join, have
// connections of their own (transfer.go, join.go).
//
// # What leaves when
//
// Frames are appended to a buffer while the writer writes another (outbox.go): whatever is pending
// leaves in one system call. A frame is prompt or lazy. A lazy one does not wake the writer; it
// leaves with the next prompt one, or at the next beat, a moment that is the same for all nodes
// whose clocks agree, 20 times a second. Lazy are: heartbeats, except those of a read that
// waits (Probe); AppendEntries of a pipeline that have no entries and no commit index that was
// not told before; and the answers to both, which leave as soon as all that came together is
// answered. So the heartbeats of a hundred groups cost one write, idle nodes wake up together
// and sleep together, and a lone message never waits.
//
// Entries leave before their leader has written them (parcel.go), so that the disks of leader and
// followers work at the same time: a lone message waits for one of them, not for two in a row.
//
// # Who is alive
//
// A connection that brought nothing for an interval is pinged. A node of which no byte came for
// SilentAfter is silent, and so at once is one whose machine refuses connections: its process
// is gone. A connection on which nothing moves for two seconds is given up, and dialled again with
// pauses of up to a second.
//
// # Files
//
//	hub.go        a node's end of everything: options, opening, closing, the clock
//	peer.go       a node that is dialled; link.go the connection to it
//	accept.go     who may connect; inbound.go what such a peer sends
//	presence.go   who is silent, and watching links
//	transport.go  a group's share for hashicorp/raft; pipeline.go, parcel.go, transfer.go
//	message.go    messages and calls of the engine; join.go
//	outbox.go     what waits to be written; stream.go bytes, TLS and counting below it
//	frame.go      frames; codec.go Raft's bodies; preamble.go
//	pki.go        an authority and certificates; tlsfiles.go reads them again when they change
//	limits.go     limits and times; stats.go counters
package link
