package client

import (
	"bytes"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"

	"parley/wire"
)

// A world is a whole server in memory, as PROTOCOL.md has it: what the client is tested
// against, with faults. It has no clock and does no I/O.
type world struct {
	random       *rand.Rand
	now          wire.Time
	clusterEpoch uint64
	index        uint64 // counts changes, from 1; a sync token is one, and 0 is none
	users        map[wire.ID]string
	logs         map[wire.Conversation]*worldLog
	peers        []*peer
	commands     []worldCommand // taken, not yet applied: in order, whatever became of the session
	creations    map[worldCreation]*worldLog
	faults       faults
	pageMessages int // at most, in a PAGE
	pageItems    int // at most, in a CONVERSATIONS
	tickets      int // given out
	badTickets   bool
	applied      int
}

// faults are chances in a thousand.
type faults struct {
	repeatPush  int
	headForPush int
	refuseSend  int // before it is decided: class 1 and 2
	timeoutSend int // answered TIMEOUT, but applied all the same
	refuseRead  int
	evict       int // the conversation forgets its outboxes
}

type worldLog struct {
	conversation wire.Conversation
	group        *worldGroup        // nil: direct
	messages     []wire.PageMessage // with real authors
	outboxes     map[worldOutbox]*worldSent
	evicted      map[worldOutbox]bool
	cursors      map[wire.ID]*[2]uint64
	changed      uint64
}

type worldOutbox struct {
	device wire.ID
	epoch  uint64
}

// worldSent is the sequence of each counter, from 1.
type worldSent []uint64

type worldCommand struct {
	peer  *peer
	epoch uint64
	send  wire.Send // of the content that an event becomes, if it is GROUP
}

// A peer is the server's end of one session.
type peer struct {
	world        *world
	user, device wire.ID
	epoch        uint64
	greeted      bool
	live         bool
	gone         bool   // the connection is no more
	out          []byte // frames for the client
	closing      uint16 // the close code, after out
	holdSync     bool
	heldSync     []byte
}

func newWorld(random *rand.Rand, names ...string) *world {
	w := &world{random: random, now: 1000, clusterEpoch: 1, index: 1, users: map[wire.ID]string{}, logs: map[wire.Conversation]*worldLog{},
		creations: map[worldCreation]*worldLog{}, pageMessages: 5, pageItems: 3}
	for i, name := range names {
		w.users[wire.ID(i+1)] = name
	}
	return w
}

func (w *world) id(name string) wire.ID {
	for id, n := range w.users {
		if n == name {
			return id
		}
	}
	return 0
}

func (w *world) token(user, device wire.ID) string { return fmt.Sprintf("token %d %d", user, device) }

func (w *world) chance(n int) bool { return n > 0 && w.random.IntN(1000) < n }

func (w *world) log(c wire.Conversation) *worldLog {
	l := w.logs[c]
	if l == nil {
		l = &worldLog{conversation: c, outboxes: map[worldOutbox]*worldSent{}, evicted: map[worldOutbox]bool{},
			cursors: map[wire.ID]*[2]uint64{c.A: {}, c.B: {}}}
		w.logs[c] = l
	}
	return l
}

// key orders conversations.
func (l *worldLog) key() uint64 { return uint64(l.conversation.A) + 1000*uint64(l.conversation.B) }

func (w *world) allLogs() []*worldLog {
	return slices.SortedFunc(maps.Values(w.logs), func(a, b *worldLog) int { return int(a.key()) - int(b.key()) })
}

func (l *worldLog) head() uint64 { return uint64(len(l.messages)) }

// connect opens a session's connection.
func (w *world) connect() *peer {
	p := &peer{world: w}
	w.peers = append(w.peers, p)
	return p
}

// cut ends a connection, whoever did it.
func (p *peer) cut() {
	p.gone = true
	p.world.peers = slices.DeleteFunc(p.world.peers, func(other *peer) bool { return other == p })
}

