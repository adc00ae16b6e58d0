package engine

import (
	"bytes"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"parley/engine/session"
	"parley/wire"
)

// A person is a client that knows groups. What comes is read on a goroutine of its own, so
// that many can talk at once; messages of groups are kept as they come.
type person struct {
	*raw
	id    wire.ID
	name  string
	node  *Node
	epoch uint64

	mu          sync.Mutex
	changed     sync.Cond
	correlation uint64
	counters    map[wire.Ref]uint64
	answers     map[uint64]wire.Frame
	heard       map[wire.Ref][]wire.Message
	heads       map[wire.Ref]uint64
	own         map[wire.Ref][]uint64 // sequences of what this session has sent
	retried     map[uint64]bool       // of those, the sequences of what was sent more than once
	paged       map[wire.Ref][]uint64 // and of what it has read because a HEAD told of it
	receipts    []wire.Receipt
	counts      []wire.Counts
	typing      []wire.Typing
	owned       map[wire.Ref]wire.OwnState // the latest told
	ended       error
	reading     bool // false: paused, so that the network fills up
}

// meet opens a session that knows groups, and waits for the answer to its SYNC.
func meet(t *testing.T, n *Node, name string, device wire.ID, epoch uint64) (*person, wire.Conversations) {
	t.Helper()
	p := &person{raw: dial(t, n), name: name, node: n, epoch: epoch, counters: map[wire.Ref]uint64{}, answers: map[uint64]wire.Frame{},
		heard: map[wire.Ref][]wire.Message{}, heads: map[wire.Ref]uint64{}, own: map[wire.Ref][]uint64{}, retried: map[uint64]bool{}, owned: map[wire.Ref]wire.OwnState{},
		paged: map[wire.Ref][]uint64{}, reading: true}
	p.changed.L = &p.mu
	p.send(wire.AppendHello(nil, &wire.Hello{Version: wire.Version, OutboxEpoch: epoch, Features: session.Features, Credential: token(t, n, name, device)}))
	w, err := wire.ParseWelcome(p.want(wire.TypeWelcome))
	if err != nil || w.Features != session.Features {
		t.Fatalf("%+v, %v", w, err)
	}
	p.id = w.User
	done := make(chan struct{})
	go func() {
		defer close(done)
		p.read()
	}()
	t.Cleanup(func() {
		p.hangUp()
		p.pause(false)
		<-done
	})
	return p, p.again(nil)
}

// read takes what comes until the connection ends.
func (p *person) read() {
	for {
		p.mu.Lock()
		for !p.reading {
			p.changed.Wait()
		}
		p.mu.Unlock()
		f, err := p.Next()
		p.mu.Lock()
		if err != nil {
			p.ended = err
		} else {
			p.take(f)
		}
		p.changed.Broadcast()
		p.mu.Unlock()
		if err != nil {
			return
		}
	}
}

// take keeps a frame; mu is held.
func (p *person) take(f wire.Frame) {
	f.Body = bytes.Clone(f.Body)
	var correlation uint64
	var err error
	switch f.Type {
	case wire.TypeMessage:
		var m wire.Message
		if m, err = wire.ParseMessage(f); err == nil {
			p.heard[m.Ref] = append(p.heard[m.Ref], m)
		}
	case wire.TypeHead:
		var h wire.Head
		h, err = wire.ParseHead(f)
		p.heads[h.Ref] = max(p.heads[h.Ref], h.Sequence)
	case wire.TypeReceipt:
		var r wire.Receipt
		r, err = wire.ParseReceipt(f)
		p.receipts = append(p.receipts, r)
	case wire.TypeCounts:
		var c wire.Counts
		c, err = wire.ParseCounts(f)
		p.counts = append(p.counts, c)
	case wire.TypeTyping:
		var y wire.Typing
		y, err = wire.ParseTyping(f)
		p.typing = append(p.typing, y)
	case wire.TypeOwnState:
		var s wire.OwnState
		if s, err = wire.ParseOwnState(f); s.Version >= p.owned[s.Ref].Version {
			p.owned[s.Ref] = s
		}
	case wire.TypeError:
		var e *wire.Error
		if e, err = wire.ParseError(f); err == nil {
			correlation = e.Correlation
		}
	case wire.TypeSent, wire.TypeCreated, wire.TypeConversations, wire.TypePage, wire.TypeMemberList, wire.TypeGroupState:
		correlation = firstNumber(f)
	}
	if err != nil {
		p.ended = err
	}
	if correlation != 0 {
		p.answers[correlation] = f
	}
}

