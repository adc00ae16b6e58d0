package delivery

import (
	"maps"

	"parley/engine/shard"
	"parley/wire"
	"parley/wire/planted"
)

// An ActionKind is what an Inlet wants done.
type ActionKind uint8

// The kinds of actions.
const (
	// Ask sends Request to Node. If it does not leave, tell the Inlet LinkDown.
	Ask ActionKind = iota
	// Deliver passes Effects on to this node's sessions.
	Deliver
	// Restart ends the sessions of Users with a code of class 3: what they missed is no
	// longer known here, and they sync anew when they are back.
	Restart
)

// An Action is one thing that an Inlet wants done, in the order of the actions.
type Action struct {
	Kind    ActionKind
	Node    uint32
	Request []byte
	Effects *shard.Effects
	Users   []wire.ID
}

// A Position says where a read may be answered for users that were attached before: at
// the replica of a node, once it has had so many requests of the stream's generation; see
// Outlet.Reached. Node 0 is this node, which may just read.
type Position struct {
	Node       uint32
	Generation uint64
	Number     uint64
}

type source uint8

const (
	sourceNone   source = iota
	sourceLocal         // this node's replica leads, and what it applies is delivered
	sourceRemote        // a stream of the leader
)

// An Inlet is one shard seen from an edge: it knows who leads, keeps the one stream of
// effects from there, and makes one sequence of them whatever happens to leaders and
// links. Attached users get every effect once and in order, or are told to start over.
//
// It is pure: events go in, actions come out, appended to a list of the caller's. The
// caller holds one mutex from an event until its actions are done, so that nothing
// overtakes; with the mutex held it also looks whether a user's last session has gone
// before Detach.
type Inlet struct {
	shard uint32
	self  uint32
	local *Recent // of this node's replica; nil: there is none
	users Users
	// groups are those of attached users, and forgotten those that the stream still brings
	// and that no loop wants.
	groups    *Groups
	forgotten []forgotten
	// detached are users by the request that detached them, as long as the stream may bring
	// what was said of them before. If one is back, that is not for the new session: what
	// happened while the user was detached was never told.
	detached map[wire.ID]uint64

	leader uint32
	term   uint64
	source source

	last    uint64 // index up to which everything was delivered
	known   bool   // whether last says something
	exposed bool   // whether anybody may have synced before it did

	generation uint64
	number     uint64 // of the next request
	introduced uint64 // frames that introduced users
	promised   uint64 // index that the leader announced last
	silent     int    // announcements since the last frame that it lags behind

	tickets tickets
	cursors cursorSessions
}

// A forgotten group has no members here, since a place in the stream.
type forgotten struct {
	group wire.ID
	at    uint64
}

// NewInlet makes the inlet of a shard at the node with number self, and ties the groups to
// it. generation is greater than any that an earlier life of the node has used: a clock's
// reading will do.
func NewInlet(shard, self uint32, generation uint64, groups *Groups) *Inlet {
	i := &Inlet{shard: shard, self: self, generation: generation, groups: groups, tickets: newTickets()}
	groups.inlet = i
	return i
}

// SetReplica tells what this node's replica of the shard keeps, or nil once there is none.
func (i *Inlet) SetReplica(dst []Action, recent *Recent) []Action {
	i.local = recent
	if i.source == sourceLocal {
		dst = i.leave(dst, false)
	}
	if i.source == sourceNone && i.leader == i.self && i.leader != 0 {
		dst = i.enter(dst)
	}
	return dst
}

// Announced tells that a node leads the shard at a term, and that its replica has told
// everything up to an index: after whatever it has sent on the same link.
func (i *Inlet) Announced(dst []Action, node uint32, term, applied uint64) []Action {
	if term < i.term || term == i.term && node != i.leader {
		return dst
	}
	i.term = term
	if node != i.leader || i.source == sourceNone {
		dst = i.leave(dst, true)
		i.leader = node
		return i.enter(dst)
	}
	if i.source == sourceRemote && (!i.known || i.last < i.promised) {
		if i.silent++; i.silent >= silentMax {
			// Frames were lost and nothing that came later tells so.
			dst = i.leave(dst, true)
			return i.enter(dst)
		}
	}
	i.promised = applied
	return dst
}

// LinkDown tells that a node's link has lost what was on its way. The stream opens again
// when the leader is announced next.
func (i *Inlet) LinkDown(dst []Action, node uint32) []Action {
	if i.source != sourceRemote || node != i.leader {
		return dst
	}
	return i.leave(dst, false)
}

