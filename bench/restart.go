//go:build linux

package bench

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"slices"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"parley/bench/load"
)

const (
	// restartLifeMin and restartLifeMax bound how long a server is under load before the next kill: how much
	// of the log must be replayed depends on how long ago the state was written.
	restartLifeMin = 2 * time.Second
	restartLifeMax = 12 * time.Second
	// readyInterval is how often a server that serves is asked whether it is ready.
	readyInterval = 5 * time.Millisecond
)

// errRestart reports a server that does not come back.
var errRestart = errors.New("bench: restart")

// restartOptions are the settings of restart.
type restartOptions struct {
	pairsOptions
	store  int64
	cycles int
	life   time.Duration
}

func newRestart() *cobra.Command {
	o := &restartOptions{}
	c := &cobra.Command{Use: "restart", Short: "How soon a node with much data serves again after SIGKILL", Args: cobra.NoArgs,
		Long: "Pairs write to each other until bodies of --store bytes are stored; then, under load, the server is killed with SIGKILL\n" +
			"and started again, --cycles times, with some seconds of load in between. restart_ms counts from the start of the\n" +
			"process until /readyz says yes, first_receipt_ms until a message was connected for, stored, delivered and receipted.\n" +
			"At the end the data is checked; the command fails if there is anything wrong.\n\n" +
			"The files are in the kernel's cache when the server starts, as they are after a crash of the process alone."}
	f := c.Flags()
	f.Int64Var(&o.store, "store", 1_000_000_000, "bytes of messages' bodies to store first")
	f.IntVar(&o.cycles, "cycles", 5, "how often to kill")
	f.DurationVar(&o.life, "life", 0, "how long the load runs before each kill; 0 draws between 2 and 12 s")
	f.IntVar(&o.pairs, "pairs", 1000, "how many pairs of users")
	f.IntVar(&o.window, "window", 16, "how many messages each pair has on their way, at most 64")
	f.IntVar(&o.bytes, "bytes", 64, "of each text")
	f.Uint64Var(&o.seed, "seed", 1, "of the texts and moments")
	o.add(f)
	c.RunE = func(c *cobra.Command, _ []string) error {
		ctx, stop := o.begin(c)
		defer stop()
		if o.target != "" {
			return fmt.Errorf("%w: it kills its server, so it starts one: --target is not for it", errRestart)
		}
		return o.runRestart(ctx)
	}
	return c
}

// restartRun is the scenario with its server.
type restartRun struct {
	*restartOptions
	*site
	dice     *rand.Rand
	accounts []load.Account
	acked    uint64
	ready    []time.Duration
	receipts []time.Duration
}

func (o *restartOptions) runRestart(ctx context.Context) (err error) {
	s, err := o.open(ctx, "restart")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.close()) }()
	r, err := s.report(map[string]string{"store": strconv.FormatInt(o.store, 10), "cycles": strconv.Itoa(o.cycles), "life": o.life.String(),
		"pairs": strconv.Itoa(o.pairs), "window": strconv.Itoa(o.window), "bytes": strconv.Itoa(o.bytes), "seed": strconv.FormatUint(o.seed, 10)})
	if err != nil {
		return err
	}
	run := &restartRun{restartOptions: o, site: s, dice: rand.New(rand.NewPCG(o.seed, 3))}
	if run.accounts, err = s.accounts(ctx, 2*o.pairs); err != nil {
		return err
	}
	for cycle := range o.cycles {
		if err := run.cycle(ctx, cycle); err != nil {
			return err
		}
	}
	run.worker.stop()
	if err := s.server.stop(); err != nil {
		return err
	}
	if err := s.fsck(ctx, r); err != nil {
		return err
	}
	run.fill(r)
	if err := s.publish(r); err != nil || r.Errors == 0 {
		return err
	}
	return fmt.Errorf("%w: %s", errRestart, r.FirstError)
}

func (run *restartRun) fill(r *Report) {
	r.Messages, r.Cycles = run.acked, uint64(run.cycles)
	r.RestartP50, r.RestartMax = medianAndMax(run.ready)
	r.FirstReceiptP50, r.FirstReceiptMax = medianAndMax(run.receipts)
}

