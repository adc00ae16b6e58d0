//go:build linux

package bench

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"time"

	"parley/bench/load"
	"parley/engine/admin"
)

const (
	// startTimeout bounds a server's start: replaying a long log takes seconds.
	startTimeout = 2 * time.Minute
	// stopTimeout bounds its end: the last flush of 64 MiB takes a second or two.
	stopTimeout = time.Minute
	// logTailBytes is how much of a server's log an error shows.
	logTailBytes = 2 << 10
	// socketPath is where a server takes WebSocket connections.
	socketPath = "/v1/socket"
)

// errServer reports a server process that did not do what a benchmark needs.
var errServer = errors.New("bench: the server")

// servesLine is the one line that `parley serve` prints once it serves.
var servesLine = regexp.MustCompile(`^parley serves ws://(\S+) \((?:admin http://(\S+?)|no admin port), `)

// A server is a server process, and its data folder.
type server struct {
	program string
	flags   []string
	folder  string // of the benchmark; the data is below
	listen  string
	link    string // address for other nodes; empty: none

	invitation []string // flags of the first start of a node that joins a cluster

	command *exec.Cmd
	exited  chan struct{}
	address netip.AddrPort
	admin   string // host:port; empty: none
}

// data is the server's data folder.
func (s *server) data() string { return filepath.Join(s.folder, "data") }

// target is where the server's clients connect.
func (s *server) target() load.Target { return load.Target{Address: s.address, Path: socketPath} }

// operator asks the server as its operator does.
func (s *server) operator() *admin.Client {
	return admin.NewClient(filepath.Join(s.data(), "admin.sock"))
}

// pid is the process to measure.
func (s *server) pid() int { return s.command.Process.Pid }

// start runs the server and waits until it serves. A second start keeps the ports of the first.
func (s *server) start(ctx context.Context) error {
	if err := s.run(ctx); err != nil || !strings.HasSuffix(s.link, ":0") {
		return err
	}
	s.invitation = nil
	nodes, err := s.operator().Nodes(ctx)
	if err != nil {
		return fmt.Errorf("%w: %w", errServer, err)
	}
	for _, n := range nodes {
		if n.Self {
			s.link = n.Address
		}
	}
	return nil
}

// arguments are those of `parley`.
func (s *server) arguments() []string {
	if s.listen == "" {
		s.listen = "127.0.0.1:0"
	}
	args := []string{"serve", "--data", s.data(), "--listen", s.listen, "--admin", "127.0.0.1:0", "--drain-spread", "0s", "--log-level", "warn"}
	if s.link != "" {
		args = append(args, "--cluster-listen", s.link)
	}
	return append(append(args, s.invitation...), s.flags...)
}

// run starts the process and waits until it serves.
func (s *server) run(ctx context.Context) error {
	s.command = exec.Command(s.program, s.arguments()...)
	s.command.Env = withoutSettings(os.Environ())
	s.command.SysProcAttr = childAttributes()
	if err := os.MkdirAll(s.folder, 0o755); err != nil {
		return fmt.Errorf("%w: %w", errServer, err)
	}
	log, err := os.OpenFile(s.logName(), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return fmt.Errorf("%w: %w", errServer, err)
	}
	defer log.Close()
	s.command.Stderr = log
	out, err := s.command.StdoutPipe()
	if err != nil {
		return fmt.Errorf("%w: %w", errServer, err)
	}
	if err := s.command.Start(); err != nil {
		return fmt.Errorf("%w: %w", errServer, err)
	}
	s.exited = make(chan struct{})
	said := make(chan string, 1)
	go func() {
		defer close(s.exited)
		r := bufio.NewReader(out)
		line, _ := r.ReadString('\n') // empty if it ended before
		said <- line
		_, _ = io.Copy(io.Discard, r)
		_ = s.command.Wait() // its state is looked at where it matters
	}()
	select {
	case line := <-said:
		return s.served(line)
	case <-ctx.Done():
		return errors.Join(context.Cause(ctx), s.kill())
	case <-time.After(startTimeout):
		return errors.Join(fmt.Errorf("%w did not serve within %v: %s", errServer, startTimeout, s.logTail()), s.kill())
	}
}

// served takes the addresses from the server's line.
func (s *server) served(line string) error {
	match := servesLine.FindStringSubmatch(line)
	if match == nil {
		return errors.Join(fmt.Errorf("%w did not start: %s%s", errServer, line, s.logTail()), s.kill())
	}
	address, err := netip.ParseAddrPort(match[1])
	if err != nil {
		return errors.Join(fmt.Errorf("%w serves at %s: %w", errServer, match[1], err), s.kill())
	}
	s.address, s.listen, s.admin = address, match[1], match[2]
	return nil
}

// stop ends the server as an operator does, so that its state is flushed.
func (s *server) stop() error {
	if s.command == nil || s.command.Process == nil {
		return nil
	}
	if err := s.command.Process.Signal(syscall.SIGTERM); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("%w: %w", errServer, err)
	}
	select {
	case <-s.exited:
	case <-time.After(stopTimeout):
		return errors.Join(fmt.Errorf("%w did not stop within %v: %s", errServer, stopTimeout, s.logTail()), s.kill())
	}
	if state := s.command.ProcessState; !state.Success() {
		return fmt.Errorf("%w ended with %v: %s", errServer, state, s.logTail())
	}
	return nil
}

// kill ends the server without a word. It may have ended before.
func (s *server) kill() error {
	if s.command == nil || s.command.Process == nil {
		return nil
	}
	if err := s.command.Process.Kill(); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("%w: %w", errServer, err)
	}
	<-s.exited
	return nil
}

func (s *server) logName() string { return filepath.Join(s.folder, "server.log") }

// logTail is the end of the server's log, for errors.
func (s *server) logTail() string {
	b, err := os.ReadFile(s.logName())
	if err != nil {
		return err.Error()
	}
	return strings.TrimSpace(string(b[max(0, len(b)-logTailBytes):]))
}

// withoutSettings drops the variables that would configure a server.
func withoutSettings(environ []string) []string {
	var kept []string
	for _, v := range environ {
		if !strings.HasPrefix(v, "PARLEY_") {
			kept = append(kept, v)
		}
	}
	return kept
}

// childAttributes put a child into a process group of its own, so that Ctrl-C reaches this process
// alone, which then stops it; and end it with this process, however that ends.
func childAttributes() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
}
