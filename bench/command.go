package bench

import (
	"os"

	"github.com/spf13/cobra"

	"parley/bench/load"
)

// Command is `parley bench`: one subcommand for each scenario.
func Command() *cobra.Command {
	c := &cobra.Command{
		Use:   "bench",
		Short: "Measure a server: CPU, memory, bytes and latency per message and session",
		Long: "Each scenario starts a server process of its own on a temporary folder, or takes a running one with --target, applies\n" +
			"load from a process of its own, and prints what the server spent, as a table or with --json for programs.",
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error { return c.Help() },
	}
	c.AddCommand(newDirect(), newLone(), newWire(), newIdle(), newCrash(), newWorker())
	return c
}

// newWorker is the process that applies the load; scenarios run it.
func newWorker() *cobra.Command {
	return &cobra.Command{Use: "worker", Hidden: true, Args: cobra.NoArgs, RunE: func(*cobra.Command, []string) error {
		return load.Serve(os.Stdin, os.Stdout)
	}}
}