// message takes one WebSocket message.
func (p *peer) message(payload []byte) {
	if len(payload) > wire.MessageBytesMax {
		p.refuse(wire.CodeFrameTooLarge)
	}
	for len(payload) > 0 && p.closing == 0 {
		f, rest, err := wire.NextFrame(payload)
		if err != nil {
			p.refuse(wire.CodeMalformed)
			return
		}
		payload = rest
		p.frame(f)
	}
}

func (p *peer) refuse(code wire.Code) {
	p.out = wire.AppendError(p.out, &wire.Error{Code: code, Reason: "the world says so"})
	p.closing = code.CloseCode()
}

func (p *peer) frame(f wire.Frame) {
	var err error
	switch {
	case !p.greeted && f.Type == wire.TypeHello:
		err = p.hello(f)
	case !p.greeted:
		p.refuse(wire.CodeUnauthenticated)
	case f.Type == wire.TypeSend:
		var s wire.Send
		if s, err = wire.ParseSend(f); err == nil {
			s.Content.Bytes = bytes.Clone(s.Content.Bytes)
			p.send(s)
		}
	case f.Type == wire.TypeGroup:
		var g wire.GroupChange
		if g, err = wire.ParseGroupChange(f); err == nil {
			p.send(wire.Send{Correlation: g.Correlation, Ref: g.Ref, Counter: g.Counter, Content: wire.EventContent(g.Event)})
		}
	case f.Type == wire.TypeSync:
		err = p.sync(f)
	case f.Type == wire.TypeCursor:
		var c wire.Cursor
		if c, err = wire.ParseCursor(f); err == nil {
			p.cursor(c)
		}
	case f.Type == wire.TypePing:
		p.out = wire.AppendPong(p.out)
	case f.Type == wire.TypeHistory:
		err = p.history(f)
	case f.Type == wire.TypeUsers, f.Type == wire.TypeResolve:
		err = p.lookUp(f)
	case f.Type == wire.TypeTyping:
		var t wire.Typing
		if t, err = wire.ParseTyping(f); err == nil {
			p.world.each(t.Ref.ID(), func(other *peer) {
				other.out = wire.AppendTyping(other.out, &wire.Typing{Ref: wire.DirectRef(p.user)})
			})
		}
	default:
		p.refuse(wire.CodeUnknownFrame)
	}
	if err != nil {
		p.refuse(wire.CodeMalformed)
	}
}

func (p *peer) hello(f wire.Frame) error {
	h, err := wire.ParseHello(f)
	if err != nil {
		return err
	}
	form := "token %d %d"
	if h.Kind == wire.CredentialTicket {
		form = "ticket %d %d"
	}
	if _, err := fmt.Sscanf(string(h.Credential), form, &p.user, &p.device); err != nil || h.Kind == wire.CredentialTicket && p.world.badTickets {
		p.refuse(wire.CodeUnauthenticated)
		return nil
	}
	if strings.HasSuffix(string(h.Credential), "expired") {
		p.refuse(wire.CodeTokenExpired)
		return nil
	}
	p.epoch, p.greeted = h.OutboxEpoch, true
	for _, other := range slices.Clone(p.world.peers) {
		if other != p && other.greeted && other.device == p.device && other.user == p.user {
			other.refuse(wire.CodeReplaced)
			other.live = false
		}
	}
	welcome := wire.Welcome{User: p.user, Device: p.device, HeartbeatSeconds: 25, Time: p.world.now, Features: wire.FeatureGroups & h.Features,
		ClusterEpoch: p.world.clusterEpoch}
	if h.Kind == wire.CredentialToken {
		p.world.tickets++
		welcome.Ticket, welcome.TicketSeconds = fmt.Appendf(nil, "ticket %d %d", p.user, p.device), 3600
	}
	p.out = wire.AppendWelcome(p.out, &welcome)
	return nil
}

func (p *peer) fail(correlation uint64, code wire.Code, retryAfterMS uint64) {
	p.out = wire.AppendError(p.out, &wire.Error{Correlation: correlation, Code: code, RetryAfterMS: retryAfterMS})
}

