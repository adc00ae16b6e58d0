package cluster

import (
	"fmt"
	"slices"
)

// Action is what the leader of a group does next to bring its replicas where they belong.
type Action uint8

// Actions. All but Done and Wait are one call of the group; after it, Walk is asked again.
const (
	// Done: the group is as desired.
	Done Action = iota
	// Wait: nothing can be done now that would not cost safety; the reason says for what.
	Wait
	// AddLearner: a copy begins, without a vote.
	AddLearner
	// Promote: a learner that has caught up gets a vote.
	Promote
	// Transfer: the leader hands over, because it is to go or another should lead.
	Transfer
	// Remove: a replica leaves the configuration.
	Remove
)

var actionNames = [...]string{"done", "wait", "add learner", "promote", "transfer", "remove"}

// String is the action in words, for logs.
func (a Action) String() string {
	if int(a) < len(actionNames) {
		return actionNames[a]
	}
	return fmt.Sprintf("action %d", uint8(a))
}

// A Step is an action with the replica it is about, and why.
type Step struct {
	Action  Action
	Replica string
	Reason  string
}

// Local is what the leader of a group knows of its replicas.
type Local struct {
	// Self is the leader's own replica.
	Self string
	// Preferred is the node that should lead; 0: any.
	Preferred uint32
	// Up tells whether a replica answers.
	Up func(replica string) bool
	// CaughtUp tells whether a replica has nearly all of the log: what is missing can be
	// sent well within an election timeout.
	CaughtUp func(replica string) bool
}

// Walk tells the leader of a group the next step from what is to what is desired.
//
// New copies come first, as learners, and get their vote once they have caught up; each
// vote given is followed by a vote taken from a replica that is to go. So the number of
// voters is even, which tolerates no more losses than one fewer, only between two steps
// that are both possible when the first is made. No step leaves the replicas that answer
// without a majority. A leader that is to go hands over before its successor's voters
// change. It is a pure function of its arguments: a new leader goes on where the old one
// stopped.
func Walk(desired []Replica, actual Membership, local Local) Step {
	if len(desired) == 0 {
		return Step{Action: Wait, Reason: "nothing is desired"}
	}
	w := newWalk(desired, actual, local)
	for _, next := range []func() (Step, bool){w.forgetLearner, w.addLearner, w.removeDown, w.promote, w.removeUp, w.prefer} {
		if step, ok := next(); ok {
			return step
		}
	}
	if len(w.missing)+len(w.extra) > 0 {
		return Step{Action: Wait, Reason: w.reason}
	}
	return Step{Action: Done}
}

// walk is the situation of a group as Walk sees it.
type walk struct {
	local    Local
	desired  []string
	voters   []string
	learners []string
	missing  []string // desired, but no voters
	extra    []string // voters, but not desired
	reason   string   // what the last rule that found no step waits for
}

func newWalk(desired []Replica, actual Membership, local Local) *walk {
	w := &walk{local: local, voters: actual.Voters, learners: actual.Learners, reason: "replicas"}
	for _, r := range desired {
		w.desired = append(w.desired, r.ID)
		if !slices.Contains(w.voters, r.ID) {
			w.missing = append(w.missing, r.ID)
		}
	}
	for _, id := range w.voters {
		if !slices.Contains(w.desired, id) {
			w.extra = append(w.extra, id)
		}
	}
	return w
}

func (w *walk) up(id string) bool { return id == w.local.Self || w.local.Up(id) }

// current tells whether a replica answers and has caught up.
func (w *walk) current(id string) bool {
	return id == w.local.Self || w.local.Up(id) && w.local.CaughtUp(id)
}

// count counts the voters of which something holds.
func (w *walk) count(holds func(id string) bool) int {
	n := 0
	for _, id := range w.voters {
		if holds(id) {
			n++
		}
	}
	return n
}

// forgetLearner drops learners that are no longer wanted, such as one on a lost node for
// which another was chosen.
func (w *walk) forgetLearner() (Step, bool) {
	for _, id := range w.learners {
		if !slices.Contains(w.desired, id) {
			return Step{Remove, id, "the learner is not wanted any more"}, true
		}
	}
	return Step{}, false
}

// addLearner begins all missing copies, so that they catch up side by side.
func (w *walk) addLearner() (Step, bool) {
	for _, id := range w.missing {
		if !slices.Contains(w.learners, id) {
			return Step{AddLearner, id, "a copy is missing"}, true
		}
	}
	return Step{}, false
}

