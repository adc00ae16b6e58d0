//go:build linux

package bench

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"parley/bench/core"
	"parley/engine"
)

// storageOptions are the settings of storage.
type storageOptions struct {
	options
	plan     core.Plan
	duration time.Duration
	warmup   time.Duration
	syscalls bool
}

func newStorage() *cobra.Command {
	o := &storageOptions{}
	c := &cobra.Command{Use: "storage", Short: "The replicated core alone: three replicas in one process", Args: cobra.NoArgs,
		Long: "Three nodes in one process, each with a replica of every shard, a log and a state of its own on disk, and Raft\n" +
			"messages that change hands in memory. Texts are put straight into the queues of the shards' leaders, each of\n" +
			"--conversations with --window of them on their way; a message is acknowledged when a majority has it on disk\n" +
			"(fsync) and its leader has applied it. There are no sessions and no deliveries.\n\n" +
			"CPU, bytes written and system calls are of the process, so of all three replicas together and of what feeds them;\n" +
			"disk_bytes_per_message is one replica's. errors is what the replicas are found to lack or to have differently when\n" +
			"all of it is read at the end; the command fails if there are any."}
	f := c.Flags()
	f.IntVar(&o.plan.Shards, "shards", engine.ShardsDefault, "how many shards, each led by one of the three nodes")
	f.IntVar(&o.plan.Conversations, "conversations", 10_000, "how many conversations are written to")
	f.IntVar(&o.plan.Window, "window", 2, "how many messages each has on their way")
	f.IntVar(&o.plan.Bytes, "bytes", 64, "of each text")
	f.Uint64Var(&o.plan.Seed, "seed", 1, "of users and texts")
	f.DurationVar(&o.duration, "duration", 10*time.Second, "how long to measure")
	f.DurationVar(&o.warmup, "warmup", 3*time.Second, "how long to run before")
	f.BoolVar(&o.syscalls, "syscalls", false, "count system calls with perf or strace, for two seconds after the measured time")
	o.addCommon(f)
	c.RunE = func(c *cobra.Command, _ []string) error {
		ctx, stop := o.begin(c)
		defer stop()
		return o.run(ctx)
	}
	return c
}

func (o *storageOptions) settings() map[string]string {
	return map[string]string{"shards": strconv.Itoa(o.plan.Shards), "conversations": strconv.Itoa(o.plan.Conversations),
		"window": strconv.Itoa(o.plan.Window), "bytes": strconv.Itoa(o.plan.Bytes), "seed": strconv.FormatUint(o.plan.Seed, 10),
		"duration": o.duration.String(), "warmup": o.warmup.String(), "replicas": strconv.Itoa(core.Replicas)}
}

func (o *storageOptions) run(ctx context.Context) (err error) {
	s := &site{options: &o.options, name: "storage"}
	defer func() { err = errors.Join(err, s.close()) }()
	if s.folder, err = os.MkdirTemp(o.folder, "parley-bench-"); err != nil {
		return fmt.Errorf("bench: %w", err)
	}
	r, err := s.report(o.settings())
	if err != nil {
		return err
	}
	if s.worker, err = startWorker("core", o.progress); err != nil {
		return err
	}
	o.plan.Folder = s.folder
	s.say("starting %d nodes with %d shards in %s", core.Replicas, o.plan.Shards, s.folder)
	var opened core.Opened
	if err := s.worker.ask(ctx, "open", o.plan, &opened); err != nil {
		return err
	}
	s.say("the nodes lead %s shards; warming up for %v", slashed(opened.Led), o.warmup)
	if err := s.worker.ask(ctx, "go", nil, nil); err != nil {
		return err
	}
	if err := wait(ctx, o.warmup); err != nil {
		return err
	}
	if err := o.measure(ctx, s, r); err != nil {
		return err
	}
	if o.syscalls {
		if r.SyscallsPerMessage, err = o.countSyscalls(ctx, s); err != nil {
			return err
		}
	}
	if err := o.finish(ctx, s, r); err != nil {
		return err
	}
	if err := s.publish(r); err != nil || r.Errors == 0 {
		return err
	}
	return fmt.Errorf("bench: storage: %d errors; the first: %s", r.Errors, r.FirstError)
}

