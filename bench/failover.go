//go:build linux

package bench

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"parley/bench/load"
	"parley/engine/admin"
)

// failoverOptions are the settings of failover.
type failoverOptions struct {
	options
	cycles    int
	transfers int
	users     int
	pause     time.Duration
	seed      uint64
}

func newFailover() *cobra.Command {
	o := &failoverOptions{}
	c := &cobra.Command{Use: "failover", Short: "How long shards are not served when a node dies, hands over, or is restarted", Args: cobra.NoArgs,
		Long: "Users at all nodes write to each other in every shard, each stream one message at a time with a pause between, and send\n" +
			"again what is refused. Meanwhile, one after the other:\n\n" +
			"  failover_ms  a node is killed with SIGKILL: for each shard that it led, the longest time from the kill without an\n" +
			"               acknowledgement, seen from the other nodes; then it is started again, and all comes to rest\n" +
			"  transfer_ms  a shard's leadership is moved as `parley shard transfer` does: the longest time without one\n" +
			"  rolling_ms   every node is stopped with SIGTERM and started again, one after the other, while clients move to other\n" +
			"               nodes: the longest time without one, for each user and conversation\n\n" +
			"The pause counts as time without an acknowledgement. At the end everything is read: lost, doubled, gaps and errors\n" +
			"must be 0, also for those who only ever tried again."}
	f := c.Flags()
	f.IntVar(&o.cycles, "cycles", 10, "how often to kill a node")
	f.IntVar(&o.transfers, "transfers", 2, "how often to transfer each shard")
	f.IntVar(&o.users, "users", 63, "how many users, each with two conversations")
	f.DurationVar(&o.pause, "pause", 10*time.Millisecond, "of each stream after an acknowledgement")
	f.Uint64Var(&o.seed, "seed", 1, "of the texts")
	o.add(f)
	o.cluster.add(f)
	c.RunE = func(c *cobra.Command, _ []string) error {
		ctx, stop := o.begin(c)
		defer stop()
		return o.run(ctx)
	}
	return c
}

// errFailover reports what clients may not see.
var errFailover = errors.New("bench: failover")

// failoverRun is the scenario with its cluster.
type failoverRun struct {
	*failoverOptions
	*chatter
}

func (o *failoverOptions) run(ctx context.Context) (err error) {
	s, err := o.open(ctx, "failover")
	if err != nil {
		return err
	}
	defer func() {
		o.keep = o.keep || err != nil // what went wrong can be looked at
		err = errors.Join(err, s.close())
	}()
	r, err := s.report(o.cluster.settings(map[string]string{"cycles": strconv.Itoa(o.cycles), "transfers": strconv.Itoa(o.transfers),
		"users": strconv.Itoa(o.users), "pause": o.pause.String(), "seed": strconv.FormatUint(o.seed, 10)}))
	if err != nil {
		return err
	}
	c, err := s.newChatter(ctx, o.users, load.CrashPlan{Window: 1, Pause: milliseconds(o.pause), Bytes: 64, Seed: o.seed})
	if err != nil {
		return err
	}
	run := &failoverRun{failoverOptions: o, chatter: c}
	for _, phase := range []func(context.Context, *Report) error{run.kills, run.moves, run.rolling, run.finish} {
		if err := phase(ctx, r); err != nil {
			return err
		}
	}
	if err := s.publish(r); err != nil || r.Errors == 0 {
		return err
	}
	return fmt.Errorf("%w: %d errors; the first: %s", errFailover, r.Errors, r.FirstError)
}

func milliseconds(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }

// kills kills nodes, in turn.
func (run *failoverRun) kills(ctx context.Context, r *Report) error {
	var times []time.Duration
	for cycle := range run.cycles {
		victim := cycle % len(run.nodes)
		outages, err := run.kill(ctx, victim)
		if err != nil {
			return fmt.Errorf("kill %d, of node %s: %w", cycle+1, nodeName(victim), err)
		}
		run.say("kill %d: node %s led %d shards, unserved for at most %v", cycle+1, nodeName(victim), len(outages), slices.Max(append(outages, 0)).Round(time.Millisecond))
		times = append(times, outages...)
	}
	r.Cycles, r.Failover = uint64(run.cycles), latencyOf(times)
	return nil
}

