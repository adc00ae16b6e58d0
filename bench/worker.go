//go:build linux

package bench

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"sync"

	"parley/bench/load"
)

// errWorker reports a load process that ended or answered with an error.
var errWorker = errors.New("bench: the load process")

// answerBytesMax bounds a line of the load process.
const answerBytesMax = 64 << 20

// A worker is a process that a scenario conducts: this program again, with a hidden command. It
// applies load, or it is the core that is measured.
type worker struct {
	command *exec.Cmd
	in      io.WriteCloser

	mu      sync.Mutex
	next    uint64
	waiting map[uint64]chan load.Response
	ended   bool
	exited  chan struct{}
}

// startWorker runs the hidden command of a role.
func startWorker(role string, stderr io.Writer) (*worker, error) {
	program, err := os.Executable()
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errWorker, err)
	}
	w := &worker{command: exec.Command(program, "bench", role), waiting: map[uint64]chan load.Response{}, exited: make(chan struct{})}
	w.command.SysProcAttr = childAttributes()
	w.command.Stderr = stderr
	in, inErr := w.command.StdinPipe()
	out, outErr := w.command.StdoutPipe()
	if err := errors.Join(inErr, outErr); err != nil {
		return nil, fmt.Errorf("%w: %w", errWorker, err)
	}
	w.in = in
	if err := w.command.Start(); err != nil {
		return nil, fmt.Errorf("%w: %w", errWorker, err)
	}
	go w.listen(out)
	return w, nil
}

func (w *worker) pid() int { return w.command.Process.Pid }

// listen hands out the answers until the process ends.
func (w *worker) listen(out io.Reader) {
	defer close(w.exited)
	lines := bufio.NewScanner(out)
	lines.Buffer(nil, answerBytesMax)
	for lines.Scan() {
		var r load.Response
		if err := json.Unmarshal(lines.Bytes(), &r); err != nil {
			break
		}
		w.mu.Lock()
		c := w.waiting[r.ID]
		delete(w.waiting, r.ID)
		w.mu.Unlock()
		if c != nil {
			c <- r
		}
	}
	w.mu.Lock()
	w.ended = true
	for _, c := range w.waiting {
		close(c)
	}
	clear(w.waiting)
	w.mu.Unlock()
	_ = w.command.Wait() // how it ended is not news: whoever waited has heard
}

// ask sends a request and waits for its answer. Several may be on their way.
func (w *worker) ask(ctx context.Context, do string, plan, result any) error {
	raw, err := json.Marshal(plan)
	if err != nil {
		return fmt.Errorf("%w: %s: %w", errWorker, do, err)
	}
	c, err := w.send(do, raw)
	if err != nil {
		return err
	}
	select {
	case r, ok := <-c:
		if !ok {
			return fmt.Errorf("%w ended at %s", errWorker, do)
		}
		if r.Error != "" {
			return fmt.Errorf("%w: %s: %s", errWorker, do, r.Error)
		}
		if result == nil {
			return nil
		}
		return json.Unmarshal(r.Result, result)
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

func (w *worker) send(do string, plan json.RawMessage) (chan load.Response, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.ended {
		return nil, fmt.Errorf("%w has ended before %s", errWorker, do)
	}
	w.next++
	line, err := json.Marshal(load.Request{ID: w.next, Do: do, Plan: plan})
	if err != nil {
		return nil, fmt.Errorf("%w: %s: %w", errWorker, do, err)
	}
	c := make(chan load.Response, 1)
	w.waiting[w.next] = c
	if _, err := w.in.Write(append(line, '\n')); err != nil {
		return nil, fmt.Errorf("%w: %s: %w", errWorker, do, err)
	}
	return c, nil
}

// job begins a job.
func (w *worker) job(ctx context.Context, kind string, plan any) error {
	raw, err := json.Marshal(plan)
	if err != nil {
		return fmt.Errorf("%w: %w", errWorker, err)
	}
	return w.ask(ctx, "job", load.JobPlan{Kind: kind, Plan: raw}, nil)
}

// stop ends the process, and its connections with it.
func (w *worker) stop() {
	_ = w.in.Close() // the process ends with its input, whether or not the pipe still stands
	<-w.exited
}
