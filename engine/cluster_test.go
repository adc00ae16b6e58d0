package engine

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"parley/engine/admin"
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
	invitation, err := member.Invite(context.Background(), time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	return start(t, Config{Cluster: &ClusterConfig{Listen: "127.0.0.1:0", Join: []string{member.linkAddress}, Token: invitation.Token}})
}

// leaderOf waits for a node that leads a group.
func leaderOf(t *testing.T, nodes []*Node, group uint32) (leader *Node) {
	t.Helper()
	waitUntil(t, func() bool {
		for _, n := range nodes {
			if g := n.groupOf(group); g != nil && g.Leading() {
				leader = n
			}
		}
		return leader != nil
	})
	return leader
}

// placed tells whether every shard, and the map, is where the map wants it, with so many
// copies, and would be so without any one of the nodes: whoever ends a node before that may
// take a vote that is still needed.
func placed(n *Node, copies int) bool {
	m := n.maps.view.Map()
	all := n.statuses(context.Background(), m)
	for _, s := range all {
		if s.Epoch > m.Epoch {
			return false
		}
	}
	for i := range m.Shards {
		if len(m.Shards[i].Replicas) != copies || !settled(m, all, m.Shards[i].ID) {
			return false
		}
	}
	return (copies < 3 || len(m.MapReplicas) >= 3) && settled(m, all, cluster.MapGroup)
}

