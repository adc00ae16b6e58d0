package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"parley/cmd/parley/internal/config"
	"parley/engine"
	"parley/engine/admin"
)

// openTimeout bounds a start: the replay of a long log takes seconds.
const openTimeout = 10 * time.Minute

// demoUsers are made by serve --demo.
var demoUsers = [2]string{"ada", "bob"}

func newServe() *cobra.Command {
	c := &cobra.Command{
		Use:   "serve",
		Short: "Run a server",
		Long: "Runs a server in the foreground until SIGINT or SIGTERM. It then asks its clients to reconnect, waits until\n" +
			"they are gone or the drain spread is over, and stops; a second signal stops it at once.\n\n" +
			"Nothing needs to be configured. A flag goes before a PARLEY_* variable, and that before the file of --config;\n" +
			"`parley config default` prints such a file.",
		Args: noArguments,
	}
	s := addSettings(c)
	demo := c.Flags().Bool("demo", false, "make the users ada and bob if there are none, and say how to chat as each of them")
	c.RunE = func(c *cobra.Command, _ []string) error {
		r, err := s.load()
		if err != nil {
			return err
		}
		return serve(c.Context(), c.OutOrStdout(), r, *demo)
	}
	return c
}

func serve(ctx context.Context, out io.Writer, r *config.Result, demo bool) (err error) {
	log := newLogger(&r.Config)
	for _, w := range r.Warnings {
		log.Warn(w)
	}
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	defer signal.Stop(signals)

	c := engineConfig(&r.Config, log)
	if c.Cluster, err = clusterConfig(&r.Config, log); err != nil {
		return err
	}
	node, err := openNode(ctx, signals, c)
	if err != nil {
		return err
	}
	if demo {
		if err := makeDemoUsers(ctx, node); err != nil {
			return errors.Join(err, node.Close())
		}
	}
	// Standard output gets one line, for people and for programs that started the server.
	fmt.Fprintf(out, "parley serves ws://%s (%s, data in %s)\n", node.Address(), adminText(node), r.Config.Data)
	if demo {
		printDemo(out, r, node)
	}
	select {
	case s := <-signals:
		log.Info("draining; a second signal stops at once", "signal", s.String())
		drain(ctx, node, signals, log)
	case <-node.Drained():
	}
	if err := node.Close(); err != nil {
		return fmt.Errorf("stop the node: %w", err)
	}
	log.Info("stopped")
	return nil
}

// openNode opens a node; a signal stops the attempt.
func openNode(ctx context.Context, signals chan os.Signal, c engine.Config) (*engine.Node, error) {
	ctx, cancel := context.WithTimeout(ctx, openTimeout)
	defer cancel()
	opened := make(chan struct{})
	defer close(opened)
	go func() {
		select {
		case <-signals:
			cancel()
		case <-opened:
		}
	}()
	return engine.Open(ctx, c)
}

// drain asks the clients to leave, until they have, or another signal comes.
func drain(ctx context.Context, node *engine.Node, signals chan os.Signal, log *slog.Logger) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	go func() {
		select {
		case <-signals:
			cancel()
		case <-ctx.Done():
		}
	}()
	if err := node.Drain(ctx); err != nil {
		log.Warn("some clients did not leave", "error", err)
	}
}

func adminText(node *engine.Node) string {
	if a := node.AdminAddress(); a != nil {
		return "admin http://" + a.String()
	}
	return "no admin port"
}

// makeDemoUsers creates the users of the demonstration, without a password: nobody can
// log in as them but by a token that the operator signs.
func makeDemoUsers(ctx context.Context, node *engine.Node) error {
	for _, name := range demoUsers {
		if _, err := node.CreateUser(ctx, name, nil); err != nil && !errors.Is(err, admin.ErrNameTaken) {
			return fmt.Errorf("make the user %s: %w", name, err)
		}
	}
	return nil
}

// printDemo says how to chat, with just the flags that are needed.
func printDemo(out io.Writer, r *config.Result, node *engine.Node) {
	program, err := os.Executable()
	if err != nil {
		program = "parley"
	}
	extra := ""
	defaults := config.Default()
	if r.Config.Data != defaults.Data {
		extra += " --data " + r.Config.Data
	}
	if a := node.Address().String(); a != defaults.Listen {
		extra += " --server ws://" + a
	}
	fmt.Fprintf(out, "\nTwo users are here. Open two more terminals and chat:\n\n")
	for i, name := range demoUsers {
		fmt.Fprintf(out, "    %s chat --as %s --with %s%s\n", shortPath(program), name, demoUsers[1-i], extra)
	}
	fmt.Fprintf(out, "\nCtrl-C stops the server. The next run has the same users and messages.\n\n")
}
