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
	self, err := readIdentity(d)
	if err != nil && !errors.Is(err, fs.ErrNotExist) { // it is set aside already if a crash came in the middle
		return errors.Join(cause, err)
	}
	next, err := selfInvited(c, d, self.Number)
	if err != nil {
		return errors.Join(cause, err)
	}
	if next == nil {
		return cause // there is no copy of anything
	}
	aside := fmt.Sprintf("damaged-%d", c.Now().UnixMilli())
	if err := putAside(d, aside); err != nil {
		return errors.Join(cause, err)
	}
	c.Logger.Error("this node's data is damaged: it is set aside, and the node joins its cluster again with an empty directory",
		"damage", cause, "set_aside", d.Path(aside), "node", self.Number)
	c.Cluster = next
	return nil
}

// selfInvited is the configuration of a node that joins the cluster of its directory again,
// at any node but itself: the cluster's secrets are there, so that it can sign its own
// invitation. nil: the directory knows of no other node.
func selfInvited(c *Config, d *storage.Directory, self uint32) (*ClusterConfig, error) {
	m, err := cluster.ReadMap(d.FS(), d.Path(mapName))
	if err != nil {
		return nil, err
	}
	next := *c.Cluster
	next.Join = nil
	for i := range m.Nodes {
		other := &m.Nodes[i]
		if other.Number != self && other.State != cluster.Removed && other.Address != next.Advertise && other.Address != next.Listen {
			next.Join = append(next.Join, other.Address)
		}
	}
	if len(next.Join) == 0 {
		return nil, nil
	}
	content, err := d.ReadFile(keysName)
	if err != nil {
		return nil, err
	}
	keys, err := auth.ParseKeys(content)
	if err != nil {
		return nil, err
	}
	next.Token, err = keys.SignInvitation(c.Now(), time.Hour)
	return &next, err
}

// resumeJoin has a node join that set damaged data aside and ended before the others had
// let it in: its flags do not say that it joins, and its directory knows where and with
// which secrets. It must not take itself for the first node of a new cluster.
func (n *Node) resumeJoin() error {
	if n.config.Cluster == nil {
		return nil
	}
	self, err := readIdentity(n.directory)
	if err == nil && self.Number != 0 || err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil // it has joined; or openIdentity says what is wrong
	}
	next, err := selfInvited(&n.config, n.directory, 0)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("engine: join again: %w", err)
	}
	if next != nil {
		n.config.Cluster = next
	}
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
