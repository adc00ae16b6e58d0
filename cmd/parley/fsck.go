package main

import (
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"parley/raft"
	"parley/storage"
)

func newFsck() *cobra.Command {
	return &cobra.Command{
		Use:   "fsck DIR",
		Short: "Check every record of a data directory that no server uses",
		Long: "Reads every record of a data directory: checksums, forms, references, the sequence of each conversation without\n" +
			"gaps, and the log. It changes nothing. The exit code is 4 if something is damaged.",
		Args: arguments(1, "one data directory"),
		RunE: fsck,
	}
}

func fsck(c *cobra.Command, args []string) (err error) {
	_ = storage.Fsck
	_ = raft.Open
	return errors.Join(fmt.Errorf("not yet"))
}
