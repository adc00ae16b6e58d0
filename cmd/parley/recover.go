package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"parley/engine"
	"parley/engine/cluster"
	"parley/storage"
)

func newRecover() *cobra.Command {
	c := &cobra.Command{
		Use:   "recover",
		Short: "Make a new cluster of a node that has survived the loss of a majority",
		Long: "For a cluster that has lost a majority of some shards' replicas for good: says what a data directory that has\n" +
			"survived holds and what may be lost, and with --yes makes it the one node of a new cluster. Nothing else may run on\n" +
			"it, and no node of the old cluster may be started on its old directory again.\n\n" +
			"With --survivor, once for each, the directories of other nodes are compared, and of each shard the newest copy is\n" +
			"taken: the one with the higher term at the end of its log, and at the same term the higher index. They are read only.",
		Args: noArguments,
	}
	s := addSettings(c, "data")
	survivors := c.Flags().StringArray("survivor", nil, "also look at `DIR`, the data directory of another node of the cluster; may be repeated")
	yes := c.Flags().Bool("yes", false, "do it: without, nothing is changed")
	c.RunE = func(c *cobra.Command, _ []string) error {
		r, err := s.load()
		if err != nil {
			return err
		}
		return recoverCluster(c.Context(), c.OutOrStdout(), engine.RecoverOptions{Data: r.Config.Data, Survivors: *survivors}, *yes)
	}
	return c
}

func recoverCluster(ctx context.Context, out io.Writer, o engine.RecoverOptions, yes bool) error {
	do := engine.InspectRecovery
	if yes {
		do = engine.Recover
	}
	r, err := do(ctx, o)
	if errors.Is(err, storage.ErrInUse) {
		return hint{"a data directory is in use: stop the process that has it first, or name each directory once (" + detail(err) + ")", err}
	}
	if err != nil {
		return err
	}
	if r.Resumed {
		fmt.Fprint(out, "An earlier recovery of this directory was begun; this is what it found.\n\n")
	}
	if err := errors.Join(showDirectories(out, r), showCopies(out, r)); err != nil {
		return err
	}
	showLoss(out, r)
	switch {
	case !yes && r.Resumed:
		fmt.Fprintf(out, "\nThe directory is neither the old node nor a new one: finish the recovery with `parley recover --data %s --yes`.\n", o.Data)
	case !yes:
		fmt.Fprintf(out, "\nNothing was changed. With --yes this directory becomes the one node of a new cluster.\n")
	default:
		fmt.Fprintf(out, "\nThis directory is now node %d, the only one of the cluster %016x. Start it with `parley serve`, as before, and let other\n"+
			"nodes join with empty directories. The old directories are refused; keep them until you know that nothing is missing.\n", r.Node, r.Cluster)
	}
	return nil
}

// showDirectories says whose directories were looked at, and who is missing.
func showDirectories(out io.Writer, r *engine.Recovery) error {
	w := tabwriter.NewWriter(out, 0, 8, 2, ' ', 0)
	fmt.Fprintln(w, "NODE\tNAME\tDIRECTORY\tMAP EPOCH\tCLUSTER")
	for _, d := range r.Directories {
		name := dash(d.Name)
		if d.Removed {
			name += " (removed: what it has may be old)"
		}
		fmt.Fprintf(w, "%d\t%s\t%s\t%d\t%016x\n", d.Node, name, d.Path, d.Epoch, d.Cluster)
	}
	for _, n := range r.Lost {
		fmt.Fprintf(w, "%d\t%s\t(lost, was at %s)\t-\t-\n", n.Number, dash(n.Name), n.Address)
	}
	return w.Flush()
}

// showCopies lists the copies of each group, with a star at the one that is taken.
func showCopies(out io.Writer, r *engine.Recovery) error {
	w := tabwriter.NewWriter(out, 0, 8, 2, ' ', 0)
	fmt.Fprintln(w, "\nSHARD\tCOPY AT NODE\tVOTES\tLAST TERM\tLAST INDEX\tON DISK\tNEWEST ENTRY\tVOTERS HERE\tREPLICA")
	for i := range r.Groups {
		g := &r.Groups[i]
		if g.Chosen < 0 {
			fmt.Fprintf(w, "%s\tnone\t-\t-\t-\t-\t-\t-\t-\n", groupName(g.ID))
		}
		for at, c := range g.Copies {
			node, votes, newest, here := strconv.Itoa(int(r.Directories[c.Directory].Node)), "no", "-", "-"
			if at == g.Chosen {
				node, here = node+"*", fmt.Sprintf("%d of %d", g.Present, len(g.Voters))
			}
			if c.Voter {
				votes = "yes"
			}
			if !c.Newest.IsZero() {
				newest = c.Newest.UTC().Format(time.RFC3339)
			}
			fmt.Fprintf(w, "%s\t%s\t%s\t%d\t%d\t%d\t%s\t%s\t%s\n", groupName(g.ID), node, votes, c.Term, c.Index, c.Applied, newest, here, c.Replica)
		}
	}
	return w.Flush()
}

func groupName(id uint32) string {
	if id == cluster.MapGroup {
		return "map"
	}
	return strconv.FormatUint(uint64(id), 10)
}

// showLoss says in sentences what is lost, and what may be.
func showLoss(out io.Writer, r *engine.Recovery) {
	var empty, uncertain []string
	for i := range r.Groups {
		switch g := &r.Groups[i]; {
		case g.ID == cluster.MapGroup:
		case g.Chosen < 0:
			empty = append(empty, groupName(g.ID))
		case !g.Complete():
			uncertain = append(uncertain, groupName(g.ID))
		}
	}
	if len(empty) > 0 {
		fmt.Fprintf(out, "\nOf shards %s there is no copy: they begin empty. The accounts and conversations in them are lost.\n", strings.Join(empty, ", "))
	}
	if len(uncertain) > 0 {
		fmt.Fprintf(out, "\nOf shards %s less than a majority of voters is here: what the lost ones have acknowledged behind the last index of the copy\n"+
			"is lost, and nobody can tell how much that is. It is what clients sent, read and were told in the last moments, or since the copy\n"+
			"was cut off. The copy itself is whole.\n", strings.Join(uncertain, ", "))
	}
}
