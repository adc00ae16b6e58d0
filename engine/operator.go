package engine

import (
	"context"
	"errors"
	"fmt"
	"net"
	"time"

	"parley/engine/admin"
	"parley/engine/auth"
	"parley/engine/shard"
	"parley/wire"
)

// idTriesMax bounds the draws of a free identifier: with 36 random bits the second is
// seldom needed.
const idTriesMax = 8

// CreateUser makes an account. Without a password nobody can log in to it with one; its
// tokens come from the operator.
func (n *Node) CreateUser(ctx context.Context, name string, password []byte) (wire.ID, error) {
	if err := auth.CheckName(name); err != nil {
		return 0, err
	}
	if n.diskFull.Load() {
		// The reserve is for what was accepted already, as with sends.
		return 0, fmt.Errorf("%w: %w", admin.ErrUnavailable, &wire.Error{
			Code: wire.CodeDiskFull, RetryAfterMS: retryDiskFullMS, Reason: "no account is made until there is room again"})
	}
	name = auth.CanonicalName(name)
	hash := ""
	if len(password) > 0 {
		if err := auth.CheckPassword(password); err != nil {
			return 0, err
		}
		var err error
		if hash, err = auth.HashPassword(ctx, password); err != nil {
			return 0, err
		}
	}
	slot := wire.SlotOf([]byte(name))
	for range idTriesMax {
		id := wire.MakeID(slot, random64())
		err := n.createUser(ctx, newUser{ID: id, Name: name, Hash: hash})
		switch {
		case err == nil:
			n.log.Info("user created", "name", name, "id", id)
			return id, nil
		case errors.Is(err, shard.ErrNameTaken):
			return 0, admin.ErrNameTaken
		case !errors.Is(err, shard.ErrIDTaken):
			return 0, fmt.Errorf("%w: %w", admin.ErrUnavailable, err)
		}
	}
	return 0, admin.ErrUnavailable
}

// Token signs a token for a device of a user; device 0 draws a new one, lifetime 0 means
// the default.
func (n *Node) Token(ctx context.Context, name string, device wire.ID, lifetime time.Duration) (admin.Token, error) {
	u, ok, err := n.userNamed(ctx, auth.CanonicalName(name))
	switch {
	case err != nil:
		return admin.Token{}, fmt.Errorf("%w: %w", admin.ErrUnavailable, err)
	case !ok:
		return admin.Token{}, admin.ErrUnknownUser
	}
	if device == 0 {
		device = wire.ID(random64()>>(64-wire.IDBits) | 1)
	}
	if lifetime == 0 {
		lifetime = TokenLifetimeDefault
	}
	text, err := n.keys.SignToken(u.ID, device, lifetime)
	if err != nil {
		return admin.Token{}, err
	}
	return admin.Token{Text: text, User: u.ID, Device: device, Expires: wire.TimeOf(time.Now().Add(lifetime))}, nil
}

// Flush writes what was applied to the state store, and has the logs cut behind it.
func (n *Node) Flush(ctx context.Context) error {
	if err := n.store.Flush(ctx); err != nil {
		return fmt.Errorf("%w: %w", admin.ErrUnavailable, err)
	}
	n.compact()
	return nil
}

// openAdmin opens the operator's socket in the data directory and, if configured, the
// admin port.
func (n *Node) openAdmin(context.Context) (err error) {
	if n.config.Listen == "" {
		return nil
	}
	n.admin, err = admin.Listen(admin.Config{
		Address: n.config.Admin, Socket: n.directory.Path("admin.sock"),
		Metrics: n.metrics.registry, Health: n, Operator: n, Logger: n.log,
	})
	return err
}

// AdminAddress is where the admin port listens; nil if there is none.
func (n *Node) AdminAddress() net.Addr {
	if n.admin == nil {
		return nil
	}
	return n.admin.Address()
}

// Reasons for not being ready.
var (
	errClock    = errors.New("the clock is far from those of the other nodes: this node leads nothing until it is set")
	errDraining = errors.New("the node is draining")
	errDiskFull = errors.New("the disk is full: sends are refused")
)

// Ready implements admin.Health.
func (n *Node) Ready() error {
	switch {
	case n.draining.Load():
		return errDraining
	case n.diskFull.Load():
		return errDiskFull
	case n.clocks.isWrong():
		return errClock
	}
	for _, r := range n.routes {
		if _, ok := n.leaders.of(r.id); !ok {
			return fmt.Errorf("shard %d has no leader", r.id)
		}
	}
	return nil
}

// closeAdmin gives running requests a moment.
func (n *Node) closeAdmin() error {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	return n.admin.Close(ctx)
}
