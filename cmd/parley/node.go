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

	"parley/cmd/parley/internal/config"
	"parley/engine/admin"
)

func newNode() *cobra.Command {
	return group("node", "Manage the nodes of a cluster", newNodeList(), newNodeAdd(), newNodeDrain(), newNodeRemove(), newNodeCert())
}

// onCluster gives a command that asks the server of a data directory about its cluster.
func onCluster(c *cobra.Command, do func(ctx context.Context, out io.Writer, o admin.ClusterOperator, args []string) error) *cobra.Command {
	s := addSettings(c, "data")
	c.RunE = func(c *cobra.Command, args []string) error {
		r, err := s.load()
		if err != nil {
			return err
		}
		err = do(c.Context(), c.OutOrStdout(), admin.NewClient(socketPath(r.Config.Data)), args)
		return withoutServer(err, &r.Config)
	}
	return c
}

// withoutServer says what to do when no server runs on the data directory.
func withoutServer(err error, c *config.Config) error {
	if errors.Is(err, admin.ErrNoServer) {
		return hint{"no server runs on the data directory " + c.Data + ": run this on a machine with a running node, and name its directory with --data", err}
	}
	return err
}

func newNodeList() *cobra.Command {
	return onCluster(&cobra.Command{
		Use:   "list",
		Short: "List the cluster's nodes",
		Long: "Lists the nodes of the cluster with what they hold: replicas (of shards, and one of the cluster map on some), how many\n" +
			"of these they lead, and sessions of clients. A star is the node that was asked; one that does not answer shows dashes.",
		Args: noArguments,
	}, func(ctx context.Context, out io.Writer, o admin.ClusterOperator, _ []string) error {
		nodes, err := o.Nodes(ctx)
		if err != nil {
			return err
		}
		w := tabwriter.NewWriter(out, 0, 8, 2, ' ', 0)
		fmt.Fprintln(w, "NODE\tNAME\tSTATE\tADDRESS\tZONE\tWEIGHT\tREPLICAS\tLEADS\tSESSIONS")
		for _, n := range nodes {
			number := strconv.FormatUint(uint64(n.Number), 10)
			if n.Self {
				number += "*"
			}
			held := fmt.Sprintf("%d\t%d\t%d", n.Replicas, n.Leading, n.Sessions)
			if !n.Answers {
				n.State, held = n.State+", silent", "-\t-\t-"
			}
			fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%d\t%s\n", number, n.Name, n.State, n.Address, dash(n.Zone), n.Weight, held)
		}
		return w.Flush()
	})
}

func dash(text string) string {
	if text == "" {
		return "-"
	}
	return text
}

func newNodeAdd() *cobra.Command {
	c := &cobra.Command{
		Use:   "add",
		Short: "Print how to start a new node of this cluster",
		Long: "Makes an invitation and prints the command that starts a node which joins by it. The command is run on the new machine,\n" +
			"with an empty data directory. Shards move there by themselves.",
		Args: noArguments,
	}
	lifetime := c.Flags().Duration("lifetime", time.Hour, "how long the invitation is good, `TIME` up to 720h")
	tokenOnly := c.Flags().Bool("token", false, "print the invitation alone, for scripts")
	return onCluster(c, func(ctx context.Context, out io.Writer, o admin.ClusterOperator, _ []string) error {
		i, err := o.Invite(ctx, *lifetime)
		if err != nil {
			return err
		}
		if *tokenOnly {
			fmt.Fprintln(out, i.Token)
			return nil
		}
		fmt.Fprintf(out, "On the new machine, with its own address for --cluster-listen and, beyond loopback, its own certificate\n"+
			"(parley node cert; --cluster-ca, --cluster-cert, --cluster-key), before %s:\n\n"+
			"    parley serve --data DIR --listen HOST:PORT --cluster-listen HOST:PORT --join %s --join-token %s\n",
			i.Expires.Local().Format("2006-01-02 15:04:05 MST"), i.Address, i.Token)
		return nil
	})
}

