package admin

import (
	"context"
	"errors"
	"net/http"
	"time"
)

// ErrRefused is the answer to what an operator asks of the cluster and the cluster must
// not do: the text says why, and what to do instead.
var ErrRefused = errors.New("refused")

// A ClusterOperator does what the operator's socket offers for the cluster. Any node may
// be asked; what it cannot reach it leaves out, or says so.
type ClusterOperator interface {
	// Nodes lists the nodes of the cluster map, removed ones left out.
	Nodes(ctx context.Context) ([]Node, error)
	// Invite makes a token with which a node can join, once or more, within a lifetime.
	Invite(ctx context.Context, lifetime time.Duration) (Invitation, error)
	// DrainNode moves everything away from a node and sends its clients elsewhere; back
	// takes that back.
	DrainNode(ctx context.Context, node string, back bool) error
	// RemoveNode removes a node for good. It is refused where data would be lost.
	RemoveNode(ctx context.Context, node string) error
	// Shards lists the shards with their replicas.
	Shards(ctx context.Context) ([]Shard, error)
	// MoveShard puts the replica of a shard that is on one node on another.
	MoveShard(ctx context.Context, shard uint32, from, to string) error
	// TransferShard makes a node lead a shard of which it has a replica, from now on.
	TransferShard(ctx context.Context, shard uint32, to string) error
}

// A Node is one line of the list of nodes.
type Node struct {
	Number   uint32 `json:"number"`
	Name     string `json:"name"`
	Address  string `json:"address"`
	Client   string `json:"client"`
	Zone     string `json:"zone"`
	Weight   int    `json:"weight"`
	State    string `json:"state"` // up, draining
	Answers  bool   `json:"answers"`
	Self     bool   `json:"self"`
	Replicas int    `json:"replicas"`
	Leading  int    `json:"leading"`
	Sessions int64  `json:"sessions"`
}

// An Invitation is what a node needs to join.
type Invitation struct {
	Token   string    `json:"token"`
	Address string    `json:"address"` // of the node that made it
	Expires time.Time `json:"expires"`
}

// A Shard is one line of the list of shards.
type Shard struct {
	ID       uint32    `json:"id"`
	First    int       `json:"first"` // slot
	Last     int       `json:"last"`
	Leader   string    `json:"leader"` // name of the node; empty: none is known
	Term     uint64    `json:"term"`
	Applied  uint64    `json:"applied"`
	Replicas []Replica `json:"replicas"`
	Settled  bool      `json:"settled"` // nothing is on its way
}

// A Replica is one copy of a shard.
type Replica struct {
	Node    string `json:"node"`
	Role    string `json:"role"` // leader, voter, learner, coming, going
	Applied uint64 `json:"applied"`
}

// The bodies of the cluster's requests.
type (
	inviteRequest struct {
		LifetimeSeconds int64 `json:"lifetime_seconds"`
	}
	nodeRequest struct {
		Node string `json:"node"`
		Back bool   `json:"back,omitempty"`
	}
	shardRequest struct {
		Shard uint32 `json:"shard"`
		From  string `json:"from,omitempty"`
		To    string `json:"to"`
	}
	emptyRequest  struct{}
	emptyResponse struct{}
	nodesResponse struct {
		Nodes []Node `json:"nodes"`
	}
	shardsResponse struct {
		Shards []Shard `json:"shards"`
	}
)

// lifetimeSecondsMax keeps a lifetime from overflowing; longer ones are refused anyway.
const lifetimeSecondsMax = 366 * 24 * 3600

// routeCluster adds the cluster's requests to the socket, if the operator knows of one.
func (s *Server) routeCluster(mux *http.ServeMux) {
	o, ok := s.operator.(ClusterOperator)
	if !ok {
		return
	}
	handle(s, mux, "nodes", func(ctx context.Context, _ emptyRequest) (nodesResponse, error) {
		nodes, err := o.Nodes(ctx)
		return nodesResponse{nodes}, err
	})
	handle(s, mux, "nodes/invite", func(ctx context.Context, q inviteRequest) (Invitation, error) {
		q.LifetimeSeconds = min(max(q.LifetimeSeconds, -1), lifetimeSecondsMax)
		return o.Invite(ctx, time.Duration(q.LifetimeSeconds)*time.Second)
	})
	handle(s, mux, "nodes/drain", func(ctx context.Context, q nodeRequest) (emptyResponse, error) {
		return emptyResponse{}, o.DrainNode(ctx, q.Node, q.Back)
	})
	handle(s, mux, "nodes/remove", func(ctx context.Context, q nodeRequest) (emptyResponse, error) {
		return emptyResponse{}, o.RemoveNode(ctx, q.Node)
	})
	handle(s, mux, "shards", func(ctx context.Context, _ emptyRequest) (shardsResponse, error) {
		shards, err := o.Shards(ctx)
		return shardsResponse{shards}, err
	})
	handle(s, mux, "shards/move", func(ctx context.Context, q shardRequest) (emptyResponse, error) {
		return emptyResponse{}, o.MoveShard(ctx, q.Shard, q.From, q.To)
	})
	handle(s, mux, "shards/transfer", func(ctx context.Context, q shardRequest) (emptyResponse, error) {
		return emptyResponse{}, o.TransferShard(ctx, q.Shard, q.To)
	})
}

func handle[Q, A any](s *Server, mux *http.ServeMux, path string, do func(context.Context, Q) (A, error)) {
	mux.HandleFunc("POST /v1/"+path, func(w http.ResponseWriter, r *http.Request) { answer(s, w, r, do) })
}

// The methods that make a Client a ClusterOperator.

// Nodes lists the nodes.
func (c *Client) Nodes(ctx context.Context) ([]Node, error) {
	var a nodesResponse
	err := c.post(ctx, "/v1/nodes", emptyRequest{}, &a)
	return a.Nodes, err
}

// Invite makes a token with which a node can join.
func (c *Client) Invite(ctx context.Context, lifetime time.Duration) (a Invitation, err error) {
	err = c.post(ctx, "/v1/nodes/invite", inviteRequest{int64(lifetime / time.Second)}, &a)
	return a, err
}

// DrainNode moves everything away from a node.
func (c *Client) DrainNode(ctx context.Context, node string, back bool) error {
	return c.post(ctx, "/v1/nodes/drain", nodeRequest{node, back}, &emptyResponse{})
}

// RemoveNode removes a node for good.
func (c *Client) RemoveNode(ctx context.Context, node string) error {
	return c.post(ctx, "/v1/nodes/remove", nodeRequest{Node: node}, &emptyResponse{})
}

// Shards lists the shards.
func (c *Client) Shards(ctx context.Context) ([]Shard, error) {
	var a shardsResponse
	err := c.post(ctx, "/v1/shards", emptyRequest{}, &a)
	return a.Shards, err
}

// MoveShard moves a replica.
func (c *Client) MoveShard(ctx context.Context, shard uint32, from, to string) error {
	return c.post(ctx, "/v1/shards/move", shardRequest{shard, from, to}, &emptyResponse{})
}

// TransferShard moves the leadership.
func (c *Client) TransferShard(ctx context.Context, shard uint32, to string) error {
	return c.post(ctx, "/v1/shards/transfer", shardRequest{Shard: shard, To: to}, &emptyResponse{})
}
