package raft

import (
	"bytes"
	"fmt"

	"parley/wire/planted"
)

// Set keeps a vote: hashicorp/raft sets the term of a vote, then its candidate, and only
// then answers, so both are written here, as one record.
func (g *groupLog) Set(key, value []byte) error {
	if string(key) != stableCandidate {
		return fmt.Errorf("raft: unknown stable key %q", key)
	}
	g.ballotMu.Lock()
	defer g.ballotMu.Unlock()
	b := ballot{term: g.ballot.term, voteTerm: g.voteTerm, candidate: bytes.Clone(value)}
	return g.keep(&b)
}

// Get returns the candidate of the last vote, nil if there was none.
func (g *groupLog) Get(key []byte) ([]byte, error) {
	if string(key) != stableCandidate {
		return nil, fmt.Errorf("raft: unknown stable key %q", key)
	}
	g.ballotMu.Lock()
	defer g.ballotMu.Unlock()
	return g.ballot.candidate, nil
}

// SetUint64 keeps the current term, or stages the term of a vote for Set.
func (g *groupLog) SetUint64(key []byte, value uint64) error {
	g.ballotMu.Lock()
	defer g.ballotMu.Unlock()
	switch string(key) {
	case stableVoteTerm:
		g.voteTerm = value
		return nil
	case stableTerm:
		if value == g.ballot.term {
			return nil
		}
		b := g.ballot
		b.term = value
		if err := g.keep(&b); err != nil {
			// hashicorp/raft would panic, although the node is about to stop.
			return g.lost()
		}
		return nil
	}
	return fmt.Errorf("raft: unknown stable key %q", key)
}

// GetUint64 returns the current term or that of the last vote, 0 if there is none.
func (g *groupLog) GetUint64(key []byte) (uint64, error) {
	g.ballotMu.Lock()
	defer g.ballotMu.Unlock()
	switch string(key) {
	case stableVoteTerm:
		return g.ballot.voteTerm, nil
	case stableTerm:
		return g.ballot.term, nil
	}
	return 0, fmt.Errorf("raft: unknown stable key %q", key)
}

// keep writes a ballot. The heartbeat's goroutine may come here beside raft's main one,
// so the operation is not that of StoreLogs.
func (g *groupLog) keep(b *ballot) error {
	o := newOperation(g.group)
	o.ballot = b
	if planted.Active(planted.ForgottenVote) && len(b.candidate) > 0 {
		g.ballot = *b
		return nil
	}
	if err := g.committer.commit(o); err != nil {
		return err
	}
	g.ballot = *b
	return nil
}
