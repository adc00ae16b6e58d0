package shard

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	"parley/raft"
	"parley/storage"
	"parley/wire"
)

// TestTranscripts plays testdata/*.txt: one shard over a real store, fed by hand.
func TestTranscripts(t *testing.T) {
	runScripts(t, "testdata/*.txt", func(t *testing.T) func(*step) string {
		p := &player{t: t, users: make(map[string]wire.ID), names: make(map[wire.ID]string), groups: make(map[string]wire.ID)}
		return p.play
	})
}

// packed is an entry that the shard's queue made and that is not applied yet.
type packed struct {
	entry  raft.Entry
	handle any
}

// A player knows the commands of transcripts.
type player struct {
	t        *testing.T
	r        *replica
	users    map[string]wire.ID
	groups   map[string]wire.ID
	names    map[wire.ID]string
	packed   []packed
	rows     []storage.Outgoing // delivered ones, for redelivery
	controls []<-chan error
	out      strings.Builder
}

func (p *player) play(s *step) string {
	p.out.Reset()
	play, ok := players[s.words[0]]
	if !ok {
		p.t.Fatalf("no command %q", s.words[0])
	}
	play(p, s)
	return p.out.String()
}

var players = map[string]func(p *player, s *step){
	"open": (*player).open,
	"user": func(p *player, s *step) {
		p.name(s.words[1], wire.MakeID(wire.Slot(number(p.t, s.options, "slot", 0)), number(p.t, s.options, "random", 1)))
	},
	"clock":   func(p *player, s *step) { p.r.clock = wire.Time(number(p.t, s.options, "time", 0)) },
	"lead":    func(p *player, s *step) { p.r.lead(); p.effects() },
	"follow":  func(p *player, s *step) { p.r.shard.Follow(); p.effects() },
	"close":   func(p *player, s *step) { p.r.close(); p.effects() },
	"flush":   func(p *player, s *step) { p.r.flush() },
	"crash":   func(p *player, s *step) { p.packed = nil; p.r.crash(); p.effects() },
	"restart": func(p *player, s *step) { p.packed = nil; p.r.restart(); p.effects() },
	"queue":   func(p *player, s *step) { p.queue(p.r.shard.queue, s.input) },
	"pack":    (*player).pack,
	"apply":   (*player).apply,
	"failed":  (*player).failed,
	"run": func(p *player, s *step) {
		p.queue(p.r.shard.queue, s.input)
		for p.packOne() {
		}
		if s.options["quiet"] != "" {
			p.quiet()
			return
		}
		p.apply(s)
	},
	"stranger": (*player).stranger,
	"deliver":  (*player).deliver,
	"create":   (*player).create,
	"state":    (*player).state,
	"changed":  (*player).changed,
	"listed":   (*player).listed,
	"page":     (*player).page,
	"group":    (*player).group,
	"members":  (*player).members,
	"info":     (*player).info,
	"groups":   (*player).memberships,
	"recordof": (*player).recordOf,
	"messages": func(p *player, s *step) {
		for _, m := range p.r.messages(p.conversation(s.words[1], s.words[2])) {
			p.printf("#%d r%d at %d by %s previous %d: %.20s\n", m.Sequence, m.Revision, m.Time, p.names[m.Author], m.Previous, m.Content.Bytes)
		}
	},
	"record": (*player).record,
	"rows":   (*player).outgoing,
	"stats": func(p *player, s *step) {
		st := p.r.shard.Stats()
		p.printf("applied %d messages %d duplicates %d refused %d cursors %d queued %d outgoing %d\n",
			st.Applied, st.Messages, st.Duplicates, st.Refused, st.Cursors, st.Queued, st.Outgoing)
	},
}

func (p *player) printf(format string, args ...any) { fmt.Fprintf(&p.out, format, args...) }

