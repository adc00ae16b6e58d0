package shard

import (
	"context"
	"errors"
	"fmt"

	"parley/storage"
	"parley/wire"
)

// Final refusals of CreateUser.
var (
	ErrNameTaken = errors.New("shard: the name is taken")
	ErrIDTaken   = errors.New("shard: the identifier is taken")
	ErrBadUser   = errors.New("shard: not an account of this shard")
)

// CreateUser creates an account whose name and identifier live in this shard, in one
// slot, and returns once it is on disk on a majority. ErrIDTaken means: draw another
// identifier. After an error that is none of the final ones the outcome is unknown; the
// same call again finds out, because an equal account counts as created.
func (s *Shard) CreateUser(ctx context.Context, id wire.ID, name, hash string) error {
	if err := checkUser(id, name, hash, s.config.First, s.config.Last); err != nil {
		return err
	}
	select {
	case err := <-s.queue.control(appendCreateUser(nil, id, name, hash), 1):
		return err
	case <-ctx.Done():
		return fmt.Errorf("shard: create user: %w", ctx.Err())
	}
}

func checkUser[T string | []byte](id wire.ID, name, hash T, first, last wire.Slot) error {
	slot := id.Slot()
	switch {
	case !id.Valid() || wire.SlotOf([]byte(name)) != slot:
		return fmt.Errorf("%w: identifier %d and name %q are of different slots", ErrBadUser, id, name)
	case slot < first || slot > last:
		return fmt.Errorf("%w: slot %d", ErrBadUser, slot)
	case len(name) == 0 || len(name) > wire.NameBytesMax:
		return fmt.Errorf("%w: a name has 1 to %d bytes", ErrBadUser, wire.NameBytesMax)
	case len(hash) > PasswordHashBytesMax:
		return fmt.Errorf("%w: a password hash has at most %d bytes", ErrBadUser, PasswordHashBytesMax)
	}
	return nil
}

// createUser applies the creation of an account. The name is looked at first: who asks
// for a taken name must learn that, whatever identifier was drawn.
func (m *machine) createUser(c *command) (refusal, err error) {
	if refusal = checkUser(c.user, c.name, c.hash, m.first, m.last); refusal != nil {
		return refusal, nil
	}
	name, hash := string(c.name), string(c.hash)
	holder, taken, err := m.w.UserByName(name)
	if err != nil {
		return nil, err
	}
	if taken && holder != c.user {
		return ErrNameTaken, nil
	}
	user, exists, err := m.w.User(c.user)
	if err != nil {
		return nil, err
	}
	switch {
	case exists && user.Name == name && user.Hash == hash:
		return nil, nil // a retry
	case exists && user.Name == name:
		return ErrNameTaken, nil
	case exists:
		return ErrIDTaken, nil
	}
	m.w.PutUser(&storage.User{ID: c.user, Name: name, Version: 1, Hash: hash, Created: m.time})
	m.w.PutName(name, c.user)
	return nil, nil
}

// User reads the account with an identifier whose home is this shard.
func (s *Shard) User(id wire.ID) (user storage.User, ok bool, err error) {
	err = s.view(id.Slot(), func(r *storage.Reader) (err error) {
		user, ok, err = r.User(id)
		return err
	})
	return user, ok, err
}

// UserByName reads the account with a name whose home is this shard.
func (s *Shard) UserByName(name string) (user storage.User, ok bool, err error) {
	err = s.view(wire.SlotOf([]byte(name)), func(r *storage.Reader) error {
		id, found, err := r.UserByName(name)
		if err == nil && found {
			user, ok, err = r.User(id)
		}
		return err
	})
	return user, ok, err
}
