//go:build linux

package bench

import (
	"context"
	"errors"
	"time"

	"github.com/spf13/cobra"
)

// idleClusterOptions are the settings of idle-cluster.
type idleClusterOptions struct {
	options
	hold time.Duration
}

func newIdleCluster() *cobra.Command {
	o := &idleClusterOptions{}
	c := &cobra.Command{Use: "idle-cluster", Short: "CPU of a cluster that has nothing to do", Args: cobra.NoArgs,
		Long: "Starts a cluster, waits until it has come to rest, and reads what each process takes while nobody is connected:\n" +
			"cpu_percent_per_node is that of the node that takes most, in percent of one core."}
	f := c.Flags()
	f.DurationVar(&o.hold, "hold", 30*time.Second, "how long to look")
	o.add(f)
	o.cluster.add(f)
	c.RunE = func(c *cobra.Command, _ []string) error {
		ctx, stop := o.begin(c)
		defer stop()
		return o.run(ctx)
	}
	return c
}

func (o *idleClusterOptions) run(ctx context.Context) (err error) {
	s, err := o.open(ctx, "idle-cluster")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.close()) }()
	r, err := s.report(o.cluster.settings(map[string]string{"hold": o.hold.String()}))
	if err != nil {
		return err
	}
	if err := wait(ctx, settleTime); err != nil {
		return err
	}
	s.say("nothing happens for %v", o.hold)
	profiled := s.startProfile(ctx, o.hold)
	before, err := s.eachUsage()
	if err != nil {
		return err
	}
	started := time.Now()
	if err := wait(ctx, o.hold); err != nil {
		return err
	}
	after, err := s.eachUsage()
	if err != nil {
		return err
	}
	seconds := time.Since(started).Seconds()
	for i := range after {
		percent := 100 * (after[i].CPU - before[i].CPU).Seconds() / seconds
		s.say("node %s: %.2f %% of a core, %d MB", nodeName(i), percent, after[i].RSS>>20)
		r.CPUPercentPerNode = max(r.CPUPercentPerNode, percent)
		r.RSSBytes = max(r.RSSBytes, float64(after[i].RSS))
	}
	if err := profiled(); err != nil {
		return err
	}
	return s.publish(r)
}

// eachUsage reads each node's process.
func (s *site) eachUsage() (list []usage, err error) {
	for _, n := range s.nodes {
		u, err := readUsage(n.pid())
		if err != nil {
			return nil, err
		}
		list = append(list, u)
	}
	return list, nil
}
