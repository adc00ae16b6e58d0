package engine

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"parley/engine/cluster"
	"parley/engine/shard"
	"parley/raft"
	"parley/raft/link"
	"parley/wire"
)

// Codes of errors that one node answers another with.
const (
	codeRefused   = link.CodeEngine + iota // for good: the text says why
	codeNotLeader                          // another node leads now
	codeLater                              // try again
	codeNameTaken
	codeIDTaken
	codeEpoch // the map has changed meanwhile
	codeNotMember
)

// callTimeout bounds the work for one call from another node.
const callTimeout = 10 * time.Second

// remoteError is an error as it is sent to another node.
func remoteError(err error) error {
	code := codeLater
	var refusal *wire.Error
	switch {
	case err == nil:
		return nil
	case errors.As(err, &refusal) && refusal.Code == wire.CodeNotMember:
		code = codeNotMember
	case errors.Is(err, raft.ErrNotLeader), errors.Is(err, shard.ErrNotLeader), errors.Is(err, errNoLeader):
		code = codeNotLeader
	case errors.Is(err, shard.ErrNameTaken):
		code = codeNameTaken
	case errors.Is(err, shard.ErrIDTaken):
		code = codeIDTaken
	case errors.Is(err, cluster.ErrEpoch):
		code = codeEpoch
	case cluster.Refused(err), errors.Is(err, cluster.ErrBadJoin):
		code = codeRefused
	}
	return &link.RemoteError{Code: code, Text: err.Error()}
}

// localError is an error of another node as this one's own code knows it.
func localError(err error) error {
	var remote *link.RemoteError
	if !errors.As(err, &remote) {
		return err
	}
	switch remote.Code {
	case codeNotLeader:
		return fmt.Errorf("%w: %w", raft.ErrNotLeader, err)
	case codeNotMember:
		return &wire.Error{Code: wire.CodeNotMember}
	case codeNameTaken:
		return fmt.Errorf("%w: %w", shard.ErrNameTaken, err)
	case codeEpoch:
		return fmt.Errorf("%w: %w", cluster.ErrEpoch, err)
	case codeIDTaken:
		return fmt.Errorf("%w: %w", shard.ErrIDTaken, err)
	}
	return err
}

// isRefused tells whether another node refused for good.
func isRefused(err error) bool {
	var remote *link.RemoteError
	return errors.As(err, &remote) && remote.Code == codeRefused
}

// call asks another node.
func (n *Node) call(ctx context.Context, node uint32, kind link.Kind, payload []byte) ([]byte, error) {
	if n.hub == nil {
		return nil, errNoLeader
	}
	answer, err := n.hub.Call(ctx, node, kind, payload)
	return answer, localError(err)
}

// handle says what other nodes may ask of this one.
func (n *Node) handle() {
	h := n.hub
	h.Handle(kindLeading, n.heardLeading)
	h.Handle(kindStream, n.streamRequest)
	h.Handle(kindEffects, n.streamFrame)
	h.Handle(kindTyping, n.heardTyping)
	h.Handle(kindClaim, n.heardClaim)
	h.Handle(kindReplaced, n.heardReplaced)
	h.Handle(kindCounts, n.heardCounts)
	h.HandleCall(callMap, func(_ context.Context, _ uint32, _ []byte, reply link.Reply) {
		reply(cluster.AppendMap(nil, n.maps.view.Map()), nil)
	})
	h.HandleCall(callStatus, n.aside(func(context.Context, uint32, []byte) ([]byte, error) { return json.Marshal(n.status()) }))
	h.HandleCall(callPropose, n.aside(n.servePropose))
	h.HandleCall(callCommand, n.serveCommand)
	h.HandleCall(callUser, n.aside(n.serveUser))
	h.HandleCall(callRead, n.serveRead)
	h.HandleJoin(n.serveJoin)
	h.Watch(n.linkChanged)
	h.WatchArrivals(n.arrivalChanged)
}

// aside makes a handler of what may block: it runs on a goroutine of its own, of which
// link.CallsMax bounds the number. The payload is copied.
func (n *Node) aside(fn func(ctx context.Context, from uint32, payload []byte) ([]byte, error)) link.CallHandler {
	return func(ctx context.Context, from uint32, payload []byte, reply link.Reply) {
		payload = append([]byte(nil), payload...)
		go func() {
			ctx, cancel := context.WithTimeout(ctx, callTimeout)
			defer cancel()
			answer, err := fn(ctx, from, payload)
			reply(answer, remoteError(err))
		}()
	}
}

