//go:build linux

package bench

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"parley/bench/load"
)

const (
	// lifeMin and lifeMax bound how long a server lives in a cycle: the first second after a start,
	// with its replay and reconnections, is hit as often as full load.
	lifeMin = 50 * time.Millisecond
	lifeMax = 1500 * time.Millisecond
	// progressTimeout is how long a started server may take until something is acknowledged again.
	progressTimeout = 30 * time.Second
)

// errCrash reports a server that does not come back to work.
var errCrash = errors.New("bench: crash")

// crashOptions are the settings of crash.
type crashOptions struct {
	options
	cycles  int
	clients int
	window  int
	drops   int
	bytes   int
	seed    uint64
}

func newCrash() *cobra.Command {
	o := &crashOptions{}
	c := &cobra.Command{Use: "crash", Short: "Kills the server under load, again and again, and checks that nothing is lost", Args: cobra.NoArgs,
		Long: "Clients write to each other while the server is killed with SIGKILL at random moments and started again. They resume\n" +
			"with tickets, send what was not acknowledged again, and remember all that they were told. At the end every\n" +
			"conversation is read by both members, before and after one more restart in good order, and the data is checked.\n\n" +
			"errors is what was lost (told of by SENT, MESSAGE or a receipt, and not there), doubled, or missing in the sequence,\n" +
			"and everything else that a client may not see; the command fails if there are any.\n\n" +
			"A killed process loses what it has in memory, not what it gave to the kernel: this is no power failure."}
	f := c.Flags()
	f.IntVar(&o.cycles, "cycles", 20, "how often to kill")
	f.IntVar(&o.clients, "clients", 16, "how many users, each with two conversations")
	f.IntVar(&o.window, "window", 8, "how many messages a user has on their way in each conversation, at most 64")
	f.IntVar(&o.drops, "drops", 4, "how many connections to cut in each cycle while the server lives")
	f.IntVar(&o.bytes, "bytes", 64, "of each text")
	f.Uint64Var(&o.seed, "seed", 0, "of the moments and texts; 0 draws one")
	o.add(f)
	c.RunE = func(c *cobra.Command, _ []string) error {
		ctx, stop := o.begin(c)
		defer stop()
		if o.target != "" {
			return fmt.Errorf("%w: it kills its server, so it starts one: --target is not for it", errCrash)
		}
		if o.seed == 0 {
			o.seed = rand.Uint64N(1 << 32)
		}
		return o.run(ctx)
	}
	return c
}

// crashRun is the scenario with its server.
type crashRun struct {
	*crashOptions
	*site
	dice   *rand.Rand
	starts []time.Duration
}

func (o *crashOptions) run(ctx context.Context) (err error) {
	s, err := o.open(ctx, "crash")
	if err != nil {
		return err
	}
	defer func() {
		o.keep = o.keep || err != nil // what went wrong can be looked at
		err = errors.Join(err, s.close())
	}()
	r, err := s.report(map[string]string{"cycles": strconv.Itoa(o.cycles), "clients": strconv.Itoa(o.clients), "window": strconv.Itoa(o.window),
		"drops": strconv.Itoa(o.drops), "bytes": strconv.Itoa(o.bytes), "seed": strconv.FormatUint(o.seed, 10)})
	if err != nil {
		return err
	}
	run := &crashRun{crashOptions: o, site: s, dice: rand.New(rand.NewPCG(o.seed, 1))}
	if err := run.begin(ctx); err != nil {
		return err
	}
	for cycle := range o.cycles {
		if err := run.cycle(ctx, cycle); err != nil {
			return fmt.Errorf("%w, in cycle %d with seed %d", err, cycle+1, o.seed)
		}
	}
	if err := run.verify(ctx, r); err != nil {
		return err
	}
	if err := s.publish(r); err != nil || r.Errors == 0 {
		return err
	}
	return fmt.Errorf("%w: %d errors; the first: %s", errCrash, r.Errors, r.FirstError)
}

func (run *crashRun) begin(ctx context.Context) error {
	users, err := run.accounts(ctx, run.clients)
	if err != nil {
		return err
	}
	target, err := run.target()
	if err != nil {
		return err
	}
	plan := load.CrashPlan{Target: target, Users: users, Window: run.window, Bytes: run.bytes, Seed: run.seed}
	return errors.Join(run.worker.job(ctx, "crash", plan), run.worker.ask(ctx, "connect", nil, nil), run.worker.ask(ctx, "go", nil, nil))
}

