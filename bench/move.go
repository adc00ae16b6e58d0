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

// moveOptions are the settings of move.
type moveOptions struct {
	options
	users  int
	window int
	pause  time.Duration
	before time.Duration
	seed   uint64
}

func newMove() *cobra.Command {
	o := &moveOptions{}
	c := &cobra.Command{Use: "move", Short: "Throughput and latency while one more node joins, and shards move to it", Args: cobra.NoArgs,
		Long: "Users at all nodes write to each other and send again what is refused. After --before a node joins: shards get new\n" +
			"replicas there by snapshots and by the log, and lose old ones, until everything is where it belongs. The figures are\n" +
			"those of the time of the join; those with before in their names are of the time before it.\n\n" +
			"At the end everything is read: lost, doubled, gaps and errors must be 0."}
	f := c.Flags()
	f.IntVar(&o.users, "users", 64, "how many users, each with two conversations")
	f.IntVar(&o.window, "window", 4, "how many messages a user has on their way in each conversation, at most 64")
	f.DurationVar(&o.pause, "pause", 20*time.Millisecond, "of each stream after an acknowledgement; 0 is as fast as the servers let it")
	f.DurationVar(&o.before, "before", 15*time.Second, "how long to write before the node joins: so much is there to move")
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

// errMove reports what clients may not see.
var errMove = errors.New("bench: move")

func (o *moveOptions) run(ctx context.Context) (err error) {
	s, err := o.open(ctx, "move")
	if err != nil {
		return err
	}
	defer func() {
		o.keep = o.keep || err != nil
		err = errors.Join(err, s.close())
	}()
	r, err := s.report(o.cluster.settings(map[string]string{"users": strconv.Itoa(o.users), "window": strconv.Itoa(o.window),
		"pause": o.pause.String(), "before": o.before.String(), "seed": strconv.FormatUint(o.seed, 10)}))
	if err != nil {
		return err
	}
	c, err := s.newChatter(ctx, o.users, load.CrashPlan{Window: o.window, Pause: milliseconds(o.pause), Bytes: 64, Seed: o.seed})
	if err != nil {
		return err
	}
	if err := o.measure(ctx, c, r); err != nil {
		return err
	}
	if err := c.finish(ctx, r); err != nil {
		return err
	}
	if err := s.publish(r); err != nil || r.Errors == 0 {
		return err
	}
	return fmt.Errorf("%w: %d errors; the first: %s", errMove, r.Errors, r.FirstError)
}

func (o *moveOptions) measure(ctx context.Context, c *chatter, r *Report) error {
	c.say("writing for %v", o.before)
	if err := errors.Join(c.mark(ctx), wait(ctx, o.before)); err != nil {
		return err
	}
	before, err := c.marked(ctx)
	if err != nil {
		return err
	}
	r.AckedPerSecondBefore, r.AckBefore = float64(before.Acked)/before.Seconds, before.Ack
	n, err := c.newNode(len(c.nodes))
	if err != nil {
		return err
	}
	name := nodeName(len(c.nodes))
	c.nodes = append(c.nodes, n)
	c.say("node %s joins", name)
	started := time.Now()
	if err := errors.Join(c.mark(ctx), c.join(ctx, n), c.holds(ctx, name)); err != nil {
		return err
	}
	if _, err := c.atRest(ctx, len(c.nodes)); err != nil {
		return err
	}
	seen, err := c.marked(ctx)
	if err != nil {
		return err
	}
	r.MoveSeconds = time.Since(started).Seconds()
	r.AckedPerSecond, r.Ack = float64(seen.Acked)/seen.Seconds, seen.Ack
	var times []time.Duration
	for _, s := range seen.Streams {
		times = append(times, time.Duration(s.Longest*float64(time.Millisecond)))
	}
	r.Outage = latencyOf(times)
	return nil
}

// holds waits until a node has a replica: before, all is at rest, too.
func (s *site) holds(ctx context.Context, name string) error {
	for end := time.Now().Add(settleTimeout); time.Now().Before(end); {
		nodes, err := s.server.operator().Nodes(ctx)
		if err != nil {
			return fmt.Errorf("bench: %w", err)
		}
		for _, n := range nodes {
			if n.Name == name && n.Replicas > 0 {
				return nil
			}
		}
		if err := wait(ctx, settlePoll); err != nil {
			return err
		}
	}
	return fmt.Errorf("%w: node %s gets nothing", errSettle, name)
}
