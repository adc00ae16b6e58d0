package main

import (
	"encoding/json"
	"fmt"
	"runtime"
	"runtime/debug"

	"github.com/spf13/cobra"

	"parley/storage"
	"parley/wire"
)

// program is the version of this program: set by the release build with
// -ldflags "-X main.program=1.2.3", and otherwise what Go knows of the module.
var program = ""

// A build says what this binary is. The versions of the protocol and of the storage
// format are apart from the program's: they change seldom, and decide what fits together.
type build struct {
	Program  string `json:"program"`
	Protocol int    `json:"protocol"`
	Storage  int    `json:"storage_format"`
	Go       string `json:"go"`
	Commit   string `json:"commit"`
	Modified bool   `json:"modified"`
	Platform string `json:"platform"`
}

func thisBuild() build {
	b := build{Program: program, Protocol: wire.Version, Storage: int(storage.FormatVersion), Go: runtime.Version(),
		Commit: "unknown", Platform: runtime.GOOS + "/" + runtime.GOARCH}
	info, ok := debug.ReadBuildInfo()
	if b.Program == "" {
		b.Program = "devel"
		if ok && info.Main.Version != "" && info.Main.Version != "(devel)" {
			b.Program = info.Main.Version
		}
	}
	if !ok {
		return b
	}
	for _, s := range info.Settings {
		switch s.Key {
		case "vcs.revision":
			b.Commit = s.Value
		case "vcs.modified":
			b.Modified = s.Value == "true"
		}
	}
	return b
}

func newVersion() *cobra.Command {
	c := &cobra.Command{Use: "version", Short: "Print the versions of program, protocol and storage format", Args: noArguments}
	asJSON := c.Flags().Bool("json", false, "print them as JSON")
	c.RunE = func(c *cobra.Command, _ []string) error {
		b := thisBuild()
		if *asJSON {
			return json.NewEncoder(c.OutOrStdout()).Encode(b)
		}
		modified := ""
		if b.Modified {
			modified = " (with changes that are not committed)"
		}
		fmt.Fprintf(c.OutOrStdout(), "parley   %s\nprotocol %d\nstorage  %d\ngo       %s %s\ncommit   %s%s\n",
			b.Program, b.Protocol, b.Storage, b.Go, b.Platform, b.Commit, modified)
		return nil
	}
	return c
}
