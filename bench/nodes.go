//go:build linux

package bench

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/spf13/pflag"

	"parley/bench/load"
	"parley/engine/admin"
	"parley/raft/link"
)

const (
	// copiesMax is how many replicas a cluster keeps of a shard if it has so many nodes. With two it
	// keeps one: two that both must answer are worse than one.
	copiesMax = 3
	// settleTimeout bounds the wait for shards to be where they belong: each is copied, two at a
	// time, and a planner looks once a second.
	settleTimeout = 3 * time.Minute
	settlePoll    = 200 * time.Millisecond
	// settledLooks is how often in a row nothing may be on its way: the planner's next move
	// shows within that time.
	settledLooks = 8
	// inviteLifetime outlives every benchmark.
	inviteLifetime = 24 * time.Hour
)

var errSettle = errors.New("bench: the cluster does not come to rest")

// clusterFlags say of what kind the servers are.
type clusterFlags struct {
	nodes int  // 0: a server alone, with no links at all
	plain bool // links without TLS
}

func (o *clusterFlags) add(f *pflag.FlagSet) {
	f.IntVar(&o.nodes, "nodes", copiesMax, "how many server processes form the cluster")
	f.BoolVar(&o.plain, "plain", false, "links between nodes without TLS, to tell what it costs")
}

func (o *clusterFlags) settings(s map[string]string) map[string]string {
	s["nodes"], s["links"] = fmt.Sprint(o.nodes), "mtls"
	if o.plain {
		s["links"] = "plain"
	}
	return s
}

// nodeName is what the nodes are called: a, b, c, …
func nodeName(i int) string { return string(rune('a' + i)) }

// startCluster starts the nodes, the first of which the others join, and waits until each shard has
// its replicas.
func (s *site) startCluster(ctx context.Context) error {
	for i := range s.options.cluster.nodes {
		n, err := s.newNode(i)
		if err != nil {
			return err
		}
		s.nodes = append(s.nodes, n)
	}
	s.server = s.nodes[0]
	if err := s.server.start(ctx); err != nil {
		return err
	}
	errs := make([]error, len(s.nodes))
	var starting sync.WaitGroup
	for i, n := range s.nodes[1:] {
		starting.Go(func() { errs[i] = s.join(ctx, n) })
	}
	starting.Wait()
	if err := errors.Join(errs...); err != nil {
		return err
	}
	s.say("%d nodes in %s; waiting until every shard has its replicas", len(s.nodes), s.folder)
	_, err := s.atRest(ctx, len(s.nodes))
	return err
}

// newNode prepares a node with what an operator gives it: a name, an address, certificates.
func (s *site) newNode(i int) (*server, error) {
	name := nodeName(i)
	n := &server{program: s.program, folder: filepath.Join(s.folder, name), link: "127.0.0.1:0",
		flags: append([]string{"--node-name", name}, s.options.flags...)}
	if s.options.cluster.plain {
		return n, nil
	}
	authority, _, err := link.OpenAuthority(filepath.Join(s.folder, "authority"))
	if err != nil {
		return nil, fmt.Errorf("bench: %w", err)
	}
	certificate, key, err := authority.Issue(name, []string{"127.0.0.1"}, inviteLifetime)
	if err == nil {
		err = authority.WriteNode(n.folder, name, certificate, key)
	}
	if err != nil {
		return nil, fmt.Errorf("bench: %w", err)
	}
	n.flags = append(n.flags, "--cluster-ca", filepath.Join(n.folder, link.AuthorityFile),
		"--cluster-cert", filepath.Join(n.folder, link.NodeFile), "--cluster-key", filepath.Join(n.folder, link.NodeKeyFile))
	return n, nil
}

// join starts a node with an invitation of the first.
func (s *site) join(ctx context.Context, n *server) error {
	invitation, err := s.server.operator().Invite(ctx, inviteLifetime)
	if err != nil {
		return fmt.Errorf("bench: %w", err)
	}
	n.invitation = []string{"--join", invitation.Address, "--join-token", invitation.Token}
	return n.start(ctx)
}

// atRest waits until every shard of a cluster of so many nodes has a leader and its replicas.
func (s *site) atRest(ctx context.Context, nodes int) ([]admin.Shard, error) {
	var shards []admin.Shard
	state := "nothing was heard"
	for end, looks := time.Now().Add(settleTimeout), 0; time.Now().Before(end); looks++ {
		var err error
		if shards, err = s.server.operator().Shards(ctx); err != nil {
			state, looks = err.Error(), -1
		} else if state = unsettled(shards, copies(nodes)); state != "" {
			looks = -1
		}
		if looks >= settledLooks {
			return shards, nil
		}
		if err := wait(ctx, settlePoll); err != nil {
			return nil, err
		}
	}
	return nil, fmt.Errorf("%w within %v: %s", errSettle, settleTimeout, state)
}

func copies(nodes int) int {
	if nodes < copiesMax {
		return 1
	}
	return copiesMax
}

// unsettled says what is still on its way; "" if nothing is.
func unsettled(shards []admin.Shard, copies int) string {
	var left []string
	for _, s := range shards {
		if !s.Settled || s.Leader == "" || len(s.Replicas) != copies {
			left = append(left, fmt.Sprintf("shard %d is led by %q and has %d replicas", s.ID, s.Leader, len(s.Replicas)))
		}
	}
	return strings.Join(left, "; ")
}

// targets are where clients connect, node by node.
func (s *site) targets() []load.Target {
	var targets []load.Target
	for _, n := range s.nodes {
		targets = append(targets, n.target())
	}
	return targets
}
