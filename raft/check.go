package raft

import (
	"errors"
	"fmt"
	"log/slog"
	"math"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
	hraft "github.com/hashicorp/raft"
)

// problemsMax bounds what CheckLog lists: whoever has more has one problem.
const problemsMax = 100

// A GroupCheck is what CheckLog found of one group.
type GroupCheck struct {
	ID          uint32
	First, Last uint64 // indexes of its entries; 0, 0 if it has none
	Term        uint64 // current term
	LastTerm    uint64 // term of the last entry
	Entries     uint64
	Bytes       uint64
}

// A LogCheck is what CheckLog found. The log is sound if there are no Problems.
type LogCheck struct {
	Groups   []GroupCheck
	Entries  uint64
	Bytes    uint64
	Problems []string // at most 100
}

func (c *LogCheck) problem(format string, args ...any) {
	if len(c.Problems) < problemsMax {
		c.Problems = append(c.Problems, fmt.Sprintf(format, args...))
	}
}

// CheckLog reads every record of a log store that no process has open, and changes
// nothing: checksums of write-ahead logs, blocks and entries, indexes of each group
// without gaps, terms that never go down nor pass the vote's. What it finds is in the
// LogCheck; the error says why it could not look. A nil fs is the operating system's.
func CheckLog(path string, fs vfs.FS) (LogCheck, error) {
	var c LogCheck
	if fs == nil {
		fs = vfs.Default
	}
	described, err := pebble.Peek(path, fs)
	switch {
	case err != nil:
		return c, asDamage(fmt.Errorf("raft: check log: %w", err))
	case !described.Exists:
		return c, fmt.Errorf("raft: check log: %s is no log store", path)
	case described.FormatMajorVersion > pebbleFormat:
		return c, ErrNewerFormat
	}
	if err := checkWAL(fs, path); err != nil {
		if !errors.Is(err, ErrDamaged) {
			return c, err
		}
		c.problem("%v", err)
	}
	s, err := readPebble(path, fs)
	if err != nil {
		if err = asDamage(err); errors.Is(err, ErrDamaged) {
			c.problem("%v", err)
			return c, nil
		}
		return c, err
	}
	c.groups(s)
	if err := s.close(); err != nil {
		return c, fmt.Errorf("raft: check log: %w", err)
	}
	return c, nil
}

// readPebble opens a store that exists for reading only.
func readPebble(path string, fs vfs.FS) (*pebbleStore, error) {
	discard := func(error) {}
	return reopenPebble(&pebbleConfig{
		path: path, fs: fs, readOnly: true, fail: discard, broken: func() error { return nil },
		logger: &pebbleLogger{logger: slog.New(slog.DiscardHandler), fail: discard},
	})
}

func (c *LogCheck) groups(s store) {
	groups, err := s.groups()
	if err != nil {
		c.problem("%v", err)
	}
	for _, id := range groups {
		g := GroupCheck{ID: id}
		b, err := s.ballot(id)
		if err != nil {
			c.problem("group %d: %v", id, err)
		}
		g.Term = b.term
		if _, err := s.base(id); err != nil {
			c.problem("group %d: %v", id, err)
		}
		err = s.entries(id, 0, math.MaxUint64, func(l *hraft.Log, size int) (bool, error) {
			if problem := g.follow(l); problem != "" {
				c.problem("group %d: %s", id, problem)
			}
			g.Entries++
			g.Bytes += uint64(size)
			return true, nil
		})
		if err != nil {
			c.problem("group %d, after entry %d: %v", id, g.Last, err)
		}
		if g.LastTerm > g.Term {
			c.problem("group %d: entry %d is of term %d, but the vote of %d", id, g.Last, g.LastTerm, g.Term)
		}
		c.Groups = append(c.Groups, g)
		c.Entries += g.Entries
		c.Bytes += g.Bytes
	}
}

// follow takes the next entry, and says what is wrong with it.
func (g *GroupCheck) follow(l *hraft.Log) (problem string) {
	switch {
	case g.First == 0:
		g.First = l.Index
	case l.Index != g.Last+1:
		problem = fmt.Sprintf("entry %d follows %d", l.Index, g.Last)
	case l.Term < g.LastTerm:
		problem = fmt.Sprintf("entry %d is of term %d, the one before of %d", l.Index, l.Term, g.LastTerm)
	}
	g.Last, g.LastTerm = l.Index, l.Term
	return problem
}
