package engine

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"time"

	"parley/engine/auth"
	"parley/engine/cluster"
	"parley/raft/link"
)

// Kinds of messages and calls between nodes. They are part of the cluster's version 1.
const (
	kindLeading  link.Kind = iota + 1 // which groups the sender leads
	kindForward                       // sends and cursors for a shard that the receiver leads
	kindStream                        // to the leader of a shard: open a stream, attach, detach
	kindEffects                       // from the leader of a shard: what its stream carries
	kindTyping                        // somebody writes to a user who may be here
	kindClaim                         // a device has connected to the sender
	kindReplaced                      // a device has connected elsewhere
	callMap                           // the newest cluster map
	callPropose                       // a change of the map
	callStatus                        // what the receiver's replicas are
	callCommand                       // a command of one shard for another
	callUser                          // a new account
	callRead                          // a read that the receiver authorizes
	kindCounts                        // how far the message of a user who may be here has come
)

var (
	// ErrRemoved reports a node that its cluster has removed for good.
	ErrRemoved = errors.New("engine: this node was removed from the cluster")
	// ErrTwin reports a second process with the number of a living one.
	ErrTwin = errors.New("engine: this data directory is a copy of a running node's: start a new node with an empty one")
	// ErrJoin reports that no member let this node in.
	ErrJoin = errors.New("engine: could not join the cluster")

	errBadAnswer = errors.New("engine: another node gave an answer that cannot be read")
)

// openLinks opens the door for other nodes. Nothing is served on it yet.
func (n *Node) openLinks(context.Context) error {
	c := n.config.Cluster
	if c == nil {
		return nil
	}
	bind := c.Bind
	if bind == nil {
		bind = func() (net.Listener, error) { return net.Listen("tcp", c.Listen) }
	}
	listener, err := bind()
	if err != nil {
		return fmt.Errorf("engine: listen for other nodes: %w", err)
	}
	n.linkAddress = c.Advertise
	if n.linkAddress == "" {
		n.linkAddress = listener.Addr().String()
	}
	hub, err := link.Open(link.Options{
		Self: n.identity.Number, Cluster: n.identity.Cluster, Listener: listener, Dial: c.Dial, TLS: c.TLS,
		Address: n.nodeAddress, NodeOf: cluster.NodeOf, Admit: n.admitLink,
		Epoch:   func() uint64 { return n.maps.view.Map().Epoch },
		OnEpoch: n.epochShown, OnTwin: n.twin, OnNotMember: n.expelled, Logger: n.log,
	})
	if err != nil {
		return errors.Join(err, listener.Close())
	}
	n.hub = hub
	return nil
}

// twin hears that another process has this node's number, and ends this one: its data
// directory was copied, and two that vote as one could lose what was acknowledged.
func (n *Node) twin(err error) { n.config.Fatal(fmt.Errorf("%w: %w", ErrTwin, err)) }

// expelled hears that a peer's map has removed this node. Nobody else would tell it: members
// neither dial it nor let it in.
func (n *Node) expelled(error) { n.config.Fatal(n.removedError()) }

func (n *Node) removedError() error {
	return fmt.Errorf("%w: node %d; its data directory is of no use any more", ErrRemoved, n.identity.Number)
}

// nodeAddress is where a node has its links, as the map says.
func (n *Node) nodeAddress(node uint32) (string, bool) {
	d := n.maps.view.Map().Live(node)
	if d == nil || d.Address == loneAddress {
		return "", false
	}
	return d.Address, true
}

// admitLink refuses nodes that the map has removed. One that it does not know yet may be
// in a newer map.
func (n *Node) admitLink(node uint32) error {
	if d := n.maps.view.Map().Node(node); d != nil && d.State == cluster.Removed {
		return fmt.Errorf("%w: node %d", ErrRemoved, node)
	}
	return nil
}

// epochShown hears that a node has another map; a newer one is fetched.
func (n *Node) epochShown(from uint32, epoch uint64) {
	if n.maps == nil || epoch <= n.maps.view.Map().Epoch {
		return
	}
	select {
	case n.fetches <- from:
	default: // one is under way, and pings repeat it
	}
}

// fetcher is the task that fetches newer maps, one at a time.
func (n *Node) fetcher() {
	for {
		select {
		case <-n.stop:
			return
		case from := <-n.fetches:
			ctx, cancel := context.WithTimeout(n.life, fetchTimeout)
			n.fetch(ctx, from)
			cancel()
		}
	}
}

