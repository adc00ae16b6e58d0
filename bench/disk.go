//go:build linux

package bench

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"parley/bench/load"
	"parley/engine/admin"
)

const (
	// stallTime is how long nothing may be acknowledged before a run that must come to an end is given up.
	stallTime = 30 * time.Second
	// settleInterval is how long a folder must keep its size to count as settled: logs are cut once a second.
	settleInterval = 2500 * time.Millisecond
	// settleTimeMax bounds the wait for it: compactions of all that was written take seconds.
	settleTimeMax = time.Minute
)

// errStalled reports a server that acknowledges nothing any more.
var errStalled = errors.New("bench: nothing is acknowledged any more")

// diskOptions are the settings of disk: pairs that send a fixed number of messages.
type diskOptions struct {
	pairsOptions
	messages int
}

func newDisk() *cobra.Command {
	o := &diskOptions{}
	c := &cobra.Command{Use: "disk", Short: "Bytes on disk of a message: state, log, and all that was written", Args: cobra.NoArgs,
		Long: "In each of --pairs conversations one user sends until -n messages are stored, delivered and receipted. Then the server\n" +
			"is told to write its state to disk (a flush, by the operator's socket), and once its files keep their size, they are\n" +
			"added up. disk_bytes_per_message is what the state has grown by, users' lists and cursors included;\n" +
			"log_bytes_per_message what the log still keeps, which is bounded by its files of 64 MiB and not by messages;\n" +
			"write_bytes_per_message all that the server gave to the disk on the way: log, flushes and compactions."}
	f := c.Flags()
	f.IntVarP(&o.messages, "messages", "n", 500_000, "how many messages, over all pairs")
	f.IntVar(&o.pairs, "pairs", 1000, "how many pairs of users; the fewer messages a conversation has, the dearer is each")
	f.IntVar(&o.window, "window", 16, "how many messages each pair has on their way, at most 64")
	f.IntVar(&o.bytes, "bytes", 64, "of each text")
	f.Uint64Var(&o.seed, "seed", 1, "of the texts")
	o.add(f)
	c.RunE = func(c *cobra.Command, _ []string) error {
		ctx, stop := o.begin(c)
		defer stop()
		return o.runDisk(ctx)
	}
	return c
}

func (o *diskOptions) runDisk(ctx context.Context) (err error) {
	if o.pairs < 1 || o.messages < o.pairs {
		return fmt.Errorf("bench: disk: %d messages over %d pairs: each sends at least one", o.messages, o.pairs)
	}
	s, err := o.open(ctx, "disk")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.close()) }()
	r, err := s.report(map[string]string{"messages": strconv.Itoa(o.messages), "pairs": strconv.Itoa(o.pairs), "window": strconv.Itoa(o.window),
		"bytes": strconv.Itoa(o.bytes), "seed": strconv.FormatUint(o.seed, 10)})
	if err != nil {
		return err
	}
	if err := o.connect(ctx, s); err != nil {
		return err
	}
	before, err := s.settled(ctx)
	if err != nil {
		return err
	}
	usageBefore, err := s.usage()
	if err != nil {
		return err
	}
	if err := o.store(ctx, s, r, uint64(o.messages+o.pairs-1)/uint64(o.pairs)); err != nil {
		return err
	}
	after, err := s.settled(ctx)
	if err != nil {
		return err
	}
	usageAfter, err := s.usage()
	if err != nil {
		return err
	}
	n := float64(r.Messages)
	r.DiskBytesPerMessage = (float64(after.state) - float64(before.state)) / n
	r.LogBytesPerMessage = float64(after.log) / n
	r.WriteBytesPerMessage = float64(usageAfter.WrittenBytes-usageBefore.WrittenBytes) / n
	return s.publish(r)
}

// store has each pair send its messages, and waits until all of them have come all the way.
func (o *pairsOptions) store(ctx context.Context, s *site, r *Report, each uint64) error {
	started := time.Now()
	var complaints load.Complaints
	done := make(chan error, 1)
	go func() { done <- s.worker.ask(ctx, "go", load.GoPlan{Messages: each}, &complaints) }()
	if err := o.follow(ctx, s, done); err != nil {
		return err
	}
	var counts load.Counts
	if err := s.worker.ask(ctx, "counts", nil, &counts); err != nil {
		return err
	}
	r.Messages = counts.Acked
	r.AckedPerSecond = float64(counts.Acked) / time.Since(started).Seconds()
	r.complain(complaints)
	return nil
}

// follow says how it goes until done, and gives up when nothing moves.
func (o *pairsOptions) follow(ctx context.Context, s *site, done <-chan error) error {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	var last load.Counts
	moved := time.Now()
	for {
		select {
		case err := <-done:
			return err
		case <-tick.C:
		}
		var now load.Counts
		if err := s.worker.ask(ctx, "counts", nil, &now); err != nil {
			return err
		}
		s.say("%d acknowledged, %d receipted", now.Acked, now.Receipted)
		if now.Receipted > last.Receipted {
			last, moved = now, time.Now()
		}
		if time.Since(moved) > stallTime {
			var complaints load.Complaints
			err := s.worker.ask(ctx, "stop", nil, &complaints)
			return errors.Join(fmt.Errorf("%w: %+v; the first of %d complaints: %q", errStalled, now, complaints.Errors, complaints.First), err)
		}
	}
}

// A footprint is what a server has on disk, in bytes.
type footprint struct{ state, log uint64 }

// data is the server's data folder.
func (s *site) data() string {
	if s.server != nil {
		return s.server.data()
	}
	return s.options.targetData
}

// settled has the server write its state, and reads its files once they keep their size.
func (s *site) settled(ctx context.Context) (f footprint, err error) {
	s.say("having the state written to disk")
	if err := admin.NewClient(filepath.Join(s.data(), "admin.sock")).Flush(ctx); err != nil {
		return f, fmt.Errorf("bench: flush: %w", err)
	}
	for end := time.Now().Add(settleTimeMax); time.Now().Before(end); {
		last := f
		if err := wait(ctx, settleInterval); err != nil {
			return f, err
		}
		if f, err = readFootprint(s.data()); err != nil || f == last {
			return f, err
		}
	}
	return f, fmt.Errorf("bench: the files in %s have not come to rest in %v", s.data(), settleTimeMax)
}

func readFootprint(data string) (f footprint, err error) {
	var stateErr, logErr error
	f.state, stateErr = diskBytes(filepath.Join(data, "state"))
	f.log, logErr = diskBytes(filepath.Join(data, "log"))
	return f, errors.Join(stateErr, logErr)
}