// kill kills a node and gives how long each of its shards was not served; then the node is back.
func (run *failoverRun) kill(ctx context.Context, victim int) (outages []time.Duration, err error) {
	shards, err := run.atRest(ctx, len(run.nodes))
	if err != nil {
		return nil, err
	}
	shards = slices.DeleteFunc(shards, func(s admin.Shard) bool { return s.Leader != nodeName(victim) })
	var all []int
	for i := range shards {
		all = append(all, run.of(&shards[i], victim)...)
	}
	if err := run.mark(ctx); err != nil {
		return nil, err
	}
	if err := run.nodes[victim].kill(); err != nil {
		return nil, err
	}
	seen, err := run.served(ctx, all)
	if err != nil {
		return nil, err
	}
	for i := range shards {
		if streams := run.of(&shards[i], victim); len(streams) > 0 {
			outages = append(outages, longest(&seen, streams))
		}
	}
	return outages, run.nodes[victim].start(ctx)
}

// moves transfers the leadership of each shard to its other replicas, in turn.
func (run *failoverRun) moves(ctx context.Context, r *Report) error {
	if run.transfers == 0 {
		return nil
	}
	shards, err := run.atRest(ctx, len(run.nodes))
	if err != nil {
		return err
	}
	var times []time.Duration
	for range run.transfers {
		for i := range shards {
			s := &shards[i]
			outage, err := run.transfer(ctx, s)
			if err != nil {
				return fmt.Errorf("transfer of shard %d: %w", s.ID, err)
			}
			times = append(times, outage)
		}
	}
	r.Transfer = latencyOf(times)
	run.say("%d transfers: unserved for at most %v", len(times), slices.Max(times).Round(time.Millisecond))
	return nil
}

func (run *failoverRun) transfer(ctx context.Context, s *admin.Shard) (time.Duration, error) {
	at := slices.IndexFunc(s.Replicas, func(r admin.Replica) bool { return r.Node == s.Leader })
	to := s.Replicas[(at+1)%len(s.Replicas)].Node
	streams := run.of(s, -1)
	if err := run.mark(ctx); err != nil {
		return 0, err
	}
	if err := run.server.operator().TransferShard(ctx, s.ID, to); err != nil {
		return 0, err
	}
	for end := time.Now().Add(recoverTimeout); s.Leader != to; {
		if time.Now().After(end) {
			return 0, fmt.Errorf("%w: node %s still leads", errFailover, s.Leader)
		}
		shards, err := run.server.operator().Shards(ctx)
		if err != nil {
			return 0, err
		}
		s.Leader = shards[s.ID].Leader
		if err := wait(ctx, recoverPoll); err != nil {
			return 0, err
		}
	}
	seen, err := run.served(ctx, streams)
	return longest(&seen, streams), err
}

// rolling restarts every node while clients move to others.
func (run *failoverRun) rolling(ctx context.Context, r *Report) error {
	if err := run.worker.ask(ctx, "roam", nil, nil); err != nil {
		return err
	}
	all := make([]int, 2*len(run.chatter.users))
	for i := range all {
		all[i] = i
	}
	var times []time.Duration
	for i, n := range run.nodes {
		if _, err := run.atRest(ctx, len(run.nodes)); err != nil {
			return err
		}
		if err := run.mark(ctx); err != nil {
			return err
		}
		if err := errors.Join(n.stop(), n.start(ctx)); err != nil {
			return err
		}
		seen, err := run.served(ctx, all)
		if err != nil {
			return err
		}
		for _, s := range seen.Streams {
			times = append(times, time.Duration(s.Longest*float64(time.Millisecond)))
		}
		run.say("node %s was restarted: nobody was unserved for longer than %v", nodeName(i), longest(&seen, all).Round(time.Millisecond))
	}
	r.Rolling = latencyOf(times)
	return nil
}