// removeDown takes the vote of a replica that is to go and does not answer, where that
// does no harm: with an even number of voters one fewer is as good as a loss repaired,
// and of two such replicas both go one after the other.
func (w *walk) removeDown() (Step, bool) {
	var down []string
	for _, id := range w.extra {
		if !w.up(id) {
			down = append(down, id)
		}
	}
	n := len(w.voters)
	switch {
	case len(down) == 0, n-1 < quorum(len(w.desired)), w.count(w.up) < quorum(n-1):
		return Step{}, false
	case n > len(w.desired), n%2 == 0, len(down) > 1 && n-2 >= quorum(len(w.desired)) && !w.canPromote():
		return Step{Remove, down[0], "it does not answer and is to go"}, true
	}
	return Step{}, false
}

// ready are the learners that could vote.
func (w *walk) ready() []string {
	var ready []string
	for _, id := range w.missing {
		if slices.Contains(w.learners, id) && w.current(id) {
			ready = append(ready, id)
		}
	}
	return ready
}

// canPromote tells whether a vote can be given now: the voters that are up to date and
// the new one are a majority, and an even number of voters will not last.
func (w *walk) canPromote() bool {
	ready, n := w.ready(), len(w.voters)
	switch {
	case len(ready) == 0:
		w.reason = "waiting for a learner to catch up"
		return false
	case w.count(w.current)+1 < quorum(n+1):
		w.reason = "waiting for voters: too few answer for one more to be safe"
		return false
	case (n+1)%2 == 0 && n+1 < len(w.desired) && len(ready) < 2:
		w.reason = "waiting for a second learner: an even number of voters should not last"
		return false
	}
	return true
}

func (w *walk) promote() (Step, bool) {
	if len(w.voters) > len(w.desired) || !w.canPromote() {
		return Step{}, false
	}
	// A leader that is to go does so while the number of voters is as before.
	if step, ok := w.handOver(); ok {
		return step, true
	}
	return Step{Promote, w.ready()[0], "the learner has caught up"}, true
}

// handOver lets a leader that is to go make way for a voter that stays.
func (w *walk) handOver() (Step, bool) {
	if !slices.Contains(w.extra, w.local.Self) {
		return Step{}, false
	}
	best := ""
	for _, id := range w.voters {
		if id == w.local.Self || !slices.Contains(w.desired, id) || !w.current(id) {
			continue
		}
		if node, _ := NodeOf(id); best == "" || node == w.local.Preferred {
			best = id
		}
	}
	if best == "" {
		return Step{}, false
	}
	return Step{Transfer, best, "the leader is to go"}, true
}

// removeUp takes the vote of a replica that is to go, once there is one for it or none is
// needed.
func (w *walk) removeUp() (Step, bool) {
	n := len(w.voters)
	if len(w.extra) == 0 || n <= len(w.desired) {
		return Step{}, false
	}
	left := w.count(w.current)
	for _, id := range w.extra {
		// One that lags is no loss: it goes first, and the majority stays as it is.
		if id != w.local.Self && !w.current(id) && left >= quorum(n-1) {
			return Step{Remove, id, "it is to go"}, true
		}
	}
	// How many losses the group can stand, now and with one up to date voter less: it may
	// become as few as the desired replicas could stand, but no fewer.
	now, then := left-quorum(n), left-1-quorum(n-1)
	if then < 0 || then < min(now, (len(w.desired)-1)/2) {
		w.reason = "waiting for voters: too few answer for one to go"
		return Step{}, false
	}
	for _, id := range w.extra {
		if id != w.local.Self {
			return Step{Remove, id, "it is to go"}, true
		}
	}
	if step, ok := w.handOver(); ok {
		return step, true
	}
	w.reason = "waiting for a voter to hand over to"
	return Step{}, false
}

// prefer lets the preferred node lead, once the group is as desired.
func (w *walk) prefer() (Step, bool) {
	if self, _ := NodeOf(w.local.Self); w.local.Preferred == 0 || self == w.local.Preferred || len(w.missing)+len(w.extra) > 0 {
		return Step{}, false
	}
	for _, id := range w.voters {
		if node, _ := NodeOf(id); node == w.local.Preferred && w.current(id) {
			return Step{Transfer, id, "it should lead"}, true
		}
	}
	return Step{}, false
}
