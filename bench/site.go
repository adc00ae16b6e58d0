//go:build linux

package bench

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/netip"
	"os"
	"os/signal"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"parley/bench/load"
)

// options are the flags that scenarios share.
type options struct {
	program    string   // of the server; empty: this one
	flags      []string // of the server
	folder     string   // where the data goes; empty: a temporary folder
	keep       bool
	json       string
	profile    string
	cluster    clusterFlags
	target     string // host:port of a server that runs; empty: start one
	targetData string
	targetPID  int
	out        io.Writer
	progress   io.Writer
}

func (o *options) add(f *pflag.FlagSet) {
	o.addCommon(f)
	f.StringVar(&o.program, "server", "", "measure the server of another `PROGRAM` than this one")
	f.StringArrayVar(&o.flags, "serve", nil, "pass a `FLAG` to the server, such as --serve=--loops=2; may be repeated")
	f.StringVar(&o.target, "target", "", "put load on a server that runs at `HOST:PORT` instead of starting one")
	f.StringVar(&o.targetData, "target-data", "", "data `DIR` of that server, on this machine: its operator's socket makes the users")
	f.IntVar(&o.targetPID, "target-pid", 0, "process of that server, on this machine, to read CPU and memory of")
}

// addCommon adds the flags that do not need a server.
func (o *options) addCommon(f *pflag.FlagSet) {
	f.StringVar(&o.folder, "folder", "", "keep data below `DIR` instead of a temporary folder: it decides which disk is measured")
	f.BoolVar(&o.keep, "keep", false, "leave the data and the server's log where they are")
	f.StringVar(&o.json, "json", "", "write the result as JSON to `FILE`, - for standard output (and no table)")
	f.StringVar(&o.profile, "profile", "", "write a CPU profile of what is measured, taken meanwhile, to `FILE`")
}

// begin takes a command's outputs, and a context that Ctrl-C ends, so that what was started is stopped
// and what was written is removed.
func (o *options) begin(c *cobra.Command) (context.Context, context.CancelFunc) {
	o.out, o.progress = c.OutOrStdout(), c.ErrOrStderr()
	return signal.NotifyContext(c.Context(), os.Interrupt, syscall.SIGTERM)
}

// errTarget reports flags about a running server that do not go together.
var errTarget = errors.New("bench: --target needs --target-data: its users are made through the operator's socket")

// A site is a server, or a cluster of them, with the process that puts load on it.
type site struct {
	options *options
	program string    // of the servers
	server  *server   // nil: it was running already; of a cluster, the first node
	nodes   []*server // all that were started
	worker  *worker
	folder  string
	name    string // of the scenario, for progress
}

// open starts a server, or takes the running one, and the load process.
func (o *options) open(ctx context.Context, name string) (*site, error) {
	s := &site{options: o, name: name}
	if o.target != "" {
		if o.targetData == "" {
			return nil, errTarget
		}
	} else if err := s.startServer(ctx); err != nil {
		return nil, errors.Join(err, s.close())
	}
	var err error
	if s.worker, err = startWorker("worker", o.progress); err != nil {
		return nil, errors.Join(err, s.close())
	}
	return s, nil
}

func (s *site) startServer(ctx context.Context) error {
	program := s.options.program
	if program == "" {
		var err error
		if program, err = os.Executable(); err != nil {
			return fmt.Errorf("bench: %w", err)
		}
	}
	folder, err := os.MkdirTemp(s.options.folder, "parley-bench-")
	if err != nil {
		return fmt.Errorf("bench: %w", err)
	}
	s.folder, s.program = folder, program
	if s.options.cluster.nodes > 0 {
		return s.startCluster(ctx)
	}
	s.server = &server{program: program, flags: s.options.flags, folder: folder}
	s.nodes = []*server{s.server}
	s.say("starting a server in %s", folder)
	return s.server.start(ctx)
}

// close stops what was started and removes the data.
func (s *site) close() error {
	if s.worker != nil {
		s.worker.stop()
	}
	var errs []error
	for _, n := range s.nodes {
		errs = append(errs, n.kill())
	}
	switch {
	case s.folder == "":
	case s.options.keep:
		s.say("data and log are in %s", s.folder)
	default:
		errs = append(errs, os.RemoveAll(s.folder))
	}
	return errors.Join(errs...)
}

