package client

import (
	"bytes"
	"slices"
	"time"

	"parley/wire"
)

// welcome takes WELCOME.
func (c *core) welcome(w *wire.Welcome) {
	if c.user != 0 && (c.user != w.User || c.device != w.Device) {
		c.end(ErrIdentity)
		return
	}
	c.phase, c.onlineAt = phaseOnline, c.now
	c.welcomed, c.tokenRefused = true, 0
	c.endpoint = ""
	seconds := min(max(w.HeartbeatSeconds, 1), wire.HeartbeatSecondsMax)
	c.interval = time.Duration(seconds) * time.Second
	if len(w.Ticket) > 0 {
		c.ticket = bytes.Clone(w.Ticket)
		good := time.Duration(min(w.TicketSeconds, 366*86_400)) * time.Second
		c.ticketUntil = c.now.Add(good - min(ticketMargin, good/2))
	}
	fresh := c.user != w.User
	c.user, c.device = w.User, w.Device
	c.learnGroups(w.Features&wire.FeatureGroups != 0)
	c.cluster(w.ClusterEpoch, fresh)
	c.feed.connection(&ConnectionEvent{State: Online})
}

// cluster compares the cluster's epoch. A new one means that the cluster may have lost its
// last moments: what was sent is uncertain, and heads may be lower than we knew them.
func (c *core) cluster(epoch uint64, fresh bool) {
	if epoch == c.clusterEpoch && !fresh {
		return
	}
	if c.clusterEpoch != 0 && epoch != c.clusterEpoch {
		c.regress = true
		c.distrust()
		for _, v := range c.conversations {
			c.fallBack(v)
		}
		c.resetting = false
		if len(c.syncToken) > 0 {
			c.syncToken = nil
			c.syncing = &request{kind: requestSync} // the one on its way has lost its meaning
		}
	}
	c.clusterEpoch = epoch
	c.store(OutboxChange{Kind: OutboxIdentity, User: c.user, Device: c.device, ClusterEpoch: epoch})
}

// syncPage takes CONVERSATIONS.
func (c *core) syncPage(p *wire.Conversations) {
	if p.Flags&wire.SyncReset != 0 || len(c.syncToken) == 0 && !c.resetting {
		c.resetting = true
		for _, v := range c.conversations {
			v.seen = false
		}
	}
	full := false
	for i := range p.Items {
		v := c.conversation(p.Items[i].Ref)
		if v == nil {
			full = true
			break
		}
		c.syncItem(v, &p.Items[i])
	}
	if len(p.Token) > 0 { // else the one that was sent stays good
		c.syncToken = bytes.Clone(p.Token)
	}
	c.syncing = nil
	if p.Flags&wire.SyncMore != 0 && !full && len(p.Token) > 0 {
		c.syncing = &request{kind: requestSync}
		return
	}
	c.truncated = c.truncated || full
	c.finishSync()
}

// syncItem takes the state of one conversation.
func (c *core) syncItem(v *conversation, item *wire.ConversationState) {
	old, wasListed := v.state, v.listed
	v.seen = true
	v.state = *item
	if item.Preview != nil {
		preview := *item.Preview
		preview.Content.Bytes = bytes.Clone(preview.Content.Bytes)
		v.state.Preview = &preview
	} else if old.Head == item.Head {
		v.state.Preview = old.Preview
	}
	v.ownCursor(wire.Delivered, item.Delivered)
	v.ownCursor(wire.Read, item.Read)
	for kind := range v.want {
		v.want[kind] = min(v.want[kind], max(item.Head, v.top))
		v.moveOwn(wire.CursorKind(kind), max(v.want[kind], v.done[kind]))
	}
	if !v.based {
		c.begin(v)
	}
	v.top = max(v.top, item.Head)
	if old.Head > item.Head {
		// Pushes came before this answer, which was read before them.
		v.state.Unread += old.Head - item.Head
		v.state.Head, v.state.Revision, v.state.Time, v.state.Preview = old.Head, max(old.Revision, item.Revision), max(old.Time, item.Time), old.Preview
	}
	v.state.OtherDelivered = max(old.OtherDelivered, item.OtherDelivered)
	v.state.OtherRead = max(old.OtherRead, item.OtherRead)
	if !v.ref.Group() || c.syncGroup(v, &old, item.Head) {
		c.list(v)
		if wasListed {
			c.syncReceipts(v, &old)
		}
	}
	c.unstash(v)
	c.checkBehind(v)
}

// syncReceipts tells the cursors that moved while the client was away.
func (c *core) syncReceipts(v *conversation, old *wire.ConversationState) {
	s := &v.state
	for kind, moved := range [...][2]uint64{
		wire.Delivered:    {old.OtherDelivered, s.OtherDelivered},
		wire.Read:         {old.OtherRead, s.OtherRead},
		wire.OwnDelivered: {old.Delivered, s.Delivered},
		wire.OwnRead:      {old.Read, s.Read},
	} {
		if moved[1] > moved[0] {
			c.feed.news(v, newsSlot(kind), &ReceiptEvent{Ref: v.ref, Kind: wire.CursorKind(kind), Position: moved[1]})
		}
	}
}

// fallBack forgets what the cluster may have lost: pushes wait until the sync has told how
// far the conversation reaches now. What follows are other messages under the same numbers.
func (c *core) fallBack(v *conversation) {
	c.dropStash(v)
	c.feed.bar(v) // the consumer takes what waits as news of the cluster that was
	v.based, v.top = false, 0
	v.life++
	v.done, v.sent = [2]uint64{}, [2]uint64{}
	v.groupState = groupState{}
	v.listed = v.listed || v.told && v.ref.Group() // one that was left is told of again
	v.state = wire.ConversationState{Ref: v.ref}
}

// finishSync goes on from the last page.
func (c *core) finishSync() {
	again := c.synced
	var unknown, gone []*conversation // to the sync, but not to us
	for _, v := range c.conversations {
		missing := c.resetting && !v.seen
		met := !v.based && v.top > 0
		switch {
		case missing && v.ref.Group() && v.heard != c.walk && (v.listed || met), v.left && met:
			gone = append(gone, v)
			continue
		case missing && !v.ref.Group():
			v.listed = false
		}
		if met {
			unknown = append(unknown, v)
		}
	}
	slices.SortFunc(gone, byRef)
	for _, v := range gone {
		c.leftGroup(v)
	}
	slices.SortFunc(unknown, byRef)
	for _, v := range unknown {
		met := v.top
		if len(v.stash) > 0 {
			met = v.stash[0].Sequence - 1
		}
		c.open(v, met)
		c.unstash(v)
		c.checkBehind(v)
	}
	c.synced, c.regress, c.resetting = true, false, false
	c.walk++
	c.checkAllCursors()
	if !again {
		c.feed.connection(&ConnectionEvent{State: Live})
	}
}
