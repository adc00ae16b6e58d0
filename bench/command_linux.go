package bench

import (
	"os"

	"github.com/spf13/cobra"

	"parley/bench/core"
	"parley/bench/load"
)

func scenarios() []*cobra.Command {
	return []*cobra.Command{newDirect(), newLone(), newIdle(), newWire(), newSync(), newGroup(), newReceipts(), newStorage(), newDisk(), newCrash(), newRestart(), newClusterScenario(), newFailover(), newMove(), newStorm(), newIdleCluster(), newCompare(), newWorker(), newCore()}
}

// newWorker is the process that applies the load; scenarios run it.
func newWorker() *cobra.Command {
	return &cobra.Command{Use: "worker", Hidden: true, Args: cobra.NoArgs, RunE: func(*cobra.Command, []string) error {
		return load.Serve(os.Stdin, os.Stdout)
	}}
}

// newCore is the process of three replicas; storage runs it.
func newCore() *cobra.Command {
	return &cobra.Command{Use: "core", Hidden: true, Args: cobra.NoArgs, RunE: func(c *cobra.Command, _ []string) error {
		return core.Serve(c.Context(), os.Stdin, os.Stdout)
	}}
}
