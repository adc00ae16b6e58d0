package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"

	"github.com/spf13/cobra"

	"parley/engine"
	"parley/engine/auth"
	"parley/raft"
	"parley/storage"
)

// findingsShownMax bounds what fsck prints: one bad block can be a thousand findings.
const findingsShownMax = 100

// errDamage ends fsck with the code for damaged data.
var errDamage = errors.New("the data directory is damaged: restore a backup, or keep a copy of it before you do anything else")

func newFsck() *cobra.Command {
	return &cobra.Command{
		Use:   "fsck DIR",
		Short: "Check every record of a data directory that no server uses",
		Long: "Reads every record of a data directory: checksums, forms, what records say of each other, the sequence of each\n" +
			"conversation without gaps, the log and the keys. It changes nothing. The exit code is 4 if something is damaged.",
		Args: arguments(1, "one data directory"),
		RunE: func(c *cobra.Command, args []string) error { return fsck(c.Context(), c.OutOrStdout(), args[0]) },
	}
}

// fsck checks a directory while nobody else can open it.
func fsck(ctx context.Context, out io.Writer, dir string) (err error) {
	d, err := storage.OpenExistingDirectory(dir, nil)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, d.Close()) }()
	findings := 0
	report := func(what string) {
		if findings++; findings <= findingsShownMax {
			fmt.Fprintln(out, "damaged:", what)
		}
	}
	summary, err := storage.Fsck(ctx, d.Path("state"), nil, func(f storage.Finding) { report(f.String()) })
	if err != nil {
		return err
	}
	log, err := raft.CheckLog(d.Path("log"), nil)
	if err != nil {
		return err
	}
	for _, problem := range log.Problems {
		report("log: " + problem)
	}
	if err := auth.CheckKeys(filepath.Join(dir, "keys.json")); err != nil {
		report(detail(err))
	}
	for _, check := range []func(*storage.Directory) error{engine.CheckIdentity, engine.CheckReplicas} {
		if err := check(d); err != nil {
			report(detail(err))
		}
	}
	fmt.Fprintf(out, "state: %d users, %d conversations, %d messages in %d tables of %d bytes\n",
		summary.Users, summary.Conversations, summary.Messages, summary.Tables, summary.TableBytes)
	fmt.Fprintf(out, "log: %d entries of %d groups in %d bytes\n", log.Entries, len(log.Groups), log.Bytes)
	if findings > 0 {
		fmt.Fprintf(out, "%d findings\n", findings)
		return errDamage
	}
	fmt.Fprintln(out, "nothing is damaged")
	return nil
}
