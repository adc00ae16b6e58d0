package shard

import (
	"bytes"
	"errors"
	"fmt"
	"slices"

	"parley/storage"
	"parley/wire"
)

// ErrWrongShard is the answer to who asks for what lives in another shard.
var ErrWrongShard = errors.New("shard: not a slot of this shard")

// Changed is a conversation of a user that changed, as the user's list shows it.
type Changed struct {
	Conversation wire.Conversation
	Index        uint64 // of the entry that changed it last
	State        wire.ConversationState
}

// view reads what lives in a slot. Whoever asks the wrong shard learns it, because the
// store may show what it has of another one, which may be old.
func (s *Shard) view(slot wire.Slot, fn func(*storage.Reader) error) error {
	if slot < s.config.First || slot > s.config.Last {
		return fmt.Errorf("shard %d: read: %w", s.config.ID, ErrWrongShard)
	}
	return s.config.Store.View(fn)
}

// statesViewed is how many states one view of the store reads: views hold up apply.
const statesViewed = 64

// Changed lists the conversations of a user in this shard that changed after a Raft
// index, in the order of their keys and without previews. It also returns the index to
// ask with next time. States may be newer than that index, never older, so nothing is
// missed between two calls.
func (s *Shard) Changed(user wire.ID, since uint64) (states []Changed, index uint64, err error) {
	err = s.config.Store.View(func(r *storage.Reader) error {
		index = r.Applied().Index
		return r.UserIndex(user, func(u storage.UserIndex) error {
			if u.Changed > since {
				states = append(states, Changed{Conversation: u.Conversation, Index: u.Changed})
			}
			return nil
		})
	})
	for part := range slices.Chunk(states, statesViewed) {
		if err != nil {
			break
		}
		err = s.config.Store.View(func(r *storage.Reader) (err error) {
			for i := 0; i < len(part) && err == nil; i++ {
				var changed uint64
				part[i].State, changed, _, err = state(r, user, part[i].Conversation)
				// The state may be of a later message than the row: so must be its index, or a
				// reader that pages by both would take it for one that it has told.
				part[i].Index = max(part[i].Index, changed)
			}
			return err
		})
	}
	return states, index, err
}

// State is one conversation as a member's list shows it, with the beginning of its last
// message if preview is set; false if there is none yet, or the user is not a member.
func (s *Shard) State(user wire.ID, c wire.Conversation, preview bool) (v wire.ConversationState, ok bool, err error) {
	if !c.Member(user) {
		return v, false, nil
	}
	err = s.view(c.Slot(), func(r *storage.Reader) (err error) {
		v, _, ok, err = state(r, user, c)
		if err == nil && ok && preview {
			v.Preview, err = previewOf(r, c, v.Ref, v.Head)
		}
		return err
	})
	return v, ok, err
}

// state reads a conversation as a member sees it. Unread are the others' messages after
// the read cursor, counted exactly: all messages after it, less one's own.
func state(r *storage.Reader, user wire.ID, c wire.Conversation) (v wire.ConversationState, changed uint64, ok bool, err error) {
	record, ok, err := r.Conversation(c)
	if err != nil || !ok {
		return v, 0, false, err
	}
	own, _, err := r.Member(c, user)
	if err != nil {
		return v, 0, false, err
	}
	other := own
	if c.A != c.B {
		if other, _, err = r.Member(c, c.Peer(user)); err != nil {
			return v, 0, false, err
		}
	}
	v = wire.ConversationState{Ref: c.Ref(user), Head: record.Head, Revision: record.Revision, Time: record.Time,
		Delivered: own.Delivered.Position, Read: own.Read.Position,
		OtherDelivered: other.Delivered.Position, OtherRead: other.Read.Position}
	v.Unread, err = unread(r, user, c, &record, v.Read)
	return v, record.Changed, true, err
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
}

// Listed lists the user's conversations whose rows changed after a Raft index, in the
// order of their keys, and the index to ask with next time.
func (s *Shard) Listed(user wire.ID, since uint64) (list []Listed, index uint64, err error) {
	err = s.view(user.Slot(), func(r *storage.Reader) error {
		index = r.Applied().Index
		return r.List(user, func(l storage.List) error {
			if l.Changed > since {
				list = append(list, Listed{l.Conversation, l.Changed})
			}
			return nil
		})
	})
	return list, index, err
}