func (p *peer) send(s wire.Send) {
	switch w := p.world; {
	case w.chance(w.faults.refuseSend):
		code := []wire.Code{wire.CodeOverloaded, wire.CodeNotLeader, wire.CodeRateLimited, wire.CodeDiskFull}[w.random.IntN(4)]
		p.fail(s.Correlation, code, uint64(w.random.IntN(3)*500))
	default:
		w.commands = append(w.commands, worldCommand{p, p.epoch, s})
	}
}

// apply decides the first command that waits.
func (w *world) apply() {
	if len(w.commands) == 0 {
		return
	}
	command := w.commands[0]
	w.commands = w.commands[1:]
	p, s := command.peer, command.send
	if s.Ref == newGroup {
		w.make(p, command.epoch, &s)
		return
	}
	if s.Ref.Group() && w.logs[s.Ref.Conversation(p.user)] == nil {
		p.fail(s.Correlation, wire.CodeNotMember, 0)
		return
	}
	log := w.log(s.Ref.Conversation(p.user))
	name := worldOutbox{p.device, command.epoch}
	if w.chance(w.faults.evict) {
		for other := range log.outboxes {
			log.evicted[other] = true
		}
		clear(log.outboxes)
	}
	sent := log.outboxes[name]
	if sent == nil {
		sent = &worldSent{}
	}
	n := uint64(len(*sent))
	switch c := s.Counter; {
	case log.evicted[name]:
		p.fail(s.Correlation, wire.CodeUnknownOutcome, 0)
	case c == n+1 && w.refuses(log, p.user, s.Content) != 0:
		p.fail(s.Correlation, w.refuses(log, p.user, s.Content), 0)
	case c == n+1:
		sequence := w.append(log, p.user, s.Content, p)
		*sent = append(*sent, sequence)
		log.outboxes[name] = sent
		p.acknowledge(s, log, sequence)
	case c > n:
		p.fail(s.Correlation, wire.CodeOutOfOrder, 0)
	case c+wire.DedupWindow <= n:
		p.fail(s.Correlation, wire.CodeUnknownOutcome, 0)
	case !sameContent(log.messages[(*sent)[c-1]-1].Content, s.Content):
		p.fail(s.Correlation, wire.CodeReused, 0)
	default:
		p.acknowledge(s, log, (*sent)[c-1])
	}
}

func (p *peer) acknowledge(s wire.Send, log *worldLog, sequence uint64) {
	w := p.world
	if w.chance(w.faults.timeoutSend) {
		p.fail(s.Correlation, wire.CodeTimeout, 0)
		return
	}
	p.out = wire.AppendSent(p.out, &wire.Sent{Correlation: s.Correlation, Sequence: sequence, Time: log.messages[sequence-1].Time})
}

// append adds a message to a conversation and pushes it.
func (w *world) append(log *worldLog, author wire.ID, content wire.Content, from *peer) (sequence uint64) {
	w.now++
	w.index++
	w.applied++
	log.changed = w.index
	sequence = log.head() + 1
	m := wire.PageMessage{Sequence: sequence, Author: author, Revision: sequence, Time: w.now, Content: content}
	log.messages = append(log.messages, m)
	told := log.members()
	w.change(log, &m)
	told = append(told, log.members()...)
	slices.Sort(told)
	for _, user := range slices.Compact(told) {
		w.each(user, func(p *peer) {
			if p != from {
				p.push(log.conversation.Ref(user), &m)
			}
		})
	}
	return sequence
}

// say is a message of somebody who is not under test.
func (w *world) say(author, to wire.ID, text string) {
	w.append(w.log(wire.DirectConversation(author, to)), author, wire.Text(text), nil)
}

func (w *world) each(user wire.ID, fn func(*peer)) {
	for _, p := range w.peers {
		if p.user == user && p.live && !p.gone {
			fn(p)
		}
	}
}

func relative(ref wire.Ref, author wire.ID) wire.ID {
	if author == ref.ID() {
		return 0
	}
	return author
}

func (p *peer) push(ref wire.Ref, m *wire.PageMessage) {
	w := p.world
	if w.chance(w.faults.headForPush) {
		p.out = wire.AppendHead(p.out, &wire.Head{Ref: ref, Sequence: m.Sequence, Revision: m.Revision})
		return
	}
	push := wire.Message{Ref: ref, Sequence: m.Sequence, Author: relative(ref, m.Author), Revision: m.Revision, Time: m.Time, Content: m.Content}
	p.out = wire.AppendMessage(p.out, &push)
	if w.chance(w.faults.repeatPush) {
		p.out = wire.AppendMessage(p.out, &push)
	}
}

