package raft

import (
	"errors"
	"fmt"
	"io"

	hraft "github.com/hashicorp/raft"
)

// ErrSnapshotTransfer is the answer to sending or receiving a snapshot. A replica that
// needs one stays behind until it is replaced.
var ErrSnapshotTransfer = errors.New("raft: sending snapshots is not supported by this version")

// snapshots is hashicorp/raft's snapshot store. It holds nothing: the only snapshot there
// is is the machine's durable state, and what is said of it is read from the machine's
// record, which is written in one step with that state. So the two cannot differ.
type snapshots struct {
	record func() Record
}

// parseConfiguration decodes a configuration; the library would panic on a damaged one.
func parseConfiguration(data []byte) (c hraft.Configuration, err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("%w: configuration: %v", ErrDamaged, r)
		}
	}()
	return hraft.DecodeConfiguration(data), nil
}

func snapshotMeta(r Record) (*hraft.SnapshotMeta, error) {
	c, err := parseConfiguration(r.Configuration)
	if err != nil {
		return nil, err
	}
	return &hraft.SnapshotMeta{
		Version:            1,
		ID:                 fmt.Sprintf("%d-%d", r.Term, r.Index),
		Index:              r.Index,
		Term:               r.Term,
		Configuration:      c,
		ConfigurationIndex: r.ConfigurationIndex,
	}, nil
}

// List returns the one snapshot, if the machine has durable state.
func (s *snapshots) List() ([]*hraft.SnapshotMeta, error) {
	r := s.record()
	if r.Index == 0 {
		return nil, nil
	}
	meta, err := snapshotMeta(r)
	if err != nil {
		return nil, err
	}
	return []*hraft.SnapshotMeta{meta}, nil
}

// Open is asked for when a follower needs what was truncated.
func (s *snapshots) Open(string) (*hraft.SnapshotMeta, io.ReadCloser, error) {
	return nil, nil, ErrSnapshotTransfer
}

// Create is asked for when a leader sends a snapshot. This node takes none by itself.
func (s *snapshots) Create(hraft.SnapshotVersion, uint64, uint64, hraft.Configuration, uint64, hraft.Transport) (hraft.SnapshotSink, error) {
	return nil, ErrSnapshotTransfer
}
