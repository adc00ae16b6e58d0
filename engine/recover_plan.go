package engine

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io/fs"
	"sync/atomic"

	"parley/engine/cluster"
	"parley/raft"
	"parley/storage"
)

// recoveringName is the file that a recovery begins and ends with: what it will do, so that
// after a crash the same is done again. No server starts while it is there.
const recoveringName = "RECOVERING"

// A recoveryPlan is the content of that file.
type recoveryPlan struct {
	Recovery *Recovery
	Identity identity
	Map      []byte // encoded as cluster.AppendMap does
}

// errRecoveryPlan reports a plan that cannot be used.
var errRecoveryPlan = fmt.Errorf("%w: its RECOVERING file is damaged; restore a copy of the directory from before", ErrRecover)

func recoveryChecksum(content []byte) string {
	return fmt.Sprintf("%08x\n", crc32.Checksum(content, crc32.MakeTable(crc32.Castagnoli)))
}

// readRecoveryPlan reads the plan of a recovery that was begun; nil if none was.
func readRecoveryPlan(d *storage.Directory) (*recoveryPlan, error) {
	b, err := d.ReadFile(recoveringName)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	sum, content, _ := bytes.Cut(b, []byte("\n"))
	if recoveryChecksum(content) != string(sum)+"\n" {
		return nil, errRecoveryPlan
	}
	p := new(recoveryPlan)
	if err := json.Unmarshal(content, p); err != nil || p.Recovery == nil {
		return nil, errRecoveryPlan
	}
	return p, nil
}

func (p *recoveryPlan) write(d *storage.Directory) error {
	content, err := json.Marshal(p)
	if err != nil {
		return err
	}
	return d.WriteFile(recoveringName, append([]byte(recoveryChecksum(content)), content...))
}

// decide draws the new names and writes the plan. Until then nothing is changed.
func (p *recovering) decide() error {
	old := p.survivors[0].identity
	next := identity{
		Cluster: random64()>>16 | 1, Number: p.newest.NextNode, Shards: len(p.newest.Shards),
		Replica: cluster.NewReplica(p.newest.NextNode, random64()).ID,
	}
	m, err := p.newest.Recovered(next.Cluster, old.Number, next.Replica, random64)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrRecover, err)
	}
	p.found.Cluster, p.found.Node = next.Cluster, next.Number
	p.plan = &recoveryPlan{Recovery: p.found, Identity: next, Map: cluster.AppendMap(nil, m)}
	if err := p.plan.write(p.survivors[0].directory); err != nil {
		return fmt.Errorf("engine: recover: %w", err)
	}
	return nil
}

// perform carries the plan out. Each step may be done again.
func (p *recovering) perform(ctx context.Context) error {
	m, err := cluster.ParseMap(p.plan.Map)
	if err != nil {
		return fmt.Errorf("%w: %w", errRecoveryPlan, err)
	}
	d := p.survivors[0].directory
	if err := p.regroup(ctx, m); err != nil {
		return err
	}
	if err := cluster.WriteMap(d.FS(), d.Path(mapName), m); err != nil {
		return err
	}
	r := roster{directory: d, ids: m.Own(p.plan.Identity.Number)}
	if err := r.write(); err != nil {
		return err
	}
	if err := p.plan.Identity.write(d); err != nil {
		return err
	}
	if err := d.FS().Remove(d.Path(recoveringName)); err != nil {
		return err
	}
	dir, err := d.FS().OpenDir(d.Path())
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}

// regroup makes this node the only voter of every group.
func (p *recovering) regroup(ctx context.Context, m *cluster.Map) (err error) {
	first := p.survivors[0]
	if first.log != nil { // nothing else may have the log open
		err = first.log.Close()
		first.log = nil
	}
	if err != nil {
		return err
	}
	t := &regrouping{recovering: p, m: m, own: m.Own(p.plan.Identity.Number), donors: make(map[int]*donor)}
	defer func() { err = errors.Join(err, t.close()) }()
	if err := t.open(); err != nil {
		return err
	}
	for i := range p.found.Groups {
		g := &p.found.Groups[i]
		if err := t.group(ctx, g); err != nil {
			return fmt.Errorf("group %d: %w", g.ID, err)
		}
	}
	if err := t.failure.Load(); err != nil {
		return *err
	}
	return nil
}

// A regrouping has the stores of the directory open for writing.
type regrouping struct {
	*recovering
	m       *cluster.Map
	own     map[uint32]string
	store   *storage.Store
	raft    *raft.Node
	donors  map[int]*donor // by place among the directories
	failure atomic.Pointer[error]
}

// fatal hears, on any goroutine, that a store has failed.
func (t *regrouping) fatal(err error) { t.failure.CompareAndSwap(nil, &err) }

