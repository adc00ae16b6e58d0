package delivery

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"parley/engine/shard"
	"parley/wire"
)

// A pair is the replica of shard 9 on node 1, which leads, and the edge on node 2, with
// what is on its way between them.
type pair struct {
	t        *testing.T
	recent   *Recent
	outlet   *Outlet
	inlet    *Inlet
	requests [][]byte
	frames   [][]byte
	full     bool // nothing more goes to the edge
	index    uint64
	heard    []uint64 // sequences
	answers  []string
	ended    []wire.ID
}

func newPair(t *testing.T) *pair {
	p := &pair{t: t, recent: NewRecent(0, RecentBytesMax), inlet: NewInlet(9, 2, 100, &Groups{})}
	p.outlet = NewOutlet(9, p.recent, func(_ uint32, frame []byte) error {
		if p.full {
			return errors.New("full")
		}
		if len(frame) > FrameBytesMax {
			t.Errorf("a frame of %d bytes", len(frame))
		}
		p.frames = append(p.frames, slices.Clone(frame))
		return nil
	})
	return p
}

func (p *pair) do(actions []Action) {
	for _, a := range actions {
		switch a.Kind {
		case Ask:
			p.requests = append(p.requests, a.Request)
		case Deliver:
			for _, x := range a.Effects.Messages {
				p.heard = append(p.heard, x.Sequence)
			}
			for _, x := range a.Effects.Refused {
				p.answers = append(p.answers, x.Code.String())
			}
			for range a.Effects.Sent {
				p.answers = append(p.answers, "SENT")
			}
		case Restart:
			p.ended = append(p.ended, a.Users...)
		}
	}
}

func (p *pair) announce() { p.do(p.inlet.Announced(nil, 1, 1, p.outlet.Idle())) }

// ask lets requests arrive.
func (p *pair) ask() {
	for _, src := range p.requests {
		var r Request
		if err := r.Parse(src, 2); err != nil {
			p.t.Fatal(err)
		}
		p.outlet.Request(2, &r)
	}
	p.requests = nil
}

// hear lets frames arrive.
func (p *pair) hear() {
	frames := p.frames
	p.frames = nil
	for _, src := range frames {
		f, err := ParseFrame(src)
		if err != nil {
			p.t.Fatal(err)
		}
		p.do(p.inlet.Frame(nil, 1, &f))
	}
}

func (p *pair) both() { p.ask(); p.hear() }

// say applies a message of two users, alone in its batch.
func (p *pair) say(a, b wire.ID) {
	p.index++
	p.outlet.Effects(&shard.Effects{Shard: 9, Previous: p.index - 1, Index: p.index, Messages: []shard.MessageEffect{
		{Conversation: wire.DirectConversation(a, b), Author: a, Sequence: p.index, Revision: p.index, Content: wire.Text("x")}}})
}

func (p *pair) wantHeard(want ...uint64) {
	p.t.Helper()
	if !slices.Equal(p.heard, want) {
		p.t.Errorf("the edge heard %v, want %v", p.heard, want)
	}
}

func (p *pair) reached() bool {
	at, ok := p.inlet.Position()
	return ok && p.outlet.Reached(2, at.Generation, at.Number)
}

func TestReadAfterALostAttachIsRefused(t *testing.T) {
	p := newPair(t)
	p.announce()
	p.both()
	p.do(p.inlet.Attach(nil, 5))
	p.requests = nil // lost
	if p.reached() {
		t.Error("the replica takes a read for a user of whom it never heard")
	}
	p.do(p.inlet.Attach(nil, 6))
	p.both() // the next request shows the gap, and the edge is told
	if _, ok := p.inlet.Position(); ok {
		t.Error("the edge goes on with a stream that is broken")
	}
	p.say(5, 6)
	p.announce()
	p.both()
	p.wantHeard(1)
	if !p.reached() || len(p.ended) > 0 {
		t.Errorf("a read is answered: %v; ended: %v", p.reached(), p.ended)
	}
}