// leave ends the source. Whatever is on its way from there is not taken any more, so the
// sends without an answer are refused, with the code that keeps their counters.
func (i *Inlet) leave(dst []Action, tell bool) []Action {
	if i.source == sourceRemote {
		if tell {
			dst = i.ask(dst, &Request{Kind: RequestClose})
		}
		dst = i.giveUp(dst)
	}
	if i.source != sourceNone && !i.known && i.exposed {
		dst = i.restart(dst)
	}
	i.source, i.exposed, i.forgotten, i.detached = sourceNone, false, nil, nil
	return dst
}

// giveUp refuses the sends that have no answer, and tells the sessions whose cursors may
// be lost with the stream to send them again.
func (i *Inlet) giveUp(dst []Action) []Action {
	code := wire.CodeTimeout
	if planted.Active(planted.WrongOutcome) {
		code = wire.CodeNotMember
	}
	e := &shard.Effects{Shard: i.shard}
	if i.tickets.open > 0 {
		e.Refused = make([]shard.RefusedEffect, 0, i.tickets.open)
		for _, o := range i.tickets.drain() {
			e.Refused = append(e.Refused, shard.RefusedEffect{Origin: o, Code: code})
		}
	}
	for _, session := range i.cursors.drain() {
		e.Refused = append(e.Refused, shard.RefusedEffect{Origin: shard.Origin{Session: session}, Code: wire.CodeNotLeader})
	}
	return deliver(dst, e)
}

// enter begins with the source that the leader is.
func (i *Inlet) enter(dst []Action) []Action {
	if i.leader != i.self {
		return i.open(dst)
	}
	if i.local == nil {
		return dst
	}
	i.source = sourceLocal
	return i.catchUp(dst)
}

// catchUp delivers what this node's replica has told and its sessions have not heard.
// Answers are not among it: Local has delivered those, or will.
func (i *Inlet) catchUp(dst []Action) []Action {
	list, complete, ok := i.local.After(i.last)
	switch {
	case !i.known:
		i.last, i.known = complete, true
		return dst
	case !ok:
		i.last = complete
		return i.restart(dst)
	}
	for _, e := range list {
		dst = deliver(dst, &shard.Effects{Shard: e.Shard, Previous: e.Previous, Index: e.Index,
			Messages: e.Messages, Receipts: e.Receipts, Listed: e.Listed, Memberships: e.Memberships, Own: e.Own})
	}
	i.last = max(i.last, complete)
	return dst
}

func deliver(dst []Action, e *shard.Effects) []Action {
	if e.Empty() {
		return dst
	}
	return append(dst, Action{Kind: Deliver, Effects: e})
}

func (i *Inlet) restart(dst []Action) []Action {
	if i.users.Len() == 0 {
		return dst
	}
	return append(dst, Action{Kind: Restart, Users: i.users.Append(nil)})
}

// open opens a stream at the leader, with all users, and with the groups as they stand.
func (i *Inlet) open(dst []Action) []Action {
	i.source = sourceRemote
	i.generation++
	i.number, i.introduced, i.silent, i.promised = 0, 0, 0, 0
	users, groups := i.users.Append(nil), i.groups.Append(nil)
	r := Request{Kind: RequestOpen, Since: i.last, Fresh: !i.known || planted.Active(planted.LostEffects)}
	for {
		n := min(len(users), RequestUsersMax)
		r.Users, users = users[:n], users[n:]
		n = min(len(groups), RequestUsersMax)
		r.Groups, groups = groups[:n], groups[n:]
		r.More = len(users)+len(groups) > 0
		dst = i.ask(dst, &r)
		if !r.More {
			return dst
		}
		r = Request{Kind: RequestAttach}
	}
}

// ask sends the stream's next request.
func (i *Inlet) ask(dst []Action, r *Request) []Action {
	r.Shard, r.Generation, r.Number = i.shard, i.generation, i.number
	i.number++
	return append(dst, Action{Kind: Ask, Node: i.leader, Request: AppendRequest(nil, r, 0)})
}

