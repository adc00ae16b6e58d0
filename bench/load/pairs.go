//go:build linux

package load

import (
	"encoding/json"
	"fmt"
	"time"

	"parley/wire"
)

// A Pair is two accounts; the first writes to the second.
type Pair struct {
	Sender   Account `json:"sender"`
	Receiver Account `json:"receiver"`
}

// A PairsPlan says what the job "pairs" does. Its requests: connect; go (a GoPlan); mark begins
// what is measured; measured ends it and gives a PairsResult; counts gives Counts at any time; stop
// sends no more and answers with Complaints when all is acknowledged, delivered and receipted;
// resume measures two reconnections and gives a ResumeResult.
type PairsPlan struct {
	Target Target `json:"target"`
	// Nodes are those of a cluster, in place of Target: the sender of pair i is at node i, counted
	// around, and the receiver at another one.
	Nodes     []Target `json:"nodes,omitempty"`
	Pairs     []Pair   `json:"pairs"`
	Window    int      `json:"window"`     // messages on their way in each pair
	ByReceipt bool     `json:"by_receipt"` // a message is on its way until its receipt has come, not its SENT
	Bytes     int      `json:"bytes"`      // of a text
	Rate      float64  `json:"rate"`       // messages a second of all pairs, at fixed moments; 0: closed loop
	Seed      uint64   `json:"seed"`
	Single    bool     `json:"single"` // each frame in a WebSocket message of its own
}

// A GoPlan bounds what each pair sends.
type GoPlan struct {
	Messages uint64 `json:"messages"` // of each pair, all in all; 0: until stop. With a bound, the answer comes at the end
}

// Counts are totals since the job began.
type Counts struct {
	Sent      uint64 `json:"sent"`
	Acked     uint64 `json:"acked"`
	Delivered uint64 `json:"delivered"`
	Receipted uint64 `json:"receipted"` // messages that a receipt covers
	Cursors   uint64 `json:"cursors"`   // CURSOR frames
	Receipts  uint64 `json:"receipts"`  // RECEIPT frames
	Heads     uint64 `json:"heads"`     // HEAD frames
	Bytes     uint64 `json:"bytes"`     // on all sockets, both ways
	Reads     uint64 `json:"reads"`
	Writes    uint64 `json:"writes"`
}

// A PairsResult is what was seen between mark and measured.
type PairsResult struct {
	Counts     Counts     `json:"counts"` // at the end
	Ack        *Latency   `json:"ack"`
	Deliver    *Latency   `json:"deliver"`
	Receipt    *Latency   `json:"receipt"`
	Complaints Complaints `json:"complaints"`
}

// A ResumeResult is what it took to come back with nothing changed.
type ResumeResult struct {
	Bytes          uint64 `json:"bytes"` // both ways, WebSocket headers included
	HandshakeBytes uint64 `json:"handshake_bytes"`
}

const (
	// momentsKept is how far receipts may stay behind sends; a pair waits beyond it.
	momentsKept = 1024
	// drainTimeout is how long the last messages may take.
	drainTimeout = 15 * time.Second
	// openLoopGrain is the least time between two wake-ups of an open loop.
	openLoopGrain = 200 * time.Microsecond
)

// pair is the state of one direction of a direct conversation.
type pair struct {
	sender, receiver *session
	base             uint64 // the conversation's head before
	sent             uint64 // counters of this outbox: 1, 2, 3, …
	acked            uint64
	delivered        uint64
	receipted        uint64
	owes             bool // the receiver has a cursor to return
	opened           bool // the receiver knows of the conversation
	moments          [momentsKept]time.Duration
	due              []time.Duration // open loop: not sent yet
}

// pairs is the job. Sessions 2i and 2i+1 are the sides of pair i.
type pairs struct {
	loop  *Loop
	plan  PairsPlan
	texts *Texts
	pairs []*pair

	total                 Counts
	complaints            Complaints
	ack, deliver, receipt recorder
	lives                 int
	unopened              int // pairs
	running               bool
	limit                 uint64
	started               time.Duration
	ticks                 uint64 // open loop: messages that have become due
	text                  []byte

	connected reply
	finished  reply
	resumed   *resumption
}

func newPairs(l *Loop, plan json.RawMessage) (job, error) {
	j := &pairs{loop: l}
	if err := json.Unmarshal(plan, &j.plan); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrRequest, err)
	}
	if len(j.plan.Pairs) == 0 || j.plan.Window < 1 || j.plan.Window > wire.DedupWindow {
		return nil, fmt.Errorf("%w: %d pairs, window %d (1 to %d)", ErrRequest, len(j.plan.Pairs), j.plan.Window, wire.DedupWindow)
	}
	j.texts = NewTexts(j.plan.Bytes, j.plan.Seed)
	j.reset()
	var sessions []*session
	for i, p := range j.plan.Pairs {
		from, to := j.plan.targets(i)
		both := [2]*session{newSession(l, from, p.Sender, j), newSession(l, to, p.Receiver, j)}
		for side, s := range both {
			s.index, s.syncs, s.single = 2*i+side, true, j.plan.Single
		}
		sessions = append(sessions, both[:]...)
		j.pairs = append(j.pairs, &pair{sender: both[0], receiver: both[1], opened: len(j.plan.Nodes) < 2})
	}
	j.unopened = len(j.pairs)
	beat(l, sessions)
	return j, nil
}

