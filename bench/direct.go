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

// pairsOptions are the settings of direct, lone and wire: pairs of users, the first of whom writes
// to the second.
type pairsOptions struct {
	options
	pairs     int
	window    int
	byReceipt bool
	bytes     int
	rate      float64
	duration  time.Duration
	warmup    time.Duration
	seed      uint64
	syscalls  bool
	single    bool
}

func (o *pairsOptions) settings() map[string]string {
	s := map[string]string{"pairs": strconv.Itoa(o.pairs), "window": strconv.Itoa(o.window), "bytes": strconv.Itoa(o.bytes),
		"duration": o.duration.String(), "warmup": o.warmup.String(), "seed": strconv.FormatUint(o.seed, 10), "window_until": "sent"}
	if o.byReceipt {
		s["window_until"] = "receipt"
	}
	if o.single {
		s["single"] = "true"
	}
	if o.rate > 0 {
		s["rate"] = strconv.FormatFloat(o.rate, 'f', -1, 64)
	}
	if o.cluster.nodes > 0 {
		return o.cluster.settings(s)
	}
	return s
}

func newDirect() *cobra.Command {
	o := &pairsOptions{}
	c := o.command("direct", "Pairs of users in direct conversations, as fast as the server lets them",
		"In each of --pairs conversations one user keeps --window messages on their way. Every message is made durable and\n"+
			"acknowledged, pushed to the other, whose delivered cursor comes back, and whose receipt the sender sees.\n\n"+
			"With --rate it is an open loop: messages are due at fixed moments, and latency counts from there, however late\n"+
			"they were sent. Without, it is a closed loop, which shows throughput and cost; its latency is that of a full load.")
	o.addRate(c, 100, 16, 64, 10*time.Second)
	return c
}

func newLone() *cobra.Command {
	o := &pairsOptions{byReceipt: true}
	c := o.command("lone", "One message at a time: the latency of an idle server",
		"One pair, one message on its way: the next is sent when the receipt of the last has come.")
	o.addRate(c, 1, 1, 64, 5*time.Second)
	return c
}

// command makes a scenario's command, which runs measurePairs.
func (o *pairsOptions) command(name, short, long string) *cobra.Command {
	c := &cobra.Command{Use: name, Short: short, Long: long, Args: cobra.NoArgs}
	c.RunE = func(c *cobra.Command, _ []string) error {
		ctx, stop := o.begin(c)
		defer stop()
		return o.run(ctx, name)
	}
	o.add(c.Flags())
	c.Flags().Uint64Var(&o.seed, "seed", 1, "of the texts")
	return c
}

func (o *pairsOptions) addRate(c *cobra.Command, pairs, window, bytes int, duration time.Duration) {
	f := c.Flags()
	f.IntVar(&o.pairs, "pairs", pairs, "how many pairs of users")
	f.IntVar(&o.window, "window", window, "how many messages each pair has on their way, at most 64")
	f.BoolVar(&o.byReceipt, "by-receipt", o.byReceipt, "a message is on its way until its receipt has come, instead of its SENT")
	f.IntVar(&o.bytes, "bytes", bytes, "of each text")
	f.Float64Var(&o.rate, "rate", 0, "messages a second of all pairs together, at fixed moments; 0 is a closed loop")
	f.DurationVar(&o.duration, "duration", duration, "how long to measure")
	f.DurationVar(&o.warmup, "warmup", 2*time.Second, "how long to run before")
	f.BoolVar(&o.single, "single", false, "put each frame into a WebSocket message of its own")
	f.BoolVar(&o.syscalls, "syscalls", false, "count system calls with strace or perf, for two seconds after the measured time")
}

// A stretch is what was measured between two moments.
type stretch struct {
	seconds        float64
	counts         load.Counts // differences
	server, worker time.Duration
	ioCalls        uint64
	written        uint64
}

func (o *pairsOptions) run(ctx context.Context, name string) (err error) {
	s, err := o.open(ctx, name)
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
	if err := s.worker.ask(ctx, "go", load.GoPlan{}, nil); err != nil {
		return err
	}
	s.say("warming up for %v", o.warmup)
	if err := wait(ctx, o.warmup); err != nil {
		return err
	}
	if err := o.measure(ctx, s, r); err != nil {
		return err
	}
	if o.syscalls {
		if err := o.countSyscalls(ctx, s, r); err != nil {
			return err
		}
	}
	if err := o.finish(ctx, s, r); err != nil {
		return err
	}
	return s.publish(r)
}