// slashed is "3/3/2".
func slashed(numbers []int) string {
	return strings.Trim(strings.ReplaceAll(fmt.Sprint(numbers), " ", "/"), "[]")
}

// measure takes the figures of the measured time.
func (o *storageOptions) measure(ctx context.Context, s *site, r *Report) error {
	var before core.Counts
	if err := s.worker.ask(ctx, "mark", core.Profile{File: o.profile}, &before); err != nil {
		return err
	}
	started := time.Now()
	usageBefore, err := readUsage(s.worker.pid())
	if err != nil {
		return err
	}
	if err := o.watch(ctx, s, before); err != nil {
		return err
	}
	var after core.Measured
	if err := s.worker.ask(ctx, "measured", nil, &after); err != nil {
		return err
	}
	usageAfter, err := readUsage(s.worker.pid())
	if err != nil {
		return err
	}
	n := float64(after.Counts.Acked - before.Acked)
	if n == 0 {
		return fmt.Errorf("bench: storage: nothing was acknowledged in %v", o.duration)
	}
	r.Config["led"] = slashed(after.Led)
	r.Messages = after.Counts.Acked - before.Acked
	r.AckedPerSecond = n / time.Since(started).Seconds()
	r.CPUPerMessage = float64((usageAfter.CPU - usageBefore.CPU).Microseconds()) / n
	r.WriteBytesPerMessage = float64(usageAfter.WrittenBytes-usageBefore.WrittenBytes) / n
	r.IOCallsPerMessage = float64(usageAfter.IOCalls-usageBefore.IOCalls) / n
	r.MessagesPerEntry = n / float64(max(1, after.Counts.Entries-before.Entries))
	r.RSSBytes = float64(usageAfter.RSS)
	r.Ack = after.Ack
	return nil
}

// watch waits for the measured time to pass, and says each second how it goes.
func (o *storageOptions) watch(ctx context.Context, s *site, last core.Counts) error {
	for end := time.Now().Add(o.duration); ; {
		left := time.Until(end)
		if left <= 0 {
			return nil
		}
		if err := wait(ctx, min(left, time.Second)); err != nil {
			return err
		}
		var now core.Counts
		if err := s.worker.ask(ctx, "counts", nil, &now); err != nil {
			return err
		}
		s.say("%d acknowledged in %d entries", now.Acked-last.Acked, now.Entries-last.Entries)
		last = now
	}
}

func (o *storageOptions) countSyscalls(ctx context.Context, s *site) (perMessage float64, err error) {
	s.say("counting system calls for %v", syscallsTime)
	var before, after core.Counts
	if err := s.worker.ask(ctx, "counts", nil, &before); err != nil {
		return 0, err
	}
	calls, err := traceSyscalls(ctx, []int{s.worker.pid()}, syscallsTime)
	if err != nil {
		return 0, err
	}
	if err := s.worker.ask(ctx, "counts", nil, &after); err != nil {
		return 0, err
	}
	return float64(calls) / float64(max(1, after.Acked-before.Acked)), nil
}

// finish compares the replicas and looks at their disks.
func (o *storageOptions) finish(ctx context.Context, s *site, r *Report) error {
	s.say("reading all of it on every replica")
	var ended core.Ended
	if err := s.worker.ask(ctx, "stop", nil, &ended); err != nil {
		return err
	}
	r.complain(ended.Complaints)
	r.Resent = ended.Refused
	if err := s.worker.ask(ctx, "close", nil, nil); err != nil {
		return err
	}
	var state, log uint64
	for _, folder := range core.Folders(s.folder) {
		nodeState, stateErr := diskBytes(filepath.Join(folder, core.StateName))
		nodeLog, logErr := diskBytes(filepath.Join(folder, core.LogName))
		if err := errors.Join(stateErr, logErr); err != nil {
			return fmt.Errorf("bench: storage: %w", err)
		}
		state, log = state+nodeState, log+nodeLog
	}
	copies := float64(core.Replicas * ended.Messages)
	r.DiskBytesPerMessage, r.LogBytesPerMessage = float64(state)/copies, float64(log)/copies
	return nil
}
