package engine

import (
	"crypto/rand"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io/fs"

	"parley/engine/auth"
	"parley/storage"
)

// Files of the data directory.
const (
	identityName = "node.json"
	keysName     = "keys.json"
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
	// Checksum is the CRC-32C of the fields above: a flipped digit would be another cluster.
	Checksum string `json:"checksum"`
}

// sum is the checksum that the identity must carry.
func (id identity) sum() string {
	text := fmt.Sprintf("%d %d %s %d", id.Version, id.Cluster, id.Replica, id.Shards)
	return fmt.Sprintf("%08x", crc32.Checksum([]byte(text), crc32.MakeTable(crc32.Castagnoli)))
}

// CheckIdentity checks the node.json of a data directory, for fsck.
func CheckIdentity(d *storage.Directory) error {
	_, err := readIdentity(d)
	return err
}

func readIdentity(d *storage.Directory) (identity, error) {
	b, err := d.ReadFile(identityName)
	if err != nil {
		return identity{}, fmt.Errorf("engine: %w", err)
	}
	var id identity
	if err := json.Unmarshal(b, &id); err != nil || id.Version != 1 || id.Cluster == 0 || id.Replica == "" || id.Shards < 1 || id.Checksum != id.sum() {
		return identity{}, ErrIdentity
	}
	return id, nil
}

// openIdentity reads node.json, or draws a new identity if there is none.
func openIdentity(d *storage.Directory, shards int) (identity, error) {
	id, err := readIdentity(d)
	if errors.Is(err, fs.ErrNotExist) {
		return createIdentity(d, shards)
	}
	return id, err
}

func createIdentity(d *storage.Directory, shards int) (identity, error) {
	id := identity{Version: 1, Cluster: random64()>>16 | 1, Replica: fmt.Sprintf("n-%016x", random64()), Shards: shards}
	return id, id.write(d)
}

// write makes the identity the directory's.
func (id *identity) write(d *storage.Directory) error {
	id.Checksum = id.sum()
	b, err := json.MarshalIndent(id, "", "  ")
	if err != nil {
		return err
	}
	if err := d.WriteFile(identityName, append(b, '\n')); err != nil {
		return fmt.Errorf("engine: write node.json: %w", err)
	}
	return nil
}

// openKeys reads the cluster's secrets, or draws them if there are none.
func (n *Node) openKeys() (*auth.Keys, error) {
	if n.config.FS == nil {
		return auth.LoadOrCreateKeys(n.directory.Path(keysName))
	}
	content, err := n.directory.ReadFile(keysName)
	if errors.Is(err, fs.ErrNotExist) {
		if content, err = auth.GenerateKeys(); err == nil {
			err = n.directory.WriteFile(keysName, content)
		}
	}
	if err != nil {
		return nil, fmt.Errorf("engine: keys: %w", err)
	}
	return auth.ParseKeys(content)
}

// random64 draws 64 bits from the operating system.
func random64() uint64 {
	var b [8]byte
	rand.Read(b[:]) // never fails since Go 1.24
	return binary.LittleEndian.Uint64(b[:])
}
