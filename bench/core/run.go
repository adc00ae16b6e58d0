//go:build linux

package core

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"runtime/pprof"
	"sync"
	"sync/atomic"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"

	"parley/bench/load"
	"parley/engine/router"
	"parley/engine/shard"
	"parley/wire"
)

const (
	// leadersTimeout bounds the elections at the start: a second or two, on a busy machine more.
	leadersTimeout = 30 * time.Second
	// settleTimeout bounds how long the last messages and the followers may take.
	settleTimeout = time.Minute
	// superviseInterval is how soon a writer that lost its leader finds the next one.
	superviseInterval = 20 * time.Millisecond
	// compactInterval is how often a server cuts its logs.
	compactInterval = time.Second
)

// errCore reports a core that does not do what it is measured for.
var errCore = errors.New("core: the replicated core")

// A Plan says what to run.
type Plan struct {
	Folder        string `json:"folder"` // of the three nodes; it must be there
	Shards        int    `json:"shards"`
	Conversations int    `json:"conversations"`
	Window        int    `json:"window"` // messages on their way in each
	Bytes         int    `json:"bytes"`  // of a text
	Seed          uint64 `json:"seed"`
}

// Opened is the answer to "open".
type Opened struct {
	Led []int `json:"led"` // shards, by node
}

// Counts are totals since the messages began.
type Counts struct {
	Acked   uint64 `json:"acked"`
	Entries uint64 `json:"entries"` // of the log
}

// Measured is what was seen between "mark" and "measured".
type Measured struct {
	Counts Counts        `json:"counts"` // at the end
	Ack    *load.Latency `json:"ack"`
	Led    []int         `json:"led"`
}

// Ended is the answer to "stop": all is acknowledged, and the replicas were compared.
type Ended struct {
	Messages   uint64          `json:"messages"`
	Refused    uint64          `json:"refused"` // and sent again
	Complaints load.Complaints `json:"complaints"`
}

// A run is a cluster under load.
type run struct {
	plan    Plan
	base    time.Time
	texts   *load.Texts
	cluster *cluster
	traffic []*traffic
	ending  atomic.Bool
	failed  atomic.Pointer[error]
	stop    chan struct{}
	stopped sync.Once
	workers sync.WaitGroup
	profile *os.File
}

// open starts a cluster and waits for its leaders.
func open(ctx context.Context, p Plan) (*run, error) {
	if p.Conversations < 1 || p.Window < 1 || p.Bytes < 1 {
		return nil, fmt.Errorf("%w: conversations, window and bytes must be positive", errCore)
	}
	table, err := router.NewTable(p.Shards)
	if err != nil {
		return nil, err
	}
	r := &run{plan: p, base: time.Now(), texts: load.NewTexts(p.Bytes, p.Seed), stop: make(chan struct{})}
	for id := range p.Shards {
		r.traffic = append(r.traffic, &traffic{run: r, shard: id, latency: newHistogram()})
	}
	r.converse(table)
	if r.cluster, err = openCluster(p.Folder, table, func(id int) shard.Sink { return r.traffic[id] }, r.fatal); err != nil {
		return nil, err
	}
	if err := r.await(ctx, leadersTimeout, "leaders", func() bool {
		for id := range p.Shards {
			if r.cluster.leader(id) == nil {
				return false
			}
		}
		return true
	}); err != nil {
		return nil, errors.Join(err, r.cluster.close())
	}
	return r, nil
}

// converse draws the conversations.
func (r *run) converse(table *router.Table) {
	dice := rand.New(rand.NewPCG(r.plan.Seed, 2))
	user := func() wire.ID { return wire.MakeID(wire.Slot(dice.IntN(wire.Slots)), dice.Uint64()) }
	for i := range r.plan.Conversations {
		c := wire.DirectConversation(user(), user())
		r.traffic[table.Shard(c.Slot())].add(c, i, r.plan.Window)
	}
}

// fatal notes what ended a node. The process goes on, so that it can be told.
func (r *run) fatal(err error) { r.failed.CompareAndSwap(nil, &err) }

