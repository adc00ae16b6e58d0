package main

import (
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"parley/cmd/parley/internal/config"
	"parley/engine"
	"parley/raft/link"
)

// settings are the flags of a command that needs a server's configuration.
type settings struct {
	file  string
	flags map[string]string // those that were given, by key
}

// A settingFlag is one configuration key as a flag. It is checked when it is parsed, and
// takes effect in config.Load, where every source has its rank.
type settingFlag struct {
	key      *config.Key
	settings *settings
}

// String is what --help shows as the default.
func (f *settingFlag) String() string {
	if f.key == nil {
		return ""
	}
	return f.key.Default
}

// Set checks and keeps a value.
func (f *settingFlag) Set(value string) error {
	if err := f.key.Check(value); err != nil {
		return err
	}
	f.settings.flags[f.key.Name] = value
	return nil
}

// Type is what --help shows in place of the value.
func (f *settingFlag) Type() string { return f.key.Hint }

// addSettings gives a command --config and a flag for each of the named keys; for all if
// none is named.
func addSettings(c *cobra.Command, names ...string) *settings {
	s := &settings{flags: map[string]string{}}
	c.Flags().StringVar(&s.file, "config", "", "take settings from the YAML `FILE` (or "+config.FileVariable+")")
	wanted := map[string]bool{}
	for _, name := range names {
		wanted[name] = true
	}
	for i := range config.Keys {
		k := &config.Keys[i]
		if len(names) == 0 || wanted[k.Name] {
			c.Flags().Var(&settingFlag{key: k, settings: s}, k.Flag(), k.Doc+" ("+k.Variable()+")")
		}
	}
	return s
}

func (s *settings) load() (*config.Result, error) {
	return config.Load(config.Sources{File: s.file, Environ: os.Environ(), Flags: s.flags})
}

// socketPath is where the server of a data directory has its operator's socket.
func socketPath(data string) string { return filepath.Join(data, "admin.sock") }

// newLogger writes to standard error.
func newLogger(c *config.Config) *slog.Logger {
	options := &slog.HandlerOptions{Level: c.LogLevel}
	if c.LogFormat == "text" || c.LogFormat == "auto" && term.IsTerminal(int(os.Stderr.Fd())) {
		return slog.New(slog.NewTextHandler(os.Stderr, options))
	}
	return slog.New(slog.NewJSONHandler(os.Stderr, options))
}

// clusterConfig is the node's part in a cluster, nil if it is alone.
func clusterConfig(c *config.Config, log *slog.Logger) (*engine.ClusterConfig, error) {
	if c.ClusterListen == "" {
		return nil, nil
	}
	cluster := &engine.ClusterConfig{
		Listen: c.ClusterListen, Advertise: c.ClusterAdvertise, Token: c.JoinToken,
		Name: c.NodeName, Zone: c.NodeZone, Weight: c.NodeWeight, Client: c.ClientAddress,
	}
	for address := range strings.SplitSeq(c.Join, ",") {
		if address = strings.TrimSpace(address); address != "" {
			cluster.Join = append(cluster.Join, address)
		}
	}
	if c.ClusterCA != "" || c.ClusterCert != "" || c.ClusterKey != "" {
		files := link.TLSFiles{Authority: c.ClusterCA, Certificate: c.ClusterCert, Key: c.ClusterKey}
		var err error
		if cluster.TLS, err = link.LoadTLS(files, log); err != nil {
			return nil, err
		}
	}
	return cluster, nil
}

// engineConfig is the node that a configuration describes.
func engineConfig(c *config.Config, log *slog.Logger) engine.Config {
	return engine.Config{
		Data:             c.Data,
		Listen:           c.Listen,
		Admin:            c.Admin,
		Shards:           c.Shards,
		Loops:            c.Loops,
		ConnectionsMax:   c.ConnectionsMax,
		TicketLifetime:   c.TicketLifetime,
		DrainSpread:      max(c.DrainSpread, time.Nanosecond), // zero is the engine's default
		DiskReserveBytes: c.DiskReserveBytes,
		BufferBytesMax:   c.BufferBytesMax,
		CacheBytes:       c.CacheBytes,
		FlushInterval:    c.FlushInterval,
		Logger:           log,
		Fatal: func(err error) {
			log.Error("the node stops: it cannot keep its promises any more", "error", err)
			sentence, code := explain(err)
			if code != exitData && code != exitRefused { // damage, or a node that was removed
				sentence, code = fmt.Sprint("stopped, because the disk failed; nothing acknowledged is lost. Mend the disk and start again: ", detail(err)), exitFatal
			}
			fmt.Fprintln(os.Stderr, "parley:", sentence)
			os.Exit(code)
		},
	}
}
