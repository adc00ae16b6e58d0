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

// stormTimeout bounds the time until all are back.
const stormTimeout = 2 * time.Minute

var errStorm = errors.New("bench: not all sessions came back")

// stormOptions are the settings of storm.
type stormOptions struct {
	options
	sessions int
	atOnce   int
}

func newStorm() *cobra.Command {
	o := &stormOptions{}
	c := &cobra.Command{Use: "storm", Short: "A node dies with all its sessions, which come back at the other nodes", Args: cobra.NoArgs,
		Long: "Holds sessions at all nodes, kills the last node with SIGKILL, and lets its sessions connect to the other nodes, after a\n" +
			"pause of 20 to 500 ms each, with the tickets and sync tokens that they have. Shards that the node led have no leader for a\n" +
			"while: whoever is told to try again does so every 100 ms.\n\n" +
			"  back_ms       from the kill until a session has synced again\n" +
			"  reconnect_us  CPU of the other nodes from the kill until all have, for each session; elections are in it"}
	f := c.Flags()
	f.IntVarP(&o.sessions, "sessions", "n", 9000, "how many sessions, over all nodes")
	f.IntVar(&o.atOnce, "at-once", 64, "how many connections are being opened at a time in the beginning")
	o.add(f)
	o.cluster.add(f)
	c.RunE = func(c *cobra.Command, _ []string) error {
		ctx, stop := o.begin(c)
		defer stop()
		return o.run(ctx)
	}
	return c
}

func (o *stormOptions) run(ctx context.Context) (err error) {
	s, err := o.open(ctx, "storm")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.close()) }()
	r, err := s.report(o.cluster.settings(map[string]string{"sessions": strconv.Itoa(o.sessions), "at_once": strconv.Itoa(o.atOnce)}))
	if err != nil {
		return err
	}
	accounts, err := s.accounts(ctx, o.sessions)
	if err != nil {
		return err
	}
	s.say("connecting %d sessions", o.sessions)
	plan := load.StormPlan{Nodes: s.targets(), Accounts: accounts, AtOnce: o.atOnce}
	if err := errors.Join(s.worker.job(ctx, "storm", plan), s.worker.ask(ctx, "connect", nil, nil), wait(ctx, settleTime)); err != nil {
		return err
	}
	if err := o.kill(ctx, s, r); err != nil {
		return err
	}
	return s.publish(r)
}

// kill kills the last node and waits until everybody is somewhere else.
func (o *stormOptions) kill(ctx context.Context, s *site, r *Report) error {
	if err := s.worker.ask(ctx, "mark", nil, nil); err != nil {
		return err
	}
	last := len(s.nodes) - 1
	victim := s.nodes[last]
	s.nodes = s.nodes[:last]
	before, err := s.usage()
	if err != nil {
		return errors.Join(err, victim.kill())
	}
	s.say("killing node %s", nodeName(last))
	if err := victim.kill(); err != nil {
		return err
	}
	var seen load.StormResult
	died := uint64(o.sessions / (last + 1))
	for end := time.Now().Add(stormTimeout); seen.Ended < died || seen.Live < o.sessions; {
		if err := errors.Join(wait(ctx, recoverPoll), s.worker.ask(ctx, "counts", nil, &seen)); err != nil {
			return err
		}
		if time.Now().After(end) {
			return fmt.Errorf("%w within %v: %d of %d are live", errStorm, stormTimeout, seen.Live, o.sessions)
		}
	}
	after, err := s.usage()
	if err != nil {
		return err
	}
	s.say("%d sessions are back after %d attempts", seen.Ended, seen.Retried)
	r.Sessions, r.Reconnects, r.Back = float64(o.sessions), seen.Ended, seen.Back
	r.ReconnectCPU = float64((after.CPU - before.CPU).Microseconds()) / float64(seen.Ended)
	r.RSSBytes = float64(after.RSS)
	r.complain(seen.Complaints)
	return nil
}
