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
	"parley/wire"
)

// syncOptions are the settings of sync.
type syncOptions struct {
	options
	conversations int
	changed       int
	rounds        int
	previews      int
	bytes         int
	seed          uint64
}

func newSync() *cobra.Command {
	o := &syncOptions{}
	c := &cobra.Command{Use: "sync", Short: "A user with many conversations comes back, and asks what has changed", Args: cobra.NoArgs,
		Long: "A user has --conversations direct conversations. Each SYNC is asked for --rounds times on one open session: with an\n" +
			"empty token, so that all conversations have changed; with a token after which --changed of them got a message; and\n" +
			"with one after which nothing happened. At the end the server is started again, and the first one is asked for once\n" +
			"more, which tells what a cold cache costs (the kernel's is warm)."}
	f := c.Flags()
	f.IntVar(&o.conversations, "conversations", 1000, "how many the user has")
	f.IntVar(&o.changed, "changed", 100, "how many of them get a message in between")
	f.IntVar(&o.rounds, "rounds", 200, "how often each SYNC is asked for")
	f.IntVar(&o.previews, "previews", 0, "how many conversations come with the beginning of their last message")
	f.IntVar(&o.bytes, "bytes", 64, "of each text")
	f.Uint64Var(&o.seed, "seed", 1, "of the texts")
	o.add(f)
	c.RunE = func(c *cobra.Command, _ []string) error {
		ctx, stop := o.begin(c)
		defer stop()
		return o.run(ctx)
	}
	return c
}

func (o *syncOptions) check() error {
	if o.conversations < 1 || o.changed < 1 || o.changed > o.conversations || o.rounds < 1 || o.previews < 0 || o.previews > wire.PreviewsMax {
		return fmt.Errorf("bench: %d conversations of which %d change, %d rounds, %d previews (at most %d)", o.conversations, o.changed, o.rounds, o.previews, wire.PreviewsMax)
	}
	return nil
}

func (o *syncOptions) run(ctx context.Context) (err error) {
	if err := o.check(); err != nil {
		return err
	}
	s, err := o.open(ctx, "sync")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.close()) }()
	r, err := s.report(map[string]string{"conversations": strconv.Itoa(o.conversations), "changed": strconv.Itoa(o.changed),
		"rounds": strconv.Itoa(o.rounds), "previews": strconv.Itoa(o.previews), "bytes": strconv.Itoa(o.bytes), "seed": strconv.FormatUint(o.seed, 10)})
	if err != nil {
		return err
	}
	plan, err := o.connect(ctx, s)
	if err != nil {
		return err
	}
	r.SyncAll = &SyncFigures{}
	token, err := o.measure(ctx, s, r.SyncAll, o.rounds, o.conversations, nil)
	if err != nil {
		return err
	}
	r.SyncNone = &SyncFigures{}
	if _, err := o.measure(ctx, s, r.SyncNone, o.rounds*10, 0, token); err != nil {
		return err
	}
	if err := s.worker.ask(ctx, "change", load.ChangePlan{Conversations: o.changed}, nil); err != nil {
		return err
	}
	r.SyncChanged = &SyncFigures{}
	if _, err := o.measure(ctx, s, r.SyncChanged, o.rounds, o.changed, token); err != nil {
		return err
	}
	if err := o.cold(ctx, s, r, plan); err != nil {
		return err
	}
	return s.publish(r)
}

// connect begins the job with its users.
func (o *syncOptions) connect(ctx context.Context, s *site) (*load.SyncPlan, error) {
	target, err := s.target()
	if err != nil {
		return nil, err
	}
	accounts, err := s.accounts(ctx, o.conversations+1)
	if err != nil {
		return nil, err
	}
	plan := &load.SyncPlan{Target: target, User: accounts[0], Bytes: o.bytes, Seed: o.seed}
	for _, a := range accounts[1:] {
		plan.Others = append(plan.Others, a.User)
	}
	if err := s.worker.job(ctx, "sync", plan); err != nil {
		return nil, err
	}
	s.say("writing in %d conversations", o.conversations)
	if err := s.worker.ask(ctx, "connect", nil, nil); err != nil {
		return nil, err
	}
	// New conversations reach the user's list, at home, a moment later.
	for {
		var r load.SyncResult
		if err := s.worker.ask(ctx, "sync", load.SyncRounds{Rounds: 1}, &r); err != nil || int(r.Conversations) == o.conversations {
			return plan, err
		}
		if err := wait(ctx, listPoll); err != nil {
			return nil, err
		}
	}
}

// listPoll is how often it is looked whether a user's list is whole.
const listPoll = 50 * time.Millisecond

// measure asks so many times, expects so many conversations each time, and returns the last token.
func (o *syncOptions) measure(ctx context.Context, s *site, f *SyncFigures, rounds, want int, token []byte) ([]byte, error) {
	s.say("%d times SYNC with %d conversations changed", rounds, want)
	before, err := s.usage()
	if err != nil {
		return nil, err
	}
	var result load.SyncResult
	if err := s.worker.ask(ctx, "sync", load.SyncRounds{Rounds: rounds, Token: token, Previews: uint64(o.previews)}, &result); err != nil {
		return nil, err
	}
	after, err := s.usage()
	if err != nil {
		return nil, err
	}
	if got := int(result.Conversations); got != rounds*want {
		return nil, fmt.Errorf("bench: %d conversations in %d answers, want %d in each", got, rounds, want)
	}
	n := float64(rounds)
	f.CPU, f.Bytes, f.Pages, f.Time = float64((after.CPU-before.CPU).Microseconds())/n, float64(result.Bytes)/n, float64(result.Frames)/n, result.Time
	return result.Token, nil
}

// cold asks a server that has just been started, once.
func (o *syncOptions) cold(ctx context.Context, s *site, r *Report, plan *load.SyncPlan) error {
	if s.server == nil || len(s.targets()) > 1 {
		return nil
	}
	s.say("starting the server again")
	if err := s.server.stop(); err != nil {
		return err
	}
	if err := s.server.start(ctx); err != nil {
		return err
	}
	target, err := s.target()
	if err != nil {
		return err
	}
	again := *plan
	again.Target, again.Others = target, plan.Others[:1]
	if err := wait(ctx, settleTime); err != nil {
		return err
	}
	if err := s.worker.job(ctx, "sync", &again); err != nil {
		return err
	}
	before, err := s.usage()
	if err != nil {
		return err
	}
	if err := s.worker.ask(ctx, "connect", nil, nil); err != nil {
		return err
	}
	after, err := s.usage()
	if err != nil {
		return err
	}
	r.SyncCold = float64((after.CPU - before.CPU).Microseconds())
	return nil
}
