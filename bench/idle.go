//go:build linux

package bench

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"parley/bench/load"
)

// settleTime lets a server come to rest after a start or a burst: the collector's last cycle, and what
// follows closed connections.
const settleTime = 2 * time.Second

// idleOptions are the settings of idle.
type idleOptions struct {
	options
	sessions  int
	processes int
	atOnce    int
	hold      time.Duration
}

func newIdle() *cobra.Command {
	o := &idleOptions{}
	c := &cobra.Command{Use: "idle", Short: "Sessions that only send heartbeats: memory, and CPU to connect", Args: cobra.NoArgs,
		Long: "Makes a user for each session and starts the server again, so that its memory is that of a fresh process. Then connects\n" +
			"every session with a token, syncs, holds them with heartbeats, and reads the memory; closes them, and connects all\n" +
			"again with the tickets they got. Memory per session is RSS with all sessions less RSS before the first. The\n" +
			"kernel's share, about 3.7 KB a connection on the server's side, is not in it."}
	f := c.Flags()
	f.IntVarP(&o.sessions, "sessions", "n", 10_000, "how many sessions, over all processes")
	f.IntVar(&o.processes, "processes", 1, "how many servers share them, each with a load process of its own: one process has a limit of open files")
	f.IntVar(&o.atOnce, "at-once", 64, "how many connections are being opened at a time, in each process")
	f.DurationVar(&o.hold, "hold", 30*time.Second, "how long to hold the sessions")
	o.add(f)
	c.RunE = func(c *cobra.Command, _ []string) error {
		ctx, stop := o.begin(c)
		defer stop()
		return o.run(ctx)
	}
	return c
}

// idleRun is the scenario with its servers.
type idleRun struct {
	*idleOptions
	sites []*site
	n     int // of all sessions
}

func (o *idleOptions) run(ctx context.Context) (err error) {
	if o.processes < 1 || o.sessions < o.processes || o.processes > 1 && o.target != "" {
		return fmt.Errorf("bench: %d sessions over %d processes; a running server is one process", o.sessions, o.processes)
	}
	each := (o.sessions + o.processes - 1) / o.processes // the same in all, so a few more than asked for in some cases
	run := &idleRun{idleOptions: o, n: each * o.processes}
	defer func() {
		for _, s := range run.sites {
			err = errors.Join(err, s.close())
		}
	}()
	for range o.processes {
		s, err := o.open(ctx, "idle")
		if err != nil {
			return err
		}
		run.sites = append(run.sites, s)
		if err := run.prepare(ctx, s); err != nil {
			return err
		}
	}
	r, err := run.sites[0].report(map[string]string{"sessions": strconv.Itoa(run.n), "processes": strconv.Itoa(o.processes),
		"hold": o.hold.String(), "at_once": strconv.Itoa(o.atOnce)})
	if err != nil {
		return err
	}
	if err := run.measure(ctx, r); err != nil {
		return err
	}
	return run.sites[0].publish(r)
}

// prepare makes the users of one server, starts it again, and begins the job.
func (run *idleRun) prepare(ctx context.Context, s *site) error {
	accounts, err := s.accounts(ctx, run.n/run.processes)
	if err != nil {
		return err
	}
	if s.server != nil {
		s.say("starting the server again")
		if err := s.server.stop(); err != nil {
			return err
		}
		if err := s.server.start(ctx); err != nil {
			return err
		}
	}
	target, err := s.target()
	if err != nil {
		return err
	}
	return s.worker.job(ctx, "idle", load.IdlePlan{Target: target, Accounts: accounts, AtOnce: run.atOnce})
}

func (run *idleRun) measure(ctx context.Context, r *Report) error {
	if err := wait(ctx, settleTime); err != nil {
		return err
	}
	before, err := run.usage()
	if err != nil {
		return err
	}
	r.Sessions, r.RSSBytesIdle = float64(run.n), float64(before.RSS)
	var result load.IdleResult
	if r.ConnectToken, result, err = run.phase(ctx, "connecting with tokens", "connect", load.ConnectPlan{}); err != nil {
		return err
	}
	r.Connect = result.Connect
	if r.SyncToken, _, err = run.phase(ctx, "syncing", "sync", nil); err != nil {
		return err
	}
	if err := run.holdSessions(ctx, r, before); err != nil {
		return err
	}
	if _, _, err = run.phase(ctx, "closing", "close", nil); err != nil {
		return err
	}
	if r.ConnectTicket, _, err = run.phase(ctx, "connecting with tickets", "connect", load.ConnectPlan{Tickets: true}); err != nil {
		return err
	}
	if r.SyncTicket, result, err = run.phase(ctx, "syncing with nothing changed", "sync", nil); err != nil {
		return err
	}
	r.complain(result.Complaints)
	return nil
}

// phase lets every process do something at the same time, and gives the servers' CPU in µs per
// session, with what the first process saw.
func (run *idleRun) phase(ctx context.Context, text, do string, plan any) (us float64, result load.IdleResult, err error) {
	run.sites[0].say("%s: %d sessions", text, run.n)
	before, err := run.usage()
	if err != nil {
		return 0, result, err
	}
	results := make([]load.IdleResult, len(run.sites))
	errs := make(chan error, len(run.sites))
	for i, s := range run.sites {
		go func() { errs <- s.worker.ask(ctx, do, plan, &results[i]) }()
	}
	for range run.sites {
		err = errors.Join(err, <-errs)
	}
	if err != nil {
		return 0, result, err
	}
	if do == "close" { // closing goes on when the answer is here
		if err := wait(ctx, settleTime); err != nil {
			return 0, result, err
		}
	}
	after, err := run.usage()
	result = results[0]
	for _, other := range results[1:] {
		result.Live += other.Live
		result.Synced += other.Synced
		result.Pongs += other.Pongs
		result.Complaints.Errors += other.Complaints.Errors
	}
	return float64((after.CPU - before.CPU).Microseconds()) / float64(run.n), result, err
}

// holdSessions waits, and reads what the sessions take.
func (run *idleRun) holdSessions(ctx context.Context, r *Report, idle usage) error {
	run.sites[0].say("holding for %v", run.hold)
	began, err := run.usage()
	if err != nil {
		return err
	}
	if err := wait(ctx, run.hold); err != nil {
		return err
	}
	held, err := run.usage()
	if err != nil {
		return err
	}
	_, result, err := run.phase(ctx, "counting", "counts", nil)
	if err != nil {
		return err
	}
	run.sites[0].say("%d sessions live, %d heartbeats answered", result.Live, result.Pongs)
	n := float64(run.n)
	r.RSSBytes = float64(held.RSS)
	r.RSSPerSession = (float64(held.RSS) - float64(idle.RSS)) / n
	r.AnonymousPerSession = (float64(held.Anonymous) - float64(idle.Anonymous)) / n
	r.HeartbeatCPU = float64((held.CPU - began.CPU).Microseconds()) / n / run.hold.Minutes()
	if result.Live != run.n {
		r.complain(load.Complaints{Errors: uint64(run.n - result.Live), First: "sessions ended while they were held"})
	}
	return nil
}

// usage adds up the servers' processes.
func (run *idleRun) usage() (usage, error) {
	var sum usage
	for _, s := range run.sites {
		u, err := s.usage()
		if err != nil {
			return sum, err
		}
		sum.add(u)
	}
	return sum, nil
}
