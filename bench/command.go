package bench

import "github.com/spf13/cobra"

// Command is `parley bench`: one subcommand for each scenario. It needs Linux, whose epoll the load
// process uses, and whose /proc says what a process took.
func Command() *cobra.Command {
	c := &cobra.Command{
		Use:   "bench",
		Short: "Measure a server: CPU, memory, bytes and latency per message and session",
		Long: "Each scenario starts a server process of its own on a temporary folder, or takes a running one with --target, applies\n" +
			"load from a process of its own, and prints what the server spent, as a table or with --json for programs.",
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error { return c.Help() },
	}
	c.AddCommand(scenarios()...)
	return c
}
