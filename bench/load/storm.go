//go:build linux

package load

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"time"

	"parley/wire"
)

// A StormPlan says what the job "storm" does: hold sessions at the nodes of a cluster, and let those
// whose connection ends come back at another node, with the ticket and the sync token that they have.
// Its requests: connect answers when all sessions have synced; mark is the moment from which the time
// until they are back counts; counts gives a StormResult.
type StormPlan struct {
	Nodes    []Target  `json:"nodes"`
	Accounts []Account `json:"accounts"`
	AtOnce   int       `json:"at_once"` // connections that are being opened at a time
}

// A StormResult is how the sessions are.
type StormResult struct {
	Live       int        `json:"live"`
	Ended      uint64     `json:"ended"`   // connections, since the mark
	Retried    uint64     `json:"retried"` // of them, attempts to come back
	Back       *Latency   `json:"back"`    // mark until a session that ended has synced again
	Complaints Complaints `json:"complaints"`
}

// Who has lost its node waits for a moment, as clients do, so that not all come at once.
const (
	stormDelayMin = 20 * time.Millisecond
	stormDelayMax = 500 * time.Millisecond
)

// storm is the job.
type storm struct {
	loop     *Loop
	plan     StormPlan
	sessions []*session
	nodes    []int // of each session
	next     int   // of sessions, to be dialled for the first time
	opened   int   // sessions that have been live
	marked   time.Duration
	lost     []bool // since the mark
	result   StormResult
	back     recorder
	waiting  reply
}

func newStorm(l *Loop, plan json.RawMessage) (job, error) {
	j := &storm{loop: l, back: newRecorder()}
	if err := json.Unmarshal(plan, &j.plan); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrRequest, err)
	}
	if len(j.plan.Accounts) == 0 || len(j.plan.Nodes) < 2 || j.plan.AtOnce < 1 {
		return nil, fmt.Errorf("%w: %d sessions at %d nodes, %d at once", ErrRequest, len(j.plan.Accounts), len(j.plan.Nodes), j.plan.AtOnce)
	}
	for i, a := range j.plan.Accounts {
		node := i % len(j.plan.Nodes)
		s := newSession(l, j.plan.Nodes[node], a, j)
		s.index, s.syncs = i, true
		j.sessions, j.nodes = append(j.sessions, s), append(j.nodes, node)
	}
	j.lost = make([]bool, len(j.sessions))
	beat(l, j.sessions)
	return j, nil
}

func (j *storm) do(what string, _ json.RawMessage, answer reply) {
	switch what {
	case "connect":
		j.waiting = answer
		j.advance()
	case "mark":
		j.marked, j.back, j.result.Ended, j.result.Retried = j.loop.tick(), newRecorder(), 0, 0
		clear(j.lost)
		answer(nil, nil)
	case "counts":
		answer(j.counts(), nil)
	default:
		answer(nil, fmt.Errorf("%w: %s", ErrRequest, what))
	}
}

func (j *storm) counts() StormResult {
	r := j.result
	r.Back = j.back.latency()
	for _, s := range j.sessions {
		if s.alive() {
			r.Live++
		}
	}
	return r
}

// advance opens the connections of the beginning, and answers when all sessions are live.
func (j *storm) advance() {
	for ; j.next < len(j.sessions) && j.next-j.opened < j.plan.AtOnce; j.next++ {
		j.dial(j.sessions[j.next])
	}
	if j.waiting != nil && j.opened == len(j.sessions) {
		answer := j.waiting
		j.waiting = nil
		answer(j.counts(), nil)
	}
}

func (j *storm) dial(s *session) {
	if err := s.dial(); err != nil {
		j.redial(s)
	}
}

// redial turns to the next node after a while.
func (j *storm) redial(s *session) {
	j.result.Retried++
	j.nodes[s.index] = (j.nodes[s.index] + 1) % len(j.plan.Nodes)
	s.target = j.plan.Nodes[j.nodes[s.index]]
	j.loop.After(stormDelayMin+rand.N(stormDelayMax-stormDelayMin), func() { j.dial(s) })
}

func (j *storm) live(s *session) {
	if j.lost[s.index] {
		j.lost[s.index] = false
		j.back.record(j.loop.now - j.marked)
	}
	if j.opened < len(j.sessions) {
		j.opened++
		j.advance()
	}
}

func (j *storm) closed(s *session, err error) {
	if j.opened < len(j.sessions) {
		j.result.Complaints.add(fmt.Sprintf("user %v: %v", s.account.User, err))
	} else if !j.lost[s.index] {
		j.result.Ended++
		j.lost[s.index] = true
	}
	j.redial(s)
}

func (j *storm) frame(s *session, f wire.Frame) {
	if f.Type != wire.TypeGoAway {
		j.result.Complaints.add(fmt.Sprintf("user %v: %v is not expected here", s.account.User, f.Type))
	}
}

func (j *storm) conversation(*session, *wire.ConversationState) {}

func (j *storm) done(*session) {}