func TestReadOfAnEarlierStreamIsRefused(t *testing.T) {
	p := newPair(t)
	p.announce()
	p.both()
	before, _ := p.inlet.Position()
	p.do(p.inlet.LinkDown(nil, 1))
	p.announce()
	p.both()
	if p.outlet.Reached(2, before.Generation, before.Number) || !p.reached() {
		t.Error("a read of the stream before is answered, or one of this is not")
	}
}

// What the edge has given up may come late: it lacks users who were attached since.
func TestFramesOfAnEarlierStreamAreIgnored(t *testing.T) {
	p := newPair(t)
	p.do(p.inlet.Attach(nil, 6))
	p.announce()
	p.both()
	p.do(p.inlet.Attach(nil, 5))
	p.requests = nil
	p.say(5, 7)
	p.say(6, 7) // makes a frame up to 2, without message 1
	p.do(p.inlet.LinkDown(nil, 1))
	p.announce()
	p.hear()
	p.both()
	p.wantHeard(1, 2)
}

func TestFormerLeaderIsNotFollowed(t *testing.T) {
	p := newPair(t)
	p.announce()
	p.both()
	p.do(p.inlet.Announced(nil, 3, 2, 0))
	p.requests = nil
	p.do(p.inlet.Announced(nil, 1, 1, 0))
	if at, ok := p.inlet.Position(); !ok || at.Node != 3 || len(p.requests) > 0 {
		t.Errorf("after a word of the leader of term 1, the edge is at %+v, %d requests", at, len(p.requests))
	}
}

func TestWithdrawnSendLeavesNoGap(t *testing.T) {
	p := newPair(t)
	p.announce()
	p.both()
	send := shard.Send{Origin: shard.Origin{Session: 4, Correlation: 1}, Conversation: wire.DirectConversation(5, 6), Author: 5, Device: 7}
	if _, _, err := p.inlet.Forward(nil, []shard.Send{send, send}, nil); err != nil {
		t.Fatal(err)
	}
	p.inlet.Withdraw(2)
	p.do(p.inlet.Attach(nil, 5))
	p.both()
	if !p.reached() || p.inlet.Stats().Pending != 0 {
		t.Errorf("%+v", p.inlet.Stats())
	}
}

// The last frames are lost, and nobody says so: the announcements do.
func TestSilentStreamIsOpenedAgain(t *testing.T) {
	p := newPair(t)
	p.do(p.inlet.Attach(nil, 5))
	p.announce()
	p.both()
	p.say(5, 6)
	p.frames = nil
	for range silentMax + 1 {
		p.announce()
	}
	p.both()
	p.wantHeard(1)
}

// A stream that cannot send is broken; the edge hears of it when there is room again, and
// has lost nothing.
func TestStreamThatCannotSendIsOpenedAgain(t *testing.T) {
	p := newPair(t)
	p.do(p.inlet.Attach(nil, 5))
	p.announce()
	p.both()
	p.full = true
	p.say(5, 6)
	p.full = false
	p.say(5, 6)
	if stats := p.outlet.Stats(); stats.Broken != 1 || stats.Attached != 0 {
		t.Errorf("%+v", stats)
	}
	p.outlet.Idle()
	p.hear()
	p.announce()
	p.both()
	p.wantHeard(1, 2)
}

// More users than a request takes are attached before the stream begins.
func TestOpeningTakesAllUsersFirst(t *testing.T) {
	p := newPair(t)
	p.announce()
	p.both()
	p.do(p.inlet.LinkDown(nil, 1))
	for user := range wire.ID(2*RequestUsersMax + 1) {
		p.do(p.inlet.Attach(nil, user+1))
	}
	p.say(1, 2*RequestUsersMax+1)
	p.announce()
	if len(p.requests) != 3 {
		t.Fatalf("%d requests", len(p.requests))
	}
	p.frames = nil // the stream before was idle
	last := p.requests[2]
	p.requests = p.requests[:2]
	p.ask()
	p.say(1, 2)
	if p.reached() || len(p.frames) > 0 {
		t.Errorf("the stream began before all users were attached: %d frames", len(p.frames))
	}
	p.requests = [][]byte{last}
	p.both()
	p.wantHeard(1, 2)
	if stats := p.outlet.Stats(); stats.Attached != 2*RequestUsersMax+1 {
		t.Errorf("%+v", stats)
	}
}

