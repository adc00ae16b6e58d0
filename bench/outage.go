//go:build linux

package bench

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"parley/bench/load"
	"parley/engine/admin"
	"parley/wire"
)

// errOutage reports shards that do not serve again.
var errOutage = errors.New("bench: not served again")

const (
	// recoverTimeout bounds an outage.
	recoverTimeout = 30 * time.Second
	recoverPoll    = 50 * time.Millisecond
	// recoveredAcks is how many acknowledgements in a row, the last one just now, count as
	// served again: a window's worth may have been on its way before.
	recoveredAcks = 8
	recoveredMS   = 250
)

// chatter is users who write to each other all the time and send again what is refused or
// unanswered, in every shard and at every node: what the scenarios of failures watch.
type chatter struct {
	*site
	users []load.Account
	plan  load.CrashPlan
}

// newChatter makes the users, and begins.
func (s *site) newChatter(ctx context.Context, users int, plan load.CrashPlan) (*chatter, error) {
	accounts, err := s.accounts(ctx, users)
	if err != nil {
		return nil, err
	}
	plan.Nodes, plan.Users = s.targets(), accounts
	c := &chatter{site: s, users: accounts, plan: plan}
	return c, errors.Join(s.worker.job(ctx, "crash", plan), s.worker.ask(ctx, "connect", nil, nil), s.worker.ask(ctx, "go", nil, nil))
}

// A stream is one direction of a conversation.
type chatterStream struct {
	number int // among the streams of a load.MarkResult
	node   int // that its author is at
	slot   int
}

// streams lists what users write to each other.
func (c *chatter) streams() []chatterStream {
	var list []chatterStream
	n := len(c.users)
	for i, from := range c.users {
		next := (i + 1) % n
		slot := int(wire.DirectRef(c.users[next].User).Conversation(from.User).Slot())
		list = append(list, chatterStream{2 * i, i % len(c.plan.Nodes), slot}, chatterStream{2*i + 1, next % len(c.plan.Nodes), slot})
	}
	return list
}

// of selects the streams of a shard whose authors are at any node but one; -1: at any.
func (c *chatter) of(s *admin.Shard, but int) []int {
	var numbers []int
	for _, x := range c.streams() {
		if x.slot >= s.First && x.slot <= s.Last && x.node != but {
			numbers = append(numbers, x.number)
		}
	}
	return numbers
}

func (c *chatter) mark(ctx context.Context) error { return c.worker.ask(ctx, "mark", nil, nil) }

func (c *chatter) marked(ctx context.Context) (r load.MarkResult, err error) {
	return r, c.worker.ask(ctx, "marked", nil, &r)
}

// served waits until all of some streams are served again, and gives what they have seen.
func (c *chatter) served(ctx context.Context, numbers []int) (r load.MarkResult, err error) {
	for end := time.Now().Add(recoverTimeout); time.Now().Before(end); {
		if r, err = c.marked(ctx); err != nil {
			return r, err
		}
		left := slices.ContainsFunc(numbers, func(i int) bool { return r.Streams[i].Acked < recoveredAcks || r.Streams[i].Since > recoveredMS })
		if !left {
			return r, nil
		}
		if err := wait(ctx, recoverPoll); err != nil {
			return r, err
		}
	}
	return r, fmt.Errorf("%w within %v%s", errOutage, recoverTimeout, c.logTails())
}

// longest is the worst of some streams.
func longest(r *load.MarkResult, numbers []int) time.Duration {
	worst := 0.0
	for _, i := range numbers {
		worst = max(worst, r.Streams[i].Longest)
	}
	return time.Duration(worst * float64(time.Millisecond))
}

// finish lets everything arrive and reads it.
func (c *chatter) finish(ctx context.Context, r *Report) error {
	c.say("reading everything")
	var result load.CrashResult
	if err := errors.Join(c.worker.ask(ctx, "stop", nil, nil), c.worker.ask(ctx, "verify", nil, &result)); err != nil {
		return err
	}
	r.Messages, r.Resent, r.Reconnects = result.Acked, result.Resent, result.Welcomes-uint64(len(c.users))
	r.Lost, r.Doubled, r.Gaps, r.Backwards = result.Lost, result.Doubled, result.Gaps, result.Backwards
	if result.Verified != 2*result.Sent {
		result.Complaints.Errors++
		r.FirstError = fmt.Sprintf("%d messages were read by two members each, and %d were sent", result.Verified, result.Sent)
	}
	r.complain(result.Complaints)
	r.Other = r.Errors
	r.Errors += r.Lost + r.Doubled + r.Gaps
	return nil
}

// logTails are the ends of all nodes' logs, for errors.
func (s *site) logTails() string {
	text := ""
	for i, n := range s.nodes {
		text += fmt.Sprintf("\nnode %s: %s", nodeName(i), n.logTail())
	}
	return text
}

// latencyOf describes times.
func latencyOf(times []time.Duration) *load.Latency {
	if len(times) == 0 {
		return nil
	}
	sorted := slices.Sorted(slices.Values(times))
	at := func(share float64) float64 {
		i := min(int(share*float64(len(sorted))), len(sorted)-1)
		return float64(sorted[i].Microseconds()) / 1000
	}
	return &load.Latency{P50: at(0.5), P90: at(0.9), P99: at(0.99), Max: at(1)}
}