// servePropose makes a change of the map for another node.
func (n *Node) servePropose(ctx context.Context, _ uint32, payload []byte) ([]byte, error) {
	change, err := cluster.ParseChange(payload)
	if err != nil {
		return nil, err
	}
	result, err := n.maps.machine().Propose(ctx, change)
	if err != nil {
		return nil, err
	}
	return binary.AppendUvarint(binary.AppendUvarint(nil, result.Epoch), uint64(result.Node)), nil
}

// serveJoin decides whether a node is let in, and gives it what it needs.
func (n *Node) serveJoin(ctx context.Context, payload []byte) ([]byte, error) {
	answer, err := n.admitNode(ctx, payload)
	if err != nil {
		n.log.Warn("a node was not let in", "error", err)
	}
	return answer, remoteError(err)
}

func (n *Node) admitNode(ctx context.Context, payload []byte) ([]byte, error) {
	r, err := cluster.ParseJoinRequest(payload)
	if err != nil {
		return nil, err
	}
	if err := n.keys.VerifyInvitation(string(r.Token), n.config.Now()); err != nil {
		return nil, fmt.Errorf("%w: %w", cluster.ErrToken, err)
	}
	m := n.maps.view.Map()
	change, err := cluster.Admission(m, r, n.clusterStatus(ctx, m, make(map[uint32]time.Time)))
	if errors.Is(err, cluster.ErrMajority) {
		// The others elect, or come back: the node asks again.
		return nil, fmt.Errorf("engine: not now: %v", err)
	}
	if err != nil {
		return nil, err
	}
	result, err := n.propose(ctx, change)
	if err != nil {
		return nil, err
	}
	if m, err = n.mapAt(ctx, result.Epoch); err != nil {
		return nil, err
	}
	keys, err := n.directory.ReadFile(keysName)
	if err != nil {
		return nil, err
	}
	n.log.Info("a node was let in", "node", result.Node, "name", r.Name, "address", r.Address)
	return cluster.AppendJoinResponse(nil, &cluster.JoinResponse{Number: result.Node, Map: m, Keys: keys}), nil
}

// mapAt waits for a map of an epoch to come here.
func (n *Node) mapAt(ctx context.Context, epoch uint64) (*cluster.Map, error) {
	for {
		m := n.maps.view.Map()
		if m.Epoch >= epoch {
			return m, nil
		}
		if leader, ok := n.leaders.of(cluster.MapGroup); ok && leader != n.identity.Number {
			n.fetch(ctx, leader)
		}
		select {
		case <-ctx.Done():
			return nil, fmt.Errorf("engine: waiting for the cluster map: %w", ctx.Err())
		case <-time.After(5 * time.Millisecond):
		}
	}
}

// serveCommand proposes a command of another shard.
func (n *Node) serveCommand(_ context.Context, _ uint32, payload []byte, reply link.Reply) {
	r := tokenReader{src: payload}
	group := r.uint()
	if r.bad || group >= uint64(len(n.routes)) {
		reply(nil, remoteError(shard.ErrBadCommand))
		return
	}
	l := n.routes[group].local.Load()
	if l == nil {
		reply(nil, remoteError(shard.ErrNotLeader))
		return
	}
	done := l.Receive(append([]byte(nil), r.src...))
	go func() {
		select {
		case err := <-done:
			reply(nil, remoteError(err))
		case <-n.stop:
			reply(nil, remoteError(shard.ErrClosed))
		}
	}()
}

// deliverCommand proposes a command at the shard that owns a slot, wherever it is led.
func (n *Node) deliverCommand(target wire.Slot, command []byte) <-chan error {
	r := n.routeOf(target)
	if l := r.local.Load(); l != nil && l.Leading() {
		return l.Receive(command)
	}
	done := make(chan error, 1)
	leader, ok := n.leaders.of(r.id)
	if !ok || leader == n.identity.Number || n.hub == nil {
		done <- shard.ErrNotLeader
		return done
	}
	payload := append(binary.AppendUvarint(nil, uint64(r.id)), command...)
	go func() {
		ctx, cancel := context.WithTimeout(n.life, callTimeout)
		defer cancel()
		_, err := n.call(ctx, leader, callCommand, payload)
		done <- err
	}()
	return done
}