func (p *player) open(s *step) {
	p.r = newReplica(p.t, uint32(number(p.t, s.options, "id", 0)),
		wire.Slot(number(p.t, s.options, "first", 0)), wire.Slot(number(p.t, s.options, "last", wire.Slots-1)))
	p.r.clock = 100
	for i, name := range []string{"ann", "bob", "cy", "dee"} {
		p.name(name, wire.MakeID(wire.Slot(100*(i+1)), uint64(i+1)))
	}
}

func (p *player) name(name string, id wire.ID) { p.users[name], p.names[id] = id, name }

func (p *player) id(name string) wire.ID {
	id, ok := p.users[name]
	if !ok {
		p.t.Fatalf("no user %q", name)
	}
	return id
}

func (p *player) conversation(x, y string) wire.Conversation {
	if group, ok := p.groups[y]; ok {
		return wire.GroupRef(group).Conversation(p.id(x))
	}
	return wire.DirectConversation(p.id(x), p.id(y))
}

// queue adds lines of the form "send AUTHOR PEER COUNTER", "cursor USER PEER KIND POSITION" and
// "wants USER PEER VERSION".
// repeat=N sends as many counters, epochs=N the same one from as many outboxes.
func (p *player) queue(q *Queue, lines []string) {
	for i, line := range lines {
		words, options := parseLine(line)
		n, err := strconv.ParseUint(words[len(words)-1], 10, 64)
		if err != nil {
			p.t.Fatalf("%s: %v", line, err)
		}
		user := p.id(words[1])
		c := p.conversation(words[1], words[2])
		if as, ok := options["as"]; ok {
			user = p.id(as)
		}
		if group, ok := options["group"]; ok {
			c = wire.GroupRef(p.id(group)).Conversation(user)
		}
		session := number(p.t, options, "session", uint64(user)%100)
		if words[0] == "cursor" {
			kind := map[string]wire.CursorKind{"delivered": wire.Delivered, "read": wire.Read}[words[3]]
			if err := q.Cursor(&Cursor{Session: session, Conversation: c, User: user, Kind: kind, Position: n}); err != nil {
				p.printf("%s: %v, %v\n", line, err, CodeOf(err))
			}
			continue
		}
		m := Send{Origin: Origin{Session: session, Correlation: uint64(i + 1)}, Conversation: c, Author: user,
			Device: wire.ID(number(p.t, options, "device", 1)), Epoch: number(p.t, options, "epoch", 1), Counter: n,
			PeerKnown: options["peer"] != "unknown", Content: content(p.t, options)}
		switch words[0] {
		case "send":
		case "wants":
			m.Counter, m.Content = 0, wire.Content{}
			m.Ask = &Ask{Kind: AskSettings, Version: n, Flags: number(p.t, options, "flags", 0), MutedUntil: wire.Time(number(p.t, options, "until", 0))}
		default:
			p.groupSend(&m, words[0], options)
		}
		for range number(p.t, options, "repeat", 1) * number(p.t, options, "epochs", 1) {
			if err := q.Send(&m); err != nil {
				p.printf("%s: %v, %v\n", line, err, CodeOf(err))
			}
			if options["repeat"] != "" {
				m.Counter++
			} else {
				m.Epoch++
			}
		}
	}
}

// content makes body=TEXT, or size=N bytes; extended=TEXT puts a reply tag before it.
func content(t *testing.T, options map[string]string) wire.Content {
	c := wire.Text(options["body"])
	if size := number(t, options, "size", 0); size > 0 {
		c = wire.Text(strings.Repeat("x", int(size)))
	}
	if tag, ok := options["extended"]; ok {
		var block []byte
		if tag != "" {
			block = wire.AppendExtension(nil, wire.TagReplyTo, []byte(tag))
		}
		c = wire.Content{Extended: true, Bytes: wire.AppendContent(nil, block, c.Bytes)}
	}
	return c
}

func (p *player) packOne() bool {
	entries, handle := p.r.pack()
	if entries == nil {
		return false
	}
	p.packed = append(p.packed, packed{entries[0], handle})
	return true
}