func (t *regrouping) open() (err error) {
	d := t.survivors[0].directory
	t.store, err = storage.Open(storage.Options{Path: d.Path("state"), FS: d.FS(), Logger: t.options.Logger, Fatal: t.fatal})
	if err != nil {
		return err
	}
	t.raft, err = raft.Open(raft.Options{Path: d.Path("log"), FS: d.FS(), Server: t.plan.Identity.Replica, Logger: t.options.Logger, Fatal: t.fatal})
	return err
}

func (t *regrouping) close() error {
	var errs []error
	for _, donor := range t.donors {
		errs = append(errs, donor.close())
	}
	if t.raft != nil {
		errs = append(errs, t.raft.Close())
	}
	if t.store != nil {
		errs = append(errs, t.store.Close())
	}
	return errors.Join(errs...)
}

// group gives the group the copy that was chosen, and this node as its only voter.
func (t *regrouping) group(ctx context.Context, g *RecoveryGroup) error {
	server := t.own[g.ID]
	if server == "" {
		return errRecoveryPlan
	}
	if g.ID == cluster.MapGroup {
		return t.mapGroup(server)
	}
	if g.Chosen < 0 || g.Copies[g.Chosen].Directory != 0 {
		if err := errors.Join(t.raft.Drop(g.ID), t.store.DropShard(g.ID)); err != nil {
			return err
		}
	}
	s := &t.m.Shards[g.ID]
	state, err := t.store.Shard(g.ID, s.First, s.Last)
	if err != nil {
		return err
	}
	if g.Chosen >= 0 && g.Copies[g.Chosen].Directory != 0 {
		if err := t.transplant(ctx, g.Copies[g.Chosen].Directory, s, state); err != nil {
			return err
		}
	}
	_, err = t.raft.Recover(g.ID, raft.Record(state.Record()), server)
	return err
}

// mapGroup begins the map's group anew, with the new map as its first state.
func (t *regrouping) mapGroup(server string) error {
	if err := t.raft.Drop(cluster.MapGroup); err != nil {
		return err
	}
	record, err := t.raft.Recover(cluster.MapGroup, raft.Record{}, server)
	if err != nil {
		return err
	}
	d := t.survivors[0].directory
	return cluster.WriteState(d.FS(), d.Path(mapStateName), record, t.m)
}

// A donor is another directory whose copies are taken.
type donor struct {
	directory *storage.Directory // nil if the survivor has it
	store     *storage.Store
	log       *raft.Remnant
}

// donor opens the directory of a survivor, which after a crash is only known by its path.
func (t *regrouping) donor(place int) (*donor, error) {
	if d := t.donors[place]; d != nil {
		return d, nil
	}
	d := new(donor)
	directory := (*storage.Directory)(nil)
	if place < len(t.survivors) {
		directory, d.log = t.survivors[place].directory, t.survivors[place].log
		t.survivors[place].log = nil
	} else {
		var err error
		if directory, err = storage.OpenExistingDirectory(t.found.Directories[place].Path, t.options.FS); err != nil {
			return nil, err
		}
		d.directory = directory
	}
	t.donors[place] = d
	id, err := readIdentity(directory)
	if err != nil {
		return nil, err
	}
	if want := t.found.Directories[place]; id.Number != want.Node || id.Cluster != want.Cluster {
		return nil, fmt.Errorf("%w: %s is not what it was when the recovery was begun", ErrRecover, want.Path)
	}
	if d.log == nil {
		if d.log, err = raft.OpenRemnant(directory.Path("log"), directory.FS()); err != nil {
			return nil, err
		}
	}
	d.store, err = storage.Open(storage.Options{Path: directory.Path("state"), FS: directory.FS(), Logger: t.options.Logger, Fatal: t.fatal})
	return d, err
}

func (d *donor) close() error {
	var errs []error
	if d.log != nil {
		errs = append(errs, d.log.Close())
	}
	if d.store != nil {
		errs = append(errs, d.store.Close())
	}
	if d.directory != nil {
		errs = append(errs, d.directory.Close())
	}
	return errors.Join(errs...)
}

// transplant copies the state of a shard, and the log behind it, from another directory.
func (t *regrouping) transplant(ctx context.Context, place int, s *cluster.Shard, state *storage.Shard) error {
	from, err := t.donor(place)
	if err != nil {
		return err
	}
	theirs, err := from.store.Shard(s.ID, s.First, s.Last)
	if err != nil {
		return err
	}
	record := theirs.Record()
	if record.Index > 0 {
		e, err := theirs.Export(ctx)
		if err != nil {
			return err
		}
		record = e.Record
		if err := errors.Join(state.Install(record, e), e.Close()); err != nil {
			return err
		}
	}
	return t.raft.Graft(s.ID, raft.Record(record), from.log)
}
