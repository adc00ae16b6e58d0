package main

import (
	"github.com/spf13/cobra"

	"parley/bench"
)

func newBench() *cobra.Command { return bench.Command() }
