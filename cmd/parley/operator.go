package main

import (
	"context"
	"errors"
	"log/slog"

	"parley/cmd/parley/internal/config"
	"parley/engine"
	"parley/engine/admin"
	"parley/storage"
)

// withOperator does an operator's work on a data directory: through the socket of the
// server that runs on it, or by opening it when none does.
func withOperator(ctx context.Context, c *config.Config, do func(admin.Operator) error) error {
	err := do(admin.NewClient(socketPath(c.Data)))
	if !errors.Is(err, admin.ErrNoServer) {
		return err
	}
	offline := engineConfig(c, slog.New(slog.DiscardHandler))
	offline.Listen, offline.Admin = "", ""
	node, err := engine.Open(ctx, offline)
	if errors.Is(err, storage.ErrInUse) {
		return hint{"a process has the data directory " + c.Data + " and does not answer on its operator's socket: " +
			"if it is a server that is starting, try again in a moment; if it is another command, wait for its end", err}
	}
	if err != nil {
		return err
	}
	return errors.Join(do(node), node.Close())
}