// connect begins the job with its users.
func (o *pairsOptions) connect(ctx context.Context, s *site) error {
	target, err := s.target()
	if err != nil {
		return err
	}
	accounts, err := s.accounts(ctx, 2*o.pairs)
	if err != nil {
		return err
	}
	plan := load.PairsPlan{Target: target, Nodes: s.targets(), Window: o.window, ByReceipt: o.byReceipt, Bytes: o.bytes, Rate: o.rate, Seed: o.seed, Single: o.single}
	for i := range o.pairs {
		plan.Pairs = append(plan.Pairs, load.Pair{Sender: accounts[2*i], Receiver: accounts[2*i+1]})
	}
	if err := s.worker.job(ctx, "pairs", plan); err != nil {
		return err
	}
	return s.worker.ask(ctx, "connect", nil, nil)
}

// measure takes the figures of the measured time.
func (o *pairsOptions) measure(ctx context.Context, s *site, r *Report) error {
	profiled := s.startProfile(ctx, o.duration)
	var before load.Counts
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
	var result load.PairsResult
	if err := s.worker.ask(ctx, "measured", nil, &result); err != nil {
		return err
	}
	serverAfter, workerAfter, err := s.usages()
	if err != nil {
		return err
	}
	r.Ack, r.Deliver, r.Receipt = result.Ack, result.Deliver, result.Receipt
	r.RSSBytes = float64(serverAfter.RSS)
	st := stretch{seconds: time.Since(started).Seconds(), counts: difference(result.Counts, before),
		server: serverAfter.CPU - serverBefore.CPU, worker: workerAfter.CPU - workerBefore.CPU,
		ioCalls: serverAfter.IOCalls - serverBefore.IOCalls, written: serverAfter.WrittenBytes - serverBefore.WrittenBytes}
	if st.counts.Acked == 0 {
		return fmt.Errorf("bench: nothing was acknowledged in %.1f s; the first complaint: %q", st.seconds, result.Complaints.First)
	}
	st.fill(r)
	r.OfferedPerSecond = o.rate
	return profiled()
}

// watch waits for the measured time to pass, and says each second how it goes.
func (o *pairsOptions) watch(ctx context.Context, s *site, last load.Counts) error {
	for end := time.Now().Add(o.duration); ; {
		left := time.Until(end)
		if left <= 0 {
			return nil
		}
		if err := wait(ctx, min(left, time.Second)); err != nil {
			return err
		}
		var now load.Counts
		if err := s.worker.ask(ctx, "counts", nil, &now); err != nil {
			return err
		}
		s.say("%d acknowledged, %d delivered, %d receipted", now.Acked-last.Acked, now.Delivered-last.Delivered, now.Receipted-last.Receipted)
		last = now
	}
}

func difference(after, before load.Counts) load.Counts {
	return load.Counts{Sent: after.Sent - before.Sent, Acked: after.Acked - before.Acked, Delivered: after.Delivered - before.Delivered,
		Receipted: after.Receipted - before.Receipted, Cursors: after.Cursors - before.Cursors, Receipts: after.Receipts - before.Receipts,
		Heads: after.Heads - before.Heads, Bytes: after.Bytes - before.Bytes, Reads: after.Reads - before.Reads, Writes: after.Writes - before.Writes}
}

// fill computes what a message cost.
func (st *stretch) fill(r *Report) {
	n := float64(st.counts.Acked)
	r.Messages = st.counts.Acked
	r.AckedPerSecond = n / st.seconds
	r.DeliveredPerSecond = float64(st.counts.Delivered) / st.seconds
	r.CPUPerMessage = float64(st.server.Microseconds()) / n
	r.LoadCPUPerMessage = float64(st.worker.Microseconds()) / n
	r.CursorsPerMessage = float64(st.counts.Cursors) / n
	r.ReceiptsPerMessage = float64(st.counts.Receipts) / n
	r.WireBytesPerMessage = float64(st.counts.Bytes) / n
	r.IOCallsPerMessage = float64(st.ioCalls) / n
	r.WriteBytesPerMessage = float64(st.written) / n
}

// finish lets everything arrive, checks it, and looks at the disk.
func (o *pairsOptions) finish(ctx context.Context, s *site, r *Report) error {
	var complaints load.Complaints
	if err := s.worker.ask(ctx, "stop", nil, &complaints); err != nil {
		return err
	}
	r.complain(complaints)
	if s.server == nil {
		return nil
	}
	var counts load.Counts
	if err := s.worker.ask(ctx, "counts", nil, &counts); err != nil {
		return err
	}
	s.worker.stop()
	state, log, err := s.stateBytes()
	if err != nil {
		return err
	}
	r.DiskBytesPerMessage = float64(state) / float64(counts.Acked)
	r.LogBytesPerMessage = float64(log) / float64(counts.Acked)
	return nil
}
