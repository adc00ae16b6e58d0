//go:build linux

package load

import (
	"bytes"
	"encoding/json"
	"fmt"
	"time"

	"parley/wire"
)

// A SyncPlan says what the job "sync" does: one user with many conversations, whose device asks again
// and again what has changed. Its requests: connect opens the session and writes a message in each
// conversation, and answers when all are acknowledged; change writes in some of them (a
// ChangePlan); sync asks so many times (a SyncRounds) and gives a SyncResult.
type SyncPlan struct {
	Target Target    `json:"target"`
	User   Account   `json:"user"`
	Others []wire.ID `json:"others"` // one conversation with each
	Bytes  int       `json:"bytes"`  // of a text
	Seed   uint64    `json:"seed"`
}

// A ChangePlan says how many conversations get another message.
type ChangePlan struct {
	Conversations int `json:"conversations"`
}

// SyncRounds says what to ask, and how often.
type SyncRounds struct {
	Rounds   int    `json:"rounds"`
	Token    []byte `json:"token"` // none: everything has changed
	Previews uint64 `json:"previews"`
}

// A SyncResult is what the answers were like.
type SyncResult struct {
	Conversations uint64   `json:"conversations"` // of all rounds
	Frames        uint64   `json:"frames"`        // CONVERSATIONS: pages
	Bytes         uint64   `json:"bytes"`         // both ways, WebSocket headers included
	Time          *Latency `json:"time"`          // of a round
	Token         []byte   `json:"token"`         // the last one
}

// syncJob is the job.
type syncJob struct {
	loop    *Loop
	plan    SyncPlan
	texts   *Texts
	session *session
	sent    uint64
	acked   uint64
	next    int      // the conversation to write in next
	until   int      // and where to stop
	counts  []uint64 // of messages, by conversation
	text    []byte

	rounds  SyncRounds
	left    int
	token   []byte // of the round's next page
	began   time.Duration
	bytes   uint64 // of the socket before
	result  SyncResult
	taken   recorder
	waiting reply
}

// writesAtOnce is how many messages are on their way.
const writesAtOnce = 64

func newSync(l *Loop, plan json.RawMessage) (job, error) {
	j := &syncJob{loop: l}
	if err := json.Unmarshal(plan, &j.plan); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrRequest, err)
	}
	if len(j.plan.Others) == 0 {
		return nil, fmt.Errorf("%w: no conversations", ErrRequest)
	}
	j.texts = NewTexts(j.plan.Bytes, j.plan.Seed)
	j.counts = make([]uint64, len(j.plan.Others))
	j.session = newSession(l, j.plan.Target, j.plan.User, j)
	j.session.syncs = true
	beat(l, []*session{j.session})
	return j, nil
}

func (j *syncJob) do(what string, plan json.RawMessage, answer reply) {
	switch what {
	case "connect":
		j.waiting = answer
		j.until = len(j.plan.Others)
		if err := j.session.dial(); err != nil {
			j.fail(err)
		}
	case "change":
		var p ChangePlan
		if err := json.Unmarshal(plan, &p); err != nil || p.Conversations < 1 || p.Conversations > len(j.plan.Others) {
			answer(nil, fmt.Errorf("%w: %d conversations changed", ErrRequest, p.Conversations))
			return
		}
		j.waiting, j.next, j.until = answer, 0, p.Conversations
		j.write()
	case "sync":
		j.rounds = SyncRounds{}
		if err := json.Unmarshal(plan, &j.rounds); err != nil || j.rounds.Rounds < 1 {
			answer(nil, fmt.Errorf("%w: %d rounds", ErrRequest, j.rounds.Rounds))
			return
		}
		j.waiting, j.left, j.result, j.taken = answer, j.rounds.Rounds, SyncResult{}, newRecorder()
		j.bytes = j.session.conn.BytesIn + j.session.conn.BytesOut
		j.begin()
	default:
		answer(nil, fmt.Errorf("%w: %s", ErrRequest, what))
	}
}

func (j *syncJob) fail(err error) {
	if answer := j.waiting; answer != nil {
		j.waiting = nil
		answer(nil, err)
	}
}

func (j *syncJob) finish(result any) {
	answer := j.waiting
	j.waiting = nil
	answer(result, nil)
}

// write keeps some messages on their way.
func (j *syncJob) write() {
	for j.next < j.until && j.sent-j.acked < writesAtOnce {
		i := j.next
		j.next++
		j.counts[i]++
		j.sent++
		j.text = j.texts.Append(j.text[:0], uint64(i), j.counts[i])
		out := j.session.output()
		*out = wire.AppendSend(*out, &wire.Send{Correlation: j.sent, Ref: wire.DirectRef(j.plan.Others[i]), Counter: j.counts[i], Content: wire.Content{Bytes: j.text}})
	}
}

// begin starts a round.
func (j *syncJob) begin() {
	j.token, j.began = j.rounds.Token, j.loop.tick()
	j.ask()
}

func (j *syncJob) ask() {
	out := j.session.output()
	*out = wire.AppendSync(*out, &wire.Sync{Correlation: 1, Token: j.token, Previews: j.rounds.Previews})
}

// live is called once, after the session's own SYNC.
func (j *syncJob) live(*session) { j.write() }

func (j *syncJob) conversation(*session, *wire.ConversationState) {}

func (j *syncJob) closed(_ *session, err error) { j.fail(err) }

func (j *syncJob) frame(_ *session, f wire.Frame) {
	switch f.Type {
	case wire.TypeSent:
		j.acked++
		if j.acked == j.sent && j.next == j.until {
			j.finish(nil)
		}
	case wire.TypeError:
		e, err := wire.ParseError(f)
		if err == nil {
			err = e
		}
		j.fail(err)
	case wire.TypeHead, wire.TypeReceipt, wire.TypeMessage:
	default:
		j.fail(fmt.Errorf("%v is not expected here", f.Type))
	}
}

// page takes an answer to a SYNC of a round.
func (j *syncJob) page(c *wire.Conversations) {
	if j.left == 0 {
		return
	}
	j.result.Frames++
	j.result.Conversations += uint64(len(c.Items))
	if len(c.Token) > 0 {
		j.token = bytes.Clone(c.Token)
	}
	if c.Flags&wire.SyncMore != 0 {
		j.ask()
		return
	}
	j.taken.record(j.loop.tick() - j.began)
	if j.left--; j.left > 0 {
		j.begin()
		return
	}
	j.result.Bytes = j.session.conn.BytesIn + j.session.conn.BytesOut - j.bytes
	j.result.Time, j.result.Token = j.taken.latency(), j.token
	j.finish(j.result)
}

func (j *syncJob) done(*session) { j.write() }
