//go:build linux

package bench

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"parley/bench/load"
)

func newReceipts() *cobra.Command {
	o := &groupOptions{window: 16, bytes: 64, seed: 1, atOnce: 64}
	c := &cobra.Command{Use: "receipts", Short: "A group whose members tell how far they have read, and one where they do not", Args: cobra.NoArgs,
		Long: "The owner of a group writes --rate messages a second, which all its members receive. After --duration the members\n" +
			"begin to tell, once a second each, how far they have read, and the owner is told how many have. A receipt is one\n" +
			"message that one member has read; its cost is what the second part takes more than the first."}
	f := c.Flags()
	f.IntVar(&o.members, "members", 1000, "how many members the group has, its owner among them; all are connected")
	f.Float64Var(&o.rate, "rate", 10, "messages a second, at fixed moments")
	f.DurationVar(&o.duration, "duration", 10*time.Second, "how long to measure each part")
	f.DurationVar(&o.warmup, "warmup", 2*time.Second, "how long to run before each part")
	f.IntVar(&o.cluster.nodes, "nodes", 0, "how many nodes form a cluster; 0: one node alone")
	o.add(f)
	c.RunE = func(c *cobra.Command, _ []string) error {
		ctx, stop := o.begin(c)
		defer stop()
		return o.runReceipts(ctx)
	}
	return c
}

func (o *groupOptions) runReceipts(ctx context.Context) (err error) {
	o.online = o.members
	if o.members < 2 || o.rate <= 0 {
		return fmt.Errorf("bench: %d members, %g messages a second", o.members, o.rate)
	}
	s, err := o.open(ctx, "receipts")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.close()) }()
	settings := o.settings()
	delete(settings, "receipts") // both
	r, err := s.report(settings)
	if err != nil {
		return err
	}
	if err := o.connect(ctx, s); err != nil {
		return err
	}
	without, err := o.part(ctx, s, "go", r)
	if err != nil {
		return err
	}
	r.CPUWithout, r.LastMemberWithout = r.CPUPerDelivery, r.LastMember
	with, err := o.part(ctx, s, "receipts", r)
	if err != nil {
		return err
	}
	if with.Moved == 0 {
		return fmt.Errorf("bench: no member told that it had read anything; the first complaint: %q", r.FirstError)
	}
	receipts := float64(with.Moved)
	r.CPUPerReceipt = (r.CPUPerDelivery - r.CPUWithout) * float64(with.Delivered) / receipts
	r.WireBytesPerReceipt = (float64(with.Bytes)/float64(with.Delivered) - float64(without.Bytes)/float64(without.Delivered)) * float64(with.Delivered) / receipts
	var complaints load.Complaints
	if err := s.worker.ask(ctx, "stop", nil, &complaints); err != nil {
		return err
	}
	r.complain(complaints)
	return s.publish(r)
}

// part has the load begin something, and measures after the warmup. It returns what was
// done in the measured time.
func (o *groupOptions) part(ctx context.Context, s *site, begin string, r *Report) (done load.GroupCounts, err error) {
	if err := s.worker.ask(ctx, begin, nil, nil); err != nil {
		return done, err
	}
	s.say("warming up for %v", o.warmup)
	if err := wait(ctx, o.warmup); err != nil {
		return done, err
	}
	var before, after load.GroupCounts
	if err := s.worker.ask(ctx, "counts", nil, &before); err != nil {
		return done, err
	}
	if err := o.measure(ctx, s, r); err != nil {
		return done, err
	}
	if err := s.worker.ask(ctx, "counts", nil, &after); err != nil {
		return done, err
	}
	done.Delivered, done.Moved, done.Bytes = after.Delivered-before.Delivered, after.Moved-before.Moved, after.Bytes-before.Bytes
	return done, nil
}