func newNodeDrain() *cobra.Command {
	c := &cobra.Command{
		Use:   "drain NODE",
		Short: "Move everything away from a node",
		Long: "Moves leaders and replicas to other nodes and sends the node's clients elsewhere. When it holds nothing any more, the node\n" +
			"stops, and this returns; with --no-wait it returns at once. NODE is a name or number of `parley node list`.",
		Args: arguments(1, "one node"),
	}
	back := c.Flags().Bool("back", false, "let the node hold replicas again")
	noWait := c.Flags().Bool("no-wait", false, "do not wait until the node is empty")
	return onCluster(c, func(ctx context.Context, out io.Writer, o admin.ClusterOperator, args []string) error {
		if err := o.DrainNode(ctx, args[0], *back); err != nil || *back || *noWait {
			return err
		}
		return awaitEmpty(ctx, out, o, args[0])
	})
}

const (
	// drainPoll is how often a drain looks how far it is.
	drainPoll = 500 * time.Millisecond
	// drainStuck is how long nothing may move before a drain is as far as it gets.
	drainStuck = 20 * time.Second
)

// awaitEmpty waits until a node holds no replica, or leads none and cannot lose any more,
// because there are too few other nodes.
func awaitEmpty(ctx context.Context, out io.Writer, o admin.ClusterOperator, node string) error {
	left, since := -1, time.Now()
	for {
		nodes, err := o.Nodes(ctx)
		if err != nil {
			return err
		}
		for _, n := range nodes {
			if n.Name != node && strconv.FormatUint(uint64(n.Number), 10) != node {
				continue
			}
			if !n.Answers || n.Replicas == 0 {
				fmt.Fprintf(out, "%s holds nothing any more, or has stopped: `parley node remove %s` if it is not to come back\n", n.Name, n.Name)
				return nil
			}
			if n.Replicas != left {
				left, since = n.Replicas, time.Now()
				fmt.Fprintf(out, "%s: %d replicas left\n", n.Name, left)
			}
			if n.Leading == 0 && time.Since(since) > drainStuck {
				fmt.Fprintf(out, "%s leads nothing and serves nobody, but no other node can take its replicas. It can be stopped for a while;\n"+
					"to remove it, add another node first. `parley node drain --back %s` lets it work again.\n", n.Name, n.Name)
				return nil
			}
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(drainPoll):
		}
	}
}

func newNodeRemove() *cobra.Command {
	return onCluster(&cobra.Command{
		Use:   "remove NODE",
		Short: "Remove a node from the cluster, for good",
		Long: "Removes a node that was drained, or that is lost. Copies of what it held are made elsewhere. It is refused as long as a shard\n" +
			"would lose its majority. A removed node's data directory is of no use any more; the same machine may join again with an empty one.",
		Args: arguments(1, "one node"),
	}, func(ctx context.Context, _ io.Writer, o admin.ClusterOperator, args []string) error {
		return o.RemoveNode(ctx, args[0])
	})
}

func newShard() *cobra.Command {
	return group("shard", "Look after the shards of a cluster", newShardList(), newShardMove(), newShardTransfer())
}

