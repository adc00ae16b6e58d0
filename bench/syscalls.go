//go:build linux

package bench

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os/exec"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"parley/bench/load"
)

// syscallsTime is how long a tracer looks.
const syscallsTime = 2 * time.Second

// errTracer reports that system calls cannot be counted here.
var errTracer = errors.New("bench: --syscalls needs strace or perf, and the right to trace")

// countSyscalls counts the server's system calls under the load that runs. A tracer slows the server
// down, so nothing else is measured meanwhile; slower sends are batched more, so the figure is a
// little low.
func (o *pairsOptions) countSyscalls(ctx context.Context, s *site, r *Report) error {
	if s.server == nil {
		return nil
	}
	s.say("counting system calls for %v", syscallsTime)
	var before, after load.Counts
	if err := s.worker.ask(ctx, "counts", nil, &before); err != nil {
		return err
	}
	calls, err := traceSyscalls(ctx, s.pids(), syscallsTime)
	if err != nil {
		return err
	}
	if err := s.worker.ask(ctx, "counts", nil, &after); err != nil {
		return err
	}
	if n := after.Acked - before.Acked; n > 0 {
		r.SyscallsPerMessage = float64(calls) / float64(n)
	}
	return nil
}

// traceSyscalls runs perf, which costs less, or strace.
func traceSyscalls(ctx context.Context, pids []int, d time.Duration) (uint64, error) {
	seconds := strconv.FormatFloat(d.Seconds(), 'f', -1, 64)
	if _, err := exec.LookPath("perf"); err == nil {
		out, err := exec.CommandContext(ctx, "perf", "stat", "-x,", "-e", "raw_syscalls:sys_enter", "-p", joinInts(pids), "sleep", seconds).CombinedOutput()
		if n, ok := parsePerf(out); err == nil && ok {
			return n, nil
		}
	}
	if _, err := exec.LookPath("strace"); err != nil {
		return 0, errTracer
	}
	tracer := exec.CommandContext(ctx, "strace", "-f", "-c", "-p", joinInts(pids))
	var out bytes.Buffer
	tracer.Stderr = &out
	if err := tracer.Start(); err != nil {
		return 0, fmt.Errorf("%w: %w", errTracer, err)
	}
	waited := wait(ctx, d)
	if err := tracer.Process.Signal(unix.SIGINT); err != nil {
		return 0, fmt.Errorf("%w: %w", errTracer, err)
	}
	_ = tracer.Wait() // it ends by the signal; its table says whether it worked
	n, ok := parseStrace(out.Bytes())
	if !ok {
		return 0, fmt.Errorf("%w: %s", errTracer, strings.TrimSpace(out.String()))
	}
	return n, waited
}

// joinInts lists numbers as perf and strace want them.
func joinInts(list []int) string {
	var texts []string
	for _, n := range list {
		texts = append(texts, strconv.Itoa(n))
	}
	return strings.Join(texts, ",")
}

// parsePerf reads "123456,,raw_syscalls:sys_enter,...".
func parsePerf(out []byte) (uint64, bool) {
	for line := range strings.Lines(string(out)) {
		fields := strings.Split(line, ",")
		if len(fields) > 2 && strings.HasPrefix(fields[2], "raw_syscalls") {
			n, err := strconv.ParseUint(fields[0], 10, 64)
			return n, err == nil
		}
	}
	return 0, false
}

// parseStrace reads the total of strace -c: "100.00  0.1  12  3456  78 total", where the column of
// errors may be empty.
func parseStrace(out []byte) (uint64, bool) {
	for line := range strings.Lines(string(out)) {
		fields := strings.Fields(line)
		if len(fields) < 5 || fields[len(fields)-1] != "total" {
			continue
		}
		n, err := strconv.ParseUint(fields[3], 10, 64)
		return n, err == nil
	}
	return 0, false
}
