package engine

import (
	"parley/engine/session"
	"parley/engine/shard"
	"parley/wire"
)

// ask queues what a user asks for of a conversation alone, behind what was sent to it before.
func (e *edge) ask(s *seat, request any) {
	switch q := request.(type) {
	case *wire.OwnSettings:
		e.askFor(s, q.Correlation, q.Ref, &shard.Ask{Kind: shard.AskSettings, Version: q.Version, Flags: q.Flags, MutedUntil: q.MutedUntil})
	}
}

func (e *edge) askFor(s *seat, correlation uint64, ref wire.Ref, ask *shard.Ask) {
	if e.node.diskFull.Load() {
		e.fail(s, correlation, wire.CodeDiskFull)
		return
	}
	e.queueWith(s, ref, &shard.Send{
		Origin:       shard.Origin{Session: uint64(s.handle), Correlation: correlation},
		Conversation: ref.Conversation(s.User), Author: s.User, Device: s.Device, Epoch: s.Epoch, PeerKnown: true, Ask: ask,
	})
}

// pushOwn tells a session what a conversation is to its user now.
func (e *edge) pushOwn(s *seat, x *shard.OwnEffect) {
	if s.State != session.Live || !s.Own() || x.Conversation.Kind == wire.Group && !s.Groups() {
		return
	}
	own := wire.OwnState{Ref: x.Conversation.Ref(s.User), Version: x.Own.Version, Flags: x.Own.Flags, MutedUntil: x.Own.MutedUntil}
	e.scratch = wire.AppendOwnState(e.scratch[:0], &own)
	if backlog := e.backlog(s); backlog != nil {
		e.kept(s, backlog.Own(own, e.scratch))
		return
	}
	e.loop.Write(s.handle, e.scratch)
}