// A batch of many entries crosses in frames that a link takes.
func TestLargeBatchCrossesInSeveralFrames(t *testing.T) {
	p := newPair(t)
	p.do(p.inlet.Attach(nil, 5))
	p.announce()
	p.both()
	body := strings.Repeat("x", wire.ContentBytesMax)
	e := &shard.Effects{Shard: 9}
	for index := uint64(1); index <= 64; index++ {
		for range 3 {
			sequence := uint64(len(e.Messages) + 1)
			e.Messages = append(e.Messages, shard.MessageEffect{Conversation: wire.DirectConversation(5, 6), Author: 5,
				Sequence: sequence, Revision: sequence, Content: wire.Text(body)})
		}
		e.Index = index
		e.Marks = append(e.Marks, shard.Mark{Index: index, Messages: uint32(len(e.Messages))})
	}
	p.outlet.Effects(e)
	if len(p.frames) < 20 {
		t.Errorf("%d frames", len(p.frames))
	}
	p.hear()
	if len(p.heard) != len(e.Messages) || p.inlet.Stats().Index != 64 {
		t.Errorf("%d messages of %d, up to %d", len(p.heard), len(e.Messages), p.inlet.Stats().Index)
	}
}

// A node whom nothing concerns still hears how far the shard is, in time to resume.
func TestUnconcernedEdgeKeepsUp(t *testing.T) {
	p := newPair(t)
	p.do(p.inlet.Attach(nil, 5))
	p.announce()
	p.both()
	for range 50_000 {
		p.say(1, 2)
	}
	p.hear()
	if p.outlet.Stats().RecentBytes > RecentBytesMax {
		t.Errorf("%+v", p.outlet.Stats())
	}
	p.do(p.inlet.LinkDown(nil, 1))
	p.say(5, 1)
	p.announce()
	p.both()
	p.wantHeard(50_001)
	if len(p.ended) > 0 {
		t.Errorf("users %v start over", p.ended)
	}
}

// An edge that was away for too long is told so, and its users start over.
func TestTooOldAnEdgeStartsOver(t *testing.T) {
	p := newPair(t)
	p.do(p.inlet.Attach(nil, 5))
	p.announce()
	p.both()
	p.do(p.inlet.LinkDown(nil, 1))
	for range 50_000 {
		p.say(5, 2)
	}
	p.announce()
	p.both()
	p.say(5, 2)
	p.hear()
	p.wantHeard(50_001)
	if !slices.Equal(p.ended, []wire.ID{5}) {
		t.Errorf("users %v start over", p.ended)
	}
}

// Sends whose answers can no longer come are refused so that they keep their counters,
// and no more of them wait than may.
func TestPendingSendsAreRefusedWhenTheStreamEnds(t *testing.T) {
	p := newPair(t)
	p.announce()
	p.both()
	sends := make([]shard.Send, 100)
	for i := range sends {
		sends[i] = shard.Send{Origin: shard.Origin{Session: uint64(i + 1), Correlation: 7}, Conversation: wire.DirectConversation(5, 6), Author: 5, Device: 7}
	}
	for n := 0; n+len(sends) <= PendingMax; n += len(sends) {
		if _, _, err := p.inlet.Forward(nil, sends, nil); err != nil {
			t.Fatal(err)
		}
	}
	if _, _, err := p.inlet.Forward(nil, sends, nil); !errors.Is(err, shard.ErrOverloaded) {
		t.Errorf("one too many: %v", err)
	}
	p.do(p.inlet.LinkDown(nil, 1))
	if want := PendingMax / 100 * 100; len(p.answers) != want || p.answers[0] != wire.CodeTimeout.String() {
		t.Errorf("%d answers, want %d", len(p.answers), want)
	}
	if _, _, err := p.inlet.Forward(nil, sends, nil); !errors.Is(err, shard.ErrNotLeader) {
		t.Errorf("without a leader: %v", err)
	}
	if p.inlet.Stats().Pending != 0 || p.inlet.tickets.ring != nil {
		t.Errorf("%+v", p.inlet.Stats())
	}
}