const fetchTimeout = 5 * time.Second

// connect opens links to all nodes of the map and closes those to others.
func (n *Node) connect(m *cluster.Map) {
	if n.hub == nil {
		return
	}
	var others []uint32
	for i := range m.Nodes {
		if d := &m.Nodes[i]; d.State != cluster.Removed && d.Number != n.identity.Number {
			others = append(others, d.Number)
		}
	}
	n.hub.Connect(others)
}

// joinRetry is the pause between two rounds of asking to be let in.
const joinRetry = 500 * time.Millisecond

// join asks the nodes of Config.Cluster.Join to let this one in, until one does, one
// refuses for good, all have certificates of another authority, or ctx ends.
func (n *Node) join(ctx context.Context) error {
	if n.identity.Number != 0 {
		return n.checkCluster(ctx)
	}
	c := n.config.Cluster
	request := cluster.AppendJoinRequest(nil, &cluster.JoinRequest{
		Identity: n.identity.Replica, Name: c.Name, Address: n.linkAddress, Client: c.Client, Zone: c.Zone, Weight: c.Weight,
		Version: cluster.Version, VersionMin: cluster.VersionMin, Token: []byte(c.Token),
	})
	var last error
	for {
		strangers := 0
		for _, address := range c.Join {
			answer, err := n.hub.Join(ctx, address, request)
			if err == nil {
				return n.joined(answer)
			}
			if errors.Is(err, link.ErrCertificate) {
				strangers++
			}
			last = fmt.Errorf("%s: %w", address, err)
			var remote *link.RemoteError
			if errors.As(err, &remote) && remote.Code == codeRefused {
				return fmt.Errorf("%w: %w", ErrJoin, last)
			}
			n.log.Warn("not let in yet", "node", address, "error", err)
		}
		if strangers > 0 && strangers == len(c.Join) {
			return fmt.Errorf("%w: this node's certificate must be of the authority that made the cluster's (`parley node cert --ca`): %w", ErrJoin, last)
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%w: %w", ErrJoin, errors.Join(last, ctx.Err()))
		case <-n.stop:
			return fmt.Errorf("%w: %w", ErrJoin, last)
		case <-time.After(joinRetry):
		}
	}
}

// checkTimeout bounds the question to one address whether it is of this node's cluster.
const checkTimeout = 2 * time.Second

// checkCluster looks, at the start of a node that has joined long ago, at the addresses that
// it was told to join and does not know: somebody may have taken the data directory of
// another cluster. What does not answer is left alone.
func (n *Node) checkCluster(ctx context.Context) error {
	if n.hub == nil {
		return nil
	}
	m := n.maps.view.Map()
	for _, address := range n.config.Cluster.Join {
		if slices.ContainsFunc(m.Nodes, func(d cluster.Node) bool { return d.Address == address }) {
			continue
		}
		ctx, cancel := context.WithTimeout(ctx, checkTimeout)
		_, err := n.hub.Join(ctx, address, nil)
		cancel()
		if errors.Is(err, link.ErrRefused) {
			return fmt.Errorf("%w: this data directory is of node %d of another cluster than %s: start with an empty one (%w)", ErrJoin, n.identity.Number, address, err)
		}
	}
	return nil
}

// joined takes the answer of a member: this node has a number now, and the secrets.
func (n *Node) joined(answer []byte) error {
	r, err := cluster.ParseJoinResponse(answer)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrJoin, err)
	}
	if _, err := auth.ParseKeys(r.Keys); err != nil {
		return fmt.Errorf("%w: %w", ErrJoin, err)
	}
	if err := n.directory.WriteFile(keysName, r.Keys); err != nil {
		return fmt.Errorf("engine: keys: %w", err)
	}
	if err := cluster.WriteMap(n.directory.FS(), n.directory.Path(mapName), r.Map); err != nil {
		return err
	}
	n.identity.Cluster, n.identity.Number, n.identity.Shards = r.Map.Cluster, r.Number, len(r.Map.Shards)
	if err := n.identity.write(n.directory); err != nil {
		return err
	}
	n.hub.SetSelf(r.Number, r.Map.Cluster)
	n.maps.offer(r.Map)
	n.log.Info("joined the cluster", "node", r.Number, "cluster", r.Map.Cluster)
	return nil
}
