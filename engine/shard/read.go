package shard

import "parley/wire"

// Changed is a conversation of a user that changed, as the user's list shows it.
type Changed struct {
	Conversation wire.Conversation
	Index        uint64 // of the entry that changed it last
	State        wire.ConversationState
}

// Changed lists the conversations of a user in this shard that changed after a Raft
// index, in no order, without previews. The index it returns is the one to ask with next
// time: what it misses is told again rather than never.
func (s *Shard) Changed(user wire.ID, since uint64) (states []Changed, index uint64, err error) {
	return nil, 0, nil
}

// State is one conversation as a member's list shows it, with the last message's
// beginning if preview is set; false if there is none yet.
func (s *Shard) State(user wire.ID, c wire.Conversation, preview bool) (wire.ConversationState, bool, error) {
	return wire.ConversationState{}, false, nil
}

// Page reads a page of a conversation as HISTORY asks for it. A conversation without
// messages gives an empty page.
func (s *Shard) Page(user wire.ID, h wire.History) (wire.Page, error) {
	return wire.Page{}, nil
}

// Listed is a conversation of a user's own list, which the shard of the user's home keeps.
type Listed struct {
	Conversation wire.Conversation
	Index        uint64 // of the entry that changed the row last
}

// Listed lists the user's conversations that came to the list after a Raft index.
func (s *Shard) Listed(user wire.ID, since uint64) (list []Listed, index uint64, err error) {
	return nil, 0, nil
}
