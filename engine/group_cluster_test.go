package engine

import (
	"context"
	"fmt"
	"net"
	"slices"
	"sync"
	"testing"
	"time"

	"parley/wire"
)

// cables are the connections that a node has dialed to others, to be cut.
type cables struct {
	mu   sync.Mutex
	open []net.Conn
}

func (c *cables) dial(ctx context.Context, address string) (net.Conn, error) {
	conn, err := (&net.Dialer{Timeout: dialTimeout}).DialContext(ctx, "tcp", address)
	if err == nil {
		c.mu.Lock()
		c.open = append(c.open, conn)
		c.mu.Unlock()
	}
	return conn, err
}

// cut ends all connections; the node dials again.
func (c *cables) cut() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, conn := range c.open {
		conn.Close()
	}
	c.open = nil
}

// startCabled opens nodes of one cluster whose links can be cut.
func startCabled(t *testing.T, count int) ([]*Node, []*cables) {
	t.Helper()
	var nodes []*Node
	var all []*cables
	for i := range count {
		c := &cables{}
		config := ClusterConfig{Listen: "127.0.0.1:0", Dial: c.dial}
		if i > 0 {
			untilAvailable(t, func() error {
				invitation, err := nodes[0].Invite(context.Background(), time.Hour)
				config.Join, config.Token = []string{nodes[0].linkAddress}, invitation.Token
				return err
			})
		}
		nodes, all = append(nodes, start(t, Config{Cluster: &config, Loops: 2})), append(all, c)
	}
	waitUntil(t, func() bool { return placed(nodes[0], min(count, 3)) })
	return nodes, all
}

// What holds for a group on one node holds on three.
func TestAGroupOnThreeNodes(t *testing.T) {
	nodes, _ := startCabled(t, 3)
	for name, test := range map[string]func(scene){"people": threePeople, "coming": comingAndGoing, "cursors": membersAndCursors, "counts": countsOfMessages, "typing": typingInAGroup, "devices": devicesComeAndGo} {
		t.Run(name, func(t *testing.T) { test(scene{t: t, nodes: nodes, name: name}) })
	}
	// Nobody is here any more: once the shards have told something else, no node wants
	// messages of groups.
	ticks := 0
	waitUntil(t, func() bool {
		ticks++
		user(t, nodes[0], fmt.Sprint("tick", ticks))
		return !slices.ContainsFunc(nodes, (*Node).wantsGroups)
	})
}

// wantsGroups tells whether messages of groups come to this node, or go from here to another.
func (n *Node) wantsGroups() bool {
	return slices.ContainsFunc(n.routes, func(r *route) bool {
		r.mu.Lock()
		defer r.mu.Unlock()
		outlet := r.outlet.Load()
		return len(r.groups.Append(nil)) > 0 || outlet != nil && outlet.Stats().Groups > 0
	})
}

// Leaders change and links break all the time, while people talk, come and go. Everybody
// hears what is theirs, once and in order, on every node.
func TestAGroupWhileLeadersChangeAndLinksBreak(t *testing.T) {
	nodes, wires := startCabled(t, 3)
	s := scene{t: t, nodes: nodes}
	g := newTrio(s)
	s.user("dora")
	dora := s.meet(2, "dora", 1, 400)
	shard := nodes[0].routeOf(g.ref.ID().Slot()).id
	stop := make(chan struct{})
	var work sync.WaitGroup
	for i, p := range []*person{g.ada, g.bob, g.cleo} {
		work.Go(func() {
			for k := 0; !isClosed(stop); k++ {
				p.say(g.ref, fmt.Sprint("message ", i, " ", k))
			}
		})
	}
	var stretches [][2]uint64
	work.Go(func() {
		for !isClosed(stop) {
			from := g.tablet.change(g.ref, wire.Event{Kind: wire.EventAdd, Users: []wire.ID{dora.id}})
			dora.hears(g.ref, from)
			until := g.tablet.change(g.ref, wire.Event{Kind: wire.EventRemove, Users: []wire.ID{dora.id}})
			stretches = append(stretches, [2]uint64{from, until})
		}
	})
	for round := range 9 {
		if round%3 == 2 {
			wires[round%len(wires)].cut()
		} else {
			to := nodes[round%len(nodes)]
			// It may be refused, or too late: then there is another change.
			_ = nodes[0].TransferShard(t.Context(), shard, fmt.Sprint("n", to.identity.Number))
		}
		before := g.ada.known(g.ref)
		waitUntil(t, func() bool { return g.ada.known(g.ref) > before+20 })
	}
	close(stop)
	work.Wait()
	end := g.ada.say(g.ref, "the end")
	for _, p := range g.all() {
		p.hears(g.ref, end)
		p.wantAll(g.ref, [2]uint64{1, end})
	}
	dora.hears(g.ref, stretches[len(stretches)-1][1])
	dora.quiet()
	dora.wantAll(g.ref, stretches...)
	if len(stretches) < 2 {
		t.Errorf("dora came and went %d times", len(stretches))
	}
}

// known is the last sequence that a session knows of.
func (p *person) known(ref wire.Ref) uint64 {
	known := p.sequences(ref)
	return slices.Max(append(known, 0))
}
