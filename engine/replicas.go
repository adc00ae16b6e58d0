package engine

import (
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io/fs"
	"maps"
	"slices"
	"sync"

	"parley/engine/cluster"
	"parley/storage"
)

// ErrReplicas reports a replicas.json that cannot be used.
var ErrReplicas = errors.New("engine: replicas.json is damaged: this node's replicas must be replaced (see the operations guide)")

// replicasName is the file that says which replicas are in this directory.
const replicasName = "replicas.json"

// A roster is which replicas live in this data directory: the Raft server id of each
// group that has a log here. It is written before a replica begins and before one is
// deleted, so that a vote is never forgotten under an id that is still in use.
type roster struct {
	directory *storage.Directory
	mu        sync.Mutex
	ids       map[uint32]string // by group
}

// rosterFile is replicas.json.
type rosterFile struct {
	Version  int               `json:"version"`
	Replicas map[uint32]string `json:"replicas"`
	Checksum string            `json:"checksum"`
}

func (f *rosterFile) sum() string {
	text := fmt.Sprint(f.Version)
	for _, group := range slices.Sorted(maps.Keys(f.Replicas)) {
		text += fmt.Sprintf(" %d %s", group, f.Replicas[group])
	}
	return fmt.Sprintf("%08x", crc32.Checksum([]byte(text), crc32.MakeTable(crc32.Castagnoli)))
}

// openRoster reads the file. A directory without one is new, or from before there were
// clusters, and begins with the founding ids; known says that it must have one.
func openRoster(d *storage.Directory, founding map[uint32]string, known bool) (*roster, error) {
	r := &roster{directory: d}
	b, err := d.ReadFile(replicasName)
	if errors.Is(err, fs.ErrNotExist) && !known {
		r.ids = maps.Clone(founding)
		if r.ids == nil {
			r.ids = make(map[uint32]string)
		}
		return r, r.write()
	}
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrReplicas, err)
	}
	var f rosterFile
	if err := json.Unmarshal(b, &f); err != nil || f.Version != 1 || f.Checksum != f.sum() {
		return nil, ErrReplicas
	}
	if r.ids = f.Replicas; r.ids == nil {
		r.ids = make(map[uint32]string)
	}
	return r, nil
}

// CheckReplicas checks the replicas.json and the copies of the cluster map of a data
// directory, for fsck. What is not there is no finding: a directory from before there were
// clusters has none of them.
func CheckReplicas(d *storage.Directory) error {
	var errs []error
	if _, err := openRoster(d, nil, true); err != nil && !errors.Is(err, fs.ErrNotExist) {
		errs = append(errs, err)
	}
	if _, err := cluster.ReadMap(d.FS(), d.Path(mapName)); err != nil {
		errs = append(errs, err)
	}
	if _, err := cluster.OpenMachine(d.FS(), d.Path(mapStateName), 0); err != nil {
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

func (r *roster) write() error {
	f := rosterFile{Version: 1, Replicas: r.ids}
	f.Checksum = f.sum()
	b, err := json.MarshalIndent(&f, "", "  ")
	if err == nil {
		err = r.directory.WriteFile(replicasName, append(b, '\n'))
	}
	if err != nil {
		return fmt.Errorf("engine: write %s: %w", replicasName, err)
	}
	return nil
}

// id is the replica of a group that lives here, "" if none does.
func (r *roster) id(group uint32) string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.ids[group]
}

// set notes, durably, that a replica lives here; "" that none does any more.
func (r *roster) set(group uint32, id string) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if id == "" {
		delete(r.ids, group)
	} else {
		r.ids[group] = id
	}
	return r.write()
}

// groups lists the groups that have a replica here, in order.
func (r *roster) groups() []uint32 {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Sorted(maps.Keys(r.ids))
}