func (p *peer) cursor(c wire.Cursor) {
	log := p.world.logs[c.Ref.Conversation(p.user)]
	if log == nil || c.Position > log.head() || !log.member(p.user) {
		p.fail(0, wire.CodeBadCursor, 0)
		return
	}
	p.world.move(log, p.user, c.Kind, c.Position, p)
}

// move moves a cursor and tells everybody.
func (w *world) move(log *worldLog, user wire.ID, kind wire.CursorKind, position uint64, from *peer) {
	cursors := log.cursors[user]
	kinds := []wire.CursorKind{kind}
	if kind == wire.Read {
		kinds = []wire.CursorKind{wire.Delivered, wire.Read}
	}
	for _, kind := range kinds {
		if position <= cursors[kind] {
			continue
		}
		cursors[kind] = position
		w.now++
		w.index++
		log.changed = w.index
		for _, member := range log.told(user) {
			told := kind
			if member == user {
				told += wire.OwnDelivered
			}
			w.each(member, func(p *peer) {
				switch ref := log.conversation.Ref(member); {
				case p == from:
				case w.chance(w.faults.headForPush):
					p.out = wire.AppendHead(p.out, &wire.Head{Ref: ref, Sequence: log.head(), Revision: log.head()})
				default:
					p.out = wire.AppendReceipt(p.out, &wire.Receipt{Ref: ref, Position: position, Kind: told, Time: w.now})
				}
			})
		}
	}
}

func (p *peer) sync(f wire.Frame) error {
	q, err := wire.ParseSync(f)
	if err != nil {
		return err
	}
	p.live = true
	w := p.world
	if w.chance(w.faults.refuseRead) {
		p.fail(q.Correlation, wire.CodeOverloaded, 100)
		return nil
	}
	// A token is the cluster's epoch, the index it stands for, and how far a walk has come:
	// the index at its beginning and the last conversation told.
	var epoch, since, until, last uint64
	answer := wire.Conversations{Correlation: q.Correlation}
	if n, _ := fmt.Sscanf(string(q.Token), "%d %d %d %d", &epoch, &since, &until, &last); n != 4 || epoch != w.clusterEpoch {
		since, last = 0, 0
		if len(q.Token) > 0 {
			answer.Flags |= wire.SyncReset
		}
	}
	if last == 0 {
		until = w.index
	}
	var rest []*worldLog
	for _, log := range w.allLogs() {
		if log.listed(p.user, since) && log.changed > since && log.head() > 0 && log.key() > last {
			rest = append(rest, log)
		}
	}
	page := rest[:min(len(rest), int(q.Limit), w.pageItems)]
	for _, log := range page {
		answer.Items = append(answer.Items, log.state(p.user))
		last = log.key()
	}
	if len(page) < len(rest) {
		answer.Flags |= wire.SyncMore
		answer.Token = fmt.Appendf(nil, "%d %d %d %d", w.clusterEpoch, since, until, last)
	} else {
		answer.Token = fmt.Appendf(nil, "%d %d 0 0", w.clusterEpoch, until)
		if w.index > until { // what changed since the walk began, in an earlier session perhaps
			answer.Flags |= wire.SyncMore
		}
	}
	frame := wire.AppendConversations(nil, &answer)
	if p.holdSync {
		p.heldSync = append(p.heldSync, frame...)
	} else {
		p.out = append(p.out, frame...)
	}
	return nil
}

func (l *worldLog) state(user wire.ID) wire.ConversationState {
	if l.group != nil {
		return l.groupState(user)
	}
	own, other := l.cursors[user], l.cursors[l.conversation.Peer(user)]
	s := wire.ConversationState{Ref: l.conversation.Ref(user), Head: l.head(), Revision: l.head(), Time: l.messages[l.head()-1].Time,
		Delivered: own[wire.Delivered], Read: own[wire.Read], OtherDelivered: other[wire.Delivered], OtherRead: other[wire.Read]}
	for _, m := range l.messages[s.Read:] {
		if m.Author != user {
			s.Unread++
		}
	}
	return s
}

