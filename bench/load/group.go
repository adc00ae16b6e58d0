//go:build linux

package load

import (
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"parley/wire"
)

// A GroupPlan says what the job "group" does: one group whose owner writes to all members. Its
// requests: connect opens every session, makes the group and answers when each session has
// seen its last member come; go sends; mark begins what is measured; measured ends it and gives a
// GroupResult; counts gives GroupCounts at any time; stop sends no more and answers with
// Complaints when everybody has all messages.
type GroupPlan struct {
	// Nodes are where to connect: the session i at node i, counted around.
	Nodes    []Target  `json:"nodes"`
	Accounts []Account `json:"accounts"` // with sessions; the first one is the owner, who writes
	Away     []wire.ID `json:"away"`     // other members
	Window   int       `json:"window"`   // messages that some session has not received
	Bytes    int       `json:"bytes"`    // of a text
	Seed     uint64    `json:"seed"`
	Receipts bool      `json:"receipts"` // members return read cursors, at most one in cursorInterval
	AtOnce   int       `json:"at_once"`  // connections that are being opened at a time
	Rate     float64   `json:"rate"`     // messages a second, at fixed moments; 0: closed loop
}

// GroupCounts are totals since the job began.
type GroupCounts struct {
	Sent      uint64 `json:"sent"`
	Acked     uint64 `json:"acked"`
	Delivered uint64 `json:"delivered"` // messages times sessions
	Complete  uint64 `json:"complete"`  // messages that everybody has
	Cursors   uint64 `json:"cursors"`   // CURSOR frames
	Moved     uint64 `json:"moved"`     // positions by which they moved
	Tallies   uint64 `json:"tallies"`   // COUNTS frames
	Heads     uint64 `json:"heads"`     // HEAD frames: each stands for pushes that were left out
	Bytes     uint64 `json:"bytes"`     // on all sockets, both ways
}

// A GroupResult is what was seen between mark and measured.
type GroupResult struct {
	Counts     GroupCounts `json:"counts"` // at the end
	Ack        *Latency    `json:"ack"`
	Deliver    *Latency    `json:"deliver"`     // to each session
	LastMember *Latency    `json:"last_member"` // to the last one
	Complaints Complaints  `json:"complaints"`
}

const (
	// cursorInterval is how often a member of a large group tells how far it has read.
	cursorInterval = time.Second
	// cursorSweeps spread the members over the interval.
	cursorSweeps = 50
	// addsAtOnce is how many changes of members are on their way.
	addsAtOnce = 8
	// beginPoll is how often it is looked whether everybody has seen the last member come.
	beginPoll = 20 * time.Millisecond
	// groupWindowMax bounds the window: moments are kept for so many messages.
	groupWindowMax = 64
)

// groupMember is one session's state.
type groupMember struct {
	session *session
	last    uint64 // sequence
	told    uint64 // by a cursor
}

// onItsWay is a message that not everybody has.
type onItsWay struct {
	moment  time.Duration
	missing int
}

// group is the job.
type group struct {
	loop    *Loop
	plan    GroupPlan
	texts   *Texts
	ref     wire.Ref
	members []groupMember // the first is the owner

	total                 GroupCounts
	complaints            Complaints
	ack, deliver, slowest recorder
	next                  int // the session to dial next
	lives                 int
	adding                []wire.ID // members who are not in yet
	counter               uint64    // of the owner's outbox, in the group
	changes               uint64    // of the counters, those that were changes of members
	base                  uint64    // sequence of the last change
	way                   [groupWindowMax]onItsWay
	running               bool
	started               time.Duration
	due                   []time.Duration // open loop: moments of messages not sent yet
	ticks                 uint64
	sweep                 int
	text                  []byte

	connected, finished reply
}

func newGroup(l *Loop, plan json.RawMessage) (job, error) {
	j := &group{loop: l}
	if err := json.Unmarshal(plan, &j.plan); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrRequest, err)
	}
	p := &j.plan
	if len(p.Accounts) < 2 || p.Window < 1 || p.Window > groupWindowMax || p.AtOnce < 1 || len(p.Nodes) == 0 {
		return nil, fmt.Errorf("%w: %d sessions, window %d (1 to %d), %d at once", ErrRequest, len(p.Accounts), p.Window, groupWindowMax, p.AtOnce)
	}
	j.texts = NewTexts(p.Bytes, p.Seed)
	j.reset()
	var sessions []*session
	for i, a := range p.Accounts {
		t := p.Nodes[i%len(p.Nodes)]
		if each := i / len(p.Nodes); each >= portsEach {
			t.Source = loopback(each / portsEach)
		}
		s := newSession(l, t, a, j)
		s.index, s.syncs, s.features = i, true, wire.FeatureGroups
		sessions = append(sessions, s)
		j.members = append(j.members, groupMember{session: s})
		if i > 0 {
			j.adding = append(j.adding, a.User)
		}
	}
	j.adding = append(j.adding, p.Away...)
	slices.Sort(j.adding) // an event's users ascend
	beat(l, sessions)
	return j, nil
}

