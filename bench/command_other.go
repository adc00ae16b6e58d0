//go:build !linux

package bench

import (
	"errors"

	"github.com/spf13/cobra"
)

// errLinux says why there are no scenarios.
var errLinux = errors.New("bench: benchmarks need Linux")

func scenarios() []*cobra.Command {
	none := &cobra.Command{Use: "direct", Short: "Benchmarks need Linux", RunE: func(*cobra.Command, []string) error { return errLinux }}
	return []*cobra.Command{none}
}