// cycle lets the server live for a while, kills it, starts it, and sees that it works again.
func (run *crashRun) cycle(ctx context.Context, number int) error {
	life := lifeMin + time.Duration(run.dice.Int64N(int64(lifeMax-lifeMin)))
	cut := time.Duration(run.dice.Int64N(int64(life)))
	if err := wait(ctx, cut); err != nil {
		return err
	}
	if err := run.worker.ask(ctx, "drop", load.DropPlan{Connections: run.drops}, nil); err != nil {
		return err
	}
	if err := wait(ctx, life-cut); err != nil {
		return err
	}
	if err := run.server.kill(); err != nil {
		return err
	}
	var before load.CrashResult
	if err := run.worker.ask(ctx, "counts", nil, &before); err != nil {
		return err
	}
	started := time.Now()
	if err := run.server.start(ctx); err != nil {
		return err
	}
	run.starts = append(run.starts, time.Since(started))
	after, err := run.progressed(ctx, before.Acked)
	if err != nil {
		return err
	}
	run.say("cycle %d: lived %v, serves again after %v; %d acknowledged, %d complaints", number+1,
		life.Round(time.Millisecond), run.starts[len(run.starts)-1].Round(time.Millisecond), after.Acked, after.Complaints.Errors)
	return nil
}

// progressed waits until more is acknowledged.
func (run *crashRun) progressed(ctx context.Context, acked uint64) (r load.CrashResult, err error) {
	for end := time.Now().Add(progressTimeout); time.Now().Before(end); {
		if err := run.worker.ask(ctx, "counts", nil, &r); err != nil || r.Acked > acked {
			return r, err
		}
		if err := wait(ctx, 10*time.Millisecond); err != nil {
			return r, err
		}
	}
	return r, fmt.Errorf("%w: nothing was acknowledged for %v after a start; %d of %d clients are connected; the first complaint: %q; the server's log: %s",
		errCrash, progressTimeout, r.Live, run.clients, r.Complaints.First, run.server.logTail())
}

// verify lets everything arrive, reads it all, once more after a restart in good order, and checks the
// data itself.
func (run *crashRun) verify(ctx context.Context, r *Report) error {
	if err := run.worker.ask(ctx, "stop", nil, nil); err != nil {
		return err
	}
	var first, second load.CrashResult
	run.say("reading everything")
	if err := run.worker.ask(ctx, "verify", nil, &first); err != nil {
		return err
	}
	run.say("%d messages read; once more after a restart in good order", first.Verified)
	if err := errors.Join(run.server.stop(), run.server.start(ctx)); err != nil {
		return err
	}
	if err := run.allLive(ctx); err != nil {
		return err
	}
	if err := run.worker.ask(ctx, "verify", nil, &second); err != nil {
		return err
	}
	run.fill(r, &first, &second)
	run.worker.stop()
	if err := run.server.stop(); err != nil {
		return err
	}
	return run.fsck(ctx, r)
}

func (run *crashRun) allLive(ctx context.Context) error {
	for end := time.Now().Add(progressTimeout); time.Now().Before(end); {
		var r load.CrashResult
		if err := run.worker.ask(ctx, "counts", nil, &r); err != nil || r.Live == run.clients {
			return err
		}
		if err := wait(ctx, 10*time.Millisecond); err != nil {
			return err
		}
	}
	return fmt.Errorf("%w: some clients are not connected after %v", errCrash, progressTimeout)
}

func (run *crashRun) fill(r *Report, first, second *load.CrashResult) {
	r.Cycles, r.Messages = uint64(run.cycles), second.Acked
	r.Lost, r.Doubled, r.Gaps = max(first.Lost, second.Lost), max(first.Doubled, second.Doubled), max(first.Gaps, second.Gaps)
	r.Backwards = second.Backwards
	if second.Verified != 2*second.Sent {
		second.Complaints.Errors++
		r.FirstError = fmt.Sprintf("%d messages were read by two members each, and %d were sent", second.Verified, second.Sent)
	}
	r.complain(second.Complaints)
	r.Other = r.Errors
	r.Errors += r.Lost + r.Doubled + r.Gaps
	r.Resent, r.Reconnects = second.Resent, second.Welcomes
	r.RestartP50, r.RestartMax = medianAndMax(run.starts)
}
