package engine

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"

	"github.com/cockroachdb/pebble/v2/vfs"

	"parley/engine/auth"
	"parley/engine/cluster"
	"parley/engine/shard"
	"parley/raft"
	"parley/storage"
)

// A survivor is the data directory of a node that is left, locked and opened for reading.
type survivor struct {
	path      string
	directory *storage.Directory
	identity  identity
	roster    *roster
	newest    *cluster.Map // of the file, the map's group, and entries of its log
	log       *raft.Remnant
	records   map[uint32]raft.Record
	remains   map[uint32]raft.Remains
}

// lockSurvivor keeps everybody else off a directory that must be there.
func lockSurvivor(path string, disk vfs.FS) (*survivor, error) {
	d, err := storage.OpenExistingDirectory(path, disk)
	if err != nil {
		return nil, err
	}
	return &survivor{path: path, directory: d, records: make(map[uint32]raft.Record), remains: make(map[uint32]raft.Remains)}, nil
}

func (s *survivor) close() error {
	var err error
	if s.log != nil {
		err = s.log.Close()
	}
	return errors.Join(err, s.directory.Close())
}

// inspect checks all that the directory has and reads what tells how far that reaches.
func (s *survivor) inspect(ctx context.Context) (err error) {
	d := s.directory
	if _, err := d.ReadFile(damagedName); err == nil {
		return errMarked
	}
	if _, err := d.ReadFile(recoveringName); err == nil {
		return ErrRecovering
	}
	switch s.identity, err = readIdentity(d); {
	case errors.Is(err, fs.ErrNotExist) || err == nil && s.identity.Number == 0:
		return fmt.Errorf("%w: it has never been part of a cluster", ErrRecover)
	case err != nil:
		return err
	}
	if s.newest, err = cluster.ReadMap(d.FS(), d.Path(mapName)); err != nil {
		return err
	}
	if !s.newest.Founded() {
		return fmt.Errorf("%w: this node has always been alone; `parley serve` serves it", ErrNothingToRecover)
	}
	if s.newest.Cluster != s.identity.Cluster {
		return fmt.Errorf("%w: node.json is of cluster %016x, the map of %016x", ErrRecover, s.identity.Cluster, s.newest.Cluster)
	}
	if s.roster, err = openRoster(d, nil, true); err != nil {
		return err
	}
	if err := s.check(ctx); err != nil {
		return err
	}
	if err := s.openLog(); err != nil {
		return err
	}
	if err := s.readMap(); err != nil {
		return err
	}
	if s.alone() {
		return fmt.Errorf("%w: its cluster has no other node; `parley serve` serves it", ErrNothingToRecover)
	}
	return nil
}

// alone tells whether the newest map has no other node.
func (s *survivor) alone() bool {
	return !slices.ContainsFunc(s.newest.Nodes, func(n cluster.Node) bool {
		return n.State != cluster.Removed && n.Number != s.identity.Number
	})
}

// check looks for damage: what is recovered is copied to all nodes that join later.
func (s *survivor) check(ctx context.Context) error {
	content, err := s.directory.ReadFile(keysName)
	if err == nil {
		_, err = auth.ParseKeys(content)
	}
	if err != nil {
		return fmt.Errorf("engine: keys: %w", err)
	}
	var damage error
	_, err = storage.Fsck(ctx, s.directory.Path("state"), s.directory.FS(), func(f storage.Finding) {
		if damage == nil {
			damage = fmt.Errorf("%w: %s", storage.ErrDamaged, f)
		}
	})
	return errors.Join(err, damage)
}

// openLog opens the log and compares it with the states that it belongs to.
func (s *survivor) openLog() (err error) {
	d := s.directory
	if s.log, err = raft.OpenRemnant(d.Path("log"), d.FS()); err != nil {
		return err
	}
	states, err := storage.ReadRecords(d.Path("state"), d.FS())
	if err != nil {
		return err
	}
	machine, err := cluster.OpenMachine(d.FS(), d.Path(mapStateName), random64())
	if err != nil {
		return err
	}
	defer machine.Close()
	logs, err := s.log.Groups()
	if err != nil {
		return err
	}
	for _, group := range s.roster.groups() {
		if !slices.Contains(logs, group) {
			continue // it was about to begin, or its log was dropped and the rest was to follow
		}
		r := raft.Record(states[group])
		if group == cluster.MapGroup {
			r = machine.Record()
		}
		s.records[group] = r
		if s.remains[group], err = s.log.Inspect(group, r); err != nil {
			return fmt.Errorf("%w: group %d: %w", storage.ErrDamaged, group, err)
		}
	}
	return nil
}

// readMap applies what the log has of changes of the map. Whether they were committed does
// not matter: a number that a node may have been given is not given again.
func (s *survivor) readMap() error {
	if s.roster.id(cluster.MapGroup) == "" {
		return nil
	}
	machine, err := cluster.OpenMachine(s.directory.FS(), s.directory.Path(mapStateName), random64())
	if err != nil {
		return err
	}
	defer machine.Close()
	err = s.log.Entries(cluster.MapGroup, machine.Record().Index, func(e raft.Entry) error {
		return machine.Apply([]raft.Entry{e})
	})
	if err != nil {
		return err
	}
	if m := machine.Map(); m.Founded() && m.Epoch > s.newest.Epoch {
		s.newest = m
	}
	return nil
}

// copyOf is what the directory has of a group; false if that is nothing.
func (s *survivor) copyOf(group uint32) (c RecoveryCopy, ok bool) {
	r, ok := s.remains[group]
	if !ok || r.Last == 0 {
		return c, false
	}
	c = RecoveryCopy{Replica: s.roster.id(group), Term: r.LastTerm, Index: r.Last, Applied: s.records[group].Index}
	c.Voter = slices.Contains(r.Members.Voters, c.Replica)
	if group != cluster.MapGroup && r.LastData != nil {
		if t, err := shard.EntryTime(r.LastData); err == nil {
			c.Newest = t.Time()
		}
	}
	return c, true
}

// describe says whose directory it is.
func (s *survivor) describe(m *cluster.Map) RecoveryDirectory {
	r := RecoveryDirectory{Path: s.path, Node: s.identity.Number, Cluster: s.identity.Cluster, Epoch: s.newest.Epoch}
	if n := m.Node(r.Node); n != nil {
		r.Name, r.Removed = n.Name, n.State == cluster.Removed
	}
	return r
}
