//go:build linux

package bench

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"reflect"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"parley/bench/load"
)

// Errors of a comparison; each makes the command fail.
var (
	ErrWorse      = errors.New("bench: the second result is worse")
	ErrComparable = errors.New("bench: the results cannot be compared")
)

// judged are the figures that repeat on a noisy machine, all of them better when they are lower. Rates
// and latencies are shown, and not judged.
var judged = []string{"cpu_us_per_message", "io_calls_per_message", "syscalls_per_message", "wire_bytes_per_message", "resume_bytes",
	"disk_bytes_per_message", "rss_bytes_per_session", "connect_us_token", "connect_us_ticket", "sync_us_first", "sync_us_unchanged"}

func newCompare() *cobra.Command {
	var tolerance float64
	c := &cobra.Command{Use: "compare A B", Short: "Tell two results apart; fails if the second is worse", Args: cobra.ExactArgs(2),
		Long: "Reads two files written with --json, and shows each figure of both and the change. The command fails if one of the\n" +
			"figures that repeat (CPU, calls and bytes, not rates and latencies) is worse in B by more than the tolerance, or\n" +
			"if B has errors. It also fails if the files are of different scenarios or settings."}
	c.Flags().Float64Var(&tolerance, "tolerance", 0.15, "how much worse is no difference, as a fraction")
	c.RunE = func(c *cobra.Command, args []string) error {
		a, errA := readReport(args[0])
		b, errB := readReport(args[1])
		if err := errors.Join(errA, errB); err != nil {
			return err
		}
		return compare(c.OutOrStdout(), a, b, tolerance)
	}
	return c
}

func readReport(name string) (*Report, error) {
	b, err := os.ReadFile(name)
	if err != nil {
		return nil, fmt.Errorf("bench: %w", err)
	}
	r := &Report{}
	if err := json.Unmarshal(b, r); err != nil {
		return nil, fmt.Errorf("%w: %s: %w", ErrComparable, name, err)
	}
	if r.Schema != Schema {
		return nil, fmt.Errorf("%w: %s has schema %d, and this program knows %d", ErrComparable, name, r.Schema, Schema)
	}
	return r, nil
}

// numbers are the figures of a report, latencies by their parts.
func numbers(r *Report) (names []string, values map[string]float64) {
	values = map[string]float64{}
	add := func(name string, x float64) {
		names = append(names, name)
		values[name] = x
	}
	v := reflect.ValueOf(r).Elem()
	for i := range v.NumField() {
		name, _, _ := strings.Cut(v.Type().Field(i).Tag.Get("json"), ",")
		switch x := v.Field(i).Interface().(type) {
		case float64:
			add(name, x)
		case *load.Latency:
			if x != nil {
				add(name+".p50", x.P50)
				add(name+".p99", x.P99)
			}
		}
	}
	return names, values
}

func compare(w io.Writer, a, b *Report, tolerance float64) error {
	if a.Scenario != b.Scenario || !maps.Equal(a.Config, b.Config) {
		return fmt.Errorf("%w: %s %v and %s %v", ErrComparable, a.Scenario, a.Config, b.Scenario, b.Config)
	}
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintf(t, "\t%s\t%s\tchange\n", a.Commit, b.Commit)
	names, before := numbers(a)
	_, after := numbers(b)
	var worse []string
	for _, name := range names {
		x, y := before[name], after[name]
		if x == 0 || y == 0 {
			continue
		}
		mark := ""
		for _, judgedName := range judged {
			if name == judgedName && y > x*(1+tolerance) {
				mark = "  worse"
				worse = append(worse, name)
			}
		}
		fmt.Fprintf(t, "%s\t%s\t%s\t%+.1f %%%s\n", name, formatFigure(x), formatFigure(y), (y/x-1)*100, mark)
	}
	fmt.Fprintf(t, "errors\t%d\t%d\n", a.Errors, b.Errors)
	if err := t.Flush(); err != nil {
		return fmt.Errorf("bench: %w", err)
	}
	if b.Errors > 0 {
		worse = append(worse, "errors")
	}
	if len(worse) > 0 {
		return fmt.Errorf("%w: %s", ErrWorse, strings.Join(worse, ", "))
	}
	return nil
}
