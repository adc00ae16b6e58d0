package engine

import (
	"crypto/rand"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// ErrIdentity reports a node.json that cannot be used.
var ErrIdentity = errors.New("engine: node.json is damaged: restore it from a backup of the data directory")

// An identity is what makes a data directory this node's: it is drawn once and never changes.
type identity struct {
	Version int `json:"version"`
	// Cluster names the cluster; clients that see it change forget tokens and outboxes.
	Cluster uint64 `json:"cluster_epoch"`
	// Replica is the node's server id in every Raft group. It is never used again after the
	// directory is lost: a forgotten vote could lose an acknowledged entry.
	Replica string `json:"replica"`
	// Shards is the number of shards of the cluster.
	Shards int `json:"shards"`
}

// openIdentity reads node.json, or draws a new identity if there is none.
func openIdentity(path string, shards int) (identity, error) {
	b, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return createIdentity(path, shards)
	}
	if err != nil {
		return identity{}, fmt.Errorf("engine: %w", err)
	}
	var id identity
	if err := json.Unmarshal(b, &id); err != nil || id.Version != 1 || id.Cluster == 0 || id.Replica == "" || id.Shards < 1 {
		return identity{}, ErrIdentity
	}
	return id, nil
}

func createIdentity(path string, shards int) (identity, error) {
	id := identity{Version: 1, Cluster: random64()>>16 | 1, Replica: fmt.Sprintf("n-%016x", random64()), Shards: shards}
	b, err := json.MarshalIndent(id, "", "  ")
	if err != nil {
		return id, err
	}
	if err := writeFileSynced(path, append(b, '\n')); err != nil {
		return id, fmt.Errorf("engine: write node.json: %w", err)
	}
	return id, nil
}

// writeFileSynced makes a file appear whole or not at all, crash or no crash.
func writeFileSynced(path string, b []byte) (err error) {
	f, err := os.OpenFile(path+".new", os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(b)
	err = errors.Join(err, f.Sync(), f.Close())
	if err == nil {
		err = os.Rename(path+".new", path)
	}
	if err != nil {
		return err
	}
	dir, err := os.Open(filepath.Dir(path))
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}

// random64 draws 64 bits from the operating system.
func random64() uint64 {
	var b [8]byte
	rand.Read(b[:]) // never fails since Go 1.24
	return binary.LittleEndian.Uint64(b[:])
}