func (p *player) pack(*step) {
	if !p.packOne() {
		p.printf("nothing waits\n")
		return
	}
	b := p.r.shard.queue.inFlight[len(p.r.shard.queue.inFlight)-1]
	p.printf("entry %d: %d sends, %d controls, %d cursors\n", p.r.index(), len(b.origins), len(b.controls), len(b.cursors))
}

// apply applies all that is packed, in one batch.
func (p *player) apply(*step) {
	entries := make([]raft.Entry, 0, len(p.packed))
	for _, e := range p.packed {
		entries = append(entries, e.entry)
	}
	p.packed = nil
	p.r.apply(entries...)
	p.effects()
	p.answers()
}

// quiet applies all that is packed and prints how much it did.
func (p *player) quiet() {
	for _, e := range p.packed {
		p.r.apply(e.entry)
		for _, x := range p.r.sink.take() {
			p.printf("%d sent, %d refused, %d messages\n", len(x.Sent), len(x.Refused), len(x.Messages))
		}
	}
	p.packed = nil
}

// failed gives the oldest packed entry back; committed leaves it to be applied yet.
func (p *player) failed(s *step) {
	e := p.packed[0]
	err := raft.ErrNotLeader
	if s.options["error"] == "timeout" {
		err = raft.ErrTimeout
	}
	p.r.shard.Failed(e.handle, err)
	if s.options["committed"] == "" {
		p.packed = p.packed[1:]
		for i := range p.r.log {
			if p.r.log[i].Index == e.entry.Index {
				p.r.log = append(p.r.log[:i], p.r.log[i+1:]...)
				break
			}
		}
	}
	p.effects()
	p.answers()
}

// stranger applies an entry that another node proposed.
func (p *player) stranger(s *step) {
	q := NewQueue(99<<40, func() wire.Time { return p.r.clock }, func() {})
	q.lead()
	p.queue(q, s.input)
	data, _, _ := q.Next(nil)
	p.r.apply(p.r.propose(data)...)
	p.effects()
}

// create proposes an account: create USER NAME HASH.
func (p *player) create(s *step) {
	name, err := strconv.Unquote(s.words[2])
	if err != nil {
		name = s.words[2]
	}
	id := wire.MakeID(wire.SlotOf([]byte(name)), number(p.t, s.options, "random", 1))
	if s.options["slot"] != "" {
		id = wire.MakeID(wire.Slot(number(p.t, s.options, "slot", 0)), 1)
	}
	p.name(s.words[1], id)
	result := make(chan error, 1)
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	go func() { result <- p.r.shard.CreateUser(ctx, id, name, s.options["hash"]) }()
	for done := false; !done; {
		select {
		case err = <-result:
			done = true
		default:
			for p.packOne() {
			}
			p.apply(s)
		}
	}
	p.printf("%v\n", err)
	got, ok, err := p.r.shard.UserByName(name)
	p.printf("%q is %s, %v, hash %q, created %d, %v\n", name, p.names[got.ID], ok, got.Hash, got.Created, err)
}

// deliver gives this shard rows, as another shard's courier does: again repeats the last.
func (p *player) deliver(s *step) {
	if s.options["again"] == "" {
		p.rows = p.rows[:0]
		for _, line := range s.input {
			words, options := parseLine(line)
			kind := commandListAdd
			if options["gone"] != "" {
				kind = commandListGone
			}
			row := storage.Outgoing{Number: number(p.t, options, "number", 1), Command: appendList(nil, &command{kind: kind, user: p.id(words[0]),
				conversation: p.conversation(words[0], words[1]), version: number(p.t, options, "version", 1),
				from: uint32(number(p.t, options, "from", 7)), number: number(p.t, options, "number", 1)})}
			p.rows = append(p.rows, row)
		}
	}
	var all []byte
	for _, row := range p.rows {
		all = append(all, row.Command...)
	}
	if bytes, ok := s.options["bytes"]; ok {
		all = []byte(bytes)
	}
	p.controls = append(p.controls, p.r.shard.Receive(all))
	for p.packOne() {
	}
	p.apply(s)
}

