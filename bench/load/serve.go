//go:build linux

package load

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
)

// A Request is one line that the conducting process sends: what to do, to which job.
type Request struct {
	ID   uint64          `json:"id"`
	Do   string          `json:"do"` // "job" begins; then what the job offers
	Plan json.RawMessage `json:"plan,omitempty"`
}

// A Response is the line that answers a request, not always in the order of the requests.
type Response struct {
	ID     uint64          `json:"id"`
	Error  string          `json:"error,omitempty"`
	Result json.RawMessage `json:"result,omitempty"`
}

// A JobPlan is what the request "job" carries: the kind of job and its own plan.
type JobPlan struct {
	Kind string          `json:"kind"` // pairs, group, sync, idle, crash or storm
	Plan json.RawMessage `json:"plan"`
}

// ErrRequest reports a request that the worker does not understand.
var ErrRequest = errors.New("load: unknown request")

// A reply answers a request once; only the loop calls it.
type reply func(result any, err error)

// A job is one scenario's load. Both methods run on the loop.
type job interface {
	do(what string, plan json.RawMessage, answer reply)
}

// Serve runs the worker: requests come as lines of JSON from in, responses go to out. It
// returns when in ends.
func Serve(in io.Reader, out io.Writer) error {
	l, err := NewLoop()
	if err != nil {
		return err
	}
	w := &worker{loop: l, out: out}
	ended := make(chan error, 1)
	go func() {
		ended <- w.read(in)
		l.Post(l.Stop)
	}()
	err = l.Run()
	return errors.Join(err, l.Close(), <-ended)
}

// A worker hands requests to the job that the first one has named.
type worker struct {
	loop *Loop
	job  job
	out  io.Writer
}

// lineBytesMax bounds a request: a plan of 50,000 accounts with their tokens.
const lineBytesMax = 64 << 20

func (w *worker) read(in io.Reader) error {
	lines := bufio.NewScanner(in)
	lines.Buffer(nil, lineBytesMax)
	for lines.Scan() {
		var r Request
		if err := json.Unmarshal(lines.Bytes(), &r); err != nil {
			return fmt.Errorf("load: read a request: %w", err)
		}
		w.loop.Post(func() { w.handle(&r) })
	}
	return lines.Err()
}

func (w *worker) handle(r *Request) {
	answer := func(result any, err error) { w.answer(r.ID, result, err) }
	switch {
	case r.Do == "job":
		var err error
		w.job, err = newJob(w.loop, r.Plan)
		answer(nil, err)
	case w.job == nil:
		answer(nil, fmt.Errorf("%w: %s before a job", ErrRequest, r.Do))
	default:
		w.job.do(r.Do, r.Plan, answer)
	}
}

func newJob(l *Loop, plan json.RawMessage) (job, error) {
	var p JobPlan
	if err := json.Unmarshal(plan, &p); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrRequest, err)
	}
	switch p.Kind {
	case "pairs":
		return newPairs(l, p.Plan)
	case "crash":
		return newCrash(l, p.Plan)
	case "idle":
		return newIdle(l, p.Plan)
	case "sync":
		return newSync(l, p.Plan)
	case "group":
		return newGroup(l, p.Plan)
	case "storm":
		return newStorm(l, p.Plan)
	}
	return nil, fmt.Errorf("%w: job %q", ErrRequest, p.Kind)
}

func (w *worker) answer(id uint64, result any, err error) {
	r := Response{ID: id}
	if err != nil {
		r.Error = err.Error()
	} else if r.Result, err = json.Marshal(result); err != nil {
		r.Error = err.Error()
	}
	line, err := json.Marshal(&r)
	if err != nil {
		line = []byte(`{"error":"load: cannot be encoded"}`)
	}
	_, _ = w.out.Write(append(line, '\n')) // whoever reads is gone if this fails, and the input ends, too
}
