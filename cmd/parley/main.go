package main

import (
	"context"
	"fmt"
	"os"

	"github.com/spf13/cobra"
)

func main() { os.Exit(run(context.Background(), os.Args[1:])) }

// run is main with an exit code, so that what was deferred still runs.
func run(ctx context.Context, args []string) int {
	root := newRoot()
	root.SetArgs(args)
	err := root.ExecuteContext(ctx)
	if err == nil {
		return exitOK
	}
	message, code := explain(err)
	if message != "" {
		fmt.Fprintln(os.Stderr, "parley: "+message)
	}
	return code
}

func newRoot() *cobra.Command {
	root := &cobra.Command{
		Use:   "parley",
		Short: "A chat engine for people who run chat at scale",
		Long: "Parley is a chat engine: a compact binary protocol over WebSocket, an event-loop network core,\n" +
			"and messages in Raft-replicated shards. One binary, no service beside it.\n\n" +
			"Begin with `parley serve`, then `parley user add ada` and `parley chat --as ada --with bob`.",
		Args:          noArguments,
		RunE:          func(c *cobra.Command, _ []string) error { return c.Help() },
		SilenceErrors: true, // run prints them
		SilenceUsage:  true,
		CompletionOptions: cobra.CompletionOptions{
			HiddenDefaultCmd: true,
		},
	}
	root.SetFlagErrorFunc(func(c *cobra.Command, err error) error {
		return usageError(fmt.Sprintf("%v; `%s --help` shows the flags", err, c.CommandPath()))
	})
	root.AddCommand(newServe(), newCluster(), newConfig(), newUser(), newToken(), newNode(), newShard(), newChat(), newFsck(), newRecover(), newBench(), newVersion(), newDemo(), newExitCodes())
	return root
}

// arguments is a cobra check that an error of usage comes from.
func arguments(n int, what string) cobra.PositionalArgs {
	return func(c *cobra.Command, args []string) error {
		if len(args) != n {
			return usageError(fmt.Sprintf("%s takes %s; see `%s --help`", c.CommandPath(), what, c.CommandPath()))
		}
		return nil
	}
}

// noArguments also catches a misspelt subcommand.
func noArguments(c *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	c.SuggestionsMinimumDistance = 2
	if near := c.SuggestionsFor(args[0]); len(near) > 0 {
		return usageError(fmt.Sprintf("%s does not know %q; did you mean %q?", c.CommandPath(), args[0], near[0]))
	}
	return usageError(fmt.Sprintf("%s does not know %q; see `%s --help`", c.CommandPath(), args[0], c.CommandPath()))
}

// group is a command that only has subcommands: alone it prints them.
func group(use, short string, commands ...*cobra.Command) *cobra.Command {
	c := &cobra.Command{Use: use, Short: short, Args: noArguments, RunE: func(c *cobra.Command, _ []string) error { return c.Help() }}
	c.AddCommand(commands...)
	return c
}
