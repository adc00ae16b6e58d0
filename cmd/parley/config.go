package main

import (
	"fmt"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"parley/cmd/parley/internal/config"
)

func newConfig() *cobra.Command {
	return group("config", "Check a configuration, or print the default one", newConfigCheck(), newConfigDefault())
}

func newConfigCheck() *cobra.Command {
	c := &cobra.Command{
		Use:   "check",
		Short: "Say whether `parley serve` would accept its settings, what they are and where they come from",
		Args:  noArguments,
	}
	s := addSettings(c)
	c.RunE = func(c *cobra.Command, _ []string) error {
		r, err := s.load()
		if err != nil {
			return err
		}
		w := tabwriter.NewWriter(c.OutOrStdout(), 0, 8, 2, ' ', 0)
		for _, setting := range r.Settings {
			fmt.Fprintf(w, "%s:\t%s\t# %s\n", setting.Key.Name, setting.Value, setting.Origin)
		}
		if err := w.Flush(); err != nil {
			return err
		}
		for _, warning := range r.Warnings {
			fmt.Fprintln(c.ErrOrStderr(), "warning:", warning)
		}
		return nil
	}
	return c
}

func newConfigDefault() *cobra.Command {
	return &cobra.Command{
		Use:   "default",
		Short: "Print a configuration file with every key, its documentation and its default",
		Args:  noArguments,
		RunE:  func(c *cobra.Command, _ []string) error { return config.WriteDefault(c.OutOrStdout()) },
	}
}
