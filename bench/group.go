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

// groupOptions are the settings of group.
type groupOptions struct {
	options
	members  int
	online   int
	window   int
	bytes    int
	rate     float64
	duration time.Duration
	warmup   time.Duration
	seed     uint64
	receipts bool
	atOnce   int
}

func newGroup() *cobra.Command {
	o := &groupOptions{}
	c := &cobra.Command{Use: "group", Short: "One group whose owner writes to all members", Args: cobra.NoArgs,
		Long: "The owner of a group of --members keeps --window messages on their way: one is until each other of the --online\n" +
			"members has it. Every message is durable before it is acknowledged. With --receipts each member that is online\n" +
			"tells once a second how far it has read, and the owner is told how many have.\n\n" +
			"With --rate messages are due at fixed moments, and latency counts from there."}
	f := c.Flags()
	f.IntVar(&o.members, "members", 1000, "how many members the group has, its owner among them")
	f.IntVar(&o.online, "online", 0, "how many of them are connected, the owner among them; 0: all")
	f.IntVar(&o.window, "window", 4, "how many messages are on their way")
	f.IntVar(&o.bytes, "bytes", 64, "of each text")
	f.Float64Var(&o.rate, "rate", 0, "messages a second, at fixed moments; 0 is a closed loop")
	f.BoolVar(&o.receipts, "receipts", false, "members tell how far they have read")
	f.DurationVar(&o.duration, "duration", 10*time.Second, "how long to measure")
	f.DurationVar(&o.warmup, "warmup", 2*time.Second, "how long to run before")
	f.Uint64Var(&o.seed, "seed", 1, "of the texts")
	f.IntVar(&o.atOnce, "at-once", 64, "how many connections are being opened at a time")
	f.IntVar(&o.cluster.nodes, "nodes", 0, "how many nodes form a cluster; 0: one node alone")
	o.add(f)
	c.RunE = func(c *cobra.Command, _ []string) error {
		ctx, stop := o.begin(c)
		defer stop()
		return o.run(ctx)
	}
	return c
}

func (o *groupOptions) settings() map[string]string {
	s := map[string]string{"members": strconv.Itoa(o.members), "online": strconv.Itoa(o.online), "window": strconv.Itoa(o.window),
		"bytes": strconv.Itoa(o.bytes), "duration": o.duration.String(), "warmup": o.warmup.String(),
		"seed": strconv.FormatUint(o.seed, 10), "receipts": strconv.FormatBool(o.receipts)}
	if o.rate > 0 {
		s["rate"] = strconv.FormatFloat(o.rate, 'f', -1, 64)
	}
	if o.cluster.nodes > 0 {
		return o.cluster.settings(s)
	}
	return s
}

func (o *groupOptions) run(ctx context.Context) (err error) {
	if o.online == 0 {
		o.online = o.members
	}
	if o.members < 2 || o.online < 2 || o.online > o.members {
		return fmt.Errorf("bench: %d members of whom %d are online", o.members, o.online)
	}
	s, err := o.open(ctx, "group")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.close()) }()
	r, err := s.report(o.settings())
	if err != nil {
		return err
	}
	if err := o.connect(ctx, s); err != nil {
		return err
	}
	if err := s.worker.ask(ctx, "go", nil, nil); err != nil {
		return err
	}
	s.say("warming up for %v", o.warmup)
	if err := wait(ctx, o.warmup); err != nil {
		return err
	}
	if err := o.measure(ctx, s, r); err != nil {
		return err
	}
	var complaints load.Complaints
	if err := s.worker.ask(ctx, "stop", nil, &complaints); err != nil {
		return err
	}
	r.complain(complaints)
	return s.publish(r)
}

// connect begins the job with its users, and makes the group.
func (o *groupOptions) connect(ctx context.Context, s *site) error {
	target, err := s.target()
	if err != nil {
		return err
	}
	accounts, err := s.accounts(ctx, o.members)
	if err != nil {
		return err
	}
	plan := load.GroupPlan{Nodes: s.targets(), Accounts: accounts[:o.online], Window: o.window, Bytes: o.bytes,
		Seed: o.seed, Receipts: o.receipts, AtOnce: o.atOnce, Rate: o.rate}
	if len(plan.Nodes) == 0 {
		plan.Nodes = []load.Target{target}
	}
	for _, a := range accounts[o.online:] {
		plan.Away = append(plan.Away, a.User)
	}
	if err := s.worker.job(ctx, "group", plan); err != nil {
		return err
	}
	s.say("connecting %d sessions, and making a group of %d", o.online, o.members)
	return s.worker.ask(ctx, "connect", nil, nil)
}

// measure takes the figures of the measured time.
func (o *groupOptions) measure(ctx context.Context, s *site, r *Report) error {
	profiled := s.startProfile(ctx, o.duration)
	var before load.GroupCounts
	if err := s.worker.ask(ctx, "mark", nil, &before); err != nil {
		return err
	}
	started := time.Now()
	serverBefore, workerBefore, err := s.usages()
	if err != nil {
		return err
	}
	if err := o.watch(ctx, s, before); err != nil {
		return err
	}
	var result load.GroupResult
	if err := s.worker.ask(ctx, "measured", nil, &result); err != nil {
		return err
	}
	serverAfter, workerAfter, err := s.usages()
	if err != nil {
		return err
	}
	seconds, c := time.Since(started).Seconds(), result.Counts
	delivered := float64(c.Delivered - before.Delivered)
	if delivered == 0 {
		return fmt.Errorf("bench: nothing was delivered in %.1f s; the first complaint: %q", seconds, result.Complaints.First)
	}
	r.Ack, r.Deliver, r.LastMember = result.Ack, result.Deliver, result.LastMember
	r.RSSBytes, r.OfferedPerSecond = float64(serverAfter.RSS), o.rate
	r.Messages = c.Complete - before.Complete
	r.AckedPerSecond = float64(c.Acked-before.Acked) / seconds
	r.DeliveriesPerSecond = delivered / seconds
	cpu := float64((serverAfter.CPU - serverBefore.CPU).Microseconds())
	r.CPUPerDelivery = cpu / delivered
	r.CPUPerMessage = cpu / max(float64(c.Acked-before.Acked), 1)
	r.LoadCPUPerDelivery = float64((workerAfter.CPU - workerBefore.CPU).Microseconds()) / delivered
	r.WireBytesPerDelivery = float64(c.Bytes-before.Bytes) / delivered
	r.CursorsPerDelivery = float64(c.Cursors-before.Cursors) / delivered
	r.HeadsPerDelivery = float64(c.Heads-before.Heads) / delivered
	r.CountsPerSecond = float64(c.Tallies-before.Tallies) / seconds
	return profiled()
}

// watch waits for the measured time to pass, and says each second how it goes.
func (o *groupOptions) watch(ctx context.Context, s *site, last load.GroupCounts) error {
	for end := time.Now().Add(o.duration); ; {
		left := time.Until(end)
		if left <= 0 {
			return nil
		}
		if err := wait(ctx, min(left, time.Second)); err != nil {
			return err
		}
		var now load.GroupCounts
		if err := s.worker.ask(ctx, "counts", nil, &now); err != nil {
			return err
		}
		s.say("%d messages, %d deliveries, %d cursors", now.Complete-last.Complete, now.Delivered-last.Delivered, now.Cursors-last.Cursors)
		last = now
	}
}