// Local takes what this node's replica tells, in its order and after it is kept as
// recent. Answers to this node's sessions are always delivered; the rest is if the
// replica leads.
func (i *Inlet) Local(dst []Action, e *shard.Effects) []Action {
	if i.source != sourceLocal || e.Index != 0 && e.Index <= i.last {
		return i.answers(dst, e)
	}
	switch {
	case e.Index == 0 || e.Previous == i.last:
		dst = deliver(dst, e)
	case e.Previous > i.last:
		dst = i.answers(i.catchUp(dst), e) // after a snapshot, which told nothing
	default:
		part := *e.After(i.last)
		part.Sent, part.Refused = e.Sent, e.Refused
		dst = deliver(dst, &part)
	}
	i.last = max(i.last, e.Index)
	return dst
}

// answers delivers the answers to sessions of this node.
func (i *Inlet) answers(dst []Action, e *shard.Effects) []Action {
	for k := range e.Sent {
		if e.Sent[k].Node == 0 {
			return deliver(dst, &shard.Effects{Shard: e.Shard, Sent: e.Sent, Refused: e.Refused})
		}
	}
	for k := range e.Refused {
		if e.Refused[k].Node == 0 {
			return deliver(dst, &shard.Effects{Shard: e.Shard, Sent: e.Sent, Refused: e.Refused})
		}
	}
	return dst
}

// Frame takes a frame of a node, in the order of its link. It keeps the frame's effects
// and changes their answers.
func (i *Inlet) Frame(dst []Action, node uint32, f *Frame) []Action {
	if i.source != sourceRemote || node != i.leader || f.Generation != i.generation {
		return dst
	}
	i.silent = 0
	switch f.Kind {
	case FrameBegin:
		if !i.known {
			i.last, i.known = f.Index, true
			return dst
		}
	case FrameReset:
		if i.known && f.Index >= i.last {
			i.last = f.Index
			return i.restart(dst)
		}
	case FrameDetached:
		i.detachedBefore(f.Detached)
		return dst
	case FrameIntroduce:
		switch {
		case f.Number <= i.introduced:
			return dst
		case f.Number == i.introduced+1 && i.known && f.Effects.Index == i.last:
			i.introduced++
			i.detachedBefore(f.Detached)
			return deliver(dst, &shard.Effects{Shard: i.shard, Memberships: f.Effects.Memberships})
		}
	case FrameEffects, FrameMembers:
		dst = i.forget(dst) // the groups are as of the frame before
		e := f.Effects
		switch {
		case e.Index != 0 && e.Index <= i.last:
			return dst
		case e.Index == 0 || i.known && e.Previous == i.last:
			i.last = max(i.last, e.Index)
			i.answer(e)
			i.detachedBefore(f.Detached)
			return deliver(dst, e)
		}
	}
	return i.leave(dst, true) // broken, or something is missing
}

// answer puts back the correlations that the sessions know, and leaves out answers that
// nobody waits for. Refused cursors have no ticket.
func (i *Inlet) answer(e *shard.Effects) {
	sent := e.Sent[:0]
	for _, x := range e.Sent {
		var ok bool
		if x.Correlation, ok = i.tickets.take(x.Correlation, x.Session); ok {
			sent = append(sent, x)
		}
	}
	refused := e.Refused[:0]
	for _, x := range e.Refused {
		ok := x.Correlation == 0
		if !ok {
			x.Correlation, ok = i.tickets.take(x.Correlation, x.Session)
		}
		if ok {
			refused = append(refused, x)
		}
	}
	e.Sent, e.Refused = sent, refused
}

// Attach adds a user whose first session here needs the shard.
func (i *Inlet) Attach(dst []Action, user wire.ID) []Action {
	if !i.users.Add(user) || i.source != sourceRemote {
		return dst
	}
	return i.ask(dst, &Request{Kind: RequestAttach, Users: []wire.ID{user}})
}

// Detach takes out a user whose last session here has gone; nothing happens if the user
// was not attached.
func (i *Inlet) Detach(dst []Action, user wire.ID) []Action {
	if !i.users.Remove(user) || i.source != sourceRemote {
		return dst
	}
	if i.detached == nil {
		i.detached = make(map[wire.ID]uint64)
	}
	i.detached[user] = i.number
	return i.ask(dst, &Request{Kind: RequestDetach, Users: []wire.ID{user}})
}

// detachedBefore tells that requests below a number were heard: the stream says nothing
// more of users as they were before.
func (i *Inlet) detachedBefore(number uint64) {
	if number > 0 && len(i.detached) > 0 {
		maps.DeleteFunc(i.detached, func(_ wire.ID, n uint64) bool { return n < number })
	}
}

