package main

import (
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/spf13/cobra"

	"parley/cmd/parley/internal/demo"
)

func newDemo() *cobra.Command {
	return &cobra.Command{
		Use:   "demo",
		Short: "Play a conversation in which the server is killed, and check that nothing is lost",
		Long: "Starts a server on a temporary directory and free ports, lets two clients talk, kills the server with SIGKILL,\n" +
			"starts it again, and checks that every message and receipt is there. The exit code is 1 if not.",
		Args: noArguments,
		RunE: func(c *cobra.Command, _ []string) error {
			program, err := os.Executable()
			if err != nil {
				return fmt.Errorf("find this program, to start it as a server: %w", err)
			}
			ctx, stop := signal.NotifyContext(c.Context(), os.Interrupt, syscall.SIGTERM)
			defer stop()
			return demo.Run(ctx, c.OutOrStdout(), program)
		},
	}
}

// shortPath is how a person would name a program: relative to here if it is below, and by
// its name if the shell finds it.
func shortPath(path string) string {
	here, err := os.Getwd()
	if err != nil {
		return path
	}
	relative, err := filepath.Rel(here, path)
	if err != nil || strings.HasPrefix(relative, "..") {
		return path
	}
	if !strings.Contains(relative, string(filepath.Separator)) {
		return "./" + relative
	}
	return relative
}