// Cursors have no answer: when the stream ends, who sent some lately is told to send them
// again, once each, and nobody who is beyond the limit.
func TestSessionsWithForwardedCursorsAreToldWhenTheStreamEnds(t *testing.T) {
	p := newPair(t)
	p.announce()
	p.both()
	forward := func(session uint64) {
		c := shard.Cursor{Session: session, Conversation: wire.DirectConversation(5, 6), User: 5, Position: 1}
		if _, _, err := p.inlet.Forward(nil, nil, []shard.Cursor{c, c}); err != nil {
			t.Fatal(err)
		}
	}
	sessions := uint64(CursorSessionsMax / 2) // two cursors each
	for s := range sessions + 1 {
		forward(s + 1)
	}
	told := make(map[uint64]int)
	for _, a := range p.inlet.LinkDown(nil, 1) {
		for _, x := range a.Effects.Refused {
			if x.Code.Class() != 1 || x.Correlation != 0 {
				t.Fatalf("session %d is told %v of correlation %d", x.Session, x.Code, x.Correlation)
			}
			told[x.Session]++
		}
	}
	if len(told) != int(sessions) || told[1] != 0 || told[2] != 1 || told[sessions+1] != 1 {
		t.Errorf("%d sessions are told, want %d; the first %d times", len(told), sessions, told[1])
	}
	p.both()
	if actions := p.inlet.LinkDown(nil, 1); slices.ContainsFunc(actions, func(a Action) bool { return a.Kind == Deliver }) {
		t.Errorf("somebody is told again: %v", actions)
	}
}

// introduce is what a read does at the leader for a user of the edge.
func (p *pair) introduce(user wire.ID, groups ...wire.ID) (number uint64, ok bool) {
	at, _ := p.inlet.Position()
	number, ok, _ = p.outlet.Introduce(2, at.Generation, []wire.ID{user}, func(users []wire.ID) (list []shard.MembershipEffect, index uint64, err error) {
		for _, group := range groups {
			list = append(list, shard.MembershipEffect{Group: group, User: users[0], Role: wire.RoleMember, From: 1})
		}
		return list, p.index, nil
	})
	return number, ok
}

// The answer to a read is not taken if the frame was lost that introduces its user.
func TestAnIntroductionThatIsLostIsNoticed(t *testing.T) {
	p := newPair(t)
	p.announce()
	p.both()
	p.do(p.inlet.Attach(nil, 5))
	p.both()
	p.say(1, 2)
	at, _ := p.inlet.Position()
	number, ok := p.introduce(5, 7)
	if !ok || p.inlet.Introduced(at, number) {
		t.Fatalf("introduced as %d (%v), before the frame came", number, ok)
	}
	p.frames = nil // lost
	if number, ok = p.introduce(5); !ok || !p.inlet.Introduced(at, number) {
		t.Error("an answer for a user without groups was not taken")
	}
	number, _ = p.introduce(5, 7)
	p.hear()
	if p.inlet.Introduced(at, number) {
		t.Error("a frame was taken without the one before it")
	}
	p.announce()
	p.both() // a new stream
	at, _ = p.inlet.Position()
	if number, ok = p.introduce(5, 7); !ok {
		t.Fatal("the new stream does not introduce")
	}
	if p.hear(); !p.inlet.Introduced(at, number) {
		t.Error("nothing was lost this time")
	}
}

// Whoever is introduced with more groups than a frame takes hears of all.
func TestManyGroupsAreIntroduced(t *testing.T) {
	p := newPair(t)
	p.announce()
	p.both()
	p.do(p.inlet.Attach(nil, 5))
	p.both()
	groups := make([]wire.ID, 2*IntroducedMax+1)
	for i := range groups {
		groups[i] = wire.ID(i + 1)
	}
	number, ok := p.introduce(5, groups...)
	if !ok || number != 3 || len(p.frames) != 3 {
		t.Fatalf("%d frames, the last one %d (%v)", len(p.frames), number, ok)
	}
	heard := 0
	for _, src := range p.frames {
		f, err := ParseFrame(src)
		if err != nil {
			t.Fatal(err)
		}
		heard += len(f.Effects.Memberships)
	}
	if heard != len(groups) {
		t.Errorf("%d of %d groups were told", heard, len(groups))
	}
}
