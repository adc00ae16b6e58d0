package bench

import (
	"os"

	"github.com/spf13/cobra"

	"parley/bench/load"
)

func scenarios() []*cobra.Command {
	return []*cobra.Command{newDirect(), newLone(), newIdle(), newWire(), newCrash(), newCompare(), newWorker()}
}

// newWorker is the process that applies the load; scenarios run it.
func newWorker() *cobra.Command {
	return &cobra.Command{Use: "worker", Hidden: true, Args: cobra.NoArgs, RunE: func(*cobra.Command, []string) error {
		return load.Serve(os.Stdin, os.Stdout)
	}}
}
