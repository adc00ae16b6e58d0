package engine

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"time"

	"parley/engine/auth"
	"parley/engine/cluster"
	"parley/raft"
	"parley/storage"
)

// damagedName marks a data directory in which damage was found while it was served: the
// next start must not trust it, though opening may find nothing.
const damagedName = "DAMAGED"

// errMarked reports such a directory.
var errMarked = fmt.Errorf("%w: it was found while the directory was served", storage.ErrDamaged)

// isDamage tells whether an error says that what is on disk is not what was written.
func isDamage(err error) bool {
	for _, damage := range []error{storage.ErrDamaged, raft.ErrDamaged, cluster.ErrDamaged, ErrReplicas} {
		if errors.Is(err, damage) {
			return true
		}
	}
	return false
}

// fatal ends the node, as Config.Fatal says. Damage is noted first, so that a node of
// several comes back with an empty directory rather than with this one.
func (n *Node) fatal(err error) {
	if isDamage(err) && n.config.Cluster != nil && n.directory != nil {
		if e := n.directory.WriteFile(damagedName, []byte(err.Error()+"\n")); e != nil {
			n.log.Error("the damage could not be noted in the data directory", "error", e)
		}
	}
	n.config.Fatal(err)
}

// setAside are what a damaged directory is renamed from: everything that holds a vote or
// a message. The secrets and the copy of the map stay, to join again with.
var setAside = []string{"log", "state", mapStateName, replicasName, identityName, damagedName}

// reseed makes a damaged data directory of a cluster's node an empty one: what was in it
// is set aside, and the node joins again, as a new node at the same address. Its replicas
// were copies; the others make new ones. It votes under no id that it had, because it may
// have forgotten what it voted for.
func reseed(c *Config, cause error) (err error) {
	if c.Cluster == nil || !isDamage(cause) {
		return cause
	}
	d, err := storage.OpenDirectory(c.Data, c.FS)
	if err != nil {
		return errors.Join(cause, err)
	}
	defer func() { err = errors.Join(err, d.Close()) }()
	m, err := cluster.ReadMap(d.FS(), d.Path(mapName))
	if err != nil {
		return errors.Join(cause, err)
	}
	content, err := d.ReadFile(keysName)
	if err != nil {
		return errors.Join(cause, err)
	}
	keys, err := auth.ParseKeys(content)
	if err != nil {
		return errors.Join(cause, err)
	}
	self, err := readIdentity(d)
	if err != nil {
		return errors.Join(cause, err)
	}
	var others []string
	for i := range m.Nodes {
		if other := &m.Nodes[i]; other.Number != self.Number && other.State != cluster.Removed {
			others = append(others, other.Address)
		}
	}
	if len(others) == 0 {
		return cause // there is no copy of anything
	}
	token, err := keys.SignInvitation(c.Now(), time.Hour)
	if err != nil {
		return errors.Join(cause, err)
	}
	aside := fmt.Sprintf("damaged-%d", c.Now().UnixMilli())
	if err := putAside(d, aside); err != nil {
		return errors.Join(cause, err)
	}
	c.Logger.Error("this node's data is damaged: it is set aside, and the node joins its cluster again with an empty directory",
		"damage", cause, "set_aside", d.Path(aside), "node", self.Number)
	next := *c.Cluster
	next.Join, next.Token = others, token
	c.Cluster = &next
	return nil
}

// putAside renames what is damaged into a folder of its own. A crash in the middle leaves
// the mark for the next start: it goes last.
func putAside(d *storage.Directory, aside string) error {
	if err := d.WriteFile(damagedName, []byte("being set aside\n")); err != nil {
		return err
	}
	disk := d.FS()
	if err := disk.MkdirAll(d.Path(aside), 0o700); err != nil {
		return err
	}
	for _, name := range setAside {
		if err := disk.Rename(d.Path(name), d.Path(aside, name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	dir, err := disk.OpenDir(d.Path())
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}

// openOnce opens a node from the directory as it is.
func openOnce(ctx context.Context, c Config) (*Node, error) {
	n := newNode(c)
	for _, step := range []func(context.Context) error{
		n.openData, n.openLinks, n.join, n.openStores, n.openMapGroup, n.openShards, n.openPeers, n.awaitLeaders, n.listen, n.openAdmin,
	} {
		if err := step(ctx); err != nil {
			return nil, errors.Join(err, n.Close())
		}
	}
	return n, nil
}
