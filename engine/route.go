package engine

import (
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"parley/engine/delivery"
	"parley/engine/router"
	"parley/engine/shard"
	"parley/raft"
	"parley/wire"
)

// A route is the way to one shard: the replica here, if there is one, and the stream from
// the node that leads it. A node that has no links has every leader, and no streams.
type route struct {
	id        uint32
	slots     router.Range
	node      *Node
	local     atomic.Pointer[replica]
	touchedBy []bool // by loop; each loop uses only its own

	// outlet serves the streams of other nodes; nil while there is no replica here.
	outlet atomic.Pointer[delivery.Outlet]
	// mu is held from an event of the inlet until its actions are done, and while effects are
	// delivered.
	mu      sync.Mutex
	inlet   *delivery.Inlet // nil without links
	actions []delivery.Action
	groups  delivery.Groups // of this node's sessions

	tally tally // of groups that are led here
}

// A replica is this node's part in one shard: the state machine and its Raft group, which
// is nil for the moment in which it starts.
type replica struct {
	*shard.Shard
	group *raft.Group
}

func (n *Node) newRoutes() []*route {
	routes := make([]*route, n.table.Shards())
	for i := range routes {
		r := &route{id: uint32(i), slots: n.table.Range(i), node: n, touchedBy: make([]bool, LoopsMax)}
		r.tally.count = r.countSoon
		if n.hub != nil {
			r.inlet = delivery.NewInlet(r.id, n.identity.Number, uint64(time.Now().UnixMilli()), &r.groups)
		}
		routes[i] = r
	}
	return routes
}

// routeOf is the way to the shard that owns a slot.
func (n *Node) routeOf(slot wire.Slot) *route { return n.routes[n.table.Shard(slot)] }

// local lists the replicas of shards on this node.
func (n *Node) local() []*replica {
	replicas := make([]*replica, 0, len(n.routes))
	for _, r := range n.routes {
		if l := r.local.Load(); l != nil {
			replicas = append(replicas, l)
		}
	}
	return replicas
}

// occupy takes up a replica that begins here.
func (r *route) occupy(s *shard.Shard) {
	r.local.Store(&replica{Shard: s})
	if r.inlet == nil {
		return
	}
	recent := delivery.NewRecent(s.Stats().Applied, delivery.RecentBytesMax)
	r.outlet.Store(delivery.NewOutlet(r.id, recent, func(node uint32, frame []byte) error {
		return r.node.hub.Send(node, kindEffects, frame)
	}))
	r.event(func(dst []delivery.Action) []delivery.Action { return r.inlet.SetReplica(dst, recent) })
}

// vacate forgets a replica that was dropped.
func (r *route) vacate() {
	r.local.Store(nil)
	r.outlet.Store(nil)
	if r.inlet != nil {
		r.event(func(dst []delivery.Action) []delivery.Action { return r.inlet.SetReplica(dst, nil) })
	}
}

// Effects implements shard.Sink: what the replica here has applied goes to the streams of
// other nodes, and to this node's sessions, when their loops have room for it.
func (r *route) Effects(e *shard.Effects) {
	r.tell(e)
	if r.inlet == nil {
		r.node.pace()
		r.mu.Lock()
		defer r.mu.Unlock()
		r.deliver(e)
		return
	}
	if outlet := r.outlet.Load(); outlet != nil {
		outlet.Effects(e)
	}
	r.node.pace()
	r.mu.Lock()
	defer r.mu.Unlock()
	r.act(r.inlet.Local(r.actions[:0], e))
}

// event feeds the inlet and does what it wants.
func (r *route) event(feed func(dst []delivery.Action) []delivery.Action) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.act(feed(r.actions[:0]))
}

// act does what the inlet wants, in order; mu is held.
func (r *route) act(actions []delivery.Action) {
	for i := 0; i < len(actions); i++ {
		switch a := &actions[i]; a.Kind {
		case delivery.Ask:
			if err := r.node.hub.Send(a.Node, kindStream, a.Request); err != nil {
				actions = r.inlet.LinkDown(actions, a.Node)
			}
		case delivery.Deliver:
			actions = r.inlet.Forget(actions, r.deliver(a.Effects)...)
		case delivery.Restart:
			r.node.restart(a.Users)
		}
	}
	clear(actions)
	r.actions = actions
}

// announced tells the inlet that a node leads the shard.
func (r *route) announced(node uint32, term, index uint64) {
	if r.inlet != nil {
		r.event(func(dst []delivery.Action) []delivery.Action { return r.inlet.Announced(dst, node, term, index) })
	}
}

// linkDown tells both ends of streams that what was on its way from or to a node is lost.
func (r *route) linkDown(node uint32) {
	r.event(func(dst []delivery.Action) []delivery.Action { return r.inlet.LinkDown(dst, node) })
	if outlet := r.outlet.Load(); outlet != nil {
		outlet.LinkDown(node)
	}
}

// attach makes sure that effects for a user of this node come here, as long as the user
// has a session, and says where the shard may be read for the user afterwards.
func (r *route) attach(user wire.ID) (delivery.Position, error) {
	if r.inlet == nil {
		return delivery.Position{}, nil
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.node.sessions.Has(user) {
		r.act(r.inlet.Attach(r.actions[:0], user))
	}
	return r.place()
}

// detach ends that, if the user's last session has gone.
func (r *route) detach(user wire.ID) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.inlet.Attached(user) && !r.node.sessions.Has(user) {
		r.act(r.inlet.Detach(r.actions[:0], user))
	}
}

// position says where the shard may be read.
func (r *route) position() (delivery.Position, error) {
	if r.inlet == nil {
		return delivery.Position{}, nil
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.place()
}

func (r *route) place() (delivery.Position, error) {
	p, ok := r.inlet.Position()
	if !ok {
		return p, raft.ErrNotLeader
	}
	return p, nil
}

// send queues a message at the replica here; ErrNotLeader if it must be forwarded.
func (r *route) send(m *shard.Send) error {
	if l := r.local.Load(); l != nil {
		return l.Send(m)
	}
	return shard.ErrNotLeader
}

// cursor queues a moved cursor at the replica here; ErrNotLeader if it must be forwarded.
func (r *route) cursor(c *shard.Cursor) error {
	if l := r.local.Load(); l != nil {
		return l.Cursor(c)
	}
	return shard.ErrNotLeader
}

// kick wakes the shard after any number of sends and cursors.
func (r *route) kick() {
	if l := r.local.Load(); l != nil {
		l.Kick()
	}
}

// forward sends what clients sent to the node that leads the shard. What cannot be sent
// is refused: the error is for all of it.
func (r *route) forward(sends []shard.Send, cursors []shard.Cursor) error {
	if r.inlet == nil {
		return shard.ErrNotLeader
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	request, node, err := r.inlet.Forward(nil, sends, cursors)
	if err != nil {
		return err
	}
	if err := r.node.hub.Send(node, kindStream, request); err != nil {
		r.inlet.Withdraw(len(sends))
		return errors.Join(shard.ErrOverloaded, err)
	}
	return nil
}

// left takes groups from a loop that has no members of them any more; false while news of
// members is on its way there.
func (r *route) left(loop int, seen uint64, groups []wire.ID) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	gone, ok := r.groups.Left(loop, seen, groups)
	if ok && r.inlet != nil {
		r.act(r.inlet.Forget(r.actions[:0], gone...))
	}
	return ok
}
