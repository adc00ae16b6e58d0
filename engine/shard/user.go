package shard

import (
	"context"
	"errors"

	"parley/storage"
	"parley/wire"
)

// Final refusals of CreateUser.
var (
	ErrNameTaken = errors.New("shard: the name is taken")
	ErrIDTaken   = errors.New("shard: the identifier is taken")
)

// CreateUser creates an account whose name and identifier live in this shard, and
// returns once it is on disk on a majority. After an error that is neither ErrNameTaken
// nor ErrIDTaken the outcome is unknown: the same call again finds out.
func (s *Shard) CreateUser(ctx context.Context, id wire.ID, name, hash string) error { return nil }

// User reads the account with an identifier whose home is this shard.
func (s *Shard) User(id wire.ID) (storage.User, bool, error) { return storage.User{}, false, nil }

// UserByName reads the account with a name whose home is this shard.
func (s *Shard) UserByName(name string) (storage.User, bool, error) {
	return storage.User{}, false, nil
}