// hears reports whether the memberships that the source brings of a user are for the
// user's sessions.
func (i *Inlet) hears(user wire.ID) bool {
	if len(i.detached) > 0 {
		if _, stale := i.detached[user]; stale {
			return false
		}
	}
	return i.users.Has(user)
}

// Forget tells that no loop has members of groups any more, or that messages of them came
// and none wanted them. What is on its way to here may name new members, so the stream
// hears of it once it has come further, and not if there are some again.
func (i *Inlet) Forget(dst []Action, groups ...wire.ID) []Action {
	if i.source != sourceRemote {
		return dst
	}
	for _, group := range groups {
		i.forgotten = append(i.forgotten, forgotten{group, i.last})
	}
	return dst
}

// forget tells the stream of groups that were forgotten before the place where it stands.
func (i *Inlet) forget(dst []Action) []Action {
	if len(i.forgotten) == 0 {
		return dst
	}
	r := Request{Kind: RequestDetach, Since: i.last}
	kept := i.forgotten[:0]
	for _, f := range i.forgotten {
		switch {
		case f.at >= i.last || len(r.Groups) == RequestUsersMax:
			kept = append(kept, f)
		case !i.groups.Has(f.group):
			r.Groups = append(r.Groups, f.group)
		}
	}
	if i.forgotten = kept; len(kept) == 0 {
		i.forgotten = nil
	}
	if len(r.Groups) == 0 {
		return dst
	}
	return i.ask(dst, &r)
}

// Attached reports whether a user is attached.
func (i *Inlet) Attached(user wire.ID) bool { return i.users.Has(user) }

// Position is where a read for attached users may be answered now; false: nowhere, try
// again. The read goes there behind what was asked, on the same link, and is refused if
// the stream has changed when it arrives.
func (i *Inlet) Position() (p Position, ok bool) {
	switch i.source {
	case sourceLocal:
		return Position{}, true
	case sourceRemote:
		i.exposed = true
		return Position{Node: i.leader, Generation: i.generation, Number: i.number}, true
	}
	return Position{}, false
}

// Introduced reports whether the answer to a read at a position may be taken: so many
// frames that introduced users were sent before it on the same link. If one of them is
// missing, the user would hear nothing of some groups.
func (i *Inlet) Introduced(p Position, number uint64) bool {
	return number == 0 || i.source == sourceRemote && i.generation == p.Generation && i.introduced >= number
}

// Here reports whether this node's replica takes what its sessions send.
func (i *Inlet) Here() bool { return i.source == sourceLocal }

// Forward appends the request that brings sends and cursors to the leader's node. An
// error is the queue's: nothing was forwarded and nobody will answer. If the request does
// not leave, Withdraw it at once.
func (i *Inlet) Forward(dst []byte, sends []shard.Send, cursors []shard.Cursor) (request []byte, node uint32, err error) {
	switch {
	case i.source != sourceRemote:
		return dst, 0, shard.ErrNotLeader
	case !i.tickets.room(len(sends)):
		return dst, 0, shard.ErrOverloaded
	}
	first := i.tickets.next
	for k := range sends {
		i.tickets.add(sends[k].Session, sends[k].Correlation)
	}
	for k := range cursors {
		i.cursors.add(cursors[k].Session)
	}
	r := Request{Kind: RequestForward, Shard: i.shard, Generation: i.generation, Number: i.number, Sends: sends, Cursors: cursors}
	i.number++
	return AppendRequest(dst, &r, first), i.leader, nil
}

// Withdraw takes back the last Forward, which had so many sends: its link was full. The
// caller refuses them.
func (i *Inlet) Withdraw(sends int) {
	i.number--
	i.tickets.withdraw(sends)
}

// InletStats are the state and sizes of an inlet, for metrics.
type InletStats struct {
	Leader  uint32 // node
	Term    uint64
	Index   uint64 // up to which everything was delivered
	Open    bool   // whether effects come, from here or by a stream
	Users   int
	Pending int // forwarded sends without an answer
}

// Stats returns the state and sizes of the inlet as they are.
func (i *Inlet) Stats() InletStats {
	return InletStats{Leader: i.leader, Term: i.term, Index: i.last, Open: i.source != sourceNone,
		Users: i.users.Len(), Pending: i.tickets.open}
}
