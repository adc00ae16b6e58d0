// Package delivery takes what applied batches mean to the sessions that they concern. It
// is plain data and functions, without clock, I/O or goroutine.
//
// On one node that is a Plan: the Directory knows which sessions a user has, each loop
// gets a Batch of what is for its sessions, and a Backlog stands for what a slow one does
// not take.
//
// Between nodes there are streams, one for each shard and edge. At every replica an
// Outlet keeps what was told last (Recent), knows who is attached from which node
// (Attached), and sends each edge, in frames, what concerns its users. At every edge an
// Inlet knows each shard's leader, takes the stream from there, or what its own replica
// applies if that one leads, and makes one sequence of them:
//
//	replica: outlet.Effects(e)              // first: keeps them, sends frames
//	         inlet.Local(actions, e)        // then: of this node's own inlet
//	edge:    inlet.Announced(actions, …)    // a leader; opens a stream
//	         inlet.Attach(actions, user)    // then a read at inlet.Position()
//	         inlet.Frame(actions, node, &f) // delivers, or opens another stream
//
// A frame says from which Raft index to which it tells all that concerns the edge, so
// nothing is missed and nothing told twice, whatever was lost or comes late. A request of
// the edge has a number, so a user whose attaching was lost is promised nothing. A stream
// that breaks goes on at whatever replica leads then, from the index where it stood, and
// only if that is no longer known do the users' sessions start over. Forwarded sends are
// known by tickets; those without an answer when a stream breaks are refused with TIMEOUT,
// under which a client keeps the counter.
//
// Of groups an edge has three tables, each as small as it can be: the loop's Audience knows
// its sessions that are members, Groups knows which loops have any, and the leader's Outlet
// knows which nodes want a group's messages. Memberships come in the streams, in one order
// with the messages; those of before a user was attached come by Introduce.
//
// What is relied upon: a link keeps the order of its messages; whoever drives an inlet and
// an outlet tells both of a link that may have lost something, sooner or later; and a
// leader is announced each second, behind what was sent before on the same link.
package delivery
