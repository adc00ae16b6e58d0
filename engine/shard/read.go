package shard

import (
	"bytes"
	"context"
	"errors"
	"fmt"

	"parley/storage"
	"parley/wire"
)

// ErrWrongShard is the answer to who asks for what lives in another shard.
var ErrWrongShard = errors.New("shard: not a slot of this shard")

// Changed is a conversation of a user that changed, as far as the user's index knows it.
type Changed struct {
	Conversation wire.Conversation
	Index        uint64    // of the entry that changed it last
	Time         wire.Time // of its last message: its place in the order of activity
	Gone         bool      // a group that the user has left
}

// view reads what lives in a slot. Whoever asks the wrong shard learns it, because the
// store may show what it has of another one, which may be old.
func (s *Shard) view(slot wire.Slot, fn func(*storage.Reader) error) error {
	if slot < s.config.First || slot > s.config.Last {
		return fmt.Errorf("shard %d: read: %w", s.config.ID, ErrWrongShard)
	}
	return s.config.Store.View(fn)
}

// rowsChecked is after how many rows a read looks whether its caller still waits.
const rowsChecked = 1024

// A patience ends a long read whose caller has given up.
type patience struct {
	ctx  context.Context
	rows int
}

func (p *patience) check() error {
	if p.rows++; p.rows%rowsChecked == 0 {
		return p.ctx.Err()
	}
	return nil
}

// Changed calls fn for each conversation of a user in this shard that changed after a Raft
// index, in the order of their keys, and returns the index to ask with next time. It reads
// the user's index alone: some 0.2 µs a conversation, and States costs a hundred times that;
// nothing at all if nothing has changed lately. A group changes without the user's index, so
// each of the user's groups is looked at: in memory, if it has not changed lately.
func (s *Shard) Changed(ctx context.Context, user wire.ID, since uint64, fn func(Changed)) (index uint64, err error) {
	p := patience{ctx: ctx}
	err = s.config.Store.View(func(r *storage.Reader) error {
		index = r.Applied().Index
		if !s.machine.recent.unchanged(user, since) {
			err := r.UserIndex(user, since, func(u storage.UserIndex) error { return s.changedDirect(r, &u, &p, fn) })
			if err != nil {
				return err
			}
		}
		return s.userGroups(r, user, index, func(u storage.UserIndex) error { return s.changedGroup(r, &u, since, &p, fn) })
	})
	return index, err
}

func (s *Shard) changedDirect(r *storage.Reader, u *storage.UserIndex, p *patience, fn func(Changed)) error {
	if u.Conversation.Kind == wire.Group {
		return nil
	}
	c := Changed{Conversation: u.Conversation, Index: u.Changed, Time: u.Time}
	if c.Time == 0 { // a row from before it was kept
		record, _, err := r.Conversation(c.Conversation)
		if err != nil {
			return err
		}
		c.Time = record.Time
	}
	fn(c)
	return p.check()
}

// changedGroup tells of a group if it, or the user's place in it, has changed. Of one that
// the user has left nobody hears who starts anew.
func (s *Shard) changedGroup(r *storage.Reader, u *storage.UserIndex, since uint64, p *patience, fn func(Changed)) error {
	if err := p.check(); err != nil {
		return err
	}
	c := Changed{Conversation: u.Conversation, Index: u.Changed, Time: u.Time, Gone: u.Gone}
	if u.Gone {
		if since > 0 && u.Changed > since {
			fn(c)
		}
		return nil
	}
	if u.Changed <= since && s.machine.recent.unchanged(u.Conversation.A, since) {
		return nil
	}
	record, _, err := r.Conversation(c.Conversation)
	if c.Index = max(c.Index, record.Changed); err == nil && c.Index > since {
		c.Time = record.Time
		fn(c)
	}
	return err
}

// States calls fn with conversations of one shard as a member's list shows them, those that
// there are and that the user is a member of. The first ones come with the beginning of
// their last message. They are of one moment, later than any Changed before.
func (s *Shard) States(ctx context.Context, user wire.ID, list []wire.Conversation, previews int, fn func(wire.ConversationState)) error {
	for _, c := range list {
		if slot := c.Slot(); slot < s.config.First || slot > s.config.Last {
			return fmt.Errorf("shard %d: states: %w", s.config.ID, ErrWrongShard)
		}
	}
	return s.config.Store.View(func(r *storage.Reader) error {
		for i, c := range list {
			if err := ctx.Err(); err != nil {
				return err
			}
			v, ok, err := state(r, user, c)
			if err == nil && ok && i < previews {
				v.Preview, err = previewOf(r, c, v.Ref, v.Head)
			}
			if err != nil {
				return err
			}
			if ok {
				fn(v)
			}
		}
		return nil
	})
}