func (p *peer) history(f wire.Frame) error {
	h, err := wire.ParseHistory(f)
	if err != nil {
		return err
	}
	w := p.world
	if w.chance(w.faults.refuseRead) {
		p.fail(h.Correlation, wire.CodeOverloaded, 100)
		return nil
	}
	page := wire.Page{Correlation: h.Correlation, Ref: h.Ref}
	log := w.logs[h.Ref.Conversation(p.user)]
	if h.Ref.Group() && (log == nil || !log.member(p.user)) {
		p.fail(h.Correlation, wire.CodeNotMember, 0)
		return nil
	}
	if log != nil {
		page.Head = log.head()
		first, last := bounds(&h, page.Head, uint64(w.pageMessages))
		from := log.from(p.user)
		if h.Mode == wire.HistoryForward && first < from {
			first, last = from, min(page.Head, from+min(h.Limit, uint64(w.pageMessages))-1)
		}
		if first = max(first, from); first > from {
			page.Flags |= wire.PageMoreBefore
		}
		if last < page.Head {
			page.Flags |= wire.PageMoreAfter
		}
		for s := first; s <= last; s++ {
			m := log.messages[s-1]
			m.Author = relative(h.Ref, m.Author)
			page.Messages = append(page.Messages, m)
		}
	}
	p.out = wire.AppendPage(p.out, &page)
	return nil
}

// bounds are the first and last sequence that a HISTORY asks for.
func bounds(h *wire.History, head, most uint64) (first, last uint64) {
	n := min(h.Limit, most)
	if h.Limit == 0 {
		n = most
	}
	switch h.Mode {
	case wire.HistoryForward:
		return h.Sequence + 1, min(head, h.Sequence+n)
	case wire.HistoryBackward:
		last = head
		if h.Sequence > 0 {
			last = min(head, h.Sequence-1)
		}
		return last - min(last, n) + 1, last
	default:
		first = max(1, h.Sequence-min(h.Sequence, n/2))
		return first, min(head, first+n-1)
	}
}

func (p *peer) lookUp(f wire.Frame) error {
	var answer wire.UserList
	if f.Type == wire.TypeUsers {
		q, err := wire.ParseUsers(f)
		if err != nil {
			return err
		}
		answer.Correlation = q.Correlation
		for _, query := range q.Queries {
			if name := p.world.users[query.ID]; name != "" {
				answer.Users = append(answer.Users, wire.User{ID: query.ID, Version: 1, Name: name})
			}
		}
	} else {
		q, err := wire.ParseResolve(f)
		if err != nil {
			return err
		}
		answer.Correlation = q.Correlation
		for _, name := range q.Names {
			if id := p.world.id(name); id != 0 {
				answer.Users = append(answer.Users, wire.User{ID: id, Version: 1, Name: name})
			}
		}
	}
	p.out = wire.AppendUserList(p.out, &answer)
	return nil
}

// recover makes it another cluster, which has lost the end of each conversation: what a
// backup or the survivors had.
func (w *world) recover() {
	w.clusterEpoch++
	w.commands = nil
	for _, p := range slices.Clone(w.peers) {
		p.cut()
	}
	for _, log := range w.allLogs() {
		keep := w.random.Uint64N(log.head() + 1)
		log.messages = log.messages[:keep:keep]
		if log.group != nil && !w.replay(log) {
			continue
		}
		for _, sent := range log.outboxes {
			for len(*sent) > 0 && (*sent)[len(*sent)-1] > keep {
				*sent = (*sent)[:len(*sent)-1]
			}
		}
		for _, user := range slices.Sorted(maps.Keys(log.cursors)) {
			cursors := log.cursors[user]
			for kind := range cursors {
				cursors[kind] = min(cursors[kind], w.random.Uint64N(keep+1))
			}
			cursors[wire.Delivered] = max(cursors[wire.Delivered], cursors[wire.Read])
		}
		log.raise()
	}
}
