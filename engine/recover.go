package engine

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"parley/engine/cluster"
	"parley/raft"
)

var (
	// ErrRecover reports directories that a cluster cannot be recovered from.
	ErrRecover = errors.New("engine: cannot recover from this data directory")
	// ErrNothingToRecover reports a cluster that has what it needs: recovering would give up
	// nodes for nothing.
	ErrNothingToRecover = errors.New("engine: there is nothing to recover")
	// ErrRecovering reports a directory that is neither what it was nor recovered.
	ErrRecovering = errors.New("engine: a recovery of this data directory was begun and not finished: run `parley recover --yes` on it again")
)

// RecoverOptions say what a cluster is recovered from. No process may use any of it.
type RecoverOptions struct {
	// Data is the data directory that the new cluster begins with.
	Data string
	// Survivors are those of other nodes that have survived. Where the copy of a shard there
	// is newer it is taken from there. They are not changed.
	Survivors []string
	// FS is the file system under them; nil means the operating system's.
	FS vfs.FS
	// Logger gets what the stores report; nil discards it.
	Logger *slog.Logger
}

// A Recovery is what is left of a cluster that has lost a majority for good, and what was
// or would be made of it.
type Recovery struct {
	// Directories are those that were looked at, the one that becomes a cluster first.
	Directories []RecoveryDirectory
	// Lost are the nodes of the cluster that are in none of them.
	Lost []cluster.Node
	// Groups are all groups of the cluster, the shards first.
	Groups []RecoveryGroup
	// Resumed says that an earlier recovery was begun and not finished: this is what it found.
	Resumed bool `json:"-"`
	// Cluster and Node are the new names. They are 0 until it is decided.
	Cluster uint64
	Node    uint32
}

// A RecoveryDirectory is the data directory of one node of the lost cluster.
type RecoveryDirectory struct {
	Path    string
	Node    uint32
	Name    string
	Cluster uint64
	// Epoch is that of the newest map in it.
	Epoch uint64
	// Removed says that the cluster had removed the node: what it has may be old.
	Removed bool
}

// A RecoveryGroup is what is left of one shard, or of the map's group.
type RecoveryGroup struct {
	ID uint32
	// Copies are those that were found.
	Copies []RecoveryCopy
	// Chosen is the place among them of the one to go on with; -1: the group begins empty.
	// The map's group always begins anew, with a map made of the newest one that was found.
	Chosen int
	// Voters are those of the chosen copy, Present how many of them were found. Less than a
	// majority cannot know what the others have acknowledged.
	Voters  []string
	Present int
}

// Complete tells whether everything that was ever acknowledged is in the chosen copy, as
// far as the copies know.
func (g *RecoveryGroup) Complete() bool { return g.Chosen >= 0 && g.Present > len(g.Voters)/2 }

// A RecoveryCopy is one replica of a group.
type RecoveryCopy struct {
	// Directory is its place in Recovery.Directories.
	Directory int
	Replica   string
	// Term and Index are those of the last entry of its log: the highest of them, terms
	// first, is the newest copy.
	Term, Index uint64
	// Applied is the index that its state on disk reaches; the log has what follows.
	Applied uint64
	// Voter says that it has a vote, by its own configuration.
	Voter bool
	// Newest is when the last entry of a client was proposed; zero if the log has none.
	Newest time.Time
}

// InspectRecovery looks at what is left, and changes nothing.
func InspectRecovery(ctx context.Context, o RecoverOptions) (r *Recovery, err error) {
	p, err := openRecovery(ctx, &o)
	if err != nil {
		return nil, err
	}
	return p.found, p.close()
}

// Recover makes Data the one node of a new cluster, with the newest copy of each shard that
// is left and empty ones in place of the rest. The new cluster has another name, so that
// the old nodes are refused by it and clients forget what the old one has told them. A crash
// in the middle leaves a directory that nobody serves from and that Recover goes on with.
func Recover(ctx context.Context, o RecoverOptions) (r *Recovery, err error) {
	p, err := openRecovery(ctx, &o)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, p.close()) }()
	if p.plan == nil {
		if err := p.decide(); err != nil {
			return nil, err
		}
	}
	if err := p.perform(ctx); err != nil {
		return nil, fmt.Errorf("engine: recover: %w", err)
	}
	return p.found, nil
}

// A recovering is one look at the directories, and what follows from it.
type recovering struct {
	options   *RecoverOptions
	survivors []*survivor // of the directories; the first is the one to recover
	newest    *cluster.Map
	found     *Recovery
	plan      *recoveryPlan // nil: not decided yet
}