// firstNumber is the correlation with which every answer begins.
func firstNumber(f wire.Frame) uint64 {
	t := tokenReader{src: f.Body}
	return t.uint()
}

// pause stops or resumes reading.
func (p *person) pause(paused bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.reading = !paused
	p.changed.Broadcast()
}

// wait waits until something is so, which is looked at with the mutex held.
func (p *person) wait(what string, done func() bool) {
	p.t.Helper()
	limit := time.AfterFunc(patience, p.changed.Broadcast)
	defer limit.Stop()
	end := time.Now().Add(patience)
	p.mu.Lock()
	defer p.mu.Unlock()
	for !done() {
		if p.ended != nil || time.Now().After(end) {
			p.t.Fatalf("%s waits for %s in vain (%v, close code %d)", p.name, what, p.ended, p.Code)
		}
		p.changed.Wait()
	}
}

// request sends what is made with a correlation and waits for the answer; what is refused
// for the moment is sent again.
func (p *person) request(build func(correlation uint64) []byte) wire.Frame {
	p.t.Helper()
	for {
		p.mu.Lock()
		p.correlation++
		correlation := p.correlation
		p.mu.Unlock()
		p.send(build(correlation))
		var f wire.Frame
		p.wait("an answer", func() (ok bool) { f, ok = p.answers[correlation]; return ok })
		if f.Type != wire.TypeError {
			return f
		}
		if e, err := wire.ParseError(f); err != nil || e.Code.Class() > 2 {
			return f
		}
		time.Sleep(retryPause)
	}
}

// refused is the code of an answer that must be a refusal.
func (p *person) refused(f wire.Frame) wire.Code {
	p.t.Helper()
	e, err := wire.ParseError(f)
	if f.Type != wire.TypeError || err != nil {
		p.t.Fatalf("%s got %v, want a refusal", p.name, f.Type)
	}
	return e.Code
}