// settled tells whether all replicas of a group know that they are, and none but, the ones
// that the map wants, on nodes that it has, and that one of them leads.
func settled(m *cluster.Map, all map[uint32]*nodeStatus, group uint32) bool {
	desired, _ := m.Wanted(group)
	leading := false
	for _, r := range desired {
		s := all[r.Node]
		if s == nil || m.Live(r.Node) == nil {
			return false
		}
		g := s.group(group)
		if g == nil || !cluster.Settled(desired, cluster.Membership{Voters: g.Voters, Learners: g.Learners}) {
			return false
		}
		leading = leading || g.Leading
	}
	return leading
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
			sendUntilSent(t, from, wire.DirectRef(ids[j]), 1, fmt.Sprint(i, " to ", j))
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
		sendUntilSent(t, from, wire.DirectRef(ids[j]), 2, "again")
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

// A leader's node dies without a word: sends and pushes go on at the other nodes, nothing
// is lost or doubled, and the node takes part again when it is back.
func TestALeadersNodeDies(t *testing.T) {
	nodes := startCluster(t, 3)
	waitUntil(t, func() bool { return calm(nodes[0]) })
	ada, bob := user(t, nodes[0], "ada"), user(t, nodes[0], "bob")
	victim := nodes[2]
	// Names are tried until the conversation is led by the victim.
	names := []string{"ada", "bob"}
	for i := 0; ; i++ {
		leader, _ := nodes[0].leaders.of(nodes[0].routeOf(wire.DirectRef(bob).Conversation(ada).Slot()).id)
		if leader == victim.identity.Number {
			break
		}
		names[1] = fmt.Sprint("bob", i)
		bob = user(t, nodes[0], names[1])
	}
	a, _ := live(t, nodes[0], names[0], 1, 1)
	b, _ := live(t, nodes[1], names[1], 1, 2)
	ref := wire.DirectRef(bob)
	sendUntilSent(t, a, ref, 1, "before")
	listed(t, nodes[0], bob, 1)
	if err := victim.Close(); err != nil {
		t.Fatal(err)
	}
	for counter := uint64(2); counter <= 5; counter++ {
		sendUntilSent(t, a, ref, counter, fmt.Sprint("after ", counter))
	}
	for seen := uint64(0); seen < 5; {
		m, err := wire.ParseMessage(b.until(wire.TypeMessage))
		if err != nil {
			t.Fatal(err)
		}
		seen = max(seen, m.Sequence)
	}
	page := b.history(wire.History{Ref: wire.DirectRef(ada), Mode: wire.HistoryBackward})
	if len(page.Messages) != 5 {
		t.Fatalf("%d messages, want 5: %+v", len(page.Messages), page)
	}
	for i, m := range page.Messages {
		if m.Sequence != uint64(i+1) {
			t.Errorf("message %d has the sequence %d", i, m.Sequence)
		}
	}
}

// sendUntilSent sends under one counter until it is acknowledged, as clients do.
func sendUntilSent(t *testing.T, r *raw, ref wire.Ref, counter uint64, text string) {
	t.Helper()
	deadline := time.Now().Add(patience)
	for time.Now().Before(deadline) {
		r.text(ref, counter, text)
		for {
			f, err := r.Next()
			if err != nil {
				t.Fatal(err)
			}
			if f.Type == wire.TypeSent {
				return
			}
			if f.Type == wire.TypeError {
				e, err := wire.ParseError(f)
				if err != nil || e.Code.Class() > 2 {
					t.Fatalf("refused: %+v, %v", e, err)
				}
				break
			}
		}
		time.Sleep(retryPause)
	}
	t.Fatal("not acknowledged in time")
}

// moveUntilTold moves a cursor until the position is that of the conversation, as clients do:
// what is refused for the moment is sent again. Then the other side has been told of it.
func moveUntilTold(t *testing.T, by *raw, ref wire.Ref, kind wire.CursorKind, position uint64, other *raw, back wire.Ref) {
	t.Helper()
	waitUntil(t, func() bool {
		by.cursor(ref, kind, position)
		for _, item := range by.sync(nil).Items {
			if item.Ref == ref && (item.Read >= position || kind == wire.Delivered && item.Delivered >= position) {
				return true
			}
		}
		return false
	})
	for {
		r, err := wire.ParseReceipt(other.until(wire.TypeReceipt))
		if err != nil {
			t.Fatal(err)
		}
		if r.Ref == back && r.Kind == kind && r.Position >= position {
			return
		}
	}
}

// A node whose disk has changed what was written on it sets that aside by itself, joins
// again under a new number, and is given copies of everything.
func TestADamagedNodeComesBackAsANewOne(t *testing.T) {
	nodes := startCluster(t, 3)
	ada, bob := user(t, nodes[0], "ada"), user(t, nodes[0], "bob")
	a, _ := live(t, nodes[0], "ada", 1, 1)
	for counter := uint64(1); counter <= 20; counter++ {
		sendUntilSent(t, a, wire.DirectRef(bob), counter, fmt.Sprint("message ", counter))
	}
	listed(t, nodes[0], bob, 1)
	victim := nodes[2]
	address, data := victim.linkAddress, victim.config.Data
	if err := victim.Close(); err != nil {
		t.Fatal(err)
	}
	flip(t, filepath.Join(data, "log"))
	again := start(t, Config{Data: data, Cluster: &ClusterConfig{Listen: address}})
	if again.identity.Number != 4 {
		t.Fatalf("it is node %d now", again.identity.Number)
	}
	waitUntil(t, func() bool { return placed(again, 3) })
	m := again.maps.view.Map()
	if m.Node(3).State != cluster.Removed || m.Node(4).Address != address {
		t.Fatalf("the map: %+v", m.Nodes)
	}
	b, _ := live(t, again, "bob", 1, 2)
	if page := b.history(wire.History{Ref: wire.DirectRef(ada), Mode: wire.HistoryBackward}); len(page.Messages) != 20 {
		t.Errorf("%d messages are left", len(page.Messages))
	}
	if kept, err := filepath.Glob(filepath.Join(data, "damaged-*", "log")); err != nil || len(kept) != 1 {
		t.Errorf("set aside: %v, %v", kept, err)
	}
}

// flip changes a bit in the middle of the largest file of a folder.
func flip(t *testing.T, dir string) {
	t.Helper()
	names, err := filepath.Glob(filepath.Join(dir, "*.log"))
	if err != nil || len(names) == 0 {
		t.Fatal("no log file", err)
	}
	largest, content := "", []byte(nil)
	for _, name := range names {
		b, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		if len(b) > len(content) {
			largest, content = name, b
		}
	}
	content[len(bytes.TrimRight(content, "\x00"))/2] ^= 1
	if err := os.WriteFile(largest, content, 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestJoinsAreRefused(t *testing.T) {
	member, stranger := start(t, Config{Cluster: &ClusterConfig{Listen: "127.0.0.1:0"}}), start(t, Config{Cluster: &ClusterConfig{Listen: "127.0.0.1:0"}})
	now := time.Now()
	good, err := member.keys.SignInvitation(now, time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	old, err := member.keys.SignInvitation(now.Add(-2*time.Hour), time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	foreign, err := stranger.keys.SignInvitation(now, time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ name, token, nodeName, want string }{
		{"no token", "", "", "there is none"},
		{"an old token", old, "", "expired"},
		{"another cluster's token", foreign, "", "not of this cluster"},
		{"the name of another node", good, "n1", "another node has this name"},
	} {
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		_, err := Open(ctx, Config{Data: t.TempDir(), Shards: 4, Fatal: func(error) {},
			Cluster: &ClusterConfig{Listen: "127.0.0.1:0", Join: []string{member.linkAddress}, Token: c.token, Name: c.nodeName}})
		cancel()
		if !errors.Is(err, ErrJoin) || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v", c.name, err)
		}
	}
	// The directory of another cluster's node.
	data := stranger.config.Data
	if err := stranger.Close(); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	_, err = Open(ctx, Config{Data: data, Fatal: func(error) {}, Cluster: &ClusterConfig{Listen: "127.0.0.1:0", Join: []string{member.linkAddress}, Token: good}})
	if !errors.Is(err, ErrJoin) || !strings.Contains(err.Error(), "another cluster") {
		t.Errorf("another cluster's directory: %v", err)
	}
	if nodes := member.maps.view.Map().Nodes; len(nodes) != 1 {
		t.Errorf("somebody was let in: %+v", nodes)
	}
}

// A node whose clock is hours ahead leads nothing, and dates nothing.
func TestAWrongClockLeadsNothing(t *testing.T) {
	var ahead atomic.Int64
	nodes := []*Node{start(t, Config{Cluster: &ClusterConfig{Listen: "127.0.0.1:0"},
		Now: func() time.Time { return time.Now().Add(time.Duration(ahead.Load())) }})}
	for range 2 {
		nodes = append(nodes, joinCluster(t, nodes[0]))
	}
	waitUntil(t, func() bool { return placed(nodes[0], 3) })
	leads := func() bool { return len(nodes[0].leaders.owned()) > 0 }
	waitUntil(t, leads)
	ahead.Store(int64(3 * time.Hour))
	waitUntil(t, func() bool { return errors.Is(nodes[0].Ready(), errClock) && !leads() })
	ahead.Store(0)
	waitUntil(t, func() bool { return nodes[0].Ready() == nil && leads() })
}

// A drained node of four ends up with nothing, and says so.
func TestADrainedNodeHoldsNothing(t *testing.T) {
	nodes := startCluster(t, 4)
	untilAvailable(t, func() error { return nodes[0].DrainNode(t.Context(), "n4", false) })
	waitUntil(t, func() bool { return isClosed(nodes[3].drained) })
	waitUntil(t, func() bool { return placed(nodes[0], 3) })
	if err := nodes[3].Close(); err != nil {
		t.Fatal(err)
	}
	waitUntil(t, func() bool { // not while a group elects its leader, for one
		return nodes[0].maps.view.Map().Node(4).State == cluster.Removed || nodes[0].RemoveNode(t.Context(), "n4") == nil
	})
	waitUntil(t, func() bool { return nodes[0].maps.view.Map().Node(4).State == cluster.Removed })
	if err := nodes[0].RemoveNode(t.Context(), "n4"); !errors.Is(err, admin.ErrRefused) {
		t.Errorf("removed twice: %v", err)
	}
}

// A leader whose disk is full refuses what other nodes forward, too; the counter is not
// used up.
func TestAFullDiskOfTheLeaderRefusesForwardedSends(t *testing.T) {
	nodes := startCluster(t, 3)
	ada, bob := user(t, nodes[0], "ada"), user(t, nodes[0], "bob")
	var sessions []*raw
	counters := make([]uint64, len(nodes))
	for i, n := range nodes {
		s, _ := live(t, n, "ada", wire.ID(i+1), uint64(i+1))
		sessions, counters[i] = append(sessions, s), 1
	}
	group, edge := nodes[0].routeOf(wire.DirectRef(bob).Conversation(ada).Slot()).id, 0
	waitUntil(t, func() bool { // again if another node leads by then
		leader, _ := nodes[0].leaders.of(group)
		edge = int(leader) % len(nodes) // node numbers begin at 1: this is another one
		for i, n := range nodes {
			n.diskFull.Store(i != edge)
		}
		sessions[edge].text(wire.DirectRef(bob), counters[edge], "one")
		f := sessions[edge].until(wire.TypeSent, wire.TypeError)
		if f.Type == wire.TypeSent {
			counters[edge]++
			return false
		}
		e, err := wire.ParseError(f)
		if err != nil || e.Code.Class() > 2 {
			t.Fatalf("refused: %+v, %v", e, err)
		}
		return e.Code == wire.CodeDiskFull
	})
	for _, n := range nodes {
		n.diskFull.Store(false)
	}
	sendUntilSent(t, sessions[edge], wire.DirectRef(bob), counters[edge], "one")
}
