package shard

import (
	"context"
	"fmt"
	"io"

	"parley/raft"
	"parley/storage"
)

// Export implements raft.Machine.
func (s *Shard) Export(ctx context.Context) (*raft.Export, error) {
	e, err := s.config.Store.Export(ctx)
	if err != nil {
		return nil, err
	}
	return &raft.Export{Record: raftRecord(e.Record), Size: e.Size, Reader: e}, nil
}

// Install implements raft.Machine: the state on disk is replaced, and all that was
// remembered of the old one is forgotten. Whoever follows the effects is told at once, by
// a batch of nothing that begins where the new state ends: another one may never come.
func (s *Shard) Install(record raft.Record, source io.Reader) error {
	if s.failed != nil {
		return s.failed
	}
	if err := s.config.Store.Install(storageRecord(record), source); err != nil {
		return err
	}
	m := &s.machine
	m.cache = newConversationCache(ConversationsCachedMax)
	clear(m.outgoing)
	if err := s.config.Store.View(m.load); err != nil {
		s.failed = fmt.Errorf("shard %d: load what was installed: %w", s.config.ID, err)
		return s.failed
	}
	m.effects = &Effects{Shard: m.id, Previous: m.told, Index: m.told}
	s.publish()
	return nil
}

func raftRecord(r storage.Record) raft.Record {
	return raft.Record{Index: r.Index, Term: r.Term, ConfigurationIndex: r.ConfigurationIndex, Configuration: r.Configuration}
}

func storageRecord(r raft.Record) storage.Record {
	return storage.Record{Index: r.Index, Term: r.Term, ConfigurationIndex: r.ConfigurationIndex, Configuration: r.Configuration}
}