func (s *site) say(format string, args ...any) {
	fmt.Fprintf(s.options.progress, "%s: %s\n", s.name, fmt.Sprintf(format, args...))
}

// target is where to connect.
func (s *site) target() (load.Target, error) {
	if s.server != nil {
		return s.server.target(), nil
	}
	address, err := netip.ParseAddrPort(strings.TrimPrefix(s.options.target, "ws://"))
	if err != nil {
		return load.Target{}, fmt.Errorf("bench: --target: %w", err)
	}
	return load.Target{Address: address, Path: socketPath}, nil
}

func (s *site) accounts(ctx context.Context, n int) ([]load.Account, error) {
	s.say("making %d users", n)
	return makeAccounts(ctx, s.data(), n, func(done int) { s.say("%d of %d users", done, n) })
}

// usage reads the server's process, or adds up those of a cluster; zeros if none is known.
func (s *site) usage() (sum usage, err error) {
	for _, pid := range s.pids() {
		u, err := readUsage(pid)
		if err != nil {
			return sum, err
		}
		sum.add(u)
	}
	return sum, nil
}

// pids are the processes to measure, as far as they are known.
func (s *site) pids() (pids []int) {
	for _, n := range s.nodes {
		pids = append(pids, n.pid())
	}
	if s.options.targetPID != 0 {
		pids = append(pids, s.options.targetPID)
	}
	return pids
}

// usages reads the server's process and the load's.
func (s *site) usages() (server, worker usage, err error) {
	server, err = s.usage()
	if err != nil {
		return server, worker, err
	}
	worker, err = readUsage(s.worker.pid())
	return server, worker, err
}

// startProfile takes a CPU profile of the server in the background, of each node into a file of its
// own; the function waits for it.
func (s *site) startProfile(ctx context.Context, d time.Duration) (wait func() error) {
	if s.options.profile == "" {
		return func() error { return nil }
	}
	var taking sync.WaitGroup
	errs := make([]error, len(s.nodes))
	for i, n := range s.nodes {
		if n.admin == "" {
			continue
		}
		name := s.options.profile
		if len(s.nodes) > 1 {
			name += "." + nodeName(i)
		}
		url := fmt.Sprintf("http://%s/debug/pprof/profile?seconds=%d", n.admin, max(1, int(d.Seconds())))
		taking.Go(func() { errs[i] = download(ctx, url, name) })
	}
	return func() error {
		taking.Wait()
		return errors.Join(errs...)
	}
}

func download(ctx context.Context, url, name string) error {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return fmt.Errorf("bench: profile: %w", err)
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return fmt.Errorf("bench: profile: %w", err)
	}
	defer response.Body.Close()
	f, err := os.Create(name)
	if err != nil {
		return fmt.Errorf("bench: profile: %w", err)
	}
	_, err = io.Copy(f, response.Body)
	return errors.Join(err, f.Close())
}

// report begins a report with what is known of the machine and the settings.
func (s *site) report(settings map[string]string) (*Report, error) {
	r := &Report{Schema: Schema, Scenario: s.name, Time: time.Now().UTC().Truncate(time.Second), Commit: commit(), Config: maps.Clone(settings)}
	if len(s.options.flags) > 0 {
		r.Config["server"] = strings.Join(s.options.flags, " ")
	}
	if s.options.target != "" {
		r.Config["target"] = s.options.target
	}
	folder := s.folder
	if folder == "" {
		folder = os.TempDir()
	}
	var err error
	r.Host, err = readHost(folder)
	return r, err
}

// publish writes the result where it is wanted.
func (s *site) publish(r *Report) error {
	if s.options.json != "" {
		if err := r.WriteJSON(s.options.json, s.options.out); err != nil || s.options.json == "-" {
			return err
		}
	}
	return r.WriteTable(s.options.out)
}

// stateBytes stops the server in good order and adds up what it left on disk.
func (s *site) stateBytes() (state, log uint64, err error) {
	if err := s.server.stop(); err != nil {
		return 0, 0, err
	}
	f, err := readFootprint(s.server.data())
	return f.state, f.log, err
}

// wait pauses, unless ctx ends before.
func wait(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-time.After(d):
		return nil
	}
}
