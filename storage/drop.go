package storage

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"parley/wire"
)

// ErrDropped is what a shard answers that was dropped.
var ErrDropped = errors.New("storage: the shard was dropped")

// DropShard deletes all that the store has of a shard, open or not, durably; what is
// open of it is refused from then on. A crash in the middle leaves all of it or nothing. A
// shard that is not there is no error.
func (s *Store) DropShard(id uint32) error {
	select {
	case s.exclusive <- struct{}{}:
	case <-s.stopped:
		return s.reason()
	}
	defer func() { <-s.exclusive }()
	leave, err := s.enter()
	if err != nil {
		return err
	}
	defer leave()
	first, last, found, err := s.locate(id)
	if err != nil || !found {
		return err
	}
	if err := s.drop(id, first, last); err != nil {
		err = fmt.Errorf("storage: drop shard %d: %w", id, err)
		s.fail(err)
		return err
	}
	return nil
}

// locate finds a shard among those that are open, and those in the store.
func (s *Store) locate(id uint32) (first, last wire.Slot, found bool, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, shard := range s.shards {
		if shard.id == id {
			return shard.first, shard.last, true, nil
		}
	}
	err = s.eachRecord(func(slot wire.Slot, r *shardRecord) {
		if r.ID == id {
			first, last, found = slot, r.Last, true
		}
	})
	return first, last, found, err
}

// eachRecord calls fn for each shard that has state in the store.
func (s *Store) eachRecord(fn func(first wire.Slot, r *shardRecord)) error {
	it, err := s.db.NewIter(nil)
	if err != nil {
		return err
	}
	for ok := it.First(); ok; {
		key, err := parseKey(it.Key())
		var r shardRecord
		if err == nil {
			var value []byte
			if value, err = it.ValueAndErr(); err == nil {
				r, err = parseShardRecord(value)
			}
		}
		if err == nil && (key.Kind != kindShard || r.Last < key.Slot) {
			err = damaged("%v where a shard's record should be", key)
		}
		if err != nil {
			return errors.Join(err, it.Close())
		}
		fn(key.Slot, &r)
		ok = it.SeekGE(spanOf(key.Slot, r.Last).End)
	}
	return errors.Join(it.Error(), it.Close())
}

// drop takes a shard out of the seal, which must not promise what is about to go, and then
// out of the store.
func (s *Store) drop(id uint32, first, last wire.Slot) error {
	s.forget(id)
	next := s.seal.clone()
	next.remove(first)
	if err := writeSeal(s.options.FS, s.options.Path, &next); err != nil {
		return err
	}
	s.seal = next
	return s.db.Excise(context.Background(), spanOf(first, last))
}

// forget ends what is open of a shard.
func (s *Store) forget(id uint32) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i, shard := range s.shards {
		if shard.id != id {
			continue
		}
		shard.mu.Lock()
		shard.torn = ErrDropped
		shard.clear()
		shard.active = newBuffer(&s.slabs, nil)
		shard.mu.Unlock()
		shard.durableMu.Lock()
		shard.dropped = true
		shard.durableMu.Unlock()
		shard.publish(Record{})
		s.shards = slices.Delete(slices.Clone(s.shards), i, i+1)
		return
	}
}
