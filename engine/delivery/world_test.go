package delivery

import (
	"errors"
	"fmt"
	"maps"
	"slices"

	"pgregory.net/rapid"

	"parley/engine/shard"
	"parley/wire"
)

// A world is one shard in a cluster of nodes, each of them an edge and most of them with a
// replica. Raft is left out: an entry is in the log of all, in the same order, from the
// moment that its leader proposes it. All else that streams meet is here: batches that
// differ from replica to replica, snapshots, links that lose what is on its way and say
// so late, leaders that change, nodes that start again.
type world struct {
	t            *rapid.T
	log          []entry // entry of index i+1
	leader       *place
	term         uint64
	places       []*place
	links        map[[2]uint32][]message
	past         map[[2]uint32][]message // frames that arrived, to arrive again
	unheard      [][2]uint32             // links that lost something and have not said so to their sender
	answers      []readAnswer            // of reads, on their way back
	lossy        bool
	correlations uint64
	sends        map[shard.Origin]*sending // by origin with the number of its node
}

const (
	worldUsers    = 5
	worldGroups   = 2
	worldLoops    = 2
	worldLinkMax  = 12
	worldHandles  = 1000
	worldRecent   = 3000 // some six messages
	worldMessages = "message"
)

type entry struct {
	conversation wire.Conversation
	author       wire.ID
	origin       shard.Origin // who waits, at the proposer
	proposer     uint32
	life         int
	receipt      bool
	empty        bool
	begins, ends bool // of the author's membership, in a group
}

// sending is a send that a session waits for.
type sending struct {
	index    uint64 // of its entry; 0: none
	answered bool
}

// A place is a node.
type place struct {
	world    *world
	number   uint32
	replica  bool
	life     int
	applied  uint64
	told     uint64
	recent   *Recent
	outlet   *Outlet
	inlet    *Inlet
	ledTerm  uint64 // as far as this node knows
	sessions map[uint64]*seat
	handles  uint64
	crowd
}

type message struct {
	request, frame []byte
	announced      bool
	term, index    uint64
	read           *readAsk
}

type readAsk struct {
	node     uint32
	session  uint64
	user     wire.ID
	position Position
}

type readAnswer struct {
	readAsk
	index  uint64
	number uint64 // of introductions
	ok     bool
}

// A seat is a session. What it must hear is every message of its user after the index
// that its sync has shown.
type seat struct {
	handle uint64
	user   wire.ID
	synced bool
	since  uint64
	heard  [3][]uint64 // indexes of messages, of receipts, which a batch tells apart, and of groups' messages
}

func newWorld(t *rapid.T, lossy bool) *world {
	w := &world{t: t, lossy: lossy, links: map[[2]uint32][]message{}, past: map[[2]uint32][]message{}, sends: map[shard.Origin]*sending{}}
	for number := uint32(1); number <= 3; number++ {
		p := &place{world: w, number: number, replica: number != 3 || rapid.Bool().Draw(t, "third replica")}
		w.places = append(w.places, p)
		p.start()
	}
	return w
}

func (w *world) place(number uint32) *place { return w.places[number-1] }

// start begins a life of the node: nothing but what was applied is left.
func (p *place) start() {
	p.life++
	p.sessions = map[uint64]*seat{}
	p.crowd = crowd{directory: NewDirectory()}
	p.inlet = NewInlet(9, p.number, uint64(p.life)<<32, &p.groups)
	p.told = p.applied
	p.recent, p.outlet = nil, nil
	if p.replica {
		p.recent = NewRecent(p.applied, worldRecent)
		p.outlet = NewOutlet(9, p.recent, func(node uint32, frame []byte) error {
			return p.post(node, message{frame: slices.Clone(frame)})
		})
		p.do(p.inlet.SetReplica(nil, p.recent))
	}
}

var errFull = errors.New("the link is full")

func (p *place) post(to uint32, m message) error {
	key := [2]uint32{p.number, to}
	if p.world.lossy && len(p.world.links[key]) >= worldLinkMax {
		return errFull
	}
	p.world.links[key] = append(p.world.links[key], m)
	return nil
}

// do carries out what the inlet wants.
func (p *place) do(actions []Action) {
	for len(actions) > 0 {
		a := actions[0]
		actions = actions[1:]
		switch a.Kind {
		case Ask:
			if p.post(a.Node, message{request: a.Request}) != nil {
				actions = append(actions, p.inlet.LinkDown(nil, a.Node)...)
			}
		case Deliver:
			p.deliver(a.Effects)
		case Restart:
			for _, user := range a.Users {
				p.endUser(user)
			}
		}
	}
}

func (p *place) endUser(user wire.ID) {
	for _, handle := range slices.Sorted(maps.Keys(p.sessions)) {
		if s := p.sessions[handle]; s.user == user {
			p.end(s)
		}
	}
}