// answers prints the fate of controls.
func (p *player) answers() {
	waiting := p.controls[:0]
	for _, c := range p.controls {
		select {
		case err := <-c:
			p.printf("control: %v\n", err)
		default:
			waiting = append(waiting, c)
		}
	}
	p.controls = waiting
}

func (p *player) pair(c wire.Conversation) string {
	if c.Kind == wire.Group {
		return "group " + p.names[c.A]
	}
	return p.names[c.A] + "~" + p.names[c.B]
}

// effects prints what the sink got.
func (p *player) effects() {
	for _, e := range p.r.sink.take() {
		for _, x := range e.Sent {
			p.printf("sent s%d/%d #%d at %d%s\n", x.Session, x.Correlation, x.Sequence, x.Time, p.made(x.Created))
		}
		for _, x := range e.Refused {
			p.printf("refused s%d/%d %v\n", x.Session, x.Correlation, x.Code)
		}
		for _, x := range e.Messages {
			p.printf("message %s #%d r%d at %d by %s from s%d: %.20s\n", p.pair(x.Conversation), x.Sequence, x.Revision, x.Time,
				p.names[x.Author], x.From, p.text(x.Content))
		}
		for _, x := range e.Receipts {
			p.printf("receipt %s %s %s %d at %d from s%d\n", p.pair(x.Conversation), p.names[x.User],
				[]string{"delivered", "read"}[x.Kind], x.Position, x.Time, x.From)
		}
		for _, x := range e.Listed {
			p.printf("listed %s %s%s\n", p.names[x.User], p.pair(x.Conversation), gone(x.Gone))
		}
		for _, x := range e.Memberships {
			p.printf("membership %s %s %v from %d until %d\n", p.names[x.Group], p.names[x.User], x.Role, x.From, x.Until)
		}
		for _, x := range e.Own {
			p.printf("own %s %s flags %d version %d until %d from s%d\n", p.pair(x.Conversation), p.names[x.User], x.Own.Flags, x.Own.Version, x.Own.MutedUntil, x.From)
		}
	}
}

func (p *player) printState(v *wire.ConversationState) {
	p.printf("with %s: head %d r%d at %d unread %d own %d/%d other %d/%d", p.names[v.Ref.ID()], v.Head, v.Revision, v.Time, v.Unread,
		v.Delivered, v.Read, v.OtherDelivered, v.OtherRead)
	if own, err := wire.ParseOwn(v.Extensions); err != nil || own != (wire.Own{}) {
		p.printf(" flags %d version %d until %d (%v)", own.Flags, own.Version, own.MutedUntil, err)
	}
	if v.Ref.Group() {
		item, err := wire.ParseGroupItem(v.Extensions)
		p.printf(" %v from %d of %d in %q (%v)", item.Role, item.From, item.Members, item.Title, err)
	}
	if v.Preview != nil {
		p.printf(" preview by %d: %s", v.Preview.Author, p.text(v.Preview.Content))
	}
	p.printf("\n")
}

func (p *player) state(s *step) {
	v, ok, err := p.r.shard.State(p.id(s.words[1]), p.conversation(s.words[len(s.words)-2], s.words[len(s.words)-1]), s.options["preview"] != "")
	if err != nil || !ok {
		p.printf("%v %v\n", ok, err)
		return
	}
	p.printState(&v)
}

func (p *player) changed(s *step) {
	user := p.id(s.words[1])
	index, err := p.r.shard.Changed(p.t.Context(), user, number(p.t, s.options, "since", 0), func(c Changed) {
		p.printf("%d%s ", c.Index, gone(c.Gone))
		v, ok, err := p.r.shard.State(user, c.Conversation, false)
		if err != nil || !ok || v.Time != c.Time {
			p.t.Errorf("%+v has the state %+v (%v, %v)", c, v, ok, err)
		}
		p.printState(&v)
	})
	p.printf("index %d %v\n", index, err)
}

