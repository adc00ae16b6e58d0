//go:build linux

package bench

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"parley/bench/load"
	"parley/engine/admin"
	"parley/engine/auth"
	"parley/wire"
)

const (
	// tokenLifetime outlives every benchmark.
	tokenLifetime = 24 * time.Hour
	// creators is how many accounts are made at a time, so that the log's fsyncs are shared.
	creators = 32
)

// makeAccounts gives n users of a server with a device and a token each. The users are made through
// the operator's socket, without a password, so that no time goes into hashing; those that exist are
// used again. Tokens are signed here, with the server's keys.
func makeAccounts(ctx context.Context, data string, n int, progress func(done int)) ([]load.Account, error) {
	keys, err := auth.LoadOrCreateKeys(filepath.Join(data, "keys.json"))
	if err != nil {
		return nil, fmt.Errorf("bench: %w", err)
	}
	client := admin.NewClient(filepath.Join(data, "admin.sock"))
	accounts := make([]load.Account, n)
	errs := make([]error, n)
	var next, done atomic.Int64
	var all sync.WaitGroup
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	for range creators {
		all.Go(func() {
			for i := int(next.Add(1)) - 1; i < n && ctx.Err() == nil; i = int(next.Add(1)) - 1 {
				if accounts[i], errs[i] = makeAccount(ctx, client, keys, i); errs[i] != nil {
					cancel(errs[i])
				}
				done.Add(1)
			}
		})
	}
	finished := make(chan struct{})
	go func() {
		all.Wait()
		close(finished)
	}()
	for tick := time.NewTicker(time.Second); ; {
		select {
		case <-tick.C:
			progress(int(done.Load()))
		case <-finished:
			tick.Stop()
			if ctx.Err() != nil {
				return nil, fmt.Errorf("bench: make accounts: %w", context.Cause(ctx))
			}
			return accounts, nil
		}
	}
}

func makeAccount(ctx context.Context, client *admin.Client, keys *auth.Keys, i int) (load.Account, error) {
	name := fmt.Sprintf("bench%06d", i)
	id, err := client.CreateUser(ctx, name, nil)
	if errors.Is(err, admin.ErrNameTaken) {
		var t admin.Token
		t, err = client.Token(ctx, name, 0, tokenLifetime)
		id = t.User
	}
	if err != nil {
		return load.Account{}, fmt.Errorf("user %s: %w", name, err)
	}
	token, err := keys.SignToken(id, wire.ID(1+rand.Uint64N(1<<wire.IDBits-1)), tokenLifetime)
	return load.Account{User: id, Token: token}, err
}
