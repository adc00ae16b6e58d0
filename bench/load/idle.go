//go:build linux

package load

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"time"

	"parley/wire"
)

// An IdlePlan says what the job "idle" does: hold sessions that only send heartbeats. Its requests:
// connect (a ConnectPlan) answers with an IdleResult when every session has its WELCOME; sync, when
// every session has its CONVERSATIONS; close, when all are closed; counts gives an IdleResult.
type IdlePlan struct {
	Target   Target    `json:"target"`
	Accounts []Account `json:"accounts"`
	AtOnce   int       `json:"at_once"` // connections that are being opened at a time
}

// A ConnectPlan says what the sessions show.
type ConnectPlan struct {
	Tickets bool `json:"tickets"` // those of the last time, instead of tokens
}

// An IdleResult is how the sessions are.
type IdleResult struct {
	Live       int        `json:"live"`
	Synced     int        `json:"synced"`
	Pongs      uint64     `json:"pongs"`
	Connect    *Latency   `json:"connect"` // dial to WELCOME
	Complaints Complaints `json:"complaints"`
}

// portsEach is how many sessions use one source address: fewer than the even ones of the ports that
// Linux gives out, 28,232. It looks at all of those before each odd one, so connects beyond are slow.
const portsEach = 14_000

// idle is the job.
type idle struct {
	loop     *Loop
	plan     IdlePlan
	sessions []*session

	next       int // the session to dial, or to sync, next
	welcomed   int
	synced     int
	syncing    bool
	tickets    bool
	connect    recorder
	complaints Complaints
	waiting    reply
}

func newIdle(l *Loop, plan json.RawMessage) (job, error) {
	j := &idle{loop: l, connect: newRecorder()}
	if err := json.Unmarshal(plan, &j.plan); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrRequest, err)
	}
	if len(j.plan.Accounts) == 0 || j.plan.AtOnce < 1 {
		return nil, fmt.Errorf("%w: %d sessions, %d at once", ErrRequest, len(j.plan.Accounts), j.plan.AtOnce)
	}
	for i, a := range j.plan.Accounts {
		t := j.plan.Target
		if i >= portsEach {
			t.Source = loopback(i / portsEach)
		}
		j.sessions = append(j.sessions, newSession(l, t, a, j))
	}
	beat(l, j.sessions)
	return j, nil
}

// loopback is 127.0.0.1 plus n: each has ports of its own.
func loopback(n int) netip.Addr {
	return netip.AddrFrom4([4]byte{127, 0, byte((n + 1) >> 8), byte(n + 1)})
}

func (j *idle) do(what string, plan json.RawMessage, answer reply) {
	var c ConnectPlan
	switch what {
	case "connect":
		if err := json.Unmarshal(plan, &c); err != nil {
			answer(nil, fmt.Errorf("%w: %w", ErrRequest, err))
			return
		}
		j.tickets, j.waiting = c.Tickets, answer
		j.next, j.welcomed, j.synced, j.syncing, j.connect = 0, 0, 0, false, newRecorder()
		j.advance()
	case "sync":
		j.next, j.syncing, j.waiting = 0, true, answer
		j.advance()
	case "close":
		for _, s := range j.sessions {
			if s.conn != nil {
				s.conn.Abort()
			}
		}
		answer(j.result(), nil)
	case "counts":
		answer(j.result(), nil)
	default:
		answer(nil, fmt.Errorf("%w: %s", ErrRequest, what))
	}
}

func (j *idle) result() IdleResult {
	r := IdleResult{Connect: j.connect.latency(), Complaints: j.complaints}
	for _, s := range j.sessions {
		r.Pongs += s.pongs
		if s.conn != nil && s.conn.Alive() && s.welcomed {
			r.Live++
			if s.synced {
				r.Synced++
			}
		}
	}
	return r
}

// advance keeps AtOnce sessions connecting or syncing, and answers when all have.
func (j *idle) advance() {
	done := j.welcomed
	if j.syncing {
		done = j.synced
	}
	for j.waiting != nil && j.next < len(j.sessions) && j.next-done < j.plan.AtOnce {
		s := j.sessions[j.next]
		j.next++
		if j.syncing {
			s.sync()
			continue
		}
		if !j.tickets {
			s.ticket = nil
		}
		if err := s.dial(); err != nil {
			j.fail(err)
			return
		}
	}
	if j.waiting != nil && done == len(j.sessions) {
		answer := j.waiting
		j.waiting = nil
		answer(j.result(), nil)
	}
}

func (j *idle) fail(err error) {
	j.complaints.add(err.Error())
	if answer := j.waiting; answer != nil {
		j.waiting = nil
		answer(nil, err)
	}
}

// live counts a WELCOME, or the end of a SYNC.
func (j *idle) live(s *session) {
	if s.synced {
		j.synced++
	} else {
		j.welcomed++
		j.connect.record(j.loop.now - s.dialed)
	}
	j.advance()
}

func (j *idle) closed(s *session, err error) {
	j.fail(fmt.Errorf("user %v after %v: %w", s.account.User, (j.loop.now - s.dialed).Round(time.Millisecond), err))
}

func (j *idle) conversation(*session, *wire.ConversationState) {}

func (j *idle) done(*session) {}

func (j *idle) frame(s *session, f wire.Frame) {
	if f.Type == wire.TypeError {
		if e, err := wire.ParseError(f); err == nil {
			j.fail(fmt.Errorf("user %v: %w", s.account.User, e))
			return
		}
	}
	j.complaints.add(fmt.Sprintf("user %v: %v is not expected here", s.account.User, f.Type))
}