func (p *player) listed(s *step) {
	index, err := p.r.shard.Listed(p.t.Context(), p.id(s.words[1]), number(p.t, s.options, "since", 0), func(l Listed) {
		p.printf("%d %s%s\n", l.Index, p.pair(l.Conversation), gone(l.Gone))
	})
	p.printf("index %d %v\n", index, err)
}

// page reads: page USER PEER MODE SEQUENCE limit=N.
func (p *player) page(s *step) {
	mode := map[string]wire.HistoryMode{"forward": wire.HistoryForward, "backward": wire.HistoryBackward, "around": wire.HistoryAround}[s.words[3]]
	var ref wire.Ref
	if group, ok := p.groups[s.words[2]]; ok {
		ref = wire.GroupRef(group)
	} else if s.options["group"] != "" {
		ref = wire.GroupRef(p.id(s.words[2]))
	} else {
		ref = wire.DirectRef(p.id(s.words[2]))
	}
	sequence, err := strconv.ParseUint(s.words[4], 10, 64)
	if err != nil {
		p.t.Fatal(err)
	}
	page, err := p.r.shard.Page(p.id(s.words[1]), wire.History{Correlation: 3, Ref: ref, Mode: mode, Sequence: sequence, Limit: number(p.t, s.options, "limit", 0)})
	var refusal *wire.Error
	if errors.As(err, &refusal) {
		p.printf("%v\n", refusal.Code)
		return
	}
	if n := len(wire.AppendPage(nil, &page)); n > wire.FrameBytesMax {
		p.printf("TOO LARGE: %d bytes\n", n)
	}
	flags := ""
	if page.Flags&wire.PageMoreBefore != 0 {
		flags += " more before"
	}
	if page.Flags&wire.PageMoreAfter != 0 {
		flags += " more after"
	}
	p.printf("%d/%d head %d%s %v\n", page.Correlation, len(page.Messages), page.Head, flags, err)
	for i, m := range page.Messages {
		if s.options["brief"] != "" && i > 0 && i < len(page.Messages)-1 {
			continue
		}
		p.printf("#%d r%d at %d by %s: %.20s\n", m.Sequence, m.Revision, m.Time, p.names[m.Author], p.text(m.Content))
	}
}

func (p *player) record(s *step) {
	c := p.conversation(s.words[1], s.words[2])
	err := p.r.shard.config.Store.View(func(r *storage.Reader) error {
		v, ok, err := r.Conversation(c)
		if err != nil || !ok {
			p.printf("%v %v\n", ok, err)
			return err
		}
		p.printf("head %d r%d at %d changed %d sent by %s %d, %d forgotten\n", v.Head, v.Revision, v.Time, v.Changed, p.names[c.A], v.SentA, len(v.Evicted))
		for _, o := range v.Outboxes {
			p.printf("outbox %s/%d/%d at %d is #%d\n", p.names[o.Author], o.Device, o.Epoch, o.Counter, o.Sequence)
		}
		for _, user := range []wire.ID{c.A, c.B} {
			m, _, err := r.Member(c, user)
			if err != nil {
				return err
			}
			p.printf("%s delivered %d %v read %d %v\n", p.names[user], m.Delivered.Position, m.Delivered.Steps, m.Read.Position, m.Read.Steps)
		}
		return nil
	})
	if err != nil {
		p.t.Fatal(err)
	}
}

func (p *player) outgoing(*step) {
	err := p.r.shard.config.Store.View(func(r *storage.Reader) error {
		return r.Outgoing(func(o storage.Outgoing) error {
			commands, err := parseCommands(o.Command)
			if err != nil {
				return err
			}
			for _, c := range commands {
				what := "add"
				if c.kind == commandListGone {
					what = "gone"
				}
				p.printf("row %d.%d for slot %d: list %s %s %s version %d\n", o.Number>>outgoingOrdinalBits,
					o.Number&(1<<outgoingOrdinalBits-1), o.Target, what, p.names[c.user], p.pair(c.conversation), c.version)
			}
			return nil
		})
	})
	if err != nil {
		p.t.Fatal(err)
	}
}
