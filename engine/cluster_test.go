package engine

import (
	"context"
	"fmt"
	"testing"
	"time"

	"parley/engine/cluster"
	"parley/wire"
)

// startCluster opens nodes of one cluster, and waits until each shard has a replica on
// three of them, or on all if there are fewer.
func startCluster(t *testing.T, count int) []*Node {
	t.Helper()
	nodes := []*Node{start(t, Config{Cluster: &ClusterConfig{Listen: "127.0.0.1:0"}})}
	for range count - 1 {
		nodes = append(nodes, joinCluster(t, nodes[0]))
	}
	waitUntil(t, func() bool { return placed(nodes[0], min(count, 3)) })
	return nodes
}

func joinCluster(t *testing.T, member *Node) *Node {
	t.Helper()
	token, err := member.Invite(time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	return start(t, Config{Cluster: &ClusterConfig{Listen: "127.0.0.1:0", Join: []string{member.linkAddress}, Token: token}})
}

// placed tells whether every shard is where the map wants it, with so many copies.
func placed(n *Node, copies int) bool {
	m := n.maps.view.Map()
	all := n.statuses(context.Background(), m)
	for i := range m.Shards {
		if len(m.Shards[i].Replicas) != copies {
			return false
		}
		settled := false
		for _, s := range all {
			if g := s.group(m.Shards[i].ID); g != nil && g.Leading {
				settled = cluster.Settled(m.Shards[i].Replicas, cluster.Membership{Voters: g.Voters, Learners: g.Learners})
			}
		}
		if !settled {
			return false
		}
	}
	return true
}

// Everybody chats with everybody, whichever node they are at and whichever leads.
func TestThreeNodesChat(t *testing.T) {
	nodes := startCluster(t, 3)
	var names []string
	var ids []wire.ID
	var sessions []*raw
	for i := range 6 {
		name := fmt.Sprint("user", i)
		names, ids = append(names, name), append(ids, user(t, nodes[i%3], name))
	}
	for i := range names {
		s, _ := live(t, nodes[(i/2)%3], names[i], 1, uint64(100+i))
		sessions = append(sessions, s)
	}
	for i, from := range sessions {
		for j, to := range sessions {
			if i == j {
				continue
			}
			from.text(wire.DirectRef(ids[j]), 1, fmt.Sprint(i, " to ", j))
			from.until(wire.TypeSent)
			to.settled()
		}
	}
	// What was pushed or told by HEAD is in everybody's history.
	for i, s := range sessions {
		for j := range sessions {
			if i == j {
				continue
			}
			page := s.history(wire.History{Ref: wire.DirectRef(ids[j]), Mode: wire.HistoryBackward})
			if len(page.Messages) != 2 {
				t.Errorf("%d sees %d messages with %d", i, len(page.Messages), j)
			}
		}
	}
	// In conversations that exist, messages, cursors and receipts are pushed.
	for i, from := range sessions {
		j := (i + 1) % len(sessions)
		to := sessions[j]
		from.text(wire.DirectRef(ids[j]), 2, "again")
		from.until(wire.TypeSent)
		m, err := wire.ParseMessage(to.until(wire.TypeMessage))
		for err == nil && string(m.Content.Bytes) != "again" {
			m, err = wire.ParseMessage(to.until(wire.TypeMessage))
		}
		if err != nil {
			t.Fatal(err)
		}
		to.cursor(wire.DirectRef(ids[i]), wire.Delivered, m.Sequence)
		for {
			r, err := wire.ParseReceipt(from.until(wire.TypeReceipt))
			if err != nil {
				t.Fatal(err)
			}
			if r.Ref == wire.DirectRef(ids[j]) && r.Position == m.Sequence {
				break
			}
		}
	}
}