func (j *group) reset() { j.ack, j.deliver, j.slowest = newRecorder(), newRecorder(), newRecorder() }

func (j *group) do(what string, _ json.RawMessage, answer reply) {
	switch what {
	case "connect":
		j.connected = answer
		for range j.plan.AtOnce {
			j.dial()
		}
	case "go":
		j.running, j.started = true, j.loop.tick()
		answer(nil, nil)
		if j.plan.Receipts {
			j.report()
		}
		if j.plan.Rate > 0 {
			j.tick()
		} else {
			j.fill()
		}
	case "receipts":
		j.report()
		answer(nil, nil)
	case "mark":
		j.reset()
		answer(j.counts(), nil)
	case "measured":
		answer(GroupResult{j.counts(), j.ack.latency(), j.deliver.latency(), j.slowest.latency(), j.complaints}, nil)
	case "counts":
		answer(j.counts(), nil)
	case "stop":
		j.stop(answer)
	default:
		answer(nil, fmt.Errorf("%w: %s", ErrRequest, what))
	}
}

// dial opens the next session.
func (j *group) dial() {
	if j.next >= len(j.members) {
		return
	}
	m := &j.members[j.next]
	j.next++
	if err := m.session.dial(); err != nil {
		j.closed(m.session, err)
	}
}

func (j *group) counts() GroupCounts {
	c := j.total
	for i := range j.members {
		if conn := j.members[i].session.conn; conn != nil {
			c.Bytes += conn.BytesIn + conn.BytesOut
		}
	}
	return c
}

func (j *group) stop(answer reply) {
	j.running, j.due = false, nil
	j.finished = answer
	j.loop.After(drainTimeout, func() {
		if j.finished != nil {
			c := j.total
			j.complaints.add(fmt.Sprintf("after %v: %d sent, %d acknowledged, %d received by all of %d sessions", drainTimeout, c.Sent, c.Acked, c.Complete, len(j.members)))
			j.finish()
		}
	})
	j.check()
}

// check answers whoever waits for the end, once everybody has everything.
func (j *group) check() {
	if j.finished != nil && j.total.Acked == j.total.Sent && j.total.Complete == j.total.Sent {
		j.finish()
	}
}

func (j *group) finish() {
	answer := j.finished
	j.finished = nil
	answer(j.complaints, nil)
}

// tick makes due what the open loop's timetable says.
func (j *group) tick() {
	for j.running {
		due := j.started + time.Duration(float64(j.ticks)/j.plan.Rate*float64(time.Second))
		if due > j.loop.now {
			j.loop.At(max(due, j.loop.now+openLoopGrain), j.tick)
			return
		}
		j.due = append(j.due, due)
		j.ticks++
		j.fill()
	}
}

// fill sends what the window allows.
func (j *group) fill() {
	owner := j.members[0].session
	for j.running && owner.alive() && j.total.Sent-min(j.total.Acked, j.total.Complete) < uint64(j.plan.Window) {
		moment := j.loop.now
		if j.plan.Rate > 0 {
			if len(j.due) == 0 {
				return
			}
			moment, j.due = j.due[0], j.due[1:]
		}
		j.counter++
		j.total.Sent++
		j.way[j.total.Sent%groupWindowMax] = onItsWay{moment, len(j.members) - 1}
		j.text = j.texts.Append(j.text[:0], 0, j.total.Sent)
		out := owner.output()
		*out = wire.AppendSend(*out, &wire.Send{Correlation: j.counter, Ref: j.ref, Counter: j.counter, Content: wire.Content{Bytes: j.text}})
	}
}

// report has a part of the members tell how far they have read.
func (j *group) report() {
	for i := 1 + j.sweep; i < len(j.members); i += cursorSweeps {
		m := &j.members[i]
		if m.last <= m.told || !m.session.alive() {
			continue
		}
		j.total.Cursors++
		j.total.Moved += m.last - m.told
		m.told = m.last
		out := m.session.output()
		*out = wire.AppendCursor(*out, &wire.Cursor{Ref: j.ref, Position: m.last, Kind: wire.Read})
	}
	j.sweep = (j.sweep + 1) % cursorSweeps
	j.loop.After(cursorInterval/cursorSweeps, j.report)
}