// State is one conversation as a member's list shows it, with the beginning of its last
// message if preview is set; false if there is none yet, or the user is not a member.
func (s *Shard) State(user wire.ID, c wire.Conversation, preview bool) (v wire.ConversationState, ok bool, err error) {
	err = s.view(c.Slot(), func(r *storage.Reader) (err error) {
		v, ok, err = state(r, user, c)
		if err == nil && ok && preview {
			v.Preview, err = previewOf(r, c, v.Ref, v.Head)
		}
		return err
	})
	return v, ok, err
}

// state reads a conversation as a member sees it. Unread are the others' messages after
// the read cursor, counted exactly: all messages after it, less one's own.
func state(r *storage.Reader, user wire.ID, c wire.Conversation) (v wire.ConversationState, ok bool, err error) {
	if c.Kind == wire.Group {
		return groupState(r, user, c)
	}
	if !c.Member(user) {
		return v, false, nil
	}
	record, ok, err := r.Conversation(c)
	if err != nil || !ok {
		return v, false, err
	}
	own, _, err := r.Member(c, user)
	if err != nil {
		return v, false, err
	}
	other := own
	if c.A != c.B {
		if other, _, err = r.Member(c, c.Peer(user)); err != nil {
			return v, false, err
		}
	}
	v = wire.ConversationState{Ref: c.Ref(user), Head: record.Head, Revision: record.Revision, Time: record.Time,
		Delivered: own.Delivered.Position, Read: own.Read.Position,
		OtherDelivered: other.Delivered.Position, OtherRead: other.Read.Position}
	if own.Own != (storage.Own{}) {
		item := ownOf(&own.Own)
		v.Extensions = item.Block()
	}
	v.Unread, err = unread(r, user, c, &record, v.Read)
	return v, true, err
}

func unread(r *storage.Reader, user wire.ID, c wire.Conversation, record *storage.Conversation, read uint64) (uint64, error) {
	if read >= record.Head || c.A == c.B {
		return 0, nil
	}
	var sentA uint64
	if read > 0 {
		var err error
		if sentA, err = r.SentBefore(c, read); err != nil {
			return 0, err
		}
	}
	byA, all := record.SentA-sentA, record.Head-read
	if user == c.A {
		return all - byA, nil
	}
	return byA, nil
}

// previewOf is the beginning of one message; nil if it cannot be shown in part.
func previewOf(r *storage.Reader, c wire.Conversation, ref wire.Ref, sequence uint64) (p *wire.Preview, err error) {
	err = r.Messages(c, sequence, sequence, func(m storage.Message) (bool, error) {
		if cut, ok := m.Content.Cut(wire.PreviewBytesMax); ok {
			cut.Bytes = bytes.Clone(cut.Bytes)
			p = &wire.Preview{Author: authorFor(ref, m.Author), Content: cut}
		}
		return false, nil
	})
	return p, err
}

// authorFor shortens an author for whoever sees the conversation under ref: 0 is the
// user that ref names.
func authorFor(ref wire.Ref, author wire.ID) wire.ID {
	if !ref.Group() && ref.ID() == author {
		return 0
	}
	return author
}

// Listed is a conversation of a user's own list, which the shard of the user's home keeps.
type Listed struct {
	Conversation wire.Conversation
	Index        uint64 // of the entry that changed the row last
	Gone         bool   // a group that the user has left
}

// Listed calls fn for each of the user's conversations whose row changed after a Raft index,
// in the order of their keys, and returns the index to ask with next time.
func (s *Shard) Listed(ctx context.Context, user wire.ID, since uint64, fn func(Listed)) (index uint64, err error) {
	p := patience{ctx: ctx}
	err = s.view(user.Slot(), func(r *storage.Reader) error {
		index = r.Applied().Index
		if s.machine.recent.unchanged(user, since) {
			return nil
		}
		return r.List(user, since, func(l storage.List) error {
			fn(Listed{l.Conversation, l.Changed, l.Gone})
			return p.check()
		})
	})
	return index, err
}
