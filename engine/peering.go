package engine

import (
	"context"
	"encoding/binary"
	"time"

	"parley/engine/cluster"
	"parley/engine/reactor"
	"parley/wire"
)

// announce tells all nodes at once that this one leads a group now.
func (n *Node) announce(group uint32, term uint64) {
	n.announceLeading(n.others(), []leading{{group: group, term: term}})
}

// A claim says that a device was let in at a node, and when. Its time is in every message
// that it leads to: on a link that was slow it may come after the device has connected
// elsewhere, and must not end that newer session. Clocks that differ leave an old session
// alive at worst.
type claim struct {
	user, device wire.ID
	at           wire.Time
}

func (c claim) append(dst []byte) []byte {
	dst = binary.AppendUvarint(binary.AppendUvarint(dst, uint64(c.user)), uint64(c.device))
	return binary.AppendUvarint(dst, uint64(c.at))
}

func parseClaim(payload []byte) (c claim, ok bool) {
	t := tokenReader{src: payload}
	c = claim{wire.ID(t.uint()), wire.ID(t.uint()), wire.Time(t.uint())}
	return c, !t.bad && c.user.Valid()
}

// claim makes a session the one of its device in the whole cluster: the leader of the
// user's home knows from where else the user is attached, and has those nodes look.
func (n *Node) claim(c claim) {
	r := n.routeOf(c.user.Slot())
	p, err := r.attach(c.user)
	if err != nil {
		return // SYNC is refused too, and the client comes again
	}
	if p.Node == 0 {
		n.replace(r, c, n.identity.Number)
		return
	}
	_ = n.hub.Send(p.Node, kindClaim, c.append(nil))
}

// heardClaim hears, as the leader of a user's home, that a device is at another node now.
func (n *Node) heardClaim(from uint32, payload []byte) {
	if c, ok := parseClaim(payload); ok {
		n.replace(n.routeOf(c.user.Slot()), c, from)
	}
}

// replace ends the older sessions of a device at all nodes but one.
func (n *Node) replace(r *route, c claim, but uint32) {
	if but != n.identity.Number {
		n.endDevice(c)
	}
	outlet := r.outlet.Load()
	if outlet == nil {
		return
	}
	payload := c.append(nil)
	for _, node := range outlet.Nodes(nil, c.user) {
		if node != but {
			_ = n.hub.Send(node, kindReplaced, payload)
		}
	}
}

// heardReplaced ends the session of a device that has connected elsewhere since.
func (n *Node) heardReplaced(_ uint32, payload []byte) {
	if c, ok := parseClaim(payload); ok {
		n.endDevice(c)
	}
}

func (n *Node) endDevice(c claim) {
	for _, entry := range n.sessions.Append(nil, c.user) {
		if entry.Device == c.device {
			h := reactor.Handle(entry.Handle)
			n.post(h, closeItem{handle: h, before: c.at, code: wire.CodeReplaced, reason: "this device has connected again"})
		}
	}
}

// departed detaches a user whose last session here has gone.
func (n *Node) departed(user wire.ID) {
	if n.hub == nil || n.sessions.Has(user) {
		return
	}
	for _, r := range n.routes {
		r.detach(user)
	}
}

// leave follows the map's wish that this node goes: its clients are told to connect
// elsewhere, once, and its replicas move away by the planner's doing. empty says that they
// have.
func (n *Node) leave(empty bool) {
	if empty && !isClosed(n.drained) {
		n.log.Info("drained: this node holds nothing any more")
		close(n.drained)
	}
	if !n.serving.Load() || n.draining.Load() || n.leaving.Swap(true) {
		return
	}
	n.log.Info("draining, as the cluster map says")
	ctx, cancel := context.WithTimeout(n.life, time.Minute)
	done := make(chan struct{})
	n.endLeave = func() {
		cancel()
		<-done
	}
	n.tasks.Go(func() {
		defer close(done)
		defer cancel()
		_ = n.Drain(ctx)
	})
}

// stay follows the map's wish that a node that was to go is taken back: it lets clients in
// again, and may lead.
func (n *Node) stay() {
	if !n.leaving.Load() {
		return
	}
	n.endLeave()
	n.log.Info("taken back, as the cluster map says")
	for _, l := range n.allLoops() {
		l.Post(resumeItem{})
	}
	n.server.Resume()
	n.draining.Store(false)
	n.leaving.Store(false)
}

func isClosed(c chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

// handOver gives the groups that this node leads to others, so that its end is not a
// failure.
func (n *Node) handOver(ctx context.Context) {
	if n.hub == nil {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, handOverTimeout)
	defer cancel()
	for n.handOverOnce(ctx) {
		select {
		case <-ctx.Done():
			return
		case <-time.After(leaderPoll):
		}
	}
}

// handOverTimeout bounds the handing over of all groups.
const handOverTimeout = 5 * time.Second

// handOverOnce asks a node for each group to take it over, and tells whether one that could
// have did not: the next may.
func (n *Node) handOverOnce(ctx context.Context) (again bool) {
	for _, group := range n.roster.groups() {
		g := n.groupOf(group)
		if g == nil || !g.Leading() {
			continue
		}
		to := n.successor(ctx, group)
		if to == "" {
			continue
		}
		if err := g.TransferLeadership(ctx, to); err != nil {
			n.log.Warn("a group was not handed over", "group", group, "to", to, "error", err)
			again = true
		}
	}
	return again
}

// successor is the voter of a group that is reachable and furthest; "" if there is none.
func (n *Node) successor(ctx context.Context, group uint32) string {
	members := n.groupOf(group).Membership()
	progress := n.progress(ctx, group, members)
	best, index := "", uint64(0)
	for _, replica := range members.Voters {
		node, _ := cluster.NodeOf(replica)
		if at, ok := progress.applied[replica]; ok && node != n.identity.Number && !progress.unfit[node] && (best == "" || at > index) {
			best, index = replica, at
		}
	}
	return best
}