// err is what ended a node, if anything.
func (r *run) err() error {
	if err := r.failed.Load(); err != nil {
		return fmt.Errorf("%w stopped: %w", errCore, *err)
	}
	return nil
}

// await polls, as none of what it waits for tells.
func (r *run) await(ctx context.Context, limit time.Duration, what string, done func() bool) error {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	tick := time.NewTicker(superviseInterval)
	defer tick.Stop()
	for !done() {
		if err := r.err(); err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%w: no %s: %w", errCore, what, ctx.Err())
		case <-tick.C:
		}
	}
	return nil
}

// begin starts the messages.
func (r *run) begin() { r.workers.Go(r.supervise) }

// supervise does what a node does once a second, and what writers cannot do on their own.
func (r *run) supervise() {
	resume, compact := time.NewTicker(superviseInterval), time.NewTicker(compactInterval)
	defer resume.Stop()
	defer compact.Stop()
	for {
		select {
		case <-r.stop:
			return
		case <-compact.C:
			r.cluster.compact()
		case <-resume.C:
			for _, t := range r.traffic {
				t.resume()
			}
		}
	}
}

func (r *run) counts() Counts {
	c := Counts{Entries: r.cluster.entries()}
	for _, t := range r.traffic {
		c.Acked += t.acked.Load()
	}
	return c
}

// mark begins what is measured, with a CPU profile of it if a file is named.
func (r *run) mark(profile string) (Counts, error) {
	for _, t := range r.traffic {
		t.mu.Lock()
		t.latency.Reset()
		t.mu.Unlock()
	}
	if profile != "" {
		f, err := os.Create(profile)
		if err != nil {
			return Counts{}, fmt.Errorf("core: profile: %w", err)
		}
		if err := pprof.StartCPUProfile(f); err != nil {
			return Counts{}, errors.Join(fmt.Errorf("core: profile: %w", err), f.Close())
		}
		r.profile = f
	}
	return r.counts(), r.err()
}

// measured ends what is measured.
func (r *run) measured() (Measured, error) {
	m := Measured{Counts: r.counts(), Led: r.cluster.led()}
	all := newHistogram()
	for _, t := range r.traffic {
		t.mu.Lock()
		all.Merge(t.latency)
		t.mu.Unlock()
	}
	m.Ack = latencyOf(all)
	err := r.err()
	if r.profile != nil {
		pprof.StopCPUProfile()
		err = errors.Join(err, r.profile.Close())
		r.profile = nil
	}
	return m, err
}

func latencyOf(h *hdrhistogram.Histogram) *load.Latency {
	if h.TotalCount() == 0 {
		return nil
	}
	ms := func(us int64) float64 { return float64(us) / 1000 }
	return &load.Latency{P50: ms(h.ValueAtQuantile(50)), P90: ms(h.ValueAtQuantile(90)), P99: ms(h.ValueAtQuantile(99)), Max: ms(h.Max())}
}

// end lets everything be acknowledged and applied everywhere, and compares the replicas.
func (r *run) end(ctx context.Context) (Ended, error) {
	r.ending.Store(true)
	err := r.await(ctx, settleTimeout, "answer to the last messages", func() bool {
		for _, t := range r.traffic {
			if !t.settled() {
				return false
			}
		}
		return true
	})
	if err == nil {
		err = r.await(ctx, settleTimeout, "agreement on the last entry", r.cluster.even)
	}
	if err != nil {
		return Ended{}, err
	}
	r.rest()
	e := Ended{Messages: r.counts().Acked}
	for _, t := range r.traffic {
		e.Refused += t.refused
		t.verify()
		e.Complaints.Errors += t.complaints.Errors
		if e.Complaints.First == "" {
			e.Complaints.First = t.complaints.First
		}
	}
	return e, r.err()
}

// rest ends the supervisor.
func (r *run) rest() {
	r.stopped.Do(func() { close(r.stop) })
	r.workers.Wait()
}

// close stops the nodes, which flushes what they hold.
func (r *run) close() error {
	r.ending.Store(true)
	r.rest()
	return r.cluster.close()
}
