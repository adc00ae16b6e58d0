//go:build linux

package bench

import (
	"context"
	"errors"
	"strconv"

	"github.com/spf13/cobra"

	"parley/bench/load"
)

const (
	// wireWarmup brings counters, correlations and sequences to where a conversation in use has them.
	wireWarmup = 1000
	// wireMessages is how many exchanges are counted; they differ only when a number gets longer.
	wireMessages = 200
)

func newWire() *cobra.Command {
	o := &pairsOptions{pairs: 1, window: 1, byReceipt: true}
	c := &cobra.Command{Use: "wire", Short: "Bytes of a whole exchange, and of coming back", Args: cobra.NoArgs,
		Long: "Counts the bytes on both users' sockets, WebSocket headers included, of a message that is sent, acknowledged,\n" +
			"pushed, reported as delivered and receipted, one at a time, with counters from " + strconv.Itoa(wireWarmup) + "; and those of a\n" +
			"reconnection by ticket with nothing changed, from HELLO to CONVERSATIONS."}
	c.RunE = func(c *cobra.Command, _ []string) error {
		ctx, stop := o.begin(c)
		defer stop()
		return o.runWire(ctx)
	}
	o.add(c.Flags())
	c.Flags().IntVar(&o.bytes, "bytes", 20, "of each text")
	c.Flags().Uint64Var(&o.seed, "seed", 1, "of the texts")
	return c
}

func (o *pairsOptions) runWire(ctx context.Context) (err error) {
	s, err := o.open(ctx, "wire")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.close()) }()
	r, err := s.report(map[string]string{"bytes": strconv.Itoa(o.bytes), "counters_from": strconv.Itoa(wireWarmup)})
	if err != nil {
		return err
	}
	if err := o.connect(ctx, s); err != nil {
		return err
	}
	var before, after load.Counts
	var complaints load.Complaints
	var resume load.ResumeResult
	err = errors.Join(
		s.worker.ask(ctx, "go", load.GoPlan{Messages: wireWarmup}, nil),
		s.worker.ask(ctx, "mark", nil, &before),
		s.worker.ask(ctx, "go", load.GoPlan{Messages: wireWarmup + wireMessages}, &complaints),
		s.worker.ask(ctx, "counts", nil, &after),
		s.worker.ask(ctx, "resume", nil, &resume))
	if err != nil {
		return err
	}
	r.Messages = after.Acked - before.Acked
	r.WireBytesPerMessage = float64(after.Bytes-before.Bytes) / float64(r.Messages)
	r.ResumeBytes, r.ResumeHandshakeBytes = float64(resume.Bytes), float64(resume.HandshakeBytes)
	r.complain(complaints)
	return s.publish(r)
}