// medianAndMax are of times that it sorts, in milliseconds.
func medianAndMax(times []time.Duration) (median, most float64) {
	n := len(times)
	if n == 0 {
		return 0, 0
	}
	slices.Sort(times)
	return float64(times[n/2].Microseconds()) / 1000, float64(times[n-1].Microseconds()) / 1000
}

// cycle puts load on the server, kills it, and sees how soon it works again.
func (run *restartRun) cycle(ctx context.Context, number int) error {
	if err := run.load(ctx, run.accounts); err != nil {
		return err
	}
	if err := run.worker.ask(ctx, "go", load.GoPlan{}, nil); err != nil {
		return err
	}
	if err := run.grow(ctx); err != nil {
		return err
	}
	if err := run.server.kill(); err != nil {
		return err
	}
	run.worker.stop()
	var err error
	if run.worker, err = startWorker("worker", run.progress); err != nil {
		return err
	}
	started := time.Now()
	if err := run.server.start(ctx); err != nil {
		return err
	}
	if err := run.server.awaitReady(ctx); err != nil {
		return err
	}
	run.ready = append(run.ready, time.Since(started))
	if err := run.load(ctx, run.accounts[:2]); err != nil {
		return err
	}
	if err := run.worker.ask(ctx, "go", load.GoPlan{Messages: 1}, nil); err != nil {
		return err
	}
	run.receipts = append(run.receipts, time.Since(started))
	run.say("kill %d: ready after %v, a message receipted after %v", number+1,
		run.ready[number].Round(time.Millisecond), run.receipts[number].Round(time.Millisecond))
	run.worker.stop()
	run.worker, err = startWorker("worker", run.progress)
	return err
}

// load connects pairs of users.
func (run *restartRun) load(ctx context.Context, accounts []load.Account) error {
	plan := load.PairsPlan{Target: run.server.target(), Window: run.window, Bytes: run.bytes, Seed: run.seed}
	for pair := range slices.Chunk(accounts, 2) {
		plan.Pairs = append(plan.Pairs, load.Pair{Sender: pair[0], Receiver: pair[1]})
	}
	if err := run.worker.job(ctx, "pairs", plan); err != nil {
		return err
	}
	return run.worker.ask(ctx, "connect", nil, nil)
}

// grow lets the load run until enough is stored, and for its time.
func (run *restartRun) grow(ctx context.Context) error {
	life := run.life
	if life == 0 {
		life = restartLifeMin + time.Duration(run.dice.Int64N(int64(restartLifeMax-restartLifeMin)))
	}
	var last uint64
	for end, moved := time.Now().Add(life), time.Now(); ; {
		var now load.Counts
		if err := run.worker.ask(ctx, "counts", nil, &now); err != nil {
			return err
		}
		if now.Acked > last {
			moved = time.Now()
		}
		run.acked, last = run.acked+now.Acked-last, now.Acked
		stored := int64(run.acked) * int64(run.bytes)
		switch left := time.Until(end); {
		case stored >= run.store && left <= 0:
			return nil
		case time.Since(moved) > stallTime:
			return fmt.Errorf("%w: %s", errStalled, run.server.logTail())
		case stored < run.store:
			end = time.Now().Add(life)
			run.say("%d MB of %d MB stored", stored/1e6, run.store/1e6)
		}
		if err := wait(ctx, min(time.Second, max(time.Until(end), time.Millisecond))); err != nil {
			return err
		}
	}
}

// awaitReady asks /readyz until the answer is yes.
func (s *server) awaitReady(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	for {
		request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+s.admin+"/readyz", nil)
		if err != nil {
			return fmt.Errorf("%w: %w", errServer, err)
		}
		response, err := http.DefaultClient.Do(request)
		if err == nil {
			err = response.Body.Close()
			if response.StatusCode == http.StatusOK {
				return err
			}
		}
		if waited := wait(ctx, readyInterval); waited != nil {
			return fmt.Errorf("%w is not ready: %w", errServer, errors.Join(err, waited))
		}
	}
}