// targets are where the sides of a pair connect. All pairs of different nodes come up equally often.
func (p *PairsPlan) targets(pair int) (sender, receiver Target) {
	n := len(p.Nodes)
	switch n {
	case 0:
		return p.Target, p.Target
	case 1:
		return p.Nodes[0], p.Nodes[0]
	}
	from := pair % n
	distance := 1 + pair/n%(n-1)
	return p.Nodes[from], p.Nodes[(from+distance)%n]
}

func (j *pairs) reset() { j.ack, j.deliver, j.receipt = newRecorder(), newRecorder(), newRecorder() }

func (j *pairs) do(what string, plan json.RawMessage, answer reply) {
	switch what {
	case "connect":
		j.connected = answer
		j.connect()
	case "go":
		j.begin(plan, answer)
	case "mark":
		j.reset()
		answer(j.counts(), nil)
	case "measured":
		answer(PairsResult{j.counts(), j.ack.latency(), j.deliver.latency(), j.receipt.latency(), j.complaints}, nil)
	case "counts":
		answer(j.counts(), nil)
	case "stop":
		j.stop(answer)
	case "resume":
		j.resume(answer)
	default:
		answer(nil, fmt.Errorf("%w: %s", ErrRequest, what))
	}
}

func (j *pairs) connect() {
	for _, p := range j.pairs {
		for _, s := range [2]*session{p.sender, p.receiver} {
			if err := s.dial(); err != nil {
				j.closed(s, err)
				return
			}
		}
	}
}

// counts adds up what the sockets have seen.
func (j *pairs) counts() Counts {
	c := j.total
	for _, p := range j.pairs {
		for _, s := range [2]*session{p.sender, p.receiver} {
			if s.conn != nil {
				c.Bytes += s.conn.BytesIn + s.conn.BytesOut
				c.Reads += s.conn.Reads
				c.Writes += s.conn.Writes
			}
		}
	}
	return c
}

func (j *pairs) begin(plan json.RawMessage, answer reply) {
	var g GoPlan
	if err := json.Unmarshal(plan, &g); err != nil {
		answer(nil, fmt.Errorf("%w: %w", ErrRequest, err))
		return
	}
	j.running, j.limit, j.started, j.ticks = true, g.Messages, j.loop.tick(), 0
	if g.Messages > 0 {
		j.finished = answer
	} else {
		answer(nil, nil)
	}
	if j.plan.Rate > 0 {
		j.tick()
		return
	}
	for _, p := range j.pairs {
		j.fill(p)
	}
}

// stop lets what is on its way arrive.
func (j *pairs) stop(answer reply) {
	j.running = false
	for _, p := range j.pairs {
		p.due = nil
	}
	j.finished = answer
	j.loop.After(drainTimeout, func() {
		if j.finished == nil {
			return
		}
		c := j.total
		j.complaints.add(fmt.Sprintf("after %v: %d sent, %d acknowledged, %d delivered, %d receipted",
			drainTimeout, c.Sent, c.Acked, c.Delivered, c.Receipted))
		j.finish()
	})
	j.check()
}

// check answers whoever waits for the end, once everything sent has come all the way.
func (j *pairs) check() {
	c := &j.total
	if j.finished == nil || c.Acked != c.Sent || c.Delivered != c.Sent || c.Receipted != c.Sent {
		return
	}
	if !j.running || j.limit > 0 && c.Sent == j.limit*uint64(len(j.pairs)) {
		j.finish()
	}
}

func (j *pairs) finish() {
	j.running = false
	answer := j.finished
	j.finished = nil
	answer(j.complaints, nil)
}

// tick makes due what the open loop's timetable says.
func (j *pairs) tick() {
	if !j.running {
		return
	}
	for {
		due := j.started + time.Duration(float64(j.ticks)/j.plan.Rate*float64(time.Second))
		if due > j.loop.now {
			j.loop.At(max(due, j.loop.now+openLoopGrain), j.tick)
			return
		}
		p := j.pairs[j.ticks%uint64(len(j.pairs))]
		p.due = append(p.due, due)
		j.fill(p)
		j.ticks++
	}
}

// fill sends what the window allows.
func (j *pairs) fill(p *pair) {
	for j.running && p.sender.alive() {
		behind := p.acked
		if j.plan.ByReceipt {
			behind = min(behind, p.receipted)
		}
		if !p.opened && p.sent > 0 || p.sent-behind >= uint64(j.plan.Window) || p.sent-p.receipted >= momentsKept || j.limit > 0 && p.sent == j.limit {
			return
		}
		moment := j.loop.now
		if j.plan.Rate > 0 {
			if len(p.due) == 0 {
				return
			}
			moment, p.due = p.due[0], p.due[1:]
		}
		p.sent++
		j.total.Sent++
		p.moments[p.sent%momentsKept] = moment
		j.text = j.texts.Append(j.text[:0], uint64(p.sender.index), p.sent)
		out := p.sender.output()
		*out = wire.AppendSend(*out, &wire.Send{Correlation: p.sent, Ref: wire.DirectRef(p.receiver.account.User),
			Counter: p.sent, Content: wire.Content{Bytes: j.text}})
	}
}
