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
	"parley/engine/cluster"
	"parley/storage"
)

// Files of the data directory.
const (
	identityName = "node.json"
	keysName     = "keys.json"
)

// ErrIdentity reports a node.json that cannot be used.
var ErrIdentity = errors.New("engine: node.json is damaged: restore it from a backup of the data directory")

// identityVersion is the form of node.json that this version writes. Version 1 knew no
// cluster: it is node 1 of the one it would have founded.
const identityVersion = 2

// An identity is what makes a data directory this node's. All of it but Cluster and
// Number is drawn once and never changes; those come with the answer to a join.
type identity struct {
	Version int `json:"version"`
	// Cluster names the cluster; clients that see it change forget tokens and outboxes.
	// 0: this node has not joined yet.
	Cluster uint64 `json:"cluster_epoch"`
	// Number is the node's in the cluster map, never used again. 0: not joined yet.
	Number uint32 `json:"node,omitempty"`
	// Replica tells this directory from all others. The founder's first replicas are called
	// so. It is never used again after the directory is lost: a forgotten vote could lose an
	// acknowledged entry.
	Replica string `json:"replica"`
	// Shards is the number of shards of the cluster.
	Shards int `json:"shards"`
	// Checksum is the CRC-32C of the fields above: a flipped digit would be another cluster.
	Checksum string `json:"checksum"`
}

// sum is the checksum that the identity must carry.
func (id identity) sum() string {
	text := fmt.Sprintf("%d %d %s %d", id.Version, id.Cluster, id.Replica, id.Shards)
	if id.Version > 1 {
		text += fmt.Sprintf(" %d", id.Number)
	}
	return fmt.Sprintf("%08x", crc32.Checksum([]byte(text), crc32.MakeTable(crc32.Castagnoli)))
}

// valid tells whether an identity that was read can be one.
func (id identity) valid() bool {
	joined := id.Cluster != 0 && id.Number != 0 && id.Shards > 0
	waiting := id.Cluster == 0 && id.Number == 0 && id.Version > 1
	return id.Version >= 1 && id.Version <= identityVersion && id.Replica != "" && (joined || waiting)
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
	if err := json.Unmarshal(b, &id); err != nil || id.Checksum != id.sum() {
		return identity{}, ErrIdentity
	}
	if id.Version == 1 {
		id.Number = 1
	}
	if !id.valid() {
		return identity{}, ErrIdentity
	}
	return id, nil
}

// openIdentity reads node.json. If there is none it draws a new identity: of a node that
// is to join, or of the first node of a cluster of its own.
func openIdentity(d *storage.Directory, shards int, joins bool) (identity, error) {
	id, err := readIdentity(d)
	if !errors.Is(err, fs.ErrNotExist) {
		return id, err
	}
	if joins {
		id = identity{Replica: fmt.Sprintf("n-%016x", random64())}
	} else {
		id = identity{Cluster: random64()>>16 | 1, Number: 1, Replica: cluster.NewReplica(1, random64()).ID, Shards: shards}
	}
	return id, id.write(d)
}

// write makes the identity the directory's.
func (id *identity) write(d *storage.Directory) error {
	id.Version = identityVersion
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
