package engine

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"parley/engine/cluster"
	"parley/raft"
)

// A nodeStatus is what a node says of its replicas: to leaders that wait for a learner,
// to nodes that want to drop a replica, to the planner and to operators. It is asked for
// seldom, so it is JSON.
type nodeStatus struct {
	Node     uint32        `json:"node"`
	Epoch    uint64        `json:"epoch"`
	Sessions int64         `json:"sessions"`
	Clock    bool          `json:"clock_wrong,omitempty"`
	Draining bool          `json:"draining,omitempty"` // about to stop, or to leave
	Groups   []groupStatus `json:"groups"`
}

// A groupStatus is one replica.
type groupStatus struct {
	Group    uint32   `json:"group"`
	Replica  string   `json:"replica"`
	Leading  bool     `json:"leading"`
	Term     uint64   `json:"term"`
	Applied  uint64   `json:"applied"`
	Commit   uint64   `json:"commit"`
	LogBytes uint64   `json:"log_bytes"`
	Voters   []string `json:"voters"`
	Learners []string `json:"learners"`
}

func (g *groupStatus) has(replica string) bool {
	return slices.Contains(g.Voters, replica) || slices.Contains(g.Learners, replica)
}

// group finds a replica's status; nil if there is none here.
func (s *nodeStatus) group(id uint32) *groupStatus {
	for i := range s.Groups {
		if s.Groups[i].Group == id {
			return &s.Groups[i]
		}
	}
	return nil
}

// status is what this node says of itself.
func (n *Node) status() *nodeStatus {
	s := &nodeStatus{Node: n.identity.Number, Epoch: n.maps.view.Map().Epoch, Clock: n.clocks.isWrong(), Draining: n.draining.Load()}
	if n.serving.Load() {
		s.Sessions = n.server.Stats().Sessions
	}
	for _, group := range n.roster.groups() {
		if g := n.groupOf(group); g != nil {
			s.Groups = append(s.Groups, describeGroup(group, n.roster.id(group), g))
		}
	}
	return s
}

func describeGroup(group uint32, id string, g *raft.Group) groupStatus {
	stats, members := g.Stats(), g.Membership()
	return groupStatus{
		Group: group, Replica: id, Leading: stats.Leading, Term: stats.Term, Applied: stats.Applied, Commit: stats.Commit,
		LogBytes: stats.LogBytes, Voters: members.Voters, Learners: members.Learners,
	}
}

// statusTimeout bounds the wait for one node's status.
const statusTimeout = 2 * time.Second

// statusOf asks a node.
func (n *Node) statusOf(ctx context.Context, node uint32) (*nodeStatus, error) {
	if node == n.identity.Number {
		return n.status(), nil
	}
	ctx, cancel := context.WithTimeout(ctx, statusTimeout)
	defer cancel()
	answer, err := n.hub.Call(ctx, node, callStatus, nil)
	if err != nil {
		return nil, err
	}
	var s nodeStatus
	if err := json.Unmarshal(answer, &s); err != nil {
		return nil, fmt.Errorf("%w: %w", errBadAnswer, err)
	}
	return &s, nil
}

// statuses asks all live nodes side by side; those that do not answer are missing.
func (n *Node) statuses(ctx context.Context, m *cluster.Map) map[uint32]*nodeStatus {
	type answer struct {
		node   uint32
		status *nodeStatus
	}
	answers := make(chan answer, len(m.Nodes))
	asked := 0
	for i := range m.Nodes {
		if d := &m.Nodes[i]; d.State != cluster.Removed {
			asked++
			go func() {
				s, _ := n.statusOf(ctx, d.Number)
				answers <- answer{d.Number, s}
			}()
		}
	}
	all := make(map[uint32]*nodeStatus)
	for range asked {
		if a := <-answers; a.status != nil {
			all[a.node] = a.status
		}
	}
	return all
}