func must[T any](t *testing.T, want wire.Type, f wire.Frame, parse func(wire.Frame) (T, error)) T {
	t.Helper()
	if f.Type != want {
		e, _ := wire.ParseError(f)
		t.Fatalf("got %v (%+v), want %v", f.Type, e, want)
	}
	v, err := parse(f)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// again syncs.
func (p *person) again(token []byte) wire.Conversations {
	p.t.Helper()
	f := p.request(func(c uint64) []byte { return wire.AppendSync(nil, &wire.Sync{Correlation: c, Token: token}) })
	return must(p.t, wire.TypeConversations, f, wire.ParseConversations)
}

// try asks for a message or a change of a group under the next counter, and gives the answer.
func (p *person) try(ref wire.Ref, build func(correlation, counter uint64) []byte) wire.Frame {
	p.t.Helper()
	counter, tries := p.counters[ref]+1, 0
	f := p.request(func(c uint64) []byte { tries++; return build(c, counter) })
	if f.Type == wire.TypeSent {
		p.counters[ref] = counter
		s := must(p.t, wire.TypeSent, f, wire.ParseSent)
		p.mu.Lock()
		p.own[ref] = append(p.own[ref], s.Sequence)
		if tries > 1 {
			p.retried[s.Sequence] = true
		}
		p.mu.Unlock()
	}
	return f
}

func (p *person) trySay(ref wire.Ref, text string) wire.Frame {
	p.t.Helper()
	return p.try(ref, func(correlation, counter uint64) []byte {
		return wire.AppendSend(nil, &wire.Send{Correlation: correlation, Ref: ref, Counter: counter, Content: wire.Text(text)})
	})
}

// say sends a message and gives its sequence.
func (p *person) say(ref wire.Ref, text string) uint64 {
	p.t.Helper()
	return must(p.t, wire.TypeSent, p.trySay(ref, text), wire.ParseSent).Sequence
}

func (p *person) tryChange(ref wire.Ref, e wire.Event) wire.Frame {
	p.t.Helper()
	slices.Sort(e.Users)
	return p.try(ref, func(correlation, counter uint64) []byte {
		return wire.AppendGroupChange(nil, &wire.GroupChange{Correlation: correlation, Ref: ref, Counter: counter, Event: wire.AppendEvent(nil, &e)})
	})
}

// change changes a group and gives the event's sequence.
func (p *person) change(ref wire.Ref, e wire.Event) uint64 {
	p.t.Helper()
	return must(p.t, wire.TypeSent, p.tryChange(ref, e), wire.ParseSent).Sequence
}

// found makes a group.
func (p *person) found(number uint64, title string, users ...wire.ID) wire.Created {
	p.t.Helper()
	slices.Sort(users)
	event := wire.AppendEvent(nil, &wire.Event{Kind: wire.EventCreate, Text: title, Users: users})
	f := p.request(func(c uint64) []byte {
		return wire.AppendGroupChange(nil, &wire.GroupChange{Correlation: c, Ref: 1, Counter: number, Event: event})
	})
	created := must(p.t, wire.TypeCreated, f, wire.ParseCreated)
	p.mu.Lock()
	defer p.mu.Unlock()
	if !slices.Contains(p.own[created.Ref], created.Sequence) {
		p.own[created.Ref] = append(p.own[created.Ref], created.Sequence)
	}
	return created
}

// sequences are those of a group that this session knows, in their order; what was pushed
// must have come in order, and nothing twice. What the session sent is not pushed to it,
// unless the answer was lost: a new leader does not know who has sent what the old one took.
func (p *person) sequences(ref wire.Ref) []uint64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	known := slices.Concat(p.own[ref], p.paged[ref])
	last := uint64(0)
	for _, m := range p.heard[ref] {
		if m.Sequence <= last || slices.Contains(p.own[ref], m.Sequence) && !p.retried[m.Sequence] {
			p.t.Errorf("%s heard message %d after %d of its group, of its own %v", p.name, m.Sequence, last, p.own[ref])
		}
		if m.Author == 0 {
			p.t.Errorf("message %d of a group without an author", m.Sequence)
		}
		last = m.Sequence
		known = append(known, m.Sequence)
	}
	slices.Sort(known)
	return slices.Compact(known)
}

// hears waits until the session knows of a sequence of a group. Who is told of a new group
// by a HEAD reads what there is, as clients do.
func (p *person) hears(ref wire.Ref, sequence uint64) {
	p.t.Helper()
	p.wait(fmt.Sprint("message ", sequence), func() bool {
		heard := p.heard[ref]
		return p.heads[ref] >= sequence || len(heard) > 0 && heard[len(heard)-1].Sequence >= sequence || slices.Contains(p.own[ref], sequence)
	})
	if slices.Contains(p.sequences(ref), sequence) {
		return
	}
	f := p.request(func(c uint64) []byte {
		return wire.AppendHistory(nil, &wire.History{Correlation: c, Ref: ref, Mode: wire.HistoryBackward})
	})
	for _, m := range must(p.t, wire.TypePage, f, wire.ParsePage).Messages {
		p.paged[ref] = append(p.paged[ref], m.Sequence)
	}
}

// wantAll checks that the session knows exactly the sequences of stretches.
func (p *person) wantAll(ref wire.Ref, stretches ...[2]uint64) {
	p.t.Helper()
	var want []uint64
	for _, s := range stretches {
		for sequence := s[0]; sequence <= s[1]; sequence++ {
			want = append(want, sequence)
		}
	}
	if got := p.sequences(ref); !slices.Equal(got, want) {
		p.t.Errorf("%s knows messages %v, want %v", p.name, got, want)
	}
}

// quiet waits until all that was on its way to this session before has come: a PING is
// answered behind it.
func (p *person) quiet() {
	p.t.Helper()
	p.again(nil)
}