// deliver is what Plan and the loops do.
func (p *place) deliver(e *shard.Effects) {
	for _, x := range e.Sent {
		if x.Node == 0 {
			p.answered(x.Origin, x.Sequence)
		}
	}
	for _, x := range e.Refused {
		if x.Node == 0 {
			p.answered(x.Origin, 0)
		}
	}
	p.deliverGroups(e)
	for _, x := range e.Messages {
		if x.Conversation.Kind == wire.Group {
			continue
		}
		p.hear(0, x.Conversation, x.Sequence, x.From, x.FromNode)
		if string(x.Content.Bytes) != fmt.Sprint(worldMessages, x.Sequence) {
			p.world.t.Fatalf("message %d says %q", x.Sequence, x.Content.Bytes)
		}
	}
	for _, x := range e.Receipts {
		p.hear(1, x.Conversation, x.Position, x.From, x.FromNode)
	}
}

// hear tells the sessions of a conversation; the sequence stands for the entry's index.
func (p *place) hear(kind int, c wire.Conversation, index, from uint64, node uint32) {
	origin := p.world.log[index-1].origin
	if node == 0 && from != 0 && (origin.Node != p.number || origin.Session != from) {
		p.world.t.Fatalf("node %d takes message %d for one of its session %d", p.number, index, from)
	}
	for _, s := range p.sessions {
		if c.Member(s.user) {
			if last := slices.Max(append(s.heard[kind], 0)); last >= index {
				p.world.t.Fatalf("node %d tells %d after %d to session %d of user %d", p.number, index, last, s.handle, s.user)
			}
			s.heard[kind] = append(s.heard[kind], index)
		}
	}
}

// answered notes the answer to a send of this node: with the entry's index as sequence,
// or a refusal.
func (p *place) answered(o shard.Origin, sequence uint64) {
	o.Node = p.number
	s := p.world.sends[o]
	switch {
	case s == nil:
		if o.Session < uint64(p.life)*worldHandles {
			return // of a former life
		}
		p.world.t.Fatalf("answer to %+v, which was not sent", o)
	case s.answered:
		p.world.t.Fatalf("second answer to %+v", o)
	case sequence != 0 && sequence != s.index:
		p.world.t.Fatalf("%+v is entry %d, not %d", o, s.index, sequence)
	}
	s.answered = true
}

// propose puts an entry into the log, as the leader does.
func (w *world) propose(e entry) {
	e.proposer, e.life = w.leader.number, w.leader.life
	w.log = append(w.log, e)
}

// apply applies the next entries at a replica, in one batch.
func (p *place) apply(count int) {
	count = min(count, len(p.world.log)-int(p.applied))
	if count <= 0 || !p.replica {
		return
	}
	e := &shard.Effects{Shard: 9, Previous: p.told}
	for range count {
		p.applied++
		p.effects(e, &p.world.log[p.applied-1])
		e.Index = p.applied
		if count > 1 {
			e.Marks = append(e.Marks, e.End(e.Index))
		}
	}
	p.told = p.applied
	p.tell(e)
}

func (p *place) tell(e *shard.Effects) {
	p.outlet.Effects(e)
	p.do(p.inlet.Local(nil, e))
}

func (p *place) effects(e *shard.Effects, x *entry) {
	if x.empty {
		return
	}
	if x.receipt {
		e.Receipts = append(e.Receipts, shard.ReceiptEffect{Conversation: x.conversation, User: x.author, Position: p.applied})
		return
	}
	p.changeMember(e, x)
	origin := p.origin(x)
	if origin.Session != 0 {
		e.Sent = append(e.Sent, shard.SentEffect{Origin: origin, Sequence: p.applied})
	}
	e.Messages = append(e.Messages, shard.MessageEffect{Conversation: x.conversation, Author: x.author, Sequence: p.applied, Revision: p.applied,
		Content: wire.Text(fmt.Sprint(worldMessages, p.applied)), From: origin.Session, FromNode: origin.Node})
}

// origin is who waits for an entry at this node's queue.
func (p *place) origin(x *entry) (o shard.Origin) {
	if x.proposer == p.number && x.life == p.life {
		if o = x.origin; o.Node == p.number {
			o.Node = 0
		}
	}
	return o
}

// arrive takes the first message of a link.
func (w *world) arrive(from, to uint32) {
	key := [2]uint32{from, to}
	if len(w.links[key]) == 0 {
		return
	}
	m := w.links[key][0]
	w.links[key] = w.links[key][1:]
	if m.frame != nil {
		w.past[key] = append(w.past[key], m)
	}
	w.place(to).receive(from, m)
}