func newShardList() *cobra.Command {
	c := &cobra.Command{
		Use:   "list",
		Short: "List the shards and where their replicas are",
		Long: "Lists the shards with their leader and replicas. A replica is a voter unless it says learner (it catches up), coming or going\n" +
			"(the cluster map wants it and it has not begun, or the other way round).\n\n" +
			"With --settled it first waits until every shard has a leader and is where it should be: what a script does between two\n" +
			"steps of a rolling upgrade.",
		Args: noArguments,
	}
	settled := c.Flags().Duration("settled", 0, "wait so long, `TIME`, until nothing is on its way any more")
	return onCluster(c, func(ctx context.Context, out io.Writer, o admin.ClusterOperator, _ []string) error {
		shards, err := settledShards(ctx, o, *settled)
		if err != nil {
			return err
		}
		w := tabwriter.NewWriter(out, 0, 8, 2, ' ', 0)
		fmt.Fprintln(w, "SHARD\tSLOTS\tLEADER\tTERM\tAPPLIED\tREPLICAS")
		for _, s := range shards {
			var replicas []string
			for _, r := range s.Replicas {
				if r.Role != "leader" && r.Role != "voter" {
					r.Node += " (" + r.Role + ")"
				}
				replicas = append(replicas, r.Node)
			}
			fmt.Fprintf(w, "%d\t%d-%d\t%s\t%d\t%d\t%s\n", s.ID, s.First, s.Last, dash(s.Leader), s.Term, s.Applied, strings.Join(replicas, ", "))
		}
		return w.Flush()
	})
}

// errUnsettled reports shards that have not come to rest.
var errUnsettled = errors.New("not every shard has come to rest")

const (
	settledPoll = 200 * time.Millisecond
	// settledLooks is how often in a row the shards must be at rest: the planner looks once a
	// second, so a move that is about to begin shows within that time.
	settledLooks = 8
)

// settledShards lists the shards, at rest if patience is not zero.
func settledShards(ctx context.Context, o admin.ClusterOperator, patience time.Duration) ([]admin.Shard, error) {
	deadline, looks := time.Now().Add(patience), 0
	for {
		shards, err := o.Shards(ctx)
		if err != nil || patience == 0 {
			return shards, err
		}
		looks++
		moving := 0
		for _, s := range shards {
			if !s.Settled {
				moving, looks = moving+1, 0
			}
		}
		if looks >= settledLooks {
			return shards, nil
		}
		if time.Now().After(deadline) {
			return nil, fmt.Errorf("%w: %d of %d are on their way, or have no leader", errUnsettled, moving, len(shards))
		}
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-time.After(settledPoll):
		}
	}
}

// shardNumber reads a shard's number.
func shardNumber(text string) (uint32, error) {
	n, err := strconv.ParseUint(text, 10, 32)
	if err != nil {
		return 0, usageError(fmt.Sprintf("a shard is a number of `parley shard list`, not %q", text))
	}
	return uint32(n), nil
}

func newShardMove() *cobra.Command {
	c := &cobra.Command{
		Use:   "move SHARD --from NODE --to NODE",
		Short: "Move a replica of a shard from one node to another",
		Long: "Has a new copy made and caught up, gives it the vote, and takes the old one out. The shard then stays where it was put: the\n" +
			"cluster does not move it for balance. `parley shard list` shows how far it is.",
		Args: arguments(1, "one shard"),
	}
	from := c.Flags().String("from", "", "the `NODE` that has the replica")
	to := c.Flags().String("to", "", "the `NODE` that gets one")
	return onCluster(c, func(ctx context.Context, _ io.Writer, o admin.ClusterOperator, args []string) error {
		shard, err := shardNumber(args[0])
		if err != nil {
			return err
		}
		if *from == "" || *to == "" {
			return usageError("say where the replica is (--from NODE) and where it goes (--to NODE)")
		}
		return o.MoveShard(ctx, shard, *from, *to)
	})
}

func newShardTransfer() *cobra.Command {
	c := &cobra.Command{
		Use:   "transfer SHARD --to NODE",
		Short: "Let another node lead a shard",
		Long:  "Makes the node lead the shard, of which it must have a replica, now and whenever it can.",
		Args:  arguments(1, "one shard"),
	}
	to := c.Flags().String("to", "", "the `NODE` that is to lead")
	return onCluster(c, func(ctx context.Context, _ io.Writer, o admin.ClusterOperator, args []string) error {
		shard, err := shardNumber(args[0])
		if err != nil {
			return err
		}
		if *to == "" {
			return usageError("say which node is to lead (--to NODE)")
		}
		return o.TransferShard(ctx, shard, *to)
	})
}
