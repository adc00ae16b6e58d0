//go:build linux

package bench

import (
	"time"

	"github.com/spf13/cobra"
)

func newClusterScenario() *cobra.Command {
	o := &pairsOptions{}
	c := o.command("cluster", "The direct scenario on three nodes, with fsync at a majority before the acknowledgement",
		"Starts a cluster of server processes on this machine, joined by invitations, with certificates on their links as an operator\n"+
			"would make them, and waits until every shard has its replicas. Then it is direct: of each pair, the users are at\n"+
			"different nodes, and a third of their conversations is led by either node or the other one.\n\n"+
			"CPU, calls and bytes are those of all nodes together. --lone is one pair with one message on its way.")
	o.addRate(c, 100, 16, 64, 10*time.Second)
	o.cluster.add(c.Flags())
	lone := c.Flags().Bool("lone", false, "one pair, one message on its way until its receipt has come: the latency of an idle cluster")
	c.PreRun = func(*cobra.Command, []string) {
		if *lone {
			o.pairs, o.window, o.byReceipt = 1, 1, true
		}
	}
	return c
}