// openRecovery opens and inspects the directories; of one whose recovery was begun only
// the plan is read.
func openRecovery(ctx context.Context, o *RecoverOptions) (p *recovering, err error) {
	if o.FS == nil {
		o.FS = vfs.Default
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	p = &recovering{options: o}
	defer func() {
		if err != nil {
			err = errors.Join(err, p.close())
		}
	}()
	first, err := lockSurvivor(o.Data, o.FS)
	if err != nil {
		return p, err
	}
	p.survivors = []*survivor{first}
	if p.plan, err = readRecoveryPlan(first.directory); err != nil {
		return p, err
	}
	if p.plan != nil {
		p.found = p.plan.Recovery
		p.found.Resumed = true
		return p, nil
	}
	if err := first.inspect(ctx); err != nil {
		return p, err
	}
	for _, path := range o.Survivors {
		s, err := lockSurvivor(path, o.FS)
		if err != nil {
			return p, err
		}
		p.survivors = append(p.survivors, s)
		if err := s.inspect(ctx); err != nil {
			return p, fmt.Errorf("%s: %w", path, err)
		}
		if err := p.fits(s); err != nil {
			return p, err
		}
	}
	return p, p.compare()
}

// close releases everything.
func (p *recovering) close() error {
	var errs []error
	for _, s := range p.survivors {
		errs = append(errs, s.close())
	}
	p.survivors = nil
	return errors.Join(errs...)
}

// fits checks that a directory belongs to the same cluster and to another node than those
// before it.
func (p *recovering) fits(s *survivor) error {
	for _, other := range p.survivors {
		switch {
		case other == s:
		case other.identity.Cluster != s.identity.Cluster:
			return fmt.Errorf("%w: %s is of cluster %016x, %s of %016x", ErrRecover, s.path, s.identity.Cluster, other.path, other.identity.Cluster)
		case other.identity.Number == s.identity.Number:
			return fmt.Errorf("%w: %s and %s are both node %d", ErrRecover, s.path, other.path, s.identity.Number)
		}
	}
	return nil
}

// compare finds the newest map and the newest copy of each group.
func (p *recovering) compare() error {
	p.newest = &cluster.Map{}
	next := uint32(0)
	for _, s := range p.survivors {
		next = max(next, s.newest.NextNode)
		if s.newest.Epoch > p.newest.Epoch {
			p.newest = s.newest
		}
	}
	if p.newest.NextNode < next { // an entry of one log that another has instead of it
		m := *p.newest
		m.NextNode = next
		p.newest = &m
	}
	r := &Recovery{}
	here := make(map[uint32]bool)
	for _, s := range p.survivors {
		r.Directories = append(r.Directories, s.describe(p.newest))
		here[s.identity.Number] = true
	}
	for _, n := range p.newest.Nodes {
		if n.State != cluster.Removed && !here[n.Number] {
			r.Lost = append(r.Lost, n)
		}
	}
	for i := range p.newest.Shards {
		r.Groups = append(r.Groups, p.group(p.newest.Shards[i].ID))
	}
	r.Groups = append(r.Groups, p.group(cluster.MapGroup))
	p.found = r
	return p.needed()
}

// group compares the copies of one group.
func (p *recovering) group(id uint32) RecoveryGroup {
	g := RecoveryGroup{ID: id, Chosen: -1}
	var members raft.Membership
	for i, s := range p.survivors {
		c, ok := s.copyOf(id)
		if !ok {
			continue
		}
		c.Directory = i
		g.Copies = append(g.Copies, c)
		if g.Chosen < 0 || newer(&c, &g.Copies[g.Chosen]) > 0 {
			g.Chosen, members = len(g.Copies)-1, s.remains[id].Members
		}
	}
	g.Voters = members.Voters
	for _, c := range g.Copies {
		if slices.Contains(g.Voters, c.Replica) {
			g.Present++
		}
	}
	return g
}

// newer compares two copies as Raft does.
func newer(a, b *RecoveryCopy) int {
	return cmp.Or(cmp.Compare(a.Term, b.Term), cmp.Compare(a.Index, b.Index))
}

// needed refuses what the cluster can do by itself.
func (p *recovering) needed() error {
	if len(p.found.Lost) == 0 {
		return fmt.Errorf("%w: no node of the cluster is missing", ErrNothingToRecover)
	}
	for i := range p.found.Groups {
		if !p.found.Groups[i].Complete() {
			return nil
		}
	}
	return fmt.Errorf("%w: these directories have a majority of every shard and of the map: start their nodes, then remove the lost ones", ErrNothingToRecover)
}
