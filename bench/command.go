package bench

import "github.com/spf13/cobra"

// Command is `parley bench`: one subcommand for each scenario.
func Command() *cobra.Command {
	c := &cobra.Command{
		Use:   "bench",
		Short: "Measure a server: CPU, memory, bytes and latency per message and session",
	}
	return c
}
