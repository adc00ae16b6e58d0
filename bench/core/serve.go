//go:build linux

package core

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"parley/bench/load"
)

// lineBytesMax bounds a request: a plan.
const lineBytesMax = 1 << 20

// Serve runs the core: requests come as lines of JSON from in, one at a time, and answers go to
// out. "open" takes a Plan and starts the nodes; "go" starts the messages; "mark" begins what
// is measured and may name a Profile; "measured" ends it; "counts" gives Counts at any time;
// "stop" lets everything arrive and compares the replicas; "close" stops the nodes, after which
// their folders are complete. Serve returns when in ends.
func Serve(ctx context.Context, in io.Reader, out io.Writer) error {
	var c conductor
	lines := bufio.NewScanner(in)
	lines.Buffer(nil, lineBytesMax)
	for lines.Scan() {
		var q load.Request
		if err := json.Unmarshal(lines.Bytes(), &q); err != nil {
			return errors.Join(fmt.Errorf("core: read a request: %w", err), c.close())
		}
		a := load.Response{ID: q.ID}
		result, err := c.do(ctx, &q)
		if err == nil {
			a.Result, err = json.Marshal(result)
		}
		if err != nil {
			a.Error = err.Error()
		}
		line, err := json.Marshal(&a)
		if err == nil {
			_, err = out.Write(append(line, '\n'))
		}
		if err != nil {
			return errors.Join(fmt.Errorf("core: answer: %w", err), c.close())
		}
	}
	return errors.Join(lines.Err(), c.close())
}

// A Profile is what "mark" may carry.
type Profile struct {
	File string `json:"file"` // of a CPU profile, up to "measured"; empty: none
}

// conductor does what the requests say.
type conductor struct{ run *run }

func (c *conductor) do(ctx context.Context, q *load.Request) (result any, err error) {
	if q.Do == "open" && c.run == nil {
		var p Plan
		if err := json.Unmarshal(q.Plan, &p); err != nil {
			return nil, fmt.Errorf("core: plan: %w", err)
		}
		if c.run, err = open(ctx, p); err != nil {
			return nil, err
		}
		return Opened{Led: c.run.cluster.led()}, nil
	}
	if c.run == nil {
		return nil, fmt.Errorf("core: %q while nothing runs", q.Do)
	}
	switch q.Do {
	case "go":
		c.run.begin()
		return nil, nil
	case "mark":
		var p Profile
		if err := json.Unmarshal(q.Plan, &p); err != nil {
			return nil, fmt.Errorf("core: profile: %w", err)
		}
		return c.run.mark(p.File)
	case "measured":
		return c.run.measured()
	case "counts":
		return c.run.counts(), c.run.err()
	case "stop":
		return c.run.end(ctx)
	case "close":
		return nil, c.close()
	}
	return nil, fmt.Errorf("core: unknown request %q", q.Do)
}

// close stops what runs.
func (c *conductor) close() error {
	if c.run == nil {
		return nil
	}
	r := c.run
	c.run = nil
	return r.close()
}