func (p *place) receive(from uint32, m message) {
	switch {
	case m.frame != nil:
		f, err := ParseFrame(m.frame)
		if err != nil {
			p.world.t.Fatal(err)
		}
		p.do(p.inlet.Frame(nil, from, &f))
	case m.announced:
		p.do(p.inlet.Announced(nil, from, m.term, m.index))
	case m.read != nil:
		p.read(m.read)
	case p.outlet != nil:
		p.request(from, m.request)
	}
}

func (p *place) request(from uint32, src []byte) {
	var r Request
	if err := r.Parse(src, from); err != nil {
		p.world.t.Fatal(err)
	}
	if !p.outlet.Request(from, &r) {
		return
	}
	for _, m := range r.Sends {
		if !p.leads() || rapid.IntRange(0, 9).Draw(p.world.t, "refused") == 0 {
			p.tell(&shard.Effects{Shard: 9, Refused: []shard.RefusedEffect{{Origin: m.Origin, Code: wire.CodeNotLeader}}})
			continue
		}
		p.world.proposeSend(m, p)
	}
}

func (p *place) leads() bool { return p.world.leader == p }

// proposeSend proposes a forwarded send. The entry keeps what its proposer knows: the
// session and the ticket; sends are found by what the session knows.
func (w *world) proposeSend(m shard.Send, at *place) {
	e := entry{conversation: m.Conversation, author: m.Author, origin: m.Origin}
	w.propose(e)
	index := uint64(len(w.log))
	for o, s := range w.sends {
		if o.Node == m.Node && o.Session == m.Session && o.Correlation == m.Counter {
			s.index = index
		}
	}
	if m.Node == at.number {
		w.t.Fatal("a node forwarded to itself")
	}
}

// read answers a read, or says that it cannot.
func (p *place) read(r *readAsk) {
	ok := p.leads() && p.outlet.Reached(r.node, r.position.Generation, r.position.Number)
	var index, number uint64
	if ok {
		number, ok, _ = p.outlet.Introduce(r.node, r.position.Generation, []wire.ID{r.user}, p.readGroups)
		index = p.readAt()
	}
	p.world.answers = append(p.world.answers, readAnswer{*r, index, number, ok})
}

// connect begins a session, which syncs.
func (p *place) connect(user wire.ID) {
	p.handles++
	s := &seat{handle: uint64(p.life)*worldHandles + p.handles, user: user}
	p.sessions[s.handle] = s
	p.directory.Put(user, wire.ID(s.handle), s.handle)
	p.do(p.inlet.Attach(nil, user))
	position, ok := p.inlet.Position()
	ask := readAsk{p.number, s.handle, user, position}
	switch {
	case !ok || position.Node == 0 && !p.leads():
		p.world.answers = append(p.world.answers, readAnswer{ask, 0, 0, false})
	case position.Node == 0:
		ok := p.introduceHere(user)
		p.world.answers = append(p.world.answers, readAnswer{ask, p.readAt(), 0, ok})
	case p.post(position.Node, message{read: &ask}) != nil:
		p.world.answers = append(p.world.answers, readAnswer{ask, 0, 0, false})
	}
}

func (w *world) answerArrives(i int) {
	a := w.answers[i]
	w.answers = slices.Delete(w.answers, i, i+1)
	p := w.place(a.node)
	s := p.sessions[a.session]
	switch {
	case s == nil:
	case !a.ok || a.position.Node != 0 && !p.inlet.Introduced(a.position, a.number):
		p.disconnect(s)
	default:
		s.synced, s.since = true, a.index
	}
}

func (p *place) disconnect(s *seat) {
	p.end(s)
	for _, other := range p.sessions {
		if other.user == s.user {
			return
		}
	}
	p.do(p.inlet.Detach(nil, s.user))
}

// send sends a message of a session; its correlation is its counter too.
func (p *place) send(s *seat, peer wire.ID) {
	w := p.world
	w.correlations++
	m := shard.Send{Origin: shard.Origin{Session: s.handle, Correlation: w.correlations},
		Conversation: wire.DirectConversation(s.user, peer), Author: s.user, Device: 1, Content: wire.Text("x")}
	m.Counter = m.Correlation
	key := m.Origin
	key.Node = p.number
	state := &sending{}
	w.sends[key] = state
	if p.inlet.Here() {
		if !p.leads() {
			state.answered = true // NOT_LEADER
			return
		}
		w.propose(entry{conversation: m.Conversation, author: m.Author, origin: key})
		state.index = uint64(len(w.log))
		return
	}
	request, node, err := p.inlet.Forward(nil, []shard.Send{m}, nil)
	if err != nil {
		state.answered = true
		return
	}
	if p.post(node, message{request: request}) != nil {
		p.inlet.Withdraw(1)
		state.answered = true
	}
}
